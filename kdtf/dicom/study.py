"""What is said of slices, put together by study or by series.

`mean` is the mean of the slices' probabilities; `max` is, class by class, the largest of any slice, and adds
up to more than 1. No rule names a class: most slices of a patient with a tumour show none, and would outvote
those that do. Beside the probability of each class stand the slices that name it and the one in which it is
largest, for somebody to look at. Thresholds and prediction sets are of single images, and were never tried on
several.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from ..predictor import UNLIKE, Predictor
from ..words import plural
from .slices import Slice

BY_STUDY: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # probabilities (slices, K) to (K,)
    "max": lambda probs: probs.max(axis=0),
    "mean": lambda probs: probs.mean(axis=0),
}


class Verdict(NamedTuple):
    """What is said of several slices at once, class by class."""

    probs: np.ndarray  # (K,) by a rule of `BY_STUDY`
    largest: tuple[int, ...]  # (K,) the slice, from 0, in which each class is likeliest
    named: tuple[int, ...]  # (K,) the slices that name each class


class Group(NamedTuple):
    """The slices of a study or a series that could be read, and what they say together, where asked for.

    `unread` slices of it could not be read, nor could `unplaced` files that may be of it. `repeated` were
    there before, and count once.
    """

    uid: str
    slices: list[Slice]
    unread: int
    unplaced: int
    repeated: int
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

    @property
    def doubts(self) -> list[str]:
        """What is to be known of its slices before anything is believed that they say together."""
        rows, count = [own.row for own in self.slices], len(self.slices)
        parts = (
            (sum(UNLIKE in row.warning for row in rows), UNLIKE),
            (sum(row.uncertain for row in rows), "uncertain"),
        )
        said = [f"{part} of {count} {plural(count, 'slice')} {what}" for part, what in parts if part]
        if self.repeated:
            said.append(f"{self.repeated} more {plural(self.repeated, 'was', 'were')} there twice")
        return said


def groups(predictor: Predictor, slices: Iterable[Slice], rule: str | None) -> list[Group]:
    """Slices by study, with a verdict by a `rule` of `BY_STUDY`; by series, without one, where it is None.

    A file that names none is a group of its own. A group whose slices could none of them be read has none,
    and no verdict.
    """
    name = "StudyInstanceUID" if rule else "SeriesInstanceUID"
    members: dict[str, list[Slice]] = {}
    unplaced = 0
    for own in slices:
        if own.header is None or (own.row.error and own.is_slice and not own.header.get(name)):
            unplaced += 1
        elif own.is_slice:
            members.setdefault(str(own.header.get(name) or own.row.file), []).append(own)
    return [_group(predictor, uid, own, unplaced, rule) for uid, own in members.items()]


def _group(predictor: Predictor, uid: str, own: list[Slice], unplaced: int, rule: str | None) -> Group:
    read = [one for one in own if not one.row.error]
    once = list({_instance(one): one for one in reversed(read)}.values())[::-1]
    verdict = _verdict(predictor, once, rule) if rule and once else None
    return Group(uid, once, len(own) - len(read), unplaced, len(read) - len(once), verdict)


def _instance(own: Slice) -> tuple[str, int | None]:
    """By what a slice is known, however often and in whatever file it comes."""
    uid = own.header.get("SOPInstanceUID") if own.header is not None else None
    return str(uid or own.row.file), own.frame


def _verdict(predictor: Predictor, read: list[Slice], rule: str) -> Verdict:
    probs = np.stack([own.row.probs for own in read])  # (slices, K)
    named = tuple(sum(own.row.label == name for own in read) for name in predictor.classes)
    return Verdict(BY_STUDY[rule](probs), tuple(probs.argmax(axis=0).tolist()), named)
