"""Does a file do as well in every group: by sex, age, site, scanner? Scores by group, and the largest gaps.

Groups share the bootstrap draws of the part of test that they are in. A group of fewer than `LEAST` patients
(images, where no patients are known) is listed and neither tested nor judged, and so is the unknown one.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..records import UNKNOWN, GroundTruth, Predictions
from .bootstrap import (
    Interval,
    drawn_counts,
    drawn_scores,
    holm,
    interval,
    p_in_words,
    proportion_interval,
)
from .metrics import is_right, ratio
from .tables import Subset

LEAST = 20  # where 80 % are right, the interval (Wilson) of so many is 34 points long
PERMUTATIONS = 9_999
AT_A_TIME = 1_000  # of these: what is shuffled together sits in memory
ACCURACY, SENSITIVITY = "accuracy", "sensitivity"
A_GAP = "a gap"


class Group(NamedTuple):
    """One group in a part of test; `judged` says whether it is large enough to be."""

    column: str
    name: str
    inside: np.ndarray  # (n,) bool: which images of the part
    units: int  # patients, or images
    in_train: int | None  # images; None where that is not known

    @property
    def images(self) -> int:
        """How many images of the part."""
        return int(self.inside.sum())

    @property
    def judged(self) -> bool:
        """Is it known and large enough to be tested and judged."""
        return self.name != UNKNOWN and self.units >= LEAST


class GroupScores(NamedTuple):
    """What a model scores in a group: every metric, and of each class (by index) images and sensitivity."""

    own: Group
    metrics: dict[str, Interval]
    sensitivity: dict[int, tuple[int, Interval]]


class Gap(NamedTuple):
    """The largest difference between groups of a column: between which, its interval and its p.

    `of` is the class whose sensitivity it is of, None for accuracy. `p` is None where there are less than
    two groups to compare, and then all else is too.
    """

    column: str
    of: int | None
    compared: int
    left_out: int
    p: float | None = None
    best: str = ""
    worst: str = ""
    values: tuple[float, float] | None = None  # of these two
    difference: Interval | None = None


def units_in_words(truth: GroundTruth) -> str:
    """What groups are counted by."""
    return "images" if truth.groups is None else "patients"


def groups_in(truth: GroundTruth, subset: Subset, k: int, of: int | None = None) -> list[Group]:
    """The groups of column k that have images in a part of test; with `of` images of that class."""
    own, asked = truth.subgroups[k], np.ones(len(subset.rows), bool) if of is None else subset.labels == of
    member, groups = own.member[subset.rows], []
    for at, name in enumerate(own.groups):
        inside = asked & (member == at)
        units = len(np.unique(truth.groups[subset.rows[inside]])) if truth.groups is not None else None
        in_train = truth.in_train[k][at] if truth.in_train else None
        group = Group(own.column, name, inside, int(inside.sum()) if units is None else units, in_train)
        groups += [group] if inside.any() else []
    return groups


def group_scores(model: Predictions, truth: GroundTruth, subset: Subset) -> list[GroupScores]:
    """Every metric of a model, and its sensitivity for each class, in every group of a part of test."""
    columns = range(len(truth.subgroups))
    return [_scores(model, subset, own) for k in columns for own in groups_in(truth, subset, k)]


def _scores(model: Predictions, subset: Subset, own: Group) -> GroupScores:
    draws, labels = subset.draws.within(own.inside, own.units), subset.labels[own.inside]
    probs = model.test_probs[subset.rows[own.inside]]
    right, true, _ = drawn_counts(draws, probs, labels).astype(np.float64)  # each (D, K)
    drawn = drawn_scores(draws, probs, labels)
    metrics = {name: _sure(interval(values, own.units)) for name, values in drawn.items()}
    metrics[ACCURACY] = proportion_interval(right.sum(axis=1), true.sum(axis=1), own.units)
    sensitivity = {
        int(k): (int(true[0, k]), proportion_interval(right[:, k], true[:, k], own.units))
        for k in np.flatnonzero(true[0])
    }
    return GroupScores(own, metrics, sensitivity)


def _sure(ends: Interval) -> Interval:
    """An interval, without its ends where all draws say the same: so few images do not tell how sure."""
    return ends if ends.low < ends.high else Interval(ends.value, np.nan, np.nan)


def largest_gaps(model: Predictions, truth: GroundTruth, subset: Subset, seed: int) -> list[Gap]:
    """Of every column the largest gap in accuracy, and in the sensitivity for each class.

    Columns with less than two groups to compare are named once, for accuracy.
    """
    right, gaps = is_right(model.test_probs[subset.rows], subset.labels), []
    for of in (None, *range(len(truth.classes))):
        for k in range(len(truth.subgroups)):
            gap = _gap(right, truth, subset, (k, of), seed)
            gaps += [gap] if of is None or gap.p is not None else []
    return gaps


def _gap(right: np.ndarray, truth: GroundTruth, subset: Subset, at: tuple[int, int | None], seed: int) -> Gap:
    """The largest gap in what is `right` (n,) of a part of test; `at` is a column, and a class or none."""
    groups, column = groups_in(truth, subset, *at), truth.subgroups[at[0]].column
    judged = [group for group in groups if group.judged]
    counts = len(judged), len(groups) - len(judged)
    if len(judged) < 2:
        return Gap(column, at[1], *counts)
    masks = np.stack([group.inside for group in judged])  # (groups, n)
    rates = subset.draws.compute(lambda weights: _rates(weights, masks, right))  # (D, groups)
    best, worst = (judged[i] for i in (rates[0].argmax(), rates[0].argmin()))
    drawn = rates[:, rates[0].argmax()] - rates[:, rates[0].argmin()]
    difference = interval(drawn, min(best.units, worst.units))
    compared, member = masks.any(axis=0), masks.argmax(axis=0)
    patients = None if truth.groups is None else truth.groups[subset.rows[compared]]
    rng = np.random.default_rng([seed, 0x6A9])
    p = permutation_p(right[compared], member[compared], patients, rng=rng)
    values = float(rates[0].max()), float(rates[0].min())
    return Gap(column, at[1], *counts, p, best.name, worst.name, values, difference)


def _rates(weights: np.ndarray, masks: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The part that is `right` (n,) bool of each group (groups, n) bool, of every draw: (D, groups)."""
    sides = masks.astype(weights.dtype).T
    images, hits = weights @ sides, weights @ (sides * right[:, None])
    return ratio(hits.astype(np.float64), images.astype(np.float64))


