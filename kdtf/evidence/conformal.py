"""Prediction sets: the quantiles on val by which a set holds the true class as often as promised.

Split conformal prediction, class by class (Mondrian; Vovk, Gammerman and Shafer 2005; Sadinle, Lei and
Wasserman 2019). Where the images of a class in val and those to come can be exchanged, the set of an image
of that class holds it with a probability of at least `coverage`, however few images val has and however
wrong the probabilities are. How well an image fits a class, and so which classes are in a set, is
`predictor.fits`: devices and tables use the same lines. NumPy only.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from fractions import Fraction
from typing import Any

import numpy as np

from ..config import EvidenceConfig
from ..predictor import fits, members, tempered
from ..records import GroundTruth, Predictions, SetRule
from ..words import plural
from .bootstrap import Draws, Interval, interval, proportion_interval
from .metrics import class_keys, ratio

# Quantiles are lowered by this part of themselves: files of 8 bits have few levels, so that many images lie
# at a quantile itself, and another language's logarithm must not put them below it
SLACK = 1e-4
ENDS = ("", "_low", "_high")  # of the columns of a value and its interval
ALL = "all classes"  # the row of `sets.csv` that is of no class of its own
UNKNOWN_PATIENTS = (
    "The patients of val are not known: each image counts as of another one. With several images of a "
    "patient prediction sets hold less often than promised."
)


def quantile_rank(images: int, coverage: float) -> int:
    """Which of `images` fits, counted from the best, is the quantile: ceil((n + 1) * coverage), exactly.

    `coverage` is taken as the decimal that it is written as, since 100 * 0.55 is more than 55 in binary. A
    rank above `images` says that these are too few: no quantile keeps the promise.
    """
    return math.ceil((images + 1) * Fraction(str(coverage)))


def least_images(coverage: float) -> int:
    """The fewest val images of a class whose quantile keeps the promise: n >= coverage / (1 - coverage)."""
    part = Fraction(str(coverage))
    return math.ceil(part / (1 - part))


def class_quantiles(own_fits: np.ndarray, labels: np.ndarray, coverage: float) -> dict[int, float]:
    """{class: the least fit that is in the set} from fits (n, K) of val images and their labels (n,).

    A class of too few images has none: it is in every set. Images at a quantile are inside.
    """
    quantiles = {}
    for k in range(own_fits.shape[1]):
        best_first = np.sort(own_fits[labels == k, k])[::-1]
        rank = quantile_rank(len(best_first), coverage)
        if rank <= len(best_first):
            quantiles[k] = float(best_first[rank - 1]) * (1 - SLACK)
    return quantiles


def likely_coverage(images: int, tested: int, coverage: float) -> tuple[float, float]:
    """Between which parts of `tested` images of a class the covered part is in 95 % of cases.

    Of val images drawn anew each time: the count is beta-binomial with rank and n + 1 - rank (Vovk 2012,
    arXiv 1209.2673; Angelopoulos and Bates 2021, section 3.2). Ties make it larger, never smaller.
    """
    rank = quantile_rank(images, coverage)
    if rank > images:
        return 1.0, 1.0
    a, b = rank, images + 1 - rank
    k = np.arange(tested)
    steps = np.log((k + a) * (tested - k) / ((k + 1) * (tested - k - 1 + b)))  # of P(k + 1) / P(k)
    logs = np.concatenate([[0.0], np.cumsum(steps)])
    likelihood = np.exp(logs - logs.max())
    below = np.cumsum(likelihood) / likelihood.sum()
    low, high = np.searchsorted(below, [0.025, 0.975])
    return float(low / tested), float(high / tested)


def counted(truth: GroundTruth) -> np.ndarray:
    """Rows (m,), ascending, of the val images that quantiles are taken from.

    An image that the student has met in train, by a copy or by its patient, is none of those to come, and
    images of one patient are not drawn from all patients one by one: of each patient one image of a class is
    drawn.
    """
    met = np.zeros(len(truth.val), bool) if truth.val_met is None else truth.val_met
    rows = np.flatnonzero(~met)
    if truth.val_groups is None:
        return rows
    rows = np.random.default_rng(0).permutation(rows)
    _, patients = np.unique(truth.val_groups[rows], return_inverse=True)
    _, first = np.unique(patients * len(truth.classes) + truth.val[rows], return_index=True)
    return np.sort(rows[first])


def set_rule(model: Predictions, truth: GroundTruth, t: float, rules: EvidenceConfig) -> SetRule:
    """By what the sets of a file are made, from its probabilities on val at its temperature `t`."""
    rows = counted(truth)
    own_fits, labels = fits(tempered(model.val_probs[rows], t), rules.sets), truth.val[rows]
    quantiles = class_quantiles(own_fits, labels, rules.coverage)
    counts = np.bincount(labels, minlength=len(truth.classes))
    met = 0 if truth.val_met is None else int(truth.val_met.sum())
    return SetRule(
        method=rules.sets,
        coverage=rules.coverage,
        quantiles={truth.classes[k]: value for k, value in quantiles.items()},
        val_images=dict(zip(truth.classes, map(int, counts), strict=True)),
        by_patient=truth.val_groups is not None,
        rule=rule_in_words(rules.sets, rules.coverage, met, by_patient=truth.val_groups is not None),
    )


def rule_in_words(method: str, coverage: float, met: int = 0, *, by_patient: bool = False) -> str:
    """How sets are made and what they promise; `met` val images are known from train."""
    fit = "its probability reaches"
    if method == "adaptive":
        fit = "its probability and those of all classes that are no likelier add up to at least"
    patients = "" if by_patient else ", each image counted as of another patient"
    sentences = [
        "By softmax(log p / temperature), a class is in the set "
        f"where {fit} its quantile, or where it has none.",
        "An image of any class that is like those of val has its class in the set with a probability of at "
        f"least {100 * coverage:g} %{patients}.",
    ]
    if by_patient:
        sentences.append("Of each patient of val one image a class counts.")
    if met:
        words = plural(met, "image does", "images do")
        sentences.append(f"{met} val {words} not count: a copy, or its patient, is in train.")
    return " ".join(sentences)


def limits_on_test(sets: "FileSets", scored: Sequence[Mapping[str, Any]], rows: np.ndarray) -> list[str]:
    """What images `rows` (n,) of test, `scored` by `FileSets.rows`, say against sets: a sentence each."""
    promised = {"promised": sets.rule.coverage}
    told = [unkept_in_words({**promised, **row}) for row in scored]
    return list(filter(None, [*told, sets.singles_in_words(rows)]))


def coverage_by_class(scored: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """How often sets hold each class, and that of all images, by `FileSets.rows`: [value, low, high]."""
    return {row["class"]: [row[f"coverage{end}"] for end in ENDS] for row in scored if row["test_images"]}


def rule_limits(rule: SetRule) -> list[str]:
    """What is to be known of the sets of a rule, whatever test says of them: a sentence each."""
    return [*too_few(rule), *named_only(rule), *([] if rule.by_patient else [UNKNOWN_PATIENTS])]


def too_few(rule: SetRule) -> list[str]:
    """A sentence on each class that val has too few images of."""
    counts = rule.val_images.items()
    return list(filter(None, (too_few_in_words(name, n, rule.coverage) for name, n in counts)))


def named_only(rule: SetRule) -> list[str]:
    """A sentence on the classes that are in an adaptive set only where they are the likeliest."""
    names = [name for name, quantile in rule.quantiles.items() if quantile > 1 - 2 * SLACK]
    if rule.method != "adaptive" or not names:
        return []
    return [
        f"A prediction set has {' or '.join(names)} only where it is the likeliest class: that alone covers "
        f"at least {100 * rule.coverage:g} % of its val images."
    ]


def too_few_in_words(name: str, images: int, coverage: float) -> str | None:
    """A sentence on a class that val has too few images of; None where they are enough."""
    least = least_images(coverage)
    if images >= least:
        return None
    return (
        f"Val has {images} {plural(images, 'image')} of {name} that {plural(images, 'counts', 'count')}, and "
        f"a coverage of {100 * coverage:g} % takes {least}: {name} is in every prediction set, and a set of "
        "it alone says nothing."
    )


def unkept_in_words(row: Mapping[str, Any]) -> str | None:
    """A sentence on a row of `sets.csv` whose coverage is short of what was promised; None of any other.

    It is below what chance makes of val sets of that size, or its whole interval is below the promise.
    """
    covered, high, low = row["coverage"], row["coverage_high"], row["likely_low"]
    if not (covered < (0 if low is None else low) or high < row["promised"]):  # NaN is below nothing
        return None
    count, whole = int(row["test_images"]), row["class"] == ALL
    what = f"{100 * covered:.0f} % of {'all' if whole else 'its'} {count} {plural(count, 'image')} have "
    return (
        f"Test does not bear the promise out for {row['class']}: {what}{'their class' if whole else 'it'} in "
        f"their set (95 % interval {100 * row['coverage_low']:.0f} to {100 * high:.0f} %), not "
        f"{100 * row['promised']:g} %. Its images may be unlike those in val, or val be too much like train."
    )


class FileSets:
    """The sets of a file on test: which of them hold the true class, and how many classes each holds."""

    def __init__(self, model: Predictions, truth: GroundTruth, t: float, rules: EvidenceConfig):
        self.rule, self.truth = set_rule(model, truth, t, rules), truth
        inside = members(tempered(model.test_probs, t), truth.classes, asdict(self.rule))  # (N, K)
        self.covered = inside[np.arange(len(truth.test)), truth.test].astype(np.float32)  # (N,)
        self.sizes = inside.sum(axis=1, dtype=np.float32)  # (N,)

    def rows(self, rows: np.ndarray, draws: Draws) -> Iterator[dict[str, Any]]:
        """Coverage and mean size on the images `rows` (n,) of test: by their class, then of all of them."""
        names, labels = self.truth.classes, self.truth.test[rows]
        own = np.eye(len(names), len(names) + 1, dtype=np.float32)[labels]
        own[:, -1] = 1  # (n, K + 1)
        parts = (own, own * self.covered[rows, None], own * self.sizes[rows, None])
        columns = np.concatenate(parts, axis=1)
        sums = draws.compute(lambda weights: weights @ columns)  # (D, 3K + 3)
        images, covered, sizes = np.split(sums, 3, axis=1)
        for k, key in enumerate((*class_keys(names, (ALL,)), ALL)):
            held = self.sizes[rows][own[:, k] > 0]
            coverage = proportion_interval(covered[:, k], images[:, k], draws.units)
            size = interval(ratio(sizes[:, k], images[:, k]), draws.units)
            if len(np.unique(held)) == 1:  # every draw says the same, as if one could be sure of it
                size = Interval(size.value, np.nan, np.nan)
            yield {
                "class": key,
                **self._of_val(names[k] if k < len(names) else None, len(held)),
                "test_images": len(held),
                "covered_images": int(covered[0, k]),
                **{f"coverage{end}": value for end, value in zip(ENDS, coverage, strict=True)},
                **{f"mean_size{end}": value for end, value in zip(ENDS, size, strict=True)},
                "single_sets": int((held == 1).sum()),
                "single_right": int((self.covered[rows][own[:, k] > 0][held == 1]).sum()),
                "empty_sets": int((held == 0).sum()),
                "full_sets": int((held == len(names)).sum()),
            }

    def singles_in_words(self, rows: np.ndarray) -> str | None:
        """A sentence on sets of one class that are right less often than promised, or None."""
        single = self.sizes[rows] == 1
        count, right = int(single.sum()), int(self.covered[rows][single].sum())
        if not count or right >= self.rule.coverage * count:
            return None
        return (
            f"Of {count} test {plural(count, 'image')} with a set of one class, {right} "
            f"{plural(right, 'is', 'are')} of that class: such a set is no certainty."
        )

    def _of_val(self, name: str | None, tested: int) -> dict[str, float | None]:
        """What val tells of a class, or of all (None), before `tested` images of it are scored."""
        counts, quantiles = self.rule.val_images, self.rule.quantiles
        if name is None:
            return {
                "val_images": sum(counts.values()),
                **dict.fromkeys(("quantile", "likely_low", "likely_high")),
            }
        ends = likely_coverage(counts[name], tested, self.rule.coverage) if tested else (None, None)
        return {
            "val_images": counts[name],
            "quantile": quantiles.get(name),
            "likely_low": ends[0],
            "likely_high": ends[1],
        }
