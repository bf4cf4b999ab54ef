"""How often `drift` alarms: of unchanged images, which must be rare, and of changed ones.

    python benchmarks/drift.py alarms DATA STUDENT.tflite --other OTHER.npz
    python benchmarks/drift.py log DATA STUDENT.tflite FOLDER

`alarms` puts train and val of DATA together, and for each of 200 windows draws anew, without replacement,
which images are the reference (400 as train, as many as val has as val) and which the window. So the window
is of the same images as the reference by construction, whatever tells val from train in DATA. Then the same
with the window's images altered; with windows of other sets; with windows of neighbouring images, which are
often of one patient; and with 200 windows drawn from val against the card of the student as it is. A window
counts as an alarm where it is unusual taken alone. `log` writes a log of twelve weeks, brightened from the
ninth on, to look at with `drift`.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

sys.path.insert(0, str(Path(__file__).parents[1]))
from kdtf.data.load import load
from kdtf.data.typical import percentiles
from kdtf.drift.expectation import Answers, Expectation, Reference, expectation
from kdtf.drift.log import CURRENT, PredictionLog
from kdtf.drift.reading import Log
from kdtf.drift.verdict import CHANGED, EXPECTED, judged
from kdtf.drift.windows import NONE, by_number
from kdtf.predictor import STATISTICS, UNLIKE, Predictor, Row
from kdtf.tflite.card import read_card

WINDOWS, TRAIN, SEED = 200, 400, 0
SIZES = (30, 60, 120)


def blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(1.5))


ALTERED = {
    "unchanged": lambda image: image,
    "brightness x 1.1": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "brightness x 1.2": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "brightness x 1.4": lambda image: ImageEnhance.Brightness(image).enhance(1.4),
    "contrast x 0.8": lambda image: ImageEnhance.Contrast(image).enhance(0.8),
    "blurred, 1.5 px": blurred,
    "upside down": lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
}


def altered(pixels: np.ndarray, change) -> np.ndarray:
    """Images (N, H, W, 1 or 3), each changed by a function of Pillow images."""
    images = [change(Image.fromarray(own[..., 0] if own.shape[2] == 1 else own)) for own in pixels]
    return np.stack([np.asarray(image).reshape(pixels.shape[1:]) for image in images])


def rows_of(predictor: Predictor, pixels: np.ndarray) -> list[Row]:
    """What the student says of images, as `predict` would."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "images.npy"), pixels)
        return list(predictor.rows(Path(folder, "images.npy")))


def log_of(rows: list[Row], classes: tuple[str, ...]) -> Log:
    """A log of these rows, in their order."""
    values = np.array([[row.statistics[name] for name in STATISTICS] for row in rows])
    return Log(
        np.arange(len(rows)).astype("datetime64[s]").astype("datetime64[ms]"),
        dict(zip(STATISTICS, values.T, strict=True)),
        np.array([classes.index(row.label) for row in rows]),
        np.array([row.uncertain for row in rows]),
        np.array([UNLIKE in row.warning for row in rows]),
        NONE,
        {},
        {},
    )


def part(log: Log, rows: np.ndarray) -> Log:
    """Some images of a log, in this order."""
    values = {name: own[rows] for name, own in log.statistics.items()}
    times = np.arange(len(rows)).astype("datetime64[s]").astype("datetime64[ms]")
    return Log(times, values, log.named[rows], log.uncertain[rows], log.unlike[rows], NONE, {}, {})


def expected_of(log: Log, train: np.ndarray, val: np.ndarray, classes: tuple[str, ...]) -> Expectation:
    """What a card would expect whose train and val were these images of a log."""

    def reference(name: str, rows: np.ndarray) -> Reference:
        return Reference(np.array(percentiles(log.statistics[name][rows]).split(), float), len(rows))

    named = np.bincount(log.named[val], minlength=len(classes))
    answers = Answers(len(val), named, int(log.uncertain[val].sum()), int(log.unlike[val].sum()))
    statistics = {name: {"train": reference(name, train), "val": reference(name, val)} for name in STATISTICS}
    return Expectation(classes, statistics, answers, answers)


def alarm(log: Log, expected: Expectation, rng: np.random.Generator) -> tuple[str, ...]:
    """The checks by which a log, as one window, is unusual."""
    (window,) = judged(by_number(log.times, len(log.times)), log, expected, rng).windows
    return tuple(own.check.name for own in window.checks if own.state != EXPECTED)


