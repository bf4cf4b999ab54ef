"""Every decision that is made on val, one function each, with its rule.

Test data never comes here.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..records import KERAS, FrontierFile, GroundTruth, Predictions, TensorError
from .bootstrap import Draws, Interval, draw, mean_interval, paired_difference
from .metrics import accuracy, is_right, score

MOST_LOST = 0.01  # val accuracy that int8 may lose before its worst layer is named
MEMORISED = 0.98  # of the training images right, and as much above val: a teacher knows them by heart
ABOVE_VAL = 0.03


def val_order(accuracy: float, loss: float) -> tuple[float, float]:
    """What epochs and candidates are ordered by, the best being the largest.

    The best val accuracy, the lower val loss among equals: on small val splits many tie in accuracy, and
    the loss alone prefers early, timid weights (docs/design.md).
    """
    return accuracy, -loss


def best_on_val(scores: Sequence[tuple[float, float]]) -> int:
    """Which of some (val accuracy, val loss) is best by `val_order`; the first among equals."""
    return max(range(len(scores)), key=lambda i: val_order(*scores[i]))


def best_teacher(teachers: Sequence[Predictions], truth: GroundTruth) -> int:
    """Which of some teachers is best on val by `val_order`; the first among equals."""
    scores: list[Any] = [score(teacher.val_probs, truth.val) for teacher in teachers]
    return best_on_val([(own["accuracy"], own["loss"]) for own in scores])


def val_accuracy(predictions: Predictions, truth: GroundTruth) -> float:
    """The part of val that a model gets right."""
    return accuracy(predictions.val_probs, truth.val)


def file_to_ship(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of rows of summary.csv that of the `.tflite` to ship.

    The best val accuracy, the smallest file among equals, the first where they are equal too. Both count
    to six significant digits, as the CSV has them: a run and its files name the same student. Raises
    `ValueError` where no row is of a `.tflite`.
    """
    files = [row for row in rows if row["recipe"] != KERAS]
    return min(files, key=lambda row: (-_as_in_csv(row["val_accuracy"]), _as_in_csv(row["size_kib"])))


def smallest_good(files: Sequence[FrontierFile], truth: GroundTruth, seed: int) -> int:
    """Which file to go on with: the smallest whose val accuracy is within the interval of the best one's.

    Accuracies are means over seeds; the interval (95 %, bootstrap over val images) is of the best file, the
    smallest of those that are equally good. So a small val, which cannot tell files apart, lets small files
    win.
    """
    return good_files(files, [val_interval(file, truth, seed) for file in files])[0]


def good_files(files: Sequence[FrontierFile], scores: Sequence[Interval]) -> list[int]:
    """Which files, the smallest first, have a val accuracy within the interval of the best one's.

    `scores` are those of `val_interval`; see `smallest_good`.
    """
    best = max(range(len(files)), key=lambda i: (scores[i].value, -files[i].kib))
    good = [i for i, score in enumerate(scores) if score.value >= scores[best].low]
    return sorted(good, key=lambda i: files[i].kib)


def val_interval(file: FrontierFile, truth: GroundTruth, seed: int) -> Interval:
    """The val accuracy of a file, the mean over its seeds, and its interval by bootstrap over images."""
    right = [is_right(result.predictions.val_probs, truth.val) for result in file.files]
    return mean_interval(_draws(len(truth.val), seed), np.mean(right, axis=0))


def _draws(count: int, seed: int) -> Draws:
    return draw(count, rng=np.random.default_rng([seed, 0xF20]))


def _as_in_csv(value: float) -> float:
    return float(f"{value:.6g}")


