"""What is said of slices, put together by study or by series.

`mean` is the mean of the slices' probabilities, and names the class of the largest one. `max` is, class by
class, the largest of any slice: it asks whether one slice shows it. It adds up to more than 1 and names no
class, since one slice on which there is nothing to see would outvote those on which there is. Thresholds
and prediction sets are of single images: of several slices nobody knows how often they hold.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ..predictor import Predictor
from ..words import plural
from .slices import Slice

BY_STUDY = ("max", "mean")


class Verdict(NamedTuple):
    """What is said of several slices at once, by a rule of `BY_STUDY`."""

    probs: np.ndarray  # (K,)
    label: str | None  # the class that is named; None by max
    largest: tuple[int, ...] = ()  # by max: the slice, from 0, of the largest probability of each class


class Group(NamedTuple):
    """The slices of a study or a series that could be read, and what they say together, where asked for.

    `unread` slices of it could not be read, nor could `unplaced` files that may be of it.
    """

    uid: str
    slices: list[Slice]
    unread: int
    unplaced: int
    verdict: Verdict | None

    @property
    def gaps(self) -> str:
        """What could not be read, in words; "" where all could be."""
        counts = (
            f"{self.unread} {plural(self.unread, 'slice')}" * bool(self.unread),
            f"{self.unplaced} {plural(self.unplaced, 'file')} of unknown study" * bool(self.unplaced),
        )
        unread = " and ".join(filter(None, counts))
        return f"{unread} could not be read" if unread else ""


def groups(predictor: Predictor, slices: Iterable[Slice], rule: str | None) -> list[Group]:
    """Slices by study, with a verdict by a `rule` of `BY_STUDY`; by series, without one, where it is None.

    A group whose slices could none of them be read has none, and no verdict.
    """
    name = "StudyInstanceUID" if rule else "SeriesInstanceUID"
    members: dict[str, list[Slice]] = {}
    unplaced = 0
    for own in slices:
        if own.header is None:
            unplaced += 1
        else:
            members.setdefault(str(own.header.get(name, "")), []).append(own)
    return [_group(predictor, uid, own, unplaced, rule) for uid, own in members.items()]


def _group(predictor: Predictor, uid: str, own: list[Slice], unplaced: int, rule: str | None) -> Group:
    read = [one for one in own if not one.row.error]
    verdict = _verdict(predictor, read, rule) if rule and read else None
    return Group(uid, read, len(own) - len(read), unplaced, verdict)


def _verdict(predictor: Predictor, read: list[Slice], rule: str) -> Verdict:
    probs = np.stack([own.row.probs for own in read])  # (slices, K)
    if rule == "max":
        return Verdict(probs.max(axis=0), None, tuple(probs.argmax(axis=0).tolist()))
    mean = probs.mean(axis=0)
    return Verdict(mean, predictor.classes[int(mean.argmax())])
