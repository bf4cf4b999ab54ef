"""What the whole classic recipe costs, in plain student epochs, within one run.

    python benchmarks/recipe.py DATA [--epochs 300] [--threads N] [--jobs N]

Seven teachers, their heads trained for 300 epochs on frozen features, seven distilled students and
the one alone, quantized, evaluated, reported: `main.py --freeze --fine-tune-epochs 0 --views 1`,
start-up included. There are two yardsticks, both with batch normalization fused as in kdtf. One is 8 x 300
epochs of the same student under plain `fit` on arrays: half of one student's epochs are timed before the
recipe and half after it, because the machine may drift. The other is what the recipe cannot do without, in
plain Keras: these epochs with val, every teacher built once and shown every image once, and its head's
300 epochs on features under plain `fit`. Prints the stages' seconds and the ratio to both: in CPU seconds of
all threads, for which other load counts little, and by the clock, which needs a quiet machine. With `--jobs`
the recipe's tasks run side by side, each on its share of the cores.
"""

import argparse
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PR_SET_CHILD_SUBREAPER = 36  # of linux/prctl.h
ROOT = Path(__file__).parents[1]

PARTS = {  # of the run, by the kind of a stage
    **dict.fromkeys(("audit", "datasheet", "views"), "audit, views"),
    **dict.fromkeys(("origin", "features", "head", "whole", "labels"), "teachers"),
    "student": "students",
    **dict.fromkeys(("conversion", "file"), ".tflite files"),
    **dict.fromkeys(("teacher-evaluation", "student-evaluation", "file-evaluation", "agreement"), "scores"),
    "attention": "Grad-CAM",
    **dict.fromkeys(("student-report", "teacher-report", "run-report"), "reports"),
}
SETUP = """
import sys, time
sys.path.insert(0, {root!r})
from kdtf.native_log import native_noise, set_environment
set_environment()
with native_noise():
    import keras
    import tensorflow as tf
    if {threads}:
        tf.config.threading.set_intra_op_parallelism_threads({threads})
        tf.config.threading.set_inter_op_parallelism_threads({threads})
    from pathlib import Path
    from kdtf.config import Config
    from kdtf.data.load import load
    from kdtf.models.fused_norm import fused_batch_normalization
    from kdtf.models.students import build_student
    from kdtf.models.teachers import build_base, build_head
    from kdtf.models.weights import WeightSource
    from kdtf.runs.check import teachers_of
data = load({data!r}, Path({work!r}))
s = Config().student
x, y = data.train.pixels.astype("float32"), data.train.labels
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model = build_student(s.student, x.shape[1:], len(data.classes), momentum=s.student_momentum,
                      dropout=s.student_dropout, seed=0)
model.compile("adam", loss, metrics=["accuracy"], jit_compile=False)
"""
PLAIN = """
with fused_batch_normalization(model):
    model.fit(x, y, batch_size=s.batch_size, epochs=2, verbose=0)
    start, clock = time.process_time(), time.perf_counter()
    model.fit(x, y, batch_size=s.batch_size, epochs={epochs}, verbose=0)
    print((time.process_time() - start) / {epochs}, (time.perf_counter() - clock) / {epochs})
"""
LEAST = """
parts = {{split: getattr(data, split) for split in ("train", "val", "test")}}
pixels, labels = ({{n: getattr(p, own) for n, p in parts.items()}} for own in ("teacher_pixels", "labels"))
val = data.val.pixels.astype("float32"), data.val.labels
with fused_batch_normalization(model):
    model.fit(x, y, batch_size=s.batch_size, epochs=2, validation_data=val, verbose=0)
    start, clock = time.process_time(), time.perf_counter()
    model.fit(x, y, batch_size=s.batch_size, epochs=20, validation_data=val, verbose=0)
    student = (time.process_time() - start) / 20, (time.perf_counter() - clock) / 20
start, clock = time.process_time(), time.perf_counter()
for name in teachers_of(Config()):
    base = build_base(name, pixels["train"].shape[1:], WeightSource("none")).model
    features = {{split: base.predict(own, batch_size=64, verbose=0) for split, own in pixels.items()}}
    head = build_head(name, base.output.shape[1:], len(data.classes))
    head.compile("adam", loss, metrics=["accuracy"], jit_compile=False)
    head.fit(features["train"], labels["train"], batch_size=s.batch_size, epochs={epochs}, verbose=0,
             validation_data=(features["val"], labels["val"]))
    head.predict(features["test"], batch_size=64, verbose=0)
teachers = time.process_time() - start, time.perf_counter() - clock
print(*(8 * {epochs} * epoch + own for epoch, own in zip(student, teachers)))
"""


class Seconds(NamedTuple):
    """Of all threads, and of the clock."""

    cpu: float
    clock: float


def measured(code: str, data: str, work: str, epochs: int, threads: int | None) -> Seconds:
    """What some code after `SETUP` prints, in a process of its own: PLAIN an epoch, LEAST the whole."""
    code = (SETUP + code).format(root=str(ROOT), data=data, work=work, epochs=epochs, threads=threads)
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return Seconds(*map(float, process.stdout.split()))


def adopt_orphans() -> None:
    """Make this process the parent of what its children leave behind: the server of `--jobs`, say (Linux)."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1)


def children_seconds() -> float:
    """CPU seconds of the processes that were started here and of theirs, once all have ended."""
    with suppress(ChildProcessError):
        while True:
            os.wait()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--threads", type=int, help="of TensorFlow, on both sides")
    parser.add_argument("--jobs", type=int, help="of the recipe, side by side")
    args = parser.parse_args()
    adopt_orphans()
    with tempfile.TemporaryDirectory() as work:
        before = measured(PLAIN, args.data, work, args.epochs // 2, args.threads)
        start, used = time.perf_counter(), children_seconds()
        recipe = ["--freeze", "--fine-tune-epochs", "0", "--views", "1", "--epochs", str(args.epochs)]
        paths = ["--data", args.data, "--results", f"{work}/r"]
        threads = ["--threads", str(args.threads)] if args.threads else []
        jobs = ["--jobs", str(args.jobs)] if args.jobs else []
        command = [sys.executable, str(ROOT / "main.py"), *paths, *recipe, *threads, *jobs]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        whole, cpu = time.perf_counter() - start, children_seconds() - used
        after = measured(PLAIN, args.data, work, args.epochs // 2, args.threads)
        least = measured(LEAST, args.data, work, args.epochs, args.threads)
        stages = json.loads(Path(f"{work}/r/manifest.json").read_text())["stages"]
    parts = Counter()
    for stage in stages.values():
        parts[PARTS[stage["kind"]]] += stage["seconds"]
    parts["start-up and the rest"] = whole - sum(parts.values())
    for part, seconds in parts.most_common():
        print(f"{part:28} {seconds:8.1f} s")
    print(f"{'the whole recipe':28} {whole:8.1f} s, {cpu:.1f} CPU seconds")
    for name, own, *epoch, bare in zip(Seconds._fields, (cpu, whole), before, after, least, strict=True):
        plain = 8 * args.epochs * sum(epoch) / 2
        print(
            f"{name}: a plain epoch {epoch[0]:.3f} s before, {epoch[1]:.3f} after; all of them {plain:.1f} s"
        )
        print(f"{name}: the whole recipe / 8 x {args.epochs} plain epochs: {own / plain:.2f}")
        print(f"{name}: in plain Keras {bare:.1f} s; the whole recipe / that: {own / bare:.2f}")


if __name__ == "__main__":
    main()