def permutation_p(
    right: np.ndarray, member: np.ndarray, patients: np.ndarray | None, *, rng: np.random.Generator
) -> float:
    """How often chance gives as large a gap between the best and the worst of all groups.

    `right` (n,) bool, `member` (n,) the group of each image, `patients` (n,). Patients are shuffled over the
    groups, each with the images it has in one (Davison and Hinkley 1997, section 4.3). Of a group nothing
    counts but how many patients of each kind it gets, so many images of which so many are right: tables
    with these margins are drawn at random (Patefield 1981). A patient with images in several groups counts
    in each, which makes p too large rather than too small.
    """
    from scipy.stats import random_table

    groups, member = np.unique(member, return_inverse=True)
    owner = np.arange(len(right)) if patients is None else np.unique(patients, return_inverse=True)[1]
    units, unit = np.unique(owner * len(groups) + member, return_inverse=True)  # of one patient in one group
    whole, part = np.bincount(unit), np.bincount(unit, weights=right).astype(np.int64)
    kinds, counts = np.unique(np.stack([whole, part]), axis=1, return_counts=True)  # (2, kinds)
    rule = random_table(counts, np.bincount(units % len(groups)))
    observed = np.ptp(np.bincount(member, weights=right) / np.bincount(member))
    exceeding, left = 0, PERMUTATIONS
    while left:
        tables = rule.rvs(min(left, AT_A_TIME), random_state=rng)  # (P, kinds, groups)
        images, hits = np.tensordot(kinds, tables, axes=(1, 1))  # each (P, groups)
        exceeding += int((np.ptp(hits / images, axis=1) >= observed - 1e-9).sum())
        left -= len(tables)
    return (1 + exceeding) / (1 + PERMUTATIONS)