class Outlook(NamedTuple):
    """What distilling from a teacher is likely to do: its accuracy minus that of the student alone.

    On val, or over so many `folds` of train and val. Only an interval that excludes zero tells, and what it
    tells was counted in the comparisons of docs/regimes.csv: better teachers gave over half of students AUC
    and few of them accuracy, worse ones hardly any accuracy.
    """

    teacher: str
    difference: Interval
    folds: int = 0

    @property
    def harms(self) -> bool:
        """Is the teacher worse than the student alone."""
        return self.difference.high < 0

    @property
    def in_words(self) -> str:
        """One sentence."""
        points, low, high = (100 * v for v in self.difference)
        place = f"{abs(points):.1f} points {'above' if points > 0 else 'below'}" if points else "level with"
        where = "On val"
        if self.folds:  # one is held out, one is val
            share = (self.folds - 2) / self.folds
            where = f"In {self.folds} folds of train and val, learned from {share:.0%} of their images,"
        verdict = f"that {'they' if self.folds else 'val'} cannot tell whether it helps"
        if self.difference.excludes_zero:
            verdict = "it is worse, which seldom gave a student accuracy, and harmed some"
            if points > 0:
                verdict = "it is clearly better, which gave over half of students AUC, few of them accuracy"
        ends = f"interval {low:+.1f} to {high:+.1f}"
        return f"{where} the teacher {self.teacher} is {place} the student alone ({ends}): {verdict}."


def outlook(teacher: Predictions, alone: Predictions, truth: GroundTruth, seed: int) -> Outlook:
    """What to expect of distilling from a teacher: see `Outlook`. By paired bootstrap over val images."""
    ours, theirs = (is_right(model.val_probs, truth.val) for model in (teacher, alone))
    return Outlook(teacher.teacher, paired_difference(_draws(len(truth.val), seed), theirs, ours))


def outlook_by_folds(teacher: str, right: Sequence[tuple[np.ndarray, np.ndarray]], seed: int) -> Outlook:
    """The same by cross-validation; `right`, (n,) bool of each fold, of the teacher and of the student alone.

    The interval is Student's t over folds with the variance that Nadeau and Bengio (2003, Inference for the
    Generalization Error, Machine Learning 52) correct for images that several folds learn from, or that by
    paired bootstrap over all images, whichever reaches further: gains of few folds may be equal by chance.
    """
    from scipy.stats import t

    folds = len(right)
    gains = np.array([ours.mean() - theirs.mean() for ours, theirs in right])
    half = t.ppf(0.975, folds - 1) * gains.std(ddof=1) * math.sqrt(1 / folds + 1 / (folds - 2))
    ours, theirs = (np.concatenate(own) for own in zip(*right, strict=True))
    drawn = paired_difference(_draws(len(ours), seed), theirs, ours)
    mean = float(gains.mean())
    return Outlook(teacher, Interval(mean, min(mean - half, drawn.low), max(mean + half, drawn.high)), folds)


def memorised(right_on_train: float, right_on_val: float) -> bool:
    """Does a teacher know its training images by heart, so that its labels say what the true ones say?

    It does where it has `MEMORISED` of them right, and `ABOVE_VAL` more of them than of val.
    """
    rounding = 1e-9
    above = right_on_train - right_on_val
    return right_on_train >= MEMORISED - rounding and above >= ABOVE_VAL - rounding


def memory_in_words(
    teacher: str, right_on_train: float, right_on_val: float, *, unlabelled: bool
) -> str | None:
    """A warning of a teacher that has memorised its training images, None of any other.

    With advice where it does not label `unlabelled` images too.
    """
    if not memorised(right_on_train, right_on_val):
        return None
    advice = "" if unlabelled else "; add unlabelled images (--unlabelled)"
    return (
        f"The teacher {teacher} is right on {right_on_train:.3f} of its training images and on "
        f"{right_on_val:.3f} of val: its labels repeat yours{advice}."
    )


def worst_error(errors: Sequence[TensorError]) -> TensorError:
    """Of a file's operators with weights that whose output on val is furthest off, by signal to noise.

    The first among equals. Raises `ValueError` where none of them has weights.
    """
    return min((error for error in errors if error.weighted), key=lambda error: error.snr_db)


def lost_by_int8(float_val_accuracy: float, int8_val_accuracy: float) -> float:
    """Val accuracy that int8 lost, if it is more than `MOST_LOST`, and else 0."""
    lost = float_val_accuracy - int8_val_accuracy
    return lost if lost > MOST_LOST else 0.0