def told(title: str, alarms: list[tuple[str, ...]]) -> None:
    names = Counter(name for own in alarms for name in own)
    which = ", ".join(f"{name} {100 * count / len(alarms):.0f}" for name, count in names.most_common())
    share = 100 * sum(map(bool, alarms)) / len(alarms)
    print(f"  {title:<34} {share:5.1f} %  {which}", flush=True)


def alarms(data, student: Path, other: str | None) -> None:
    predictor = Predictor(student)
    pool = np.concatenate([data.train.pixels, data.val.pixels])
    logs = {
        name: log_of(rows_of(predictor, altered(pool, how)), predictor.classes)
        for name, how in ALTERED.items()
    }
    sets = {"test of the same data": log_of(rows_of(predictor, data.test.pixels), predictor.classes)}
    if other:
        with np.load(other) as stored:
            sets[Path(other).stem] = log_of(rows_of(predictor, stored["test_images"]), predictor.classes)
    unchanged, n_val = logs["unchanged"], len(data.val.labels)
    card = expectation(read_card(student.with_suffix(".json")), str(student))
    for size in SIZES:
        print(f"windows of {size} images, {WINDOWS} each:")
        results: dict[str, list] = {name: [] for name in [*logs, *sets, "neighbours", "of val, by the card"]}
        for seed in range(WINDOWS):
            rng = np.random.default_rng([SEED, size, seed])
            order = rng.permutation(len(pool))
            train, val, rest = np.split(order, [TRAIN, TRAIN + n_val])
            expected = expected_of(unchanged, train, val, predictor.classes)
            for name, log in logs.items():
                results[name].append(alarm(part(log, rest[:size]), expected, rng))
            for name, log in sets.items():
                rows = rng.permutation(len(log.times))[:size]
                results[name].append(alarm(part(log, rows), expected, rng))
            start = rng.integers(len(pool) - size)
            near = np.arange(start, start + size)
            train, val, _ = np.split(rng.permutation(np.setdiff1d(order, near)), [TRAIN, TRAIN + n_val])
            expected = expected_of(unchanged, train, val, predictor.classes)
            results["neighbours"].append(alarm(part(unchanged, near), expected, rng))
            rows = len(data.train.labels) + rng.integers(n_val, size=size)
            results["of val, by the card"].append(alarm(part(unchanged, rows), card, rng))
        for name, own in results.items():
            told(name, own)
    whole_logs(unchanged, n_val, predictor.classes)


def whole_logs(unchanged: Log, n_val: int, classes: tuple[str, ...]) -> None:
    """Logs of several unchanged windows: how many of them have any change."""
    changed, count = 0, 100
    for seed in range(count):
        rng = np.random.default_rng([SEED, seed])
        train, val, rest = np.split(rng.permutation(len(unchanged.times)), [TRAIN, TRAIN + n_val])
        log = part(unchanged, rest)
        verdict = judged(by_number(log.times, 30), log, expected_of(unchanged, train, val, classes), rng)
        changed += verdict.count(CHANGED) > 0
    print(f"logs of {len(rest) // 30} unchanged windows of 30 images: {changed} of {count} have a change")


def write_log(data, student: Path, folder: Path) -> None:
    """Twelve weeks of 80 images of train and val, brightened by 1.2 from the ninth on."""
    predictor, rng = Predictor(student), np.random.default_rng(SEED)
    pool = np.concatenate([data.train.pixels, data.val.pixels])
    logger = PredictionLog(folder, predictor.card["sha256"], predictor.classes)
    logger.open_folder()
    with open(folder / CURRENT, "a") as file:
        for week in range(12):
            pixels = pool[rng.permutation(len(pool))[:80]]
            how = ALTERED["brightness x 1.2" if week >= 8 else "unchanged"]
            for i, row in enumerate(rows_of(predictor, altered(pixels, how))):
                time = datetime(2026, 9, 7, 8, tzinfo=UTC) + timedelta(weeks=week, minutes=100 * i)
                file.write(json.dumps(logger.record(row, time)) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["alarms", "log"])
    parser.add_argument("data")
    parser.add_argument("student", type=Path)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--other")
    arguments = parser.parse_args()
    side = read_card(arguments.student.with_suffix(".json")).input.height
    with tempfile.TemporaryDirectory() as work:
        data = load(arguments.data, Path(work), image_size=side)
        if arguments.what == "log":
            write_log(data, arguments.student, arguments.folder)
        else:
            alarms(data, arguments.student, arguments.other)


if __name__ == "__main__":
    main()
