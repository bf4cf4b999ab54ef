"""What an epoch of distillation costs, as ratios within one run.

    python benchmarks/epochs.py DATA [--rounds 5] [--epochs 6]

DATA is a folder of arrays (the chest CT set at 32 px, say). In turn, round after round: the plain
student with `fit` on arrays, the same with validation, distillation from cached logits as kdtf does
it, and `keras.distillation.Distiller` with a live VGG16. Prints seconds an epoch (median over
rounds) and the ratios the project promises. The first, tracing epoch of each is not counted.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from kdtf.native_log import native_noise, set_environment

set_environment()
with native_noise():
    import keras
    import tensorflow as tf

    tf.config.list_physical_devices()
    import numpy as np

    from kdtf.config import Config
    from kdtf.data.load import load
    from kdtf.data.views import computed_views, draw_views, read_views
    from kdtf.distill.batches import Examples, validation_batches, view_batches
    from kdtf.distill.distiller import Distiller
    from kdtf.models.students import build_student
    from kdtf.models.teachers import WeightSource, build_base, build_head, with_head


def student(data, config):
    settings = config.student
    return build_student(
        settings.student,
        data.train.pixels.shape[1:],
        len(data.classes),
        momentum=settings.student_momentum,
        dropout=settings.student_dropout,
        seed=0,
    )


def contenders(data, config, work):
    """{name: a function that trains so many epochs more}."""
    x, y, batch = data.train.pixels.astype("float32"), data.train.labels, config.student.batch_size
    shape, classes = x.shape[1:], len(data.classes)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    plain = student(data, config)
    plain.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"], jit_compile=False)

    computed = computed_views(data.train, seed=0, policy=config.views)
    draw_views(computed, work / "views.npy")
    views = read_views(work / "views.npy", computed).pixels
    logits = np.random.default_rng(0).normal(size=(*views.shape[:2], classes)).astype("float32")
    examples = Examples(views, y, data.val.pixels, data.val.labels, logits)
    val = validation_batches(examples.without_teacher(), batch)
    stream, steps = view_batches(examples, batch_size=batch, seed=0)
    distiller = Distiller(student(data, config))
    distiller.compile(keras.optimizers.Adam(1e-3), jit_compile=False)

    base = build_base("vgg16", shape, WeightSource("none")).model
    live = keras.distillation.Distiller(
        teacher=with_head(base, build_head("vgg16", base.output.shape[1:], classes)),
        student=student(data, config),
        distillation_losses=keras.distillation.LogitsDistillation(temperature=2.0),
        student_loss_weight=0.5,
    )
    live.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"], jit_compile=False)

    def fit(model, *args, **kwargs):
        return lambda epochs: model.fit(*args, epochs=epochs, verbose=0, **kwargs)

    return {
        "plain": fit(plain, x, y, batch_size=batch),
        "plain with val": fit(plain, x, y, batch_size=batch, validation_data=val),
        "cached": fit(distiller, stream, steps_per_epoch=steps, shuffle=False),
        "cached with val": fit(distiller, stream, steps_per_epoch=steps, shuffle=False, validation_data=val),
        "keras.distillation": fit(live, x, y, batch_size=batch),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=6)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        data = load(args.data, Path(work))
        trainings = contenders(data, Config(), Path(work))
        for train in trainings.values():
            train(2)
        seconds = {name: [] for name in trainings}
        for _ in range(args.rounds):
            for name, train in trainings.items():
                start = time.perf_counter()
                train(args.epochs)
                seconds[name].append((time.perf_counter() - start) / args.epochs)
    for name, s in seconds.items():
        print(f"{name:20} {statistics.median(s):.3f} s an epoch  ({min(s):.3f} to {max(s):.3f})")
    pairs = [("cached", "plain"), ("cached with val", "plain with val"), ("keras.distillation", "cached")]
    for a, b in pairs:
        ratios = sorted(p / q for p, q in zip(seconds[a], seconds[b], strict=True))
        print(f"{a} / {b}: {statistics.median(ratios):.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
