"""Every decision that is made on val, one function each, with its rule.

Test data never comes here.
"""

from collections.abc import Sequence
from typing import Any

from ..records import KERAS, GroundTruth, Predictions, TensorError
from .metrics import accuracy

MOST_LOST = 0.01  # val accuracy that int8 may lose before its worst layer is named


def val_order(accuracy: float, loss: float) -> tuple[float, float]:
    """What epochs and candidates are ordered by, the best being the largest.

    The best val accuracy, the lower val loss among equals: on small val splits many tie in accuracy, and
    the loss alone prefers early, timid weights (docs/design.md).
    """
    return accuracy, -loss


def best_on_val(scores: Sequence[tuple[float, float]]) -> int:
    """Which of some (val accuracy, val loss) is best by `val_order`; the first among equals."""
    return max(range(len(scores)), key=lambda i: val_order(*scores[i]))


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


def _as_in_csv(value: float) -> float:
    return float(f"{value:.6g}")


def teacher_helps(teacher_val_accuracy: float, alone_val_accuracy: float) -> bool:
    """Is a student likely to gain from a teacher? Only where that is better on val than the student alone."""
    return teacher_val_accuracy > alone_val_accuracy


def worst_error(errors: Sequence[TensorError]) -> TensorError:
    """Of a file's operators with weights that whose output on val is furthest off, by signal to noise.

    The first among equals. Raises `ValueError` where none of them has weights.
    """
    return min((error for error in errors if error.weighted), key=lambda error: error.snr_db)


def lost_by_int8(float_val_accuracy: float, int8_val_accuracy: float) -> float:
    """Val accuracy that int8 lost, if it is more than `MOST_LOST`, and else 0."""
    lost = float_val_accuracy - int8_val_accuracy
    return lost if lost > MOST_LOST else 0.0
