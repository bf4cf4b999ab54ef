"""What an epoch of distillation costs, as ratios within one run.

    python benchmarks/epochs.py DATA [--all] [--rounds 5] [--epochs 6] [--views 16] [--threads N]
    python benchmarks/epochs.py DATA --memory [--epochs 6] [--views 16] [--steps N]

DATA is a folder of arrays (the chest CT set at 32 px, say). In turn, round after round: the plain student
with `fit` on arrays, by Keras' layers and with kdtf's fused batch normalization; the latter with validation;
distillation from cached logits as kdtf does it, also with validation; and `keras.distillation.Distiller`
with a live VGG16, with `--all` one after the other with each of the seven teachers that are the default.
Prints CPU seconds of all threads an epoch (median over rounds), for which other load counts little, and the
ratios the project promises. The first, tracing epochs of each are not counted. With --memory: the
peak memory of cached and of live distillation, each in a process of its own, sampled from its start.
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
    import memory
    import numpy as np
    import tensorflow as tf

    from kdtf.config import DEFAULT_TEACHERS, Config
    from kdtf.data.arrays import write_npy_header
    from kdtf.data.load import load
    from kdtf.data.views import computed_views, draw_views, read_views
    from kdtf.distill.batches import Examples, validation_batches, view_batches
    from kdtf.distill.distiller import Distiller
    from kdtf.models.fused_norm import fused_batch_normalization
    from kdtf.models.students import build_student
    from kdtf.models.teachers import WeightSource, build_base, build_head, with_head

LIVE = "keras.distillation, "  # before the name of its teacher
NAMES = ("plain", "plain, fused", "plain, fused, with val", "cached", "cached with val")


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


def contender(name, data, config, work, block, most_steps=None):
    """A function that trains so many epochs more, of the one of `names_of` that is asked for.

    `block` holds what is fused meanwhile. An epoch has at most so many steps, if that is given.
    """
    batch, loss = config.student.batch_size, keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    more = {}
    if name.endswith("with val"):
        examples = Examples(data.train.pixels, data.train.labels, data.val.pixels, data.val.labels)
        more = {"validation_data": validation_batches(examples, batch)}
    if name.startswith("cached"):
        stream, steps = view_batches(cached_examples(data, config, work), batch_size=batch, seed=0)
        model = Distiller(student(data, config))
        model.compile(keras.optimizers.Adam(1e-3), jit_compile=False)
        more |= {"steps_per_epoch": min(steps, most_steps or steps), "shuffle": False}
        block.enter_context(fused_batch_normalization(model))
        return lambda epochs: model.fit(stream, epochs=epochs, verbose=0, **more)
    teacher = name.removeprefix(LIVE)
    model = live(data, config, teacher) if teacher != name else student(data, config)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"], jit_compile=False)
    if "fused" in name:
        block.enter_context(fused_batch_normalization(model))
    x, y = data.train.pixels.astype("float32"), data.train.labels
    more |= {"batch_size": batch, "steps_per_epoch": most_steps}
    return lambda epochs: model.fit(x, y, epochs=epochs, verbose=0, **more)


def cached_examples(data, config, work):
    """Views as kdtf stores them, and logits on disk as a teacher leaves them."""
    computed = computed_views(data.train, seed=0, policy=config.views)
    if not (work / "logits.npy").exists():
        draw_views(computed, work / "views.npy")
        shape, rng = (*computed.pixels.shape[:2], len(data.classes)), np.random.default_rng(0)
        with open(work / "logits.npy", "wb") as file:
            write_npy_header(file, shape, "<f4")
            for _ in range(shape[0]):
                file.write(rng.normal(size=shape[1:]).astype("<f4").data)
    views = read_views(work / "views.npy", computed).pixels
    logits = np.load(work / "logits.npy", mmap_mode="r")
    return Examples(views, data.train.labels, data.val.pixels, data.val.labels, logits)


def live(data, config, teacher):
    """`keras.distillation` with a live teacher."""
    base = build_base(teacher, data.train.pixels.shape[1:], WeightSource("none")).model
    return keras.distillation.Distiller(
        teacher=with_head(base, build_head(teacher, base.output.shape[1:], len(data.classes))),
        student=student(data, config),
        distillation_losses=keras.distillation.LogitsDistillation(temperature=2.0),
        student_loss_weight=0.5,
    )


def compare_memory(args):
    """Peak memory and CPU seconds of the cached and the live contender, each in a process of its own."""
    for name in ("cached", f"{LIVE}vgg16"):
        numbers = ["--epochs", args.epochs, "--views", args.views]
        numbers += ["--steps", args.steps] if args.steps else []
        run = memory.measured([sys.executable, __file__, args.data, "--only", name, *numbers])
        what = "failed" if run.code else f"{run.whole.cpu:.0f} s of CPU"
        private = f"{run.whole.private:.0f} MiB private, {run.whole.anonymous:.0f} anonymous"
        print(f"{name:28} {private}; {what} (exit code {run.code})")


def compare_seconds(trainings, teachers, args):
    """Median CPU seconds an epoch of each training, and the ratios."""
    seconds = {name: [] for name in trainings}
    for train in trainings.values():
        train(2)
    for _ in range(args.rounds):
        for name, train in trainings.items():
            start = time.process_time()
            train(args.epochs)
            seconds[name].append((time.process_time() - start) / args.epochs)
    for name, s in seconds.items():
        print(f"{name:32} {statistics.median(s):.3f} s an epoch  ({min(s):.3f} to {max(s):.3f})")
    pairs = [("cached", "plain"), ("cached", "plain, fused"), ("cached with val", "plain, fused, with val")]
    pairs += [(f"{LIVE}{name}", "cached") for name in teachers]
    medians = []
    for a, b in pairs:
        ratios = sorted(p / q for p, q in zip(seconds[a], seconds[b], strict=True))
        medians.append(statistics.median(ratios))
        print(f"{a} / {b}: {medians[-1]:.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    mean = math.exp(statistics.fmean(map(math.log, medians[-len(teachers) :])))
    print(f"keras.distillation / cached, geometric mean over {len(teachers)} teachers: {mean:.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--all", action="store_true", help="every default teacher, not VGG16 alone")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--views", type=int, default=16)
    parser.add_argument("--threads", type=int, help="of TensorFlow")
    parser.add_argument("--steps", type=int, help="most steps of an epoch, where memory is compared")
    parser.add_argument("--only", help="train this one and measure nothing")
    parser.add_argument("--memory", action="store_true", help="compare memory instead of seconds")
    args = parser.parse_args()
    if args.memory:
        compare_memory(args)
        return
    if args.threads:
        tf.config.threading.set_intra_op_parallelism_threads(args.threads)
        tf.config.threading.set_inter_op_parallelism_threads(args.threads)
    teachers = DEFAULT_TEACHERS if args.all else ("vgg16",)
    names = (*NAMES, *(f"{LIVE}{name}" for name in teachers))
    with tempfile.TemporaryDirectory() as work, contextlib.ExitStack() as block:
        data, config = load(args.data, Path(work)), Config().with_values({"views": args.views})
        if args.only:
            contender(args.only, data, config, Path(work), block, args.steps)(args.epochs)
            return
        trainings = {name: contender(name, data, config, Path(work), block) for name in names}
        compare_seconds(trainings, teachers, args)


if __name__ == "__main__":
    main()
