"""How far the student's test accuracy moves with the seed, and what keeping the best val epoch would do.

    python benchmarks/stability.py DATA [--seeds 5] [--epochs 300] [--momentum 0.9] [--views 16]

Trains the student alone from as many seeds over the same views and prints the test accuracy of its
last weights and of its best val epoch's (val accuracy, lower val loss among equals), with mean and
standard deviation: `--seeds` of a run has the last weights alone. `--momentum 0.99` shows
BatchNormalization's default.
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
    from kdtf.data.views import computed_views, draw_views, read_views
    from kdtf.distill.batches import Examples, steps_per_epoch, training_stream, validation_batches
    from kdtf.distill.callbacks import KeepBest
    from kdtf.distill.distiller import Distiller
    from kdtf.distill.fit import fit
    from kdtf.distill.inference import inference_of
    from kdtf.distill.optim import build_optimizer
    from kdtf.models.students import build_student
    from kdtf.progress import Progress


class WatchBest(KeepBest):
    """Finds the best weights and leaves the model its last ones."""

    def restore(self) -> None:
        """Nothing: the last weights are looked at first."""


def train_alone(examples: Examples, classes: int, config: Config, seed: int) -> tuple[Distiller, WatchBest]:
    """The student of the settings after its last epoch, and the best epoch on val."""
    own, shape = config.student, examples.views.shape[2:]
    momentum, dropout = own.student_momentum, own.student_dropout
    student = build_student(own.student, shape, classes, momentum=momentum, dropout=dropout, seed=seed)
    model, best = Distiller(student, alpha=1.0), WatchBest(own.epochs)
    steps = own.epochs * steps_per_epoch(examples.views, own.batch_size)
    optimizer = build_optimizer(own.optimizer, own.schedule, own.learning_rate, steps, warmup=own.warmup)
    model.compile(optimizer, jit_compile=False)
    fit(
        model,
        training_stream(examples, own.batch_size, seed),
        own.epochs,
        phase="student",
        title="",
        progress=Progress(),
        validation=validation_batches(examples, own.batch_size),
        best=best,
    )
    return model, best


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
    accuracies = {"last": [], "best val": []}
    with tempfile.TemporaryDirectory() as work:
        data = load(args.data, Path(work))
        computed = computed_views(data.train, seed=0, policy=config.views)
        draw_views(computed, Path(work) / "views.npy")
        views = read_views(Path(work) / "views.npy", computed).pixels
        examples = Examples(views, data.train.labels, data.val.pixels, data.val.labels)
        for seed in range(args.seeds):
            model, best = train_alone(examples, len(data.classes), config, seed)
            for name, weights in (("last", model.get_weights()), ("best val", best.weights)):
                model.set_weights(weights)
                right = inference_of(model.student)(data.test.pixels).argmax(1) == data.test.labels
                accuracies[name].append(right.mean())
            scores = ", ".join(f"{name} {values[-1]:.3f}" for name, values in accuracies.items())
            print(f"seed {seed}: {scores}", flush=True)
    for name, values in accuracies.items():
        print(f"{name}: mean {np.mean(values):.3f}, standard deviation {np.std(values, ddof=1):.3f}")


if __name__ == "__main__":
    main()
