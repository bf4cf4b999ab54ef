"""What a reader of a report must know before the scores, and what may wait: sentences and their rank."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .calibration import TEMPERATURES_TRIED
from .subgroups import LEAST

STILL_RISING = 0.02  # val accuracy that the last part of a training still gained: it was too short
LAST_PART = 0.2


class Remarks(NamedTuple):
    """Sentences: those that would mislead whoever has not read them `first`, and those of detail `later`."""

    first: list[str]
    later: list[str]


def ranked(
    warnings: Iterable[str], leaks: Sequence[str], of_file: Sequence[str], details: Collection[str]
) -> Remarks:
    """Leaks of the data first, then what concerns the file that was chosen, then other warnings of the run.

    What is said of models that nobody ships is for `details`.
    """
    first = [*leaks, *of_file]
    first += [text for text in warnings if text not in first and text not in details]
    return Remarks(list(dict.fromkeys(first)), [text for text in dict.fromkeys(details) if text not in first])


def points_still_rising(history: Sequence[dict[str, Any]]) -> float:
    """Points of val accuracy that a training gained in its last part over the part before; 0 for none.

    Each part is a fifth of the epochs, its accuracy the mean: a training counts as too short where it
    gained `STILL_RISING` and its val loss fell as well. Less than four epochs say nothing.
    """
    count = max(1, round(LAST_PART * len(history)))
    if len(history) < 4:
        return 0.0
    loss = "val_cross_entropy" if "val_cross_entropy" in history[-1] else "val_loss"
    parts = (history[-2 * count : -count], history[-count:])
    (before, after), (loss_before, loss_after) = (
        [float(np.mean([row[name] for row in part])) for part in parts] for name in ("val_accuracy", loss)
    )
    gained = after - before
    return 100 * gained if gained >= STILL_RISING and loss_after < loss_before else 0.0


def too_short(model: str, history: Sequence[dict[str, Any]], setting: str) -> str | None:
    """A sentence on a training that ended while val still rose; None of any other."""
    points = points_still_rising(history)
    if not points:
        return None
    return (
        f"The training of {model} was too short: val accuracy rose by {points:.1f} points over its last "
        f"fifth of epochs. Try more {setting}."
    )


def few_without_copies(classes: Sequence[str], labels: np.ndarray, clean: np.ndarray) -> str | None:
    """A sentence on classes of which copies leave few test images; None where they leave enough or none.

    labels (N,) ints of test, clean (N,) bool: has the image no copy in train or val.
    """
    left = np.bincount(labels[clean], minlength=len(classes))
    lost = np.bincount(labels, minlength=len(classes)) > left
    is_few = lost & (left > 0) & (left < LEAST)
    few = [f"{left[k]} {name}" for k, name in enumerate(classes) if is_few[k]]
    if not few:
        return None
    return (
        f"Of the {clean.sum()} test images without a copy {' and '.join(few)} are left: scores without "
        "copies that are means over classes, macro AUC too, hang on these few."
    )


def at_bound(model: str, temperature: float) -> str | None:
    """A sentence on a fitted temperature at an end of its search: it is no measurement. Else None."""
    least, most = TEMPERATURES_TRIED
    if least * 1.01 < temperature < most / 1.01:
        return None
    reason = (
        "val holds no mistake to learn it from" if temperature < 1 else "val scores are no better than chance"
    )
    return (
        f"The temperature of {model} stopped at the end of its search ({temperature:.2g}): "
        f"{reason}, so do not trust its calibrated probabilities."
    )
