"""How far the student's test accuracy moves with the seed, and what keeping the best val epoch would do.

    python benchmarks/stability.py DATA [--seeds 5] [--epochs 300] [--momentum 0.9] [--views 16]

Trains the student alone from as many seeds over the same views and prints the test accuracy of its
last weights and of its best val epoch's (val accuracy, lower val loss among equals), with mean and
standard deviation. `--momentum 0.99` shows BatchNormalization's default.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from kdtf.native_log import native_noise, set_environment

set_environment()
with native_noise():
    import numpy as np
    import tensorflow as tf

    tf.config.list_physical_devices()
    from kdtf.config import Config
    from kdtf.data.load import load
    from kdtf.data.views import draw_views, read_views
    from kdtf.distill import train
    from kdtf.progress import Progress


class Watch(train.Follow):
    """Follows a training and keeps the weights of the best val epoch aside."""

    best, weights = None, None

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        reached = (logs["val_accuracy"], -logs["val_loss"])
        if Watch.best is None or reached > Watch.best:
            Watch.best, Watch.weights = reached, self.model.student.get_weights()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--views", type=int, default=16)
    args = parser.parse_args()
    values = {"epochs": args.epochs, "student_momentum": args.momentum, "views": args.views}
    config = Config().with_values(values)
    train.Follow = Watch
    kept = {"last": [], "best val": []}
    with tempfile.TemporaryDirectory() as work:
        data = load(args.data, Path(work))
        draw_views(data.train, Path(work) / "views.npy", seed=0, policy=config.views)
        views = read_views(Path(work) / "views.npy").pixels
        for seed in range(args.seeds):
            Watch.best = None
            student, _ = train.fit_student(views, data, config, seed=seed, title="", progress=Progress())
            for name, weights in (("last", student.get_weights()), ("best val", Watch.weights)):
                student.set_weights(weights)
                right = train.batched(student)(data.test.pixels).argmax(1) == data.test.labels
                kept[name].append(right.mean())
            print(f"seed {seed}: " + ", ".join(f"{k} {v[-1]:.3f}" for k, v in kept.items()), flush=True)
    for name, values in kept.items():
        print(f"{name}: mean {np.mean(values):.3f}, standard deviation {np.std(values, ddof=1):.3f}")


if __name__ == "__main__":
    main()
