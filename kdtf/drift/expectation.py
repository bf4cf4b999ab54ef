"""What a card expects of the images and answers to come: its train and val in numbers.

An older card has none of it, and another one may be edited: both are refused in one line.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..data.typical import DECIMALS, QUANTILES
from ..errors import UserError, require
from ..predictor import STATISTICS
from ..tflite.card import Card

REFERENCES = ("train", "val")
LACKING = "An earlier kdtf wrote it: give the command of its run again, which trains nothing anew."


class Reference(NamedTuple):
    """A statistic of so many images of a split: all values in order, or a value at every percent."""

    values: np.ndarray  # (K,) ascending
    images: int

    def bounds(self, at: np.ndarray, side: str = "right") -> tuple[np.ndarray, np.ndarray]:
        """Between what the part of the images lies whose value is at most `at` (N,), or below it.

        "right" counts values that are equal to it, "left" does not. Where all values are known, the two
        ends are equal; of values at every percent they are a percent apart.
        """
        place = np.searchsorted(self.values, at, side)  # type: ignore[call-overload]
        if len(self.values) == self.images:
            part = place / self.images
            return part, part
        steps = len(self.values) - 1
        low, high = np.clip([place - 1, place], 0, steps) / steps
        return low, high

    def quantile(self, part: float) -> float:
        """The value that this part of the images does not exceed."""
        return float(self.values[max(0, math.ceil(part * len(self.values)) - 1)])


class Answers(NamedTuple):
    """What a student said of so many images: how often each class (K,), uncertain, unlike."""

    images: int
    named: np.ndarray
    uncertain: int
    unlike: int


class Expectation(NamedTuple):
    """What a card expects of images and answers. `test` is shown beside it and decides nothing."""

    classes: tuple[str, ...]
    statistics: Mapping[str, Mapping[str, Reference]]  # {statistic: {split: its values}}
    val: Answers
    test: Answers


def expectation(card: Card, name: str) -> Expectation:
    """What the card of a bundle with this name expects. Raises `UserError` where it says too little."""
    parts = {"reference": card.reference, "answers": card.answers}
    lacks = [part for part, value in parts.items() if not value]
    require(
        not lacks,
        name,
        "a student whose .json has reference and answers",
        f"no {' and no '.join(lacks)}",
        LACKING,
    )
    try:
        return Expectation(
            classes=tuple(card.classes),
            statistics={
                own: {split: _reference(card.reference[split], own) for split in REFERENCES}
                for own in STATISTICS
            },
            val=_answers(card, "val"),
            test=_answers(card, "test"),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(
            f"{name} must be a student whose .json has reference and answers as kdtf wrote them. They are "
            f"damaged: {reason}."
        ) from None


def _reference(split: Mapping[str, Any], statistic: str) -> Reference:
    """Raises `ValueError`, `TypeError` and the like for what `data.typical.reference` would not write."""
    values = np.array([float(text) for text in split["quantiles"][statistic].split(maxsplit=QUANTILES)])
    images = _count(split["images"])
    if len(values) != min(images, QUANTILES) or not images:
        raise ValueError(f"{len(values)} values of {statistic} of {images} images")
    if not np.isfinite(values).all() or (np.diff(values) < 0).any():
        raise ValueError(f"values of {statistic} that do not ascend")
    return Reference(values.round(DECIMALS), images)


def _answers(card: Card, split: str) -> Answers:
    images = _count(card.reference[split]["images"])
    named = np.array([_count(count) for count in card.answers[split]["classes"]])
    uncertain, unlike = _count(card.answers[split]["uncertain"]), _count(card.reference[split]["unlike"])
    if len(named) != len(card.classes) or named.sum() != images or max(uncertain, unlike) > images:
        raise ValueError(f"answers that do not add up to the {images} images of {split}")
    return Answers(images, named, uncertain, unlike)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise ValueError(f"a number of images that is {value!r:.40}")
    return value