# Tables


def score_rows(
    model: Predictions, truth: GroundTruth, images: str, scores: Iterable[GroupScores]
) -> Iterator[dict[str, Any]]:
    """The rows of `subgroups.csv`: every metric of every group, then its sensitivity for each class."""
    for own, metrics, sensitivity in scores:
        row = {**model.name, "images": images, "column": own.column, "group": own.name}
        row |= {"group_images": own.images}
        row |= {"group_patients": None if truth.groups is None else own.units}
        row |= {"train_images": own.in_train, "judged": int(own.judged)}
        for name, ends in metrics.items():
            yield {**row, "metric": name, "class": "", "class_images": None, **ends._asdict()}
        for k, (count, ends) in sensitivity.items():
            of = {"class": truth.classes[k], "class_images": count}
            yield {**row, "metric": SENSITIVITY, **of, **ends._asdict()}


def gap_rows(truth: GroundTruth, images: str, gaps: Sequence[Gap]) -> Iterator[dict[str, Any]]:
    """The rows of `subgroup_gaps.csv`; p corrected (Holm) over columns for accuracy, else classes as well."""
    corrected: dict[int, float] = {}
    for family in (True, False):
        own = [i for i, gap in enumerate(gaps) if gap.p is not None and (gap.of is None) == family]
        corrected |= dict(zip(own, holm([p for i in own if (p := gaps[i].p) is not None]), strict=True))
    for i, gap in enumerate(gaps):
        values, ends = gap.values or (None, None), gap.difference or (None, None, None)
        yield {
            "images": images,
            "column": gap.column,
            "metric": ACCURACY if gap.of is None else SENSITIVITY,
            "class": "" if gap.of is None else truth.classes[gap.of],
            **dict(zip(("best_group", "worst_group"), (gap.best, gap.worst), strict=True)),
            **dict(zip(("best_value", "worst_value"), values, strict=True)),
            **dict(zip(("gap", "low", "high"), ends, strict=True)),
            "permutation_p": gap.p,
            "holm_p": corrected.get(i),
            "groups_compared": gap.compared,
            "groups_left_out": gap.left_out,
            "verdict": gap_in_words(truth, gap, corrected.get(i)),
        }


def gap_in_words(truth: GroundTruth, gap: Gap, p: float | None) -> str:
    """A sentence on the largest gap of a column, by its corrected p."""
    what = ACCURACY if gap.of is None else f"{SENSITIVITY} for {truth.classes[gap.of]}"
    if p is None or gap.values is None or gap.difference is None:
        few = f"less than two groups of at least {LEAST} {units_in_words(truth)}"
        return f"{gap.column}, {what}: not tested ({few})."
    points, low, high = (100 * end for end in gap.difference)
    best, worst = (f"{100 * value:.1f} %" for value in gap.values)
    finding = A_GAP if p < 0.05 and gap.difference.excludes_zero else f"no evidence of {A_GAP}"
    return (
        f"{gap.column}, {what}: {finding} ({gap.worst} {worst}, {gap.best} {best}: {points:.1f} points, "
        f"interval {low:+.1f} to {high:+.1f}, corrected p {p_in_words(p)})."
    )


def card_rows(scores: Iterable[GroupScores]) -> list[dict[str, Any]]:
    """What a card says of groups, where it is asked to: metrics that are defined, as [value, low, high].

    Of those that are large enough to be judged: a group of one patient would tell how that patient fared.
    """
    return [
        {
            "column": own.column,
            "group": own.name,
            "images": own.images,
            "test": {name: list(ends) for name, ends in metrics.items() if np.isfinite(ends).all()},
        }
        for own, metrics, _ in scores
        if own.judged
    ]
