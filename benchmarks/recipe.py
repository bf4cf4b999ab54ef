"""What the whole classic recipe costs, in plain student epochs, within one run.

    python benchmarks/recipe.py DATA [--epochs 300]

Seven teachers, their heads trained for 300 epochs on frozen features, seven distilled students and
the one alone, quantized, evaluated, reported: `main.py --freeze --fine-tune-epochs 0 --views 1`,
start-up included. The yardstick is 8 x 300 epochs of the same student under plain `fit` on arrays:
half of one student's epochs are timed before the recipe and half after it, because the machine may
drift. Prints the stages' seconds and the ratio the project promises (at most 1.25).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

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
PLAIN = """
import sys, time
sys.path.insert(0, {root!r})
from kdtf.native_log import native_noise, set_environment
set_environment()
with native_noise():
    import keras
    from pathlib import Path
    from kdtf.config import Config
    from kdtf.data.load import load
    from kdtf.models.students import build_student
data = load({data!r}, Path({work!r}))
s = Config().student
x, y = data.train.pixels.astype("float32"), data.train.labels
model = build_student(s.student, x.shape[1:], len(data.classes), momentum=s.student_momentum,
                      dropout=s.student_dropout, seed=0)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile("adam", loss, metrics=["accuracy"], jit_compile=False)
model.fit(x, y, batch_size=s.batch_size, epochs=2, verbose=0)
start = time.perf_counter()
model.fit(x, y, batch_size=s.batch_size, epochs={epochs}, verbose=0)
print((time.perf_counter() - start) / {epochs})
"""


def plain_epoch(data: str, work: str, epochs: int) -> float:
    """Seconds of one epoch of the plain student, in a process of its own, tracing not counted."""
    code = PLAIN.format(root=str(ROOT), data=data, work=work, epochs=epochs)
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(process.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--epochs", type=int, default=300)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        before = plain_epoch(args.data, work, args.epochs // 2)
        start = time.perf_counter()
        recipe = ["--freeze", "--fine-tune-epochs", "0", "--views", "1", "--epochs", str(args.epochs)]
        paths = ["--data", args.data, "--results", f"{work}/r"]
        command = [sys.executable, str(ROOT / "main.py"), *paths, *recipe]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        whole = time.perf_counter() - start
        after = plain_epoch(args.data, work, args.epochs // 2)
        stages = json.loads(Path(f"{work}/r/manifest.json").read_text())["stages"]
    parts = Counter()
    for stage in stages.values():
        parts[PARTS[stage["kind"]]] += stage["seconds"]
    parts["start-up and the rest"] = whole - sum(parts.values())
    yardstick = 8 * args.epochs * (before + after) / 2
    for part, seconds in parts.most_common():
        print(f"{part:28} {seconds:8.1f} s")
    print(f"{'the whole recipe':28} {whole:8.1f} s")
    print(
        f"plain epoch {before:.3f} s before, {after:.3f} s after; 8 x {args.epochs} of them {yardstick:.1f} s"
    )
    print(f"the whole recipe / 8 x {args.epochs} plain epochs: {whole / yardstick:.2f}")


if __name__ == "__main__":
    main()
