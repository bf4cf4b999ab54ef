"""What an epoch of distillation costs, as ratios within one run.

    python benchmarks/epochs.py DATA [--all] [--rounds 5] [--epochs 6] [--threads N]

DATA is a folder of arrays (the chest CT set at 32 px, say). In turn, round after round: the plain student
with `fit` on arrays, by Keras' layers and with kdtf's fused batch normalization; the latter with validation;
distillation from cached logits as kdtf does it, also with validation; and `keras.distillation.Distiller`
with a live VGG16, with `--all` one after the other with each of the seven teachers that are the default.
Prints CPU seconds of all threads an epoch (median over rounds), for which other load counts little, and the
ratios the project promises. The first, tracing epochs of each are not counted.
"""

import argparse
import contextlib
import math
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
    import numpy as np
    import tensorflow as tf

    from kdtf.config import DEFAULT_TEACHERS, Config
    from kdtf.data.load import load
    from kdtf.data.views import computed_views, draw_views, read_views
    from kdtf.distill.batches import Examples, validation_batches, view_batches
    from kdtf.distill.distiller import Distiller
    from kdtf.models.fused_norm import fused_batch_normalization
    from kdtf.models.students import build_student
    from kdtf.models.teachers import WeightSource, build_base, build_head, with_head

LIVE = "keras.distillation, {}"


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


def contenders(data, config, work, teachers, block):
    """{name: a function that trains so many epochs more}; `block` holds what is fused meanwhile."""
    x, y, batch = data.train.pixels.astype("float32"), data.train.labels, config.student.batch_size
    classes = len(data.classes)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def plain(fused):
        model = student(data, config)
        model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"], jit_compile=False)
        if fused:
            block.enter_context(fused_batch_normalization(model))
        return model

    computed = computed_views(data.train, seed=0, policy=config.views)
    draw_views(computed, work / "views.npy")
    views = read_views(work / "views.npy", computed).pixels
    logits = np.random.default_rng(0).normal(size=(*views.shape[:2], classes)).astype("float32")
    examples = Examples(views, y, data.val.pixels, data.val.labels, logits)
    val = validation_batches(examples.without_teacher(), batch)
    stream, steps = view_batches(examples, batch_size=batch, seed=0)
    distiller = Distiller(student(data, config))
    distiller.compile(keras.optimizers.Adam(1e-3), jit_compile=False)
    block.enter_context(fused_batch_normalization(distiller))

    def live(name):
        base = build_base(name, x.shape[1:], WeightSource("none")).model
        model = keras.distillation.Distiller(
            teacher=with_head(base, build_head(name, base.output.shape[1:], classes)),
            student=student(data, config),
            distillation_losses=keras.distillation.LogitsDistillation(temperature=2.0),
            student_loss_weight=0.5,
        )
        model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"], jit_compile=False)
        return model

    def fit(model, *args, **kwargs):
        return lambda epochs: model.fit(*args, epochs=epochs, verbose=0, **kwargs)

    fused = plain(fused=True)
    return {
        "plain": fit(plain(fused=False), x, y, batch_size=batch),
        "plain, fused": fit(fused, x, y, batch_size=batch),
        "plain, fused, with val": fit(fused, x, y, batch_size=batch, validation_data=val),
        "cached": fit(distiller, stream, steps_per_epoch=steps, shuffle=False),
        "cached with val": fit(distiller, stream, steps_per_epoch=steps, shuffle=False, validation_data=val),
        **{LIVE.format(name): fit(live(name), x, y, batch_size=batch) for name in teachers},
    }


def measured(trainings, rounds, epochs):
    """{name: CPU seconds of an epoch, round after round}."""
    seconds = {name: [] for name in trainings}
    for train in trainings.values():
        train(2)
    for _ in range(rounds):
        for name, train in trainings.items():
            start = time.process_time()
            train(epochs)
            seconds[name].append((time.process_time() - start) / epochs)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--all", action="store_true", help="every default teacher, not VGG16 alone")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--threads", type=int, help="of TensorFlow")
    args = parser.parse_args()
    if args.threads:
        tf.config.threading.set_intra_op_parallelism_threads(args.threads)
        tf.config.threading.set_inter_op_parallelism_threads(args.threads)
    teachers = DEFAULT_TEACHERS if args.all else ("vgg16",)
    with tempfile.TemporaryDirectory() as work, contextlib.ExitStack() as block:
        data = load(args.data, Path(work))
        trainings = contenders(data, Config(), Path(work), teachers, block)
        seconds = measured(trainings, args.rounds, args.epochs)
    for name, s in seconds.items():
        print(f"{name:32} {statistics.median(s):.3f} s an epoch  ({min(s):.3f} to {max(s):.3f})")
    pairs = [("cached", "plain"), ("cached", "plain, fused"), ("cached with val", "plain, fused, with val")]
    pairs += [(LIVE.format(name), "cached") for name in teachers]
    medians = []
    for a, b in pairs:
        ratios = sorted(p / q for p, q in zip(seconds[a], seconds[b], strict=True))
        medians.append(statistics.median(ratios))
        print(f"{a} / {b}: {medians[-1]:.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    mean = math.exp(statistics.fmean(map(math.log, medians[-len(teachers) :])))
    print(f"keras.distillation / cached, geometric mean over {len(teachers)} teachers: {mean:.2f}")


if __name__ == "__main__":
    main()
