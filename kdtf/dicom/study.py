"""What is said of slices, put together by study or by series.

`mean` is the mean of the slices' probabilities. `max` is, class by class, the largest of any slice: it asks
whether one slice shows it, and does not add up to 1.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from ..predictor import Predictor
from .slices import Slice

BY_STUDY: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # probabilities (slices, K) to (K,)
    "max": lambda probs: probs.max(axis=0),
    "mean": lambda probs: probs.mean(axis=0),
}


class Verdict(NamedTuple):
    """What is said of several slices at once."""

    label: str
    probability: float
    uncertain: bool
    probs: np.ndarray  # (K,)
    prediction_set: tuple[str, ...] | None = None  # none of several slices: quantiles are of single images


class Group(NamedTuple):
    """The slices of a study or a series that could be read, and what they say together, where asked for."""

    uid: str
    slices: list[Slice]
    verdict: Verdict | None


def groups(predictor: Predictor, slices: Iterable[Slice], rule: str | None) -> list[Group]:
    """Slices by study, with a verdict by a `rule` of `BY_STUDY`; by series, without one, where it is None."""
    name = "StudyInstanceUID" if rule else "SeriesInstanceUID"
    members: dict[str, list[Slice]] = {}
    for own in slices:
        if not own.row.error and own.header is not None:
            members.setdefault(str(own.header.get(name, "")), []).append(own)
    return [
        Group(uid, rows, _verdict(predictor, rows, rule) if rule else None) for uid, rows in members.items()
    ]


def _verdict(predictor: Predictor, rows: list[Slice], rule: str) -> Verdict:
    probs = BY_STUDY[rule](np.stack([own.row.probs for own in rows]))
    top = int(probs.argmax())
    uncertain = bool(predictor.uncertain(probs[None])[0])
    return Verdict(predictor.classes[top], float(probs[top]), uncertain, probs)
