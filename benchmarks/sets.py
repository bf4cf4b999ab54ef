"""Do prediction sets keep their promise, and how large are they?

    python benchmarks/sets.py
    python benchmarks/sets.py RESULTS DATA

Without arguments: 1,000 simulated draws of val and test images of a poor, overconfident model. With a
finished run and the data it was made from: what the file to ship says of val and of test is put together and
divided anew 1,000 times, each class into as many val images as it had, so that val and test are alike.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from kdtf.data.load import load
from kdtf.evidence.calibration import temperature
from kdtf.evidence.conformal import class_quantiles, likely_coverage
from kdtf.predictor import SETS, fits, tempered
from kdtf.runs.fitted import read_predictions

DRAWS = 1000


def made(val: np.ndarray, labels: np.ndarray, test: np.ndarray, method: str, coverage: float) -> np.ndarray:
    """Which classes are in the sets of probabilities `test` (N, K), made on val (n, K) with labels (n,)."""
    quantiles = class_quantiles(fits(val, method), labels, coverage)
    return fits(test, method) >= np.array([quantiles.get(k, -np.inf) for k in range(val.shape[1])])


def simulate(images: int, tested: int, method: str, coverage: float) -> None:
    """Print the coverage of three classes with `images` in val and `tested` in test."""
    rng, counts = np.random.default_rng(0), []
    labels = np.arange(3 * (images + tested)) % 3
    for _ in range(DRAWS):
        z = 2 * (rng.normal(size=(len(labels), 3)) + np.eye(3)[labels])
        probs = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        val, test, true = probs[: 3 * images], probs[3 * images :], labels[3 * images :]
        inside = made(val, labels[: 3 * images], test, method, coverage)
        counts.append(np.bincount(true[inside[np.arange(len(true)), true]], minlength=3) / tested)
    low, high = likely_coverage(images, tested, coverage)
    within = 100 * np.mean((np.array(counts) >= low) & (np.array(counts) <= high))
    print(
        f"{method}, {images} val and {tested} test images a class, {coverage:g} promised: "
        f"coverage {np.mean(counts):.4f}, {within:.1f} % of draws between {low:.3f} and {high:.3f}"
    )


def divided(labels: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which images (N,) bool are val's: `counts` of each class, drawn."""
    val = np.zeros(len(labels), bool)
    for k, count in enumerate(counts):
        val[rng.choice(np.flatnonzero(labels == k), count, replace=False)] = True
    return val


def divide_again(results: Path, source: str, coverage: float) -> None:
    """Print coverage by class and the size of sets of the file to ship, over 1,000 divisions."""
    manifest = json.loads((results / "manifest.json").read_text())
    ship = manifest["ship"]
    stage = f"{ship['teacher']}-{ship['recipe']}-evaluation"
    file = read_predictions(results / "work" / f"{stage}-{manifest['stages'][stage]['key']}", **ship)
    with tempfile.TemporaryDirectory() as work:
        truth = load(source, Path(work)).ground_truth
    probs, labels = np.concatenate([file.val_probs, file.test_probs]), np.concatenate([truth.val, truth.test])
    counts = np.bincount(truth.val, minlength=len(truth.classes))
    for method in SETS:
        for fitted in (True, False):
            rng, found = np.random.default_rng(0), []
            for _ in range(DRAWS):
                val = divided(labels, counts, rng)
                t = temperature(probs[val], labels[val]) if fitted else 1.0
                scaled, true = tempered(probs, t), labels[~val]
                inside = made(scaled[val], labels[val], scaled[~val], method, coverage)
                held, size = inside[np.arange(len(true)), true], inside.sum(axis=1)
                named = inside[np.arange(len(true)), scaled[~val].argmax(axis=1)]
                of_class = [held[true == k].mean() for k in range(len(counts))]
                alone = held[size == 1].mean() if (size == 1).any() else np.nan
                shares = [(size == 1).mean(), (size == 0).mean(), (size == len(counts)).mean()]
                found.append([*of_class, size.mean(), *shares, (~named).mean(), alone])
            *of_class, size, one, empty, full, lost, alone = np.nanmean(found, axis=0)
            by_class = ", ".join(f"{n} {c:.3f}" for n, c in zip(truth.classes, of_class, strict=True))
            print(
                f"{method}, temperature {'fitted on val' if fitted else '1'}: coverage {by_class}; "
                f"classes in a set {size:.2f}; sets of one {100 * one:.1f} %, right {100 * alone:.1f} %; "
                f"empty {100 * empty:.1f} %, full {100 * full:.1f} %, "
                f"without the class named {100 * lost:.1f} %"
            )


def main(arguments: list[str]) -> None:
    if arguments:
        divide_again(Path(arguments[0]), arguments[1], 0.9)
        return
    for method in SETS:
        for images in (9, 23, 100):
            simulate(images, 100, method, 0.9)


if __name__ == "__main__":
    main(sys.argv[1:])
