"""What a run takes as the number of images grows: memory, disk and seconds of every part of it.

    python benchmarks/scale.py [--images 1000 10000 100000] [--sides 32 128] [--folder DIR] [--json FILE]
                               [-- ARGUMENTS OF THE RUN]

For each number of images and each side a data set is drawn: smooth shapes of four classes and noise; val and
test are a tenth each and at most 10,000. One command runs the door, the audit, the data sheet, the views, the
labelling by a small teacher, two students, their files, scores and all reports. The teacher is as its random
weights make it: it is labelling that is measured. The run's processes are sampled (`memory`); a part is what
its stages take, by their kinds. Prints a table for each side, with the exponents of CPU seconds and memory
between the last two sizes, and removes what it wrote.
"""

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from memory import Measured, Usage, folder_bytes, measured

ROOT = Path(__file__).parents[1]

MOST_HELD_OUT = 10_000  # images of val and of test
CLASSES, BLOCK = 4, 1000
RUN = (
    *("--teachers", "cnn5", "--weights", "none", "--scratch-epochs", "0", "--views", "1"),
    *("--student", "cnn3-small", "--epochs", "1", "--recipes", "float32", "int8", "--threads", "1"),
)
PARTS = {  # by the kind of a stage
    "audit": "audit",
    "datasheet": "data sheet",
    **dict.fromkeys(("views", "unlabelled-views"), "views"),
    **dict.fromkeys(("origin", "features", "head", "whole"), "teacher"),
    **dict.fromkeys(("labels", "unlabelled-labels", "ensemble-labels"), "labelling"),
    **dict.fromkeys(("student", "cut"), "students"),
    **dict.fromkeys(("conversion", "file", "tuned-file", "compressed-file"), "files"),
    **dict.fromkeys(("teacher-evaluation", "student-evaluation", "file-evaluation"), "scores"),
    **dict.fromkeys(("agreement", "ensemble-evaluation"), "scores"),
    "attention": "Grad-CAM",
}
DOOR, REPORTS = "door", "reports and the run itself"
ORDER = [DOOR, *dict.fromkeys(PARTS.values()), REPORTS]


def shapes(count: int, side: int, labels: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Smooth images (n, side, side) uint8, a few low frequencies, one of them by class, and noise."""
    waves = np.arange(side) / side
    basis = np.stack([np.cos(np.pi * k * waves) for k in range(8)])  # (8, side)
    for start in range(0, count, BLOCK):
        own = labels[start : start + BLOCK]
        weights = rng.normal(0, 14, (len(own), 8, 8))
        weights[np.arange(len(own)), own, 1] += 20
        image = np.einsum("nij,ih,jw->nhw", weights, basis, basis)
        yield np.clip(image + rng.normal(118, 5, image.shape), 0, 255).astype(np.uint8)


def write_data(folder: Path, images: int, side: int) -> None:
    """train, val and test of so many images in all, a block at a time."""
    folder.mkdir(parents=True)
    held_out = min(images // 10, MOST_HELD_OUT)
    for i, (split, count) in enumerate(
        {"train": images - 2 * held_out, "val": held_out, "test": held_out}.items()
    ):
        rng = np.random.default_rng([images, i])
        labels = np.arange(count) % CLASSES
        np.save(folder / f"y_{split}.npy", labels)
        with open(folder / f"X_{split}.npy", "wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (count, side, side)}
            np.lib.format.write_array_header_1_0(file, header)
            for block in shapes(count, side, labels, rng):
                file.write(block.data)
    (folder / "classes.txt").write_text("".join(f"class {k}\n" for k in range(CLASSES)))


class Stages:
    """Which stage of a run is being made, by the folders in its results."""

    def __init__(self, results: Path):
        self.work, self.begun = results / "work", False

    def current(self) -> str:
        """The name of its folder; of none `DOOR` until the first one, then `REPORTS`."""
        names = [path.name for path in self.work.glob(".*.part")] if self.work.is_dir() else []
        names = [name[1:].split(".")[0] for name in names if (self.work / name).is_dir()]
        self.begun = self.begun or bool(names)
        return names[0] if names else REPORTS if self.begun else DOOR

    def part(self, name: str) -> str:
        """The part of the run that a folder belongs to."""
        note = self.work / name / "stage.json"
        return PARTS.get(json.loads(note.read_text())["kind"], REPORTS) if note.is_file() else name


def by_part(run: Measured, stages: Stages) -> dict[str, Usage]:
    """What each part of a run took."""
    parts: dict[str, Usage] = {}
    for name, own in run.parts.items():
        part = parts.setdefault(stages.part(name), Usage())
        part.private, part.anonymous = max(part.private, own.private), max(part.anonymous, own.anonymous)
        part.cpu, part.wall = part.cpu + own.cpu, part.wall + own.wall
    return {name: parts[name] for name in sorted(parts, key=lambda name: (*ORDER, name).index(name))}


def measure(images: int, side: int, folder: Path, arguments: list[str]) -> dict:
    """One run over so many images."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        data, results, log = Path(place, "data"), Path(place, "results"), Path(place, "log")
        write_data(data, images, side)
        stages = Stages(results)
        command = [sys.executable, ROOT / "main.py", "--data", data, "--results", results, *RUN, *arguments]
        run = measured(command, stages.current, log)
        if run.code:
            raise SystemExit(log.read_text()[-3000:])
        return {
            "images": images,
            "side": side,
            "data_bytes": folder_bytes(data),
            "results_bytes": folder_bytes(results),
            "whole": asdict(run.whole),
            "parts": {name: asdict(own) for name, own in by_part(run, stages).items()},
        }


def exponent(sizes: list[int], values: list[float]) -> float:
    """The slope of a line through logarithms, by least squares."""
    pairs = [(n, v) for n, v in zip(sizes, values, strict=True) if v > 0]
    if len(pairs) < 2:
        return math.nan
    x, y = np.log([n for n, _ in pairs]), np.log([v for _, v in pairs])
    return float(np.polyfit(x, y, 1)[0])


def show(rows: list[dict]) -> None:
    """Tables of the runs of one side, in Markdown."""
    sizes = [row["images"] for row in rows]
    names = list(dict.fromkeys(name for row in rows for name in row["parts"]))
    usages = {"the whole run": [row["whole"] for row in rows]}
    usages |= {name: [row["parts"].get(name, asdict(Usage())) for row in rows] for name in names}
    print(f"\n{rows[0]['side']} px: CPU s / wall s / private MiB (anonymous)\n")
    print("| Part |" + "".join(f" {n:,} |" for n in sizes) + " exponent of CPU | of memory |")
    print("|---|" + "---|" * (len(sizes) + 2))
    for name, own in usages.items():
        cells = [f"{u['cpu']:.1f} / {u['wall']:.0f} / {u['private']:.0f} ({u['anonymous']:.0f})" for u in own]
        ends = [exponent(sizes[-2:], [u[key] for u in own[-2:]]) for key in ("cpu", "private")]
        print(f"| {name} | {' | '.join(cells)} | {ends[0]:.2f} | {ends[1]:.2f} |")
    for key in ("data_bytes", "results_bytes"):
        values = [row[key] for row in rows]
        cells = " | ".join(f"{value / 2**20:.1f}" for value in values)
        print(f"| {key.split('_')[0]}, MiB of disk | {cells} | | {exponent(sizes[-2:], values[-2:]):.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--sides", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--folder", type=Path, help="for data and results [that of temporary files]")
    parser.add_argument("--json", type=Path, help="file to add the figures to, a line a run")
    args, run = parser.parse_known_args()
    for side in args.sides:
        rows = []
        for images in args.images:
            rows.append(measure(images, side, args.folder, run))
            if args.json:
                with open(args.json, "a") as file:
                    print(json.dumps(rows[-1]), file=file)
        show(rows)


if __name__ == "__main__":
    main()
