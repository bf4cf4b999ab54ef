"""A window of a log against what the card expects: seven checks, each with a p value and an index of change.

Pure: takes arrays, gives records. What is corrected for and what counts as a change is `verdict`'s.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..data.typical import DECIMALS
from ..predictor import STATISTICS
from .expectation import Expectation, Reference
from .reading import Log
from .windows import Window

SHOWN = (0.5, 0.05, 0.95)  # quantiles of a statistic that are shown
BINS = 10  # of a statistic for the index: between the deciles of the reference
HALF = 0.5  # an image that is added to each bin: an empty one would make the index infinite
EXACT = 20_000_000  # products of two sample sizes up to which p of Kolmogorov and Smirnov is exact
COMMON = 5.0  # images of each class expected, from which on chi-square's distribution holds
DRAWS = 19_999
CLASSES, UNLIKE, UNCERTAIN = "classes", "unlike", "uncertain"
CHECKS = (*STATISTICS, UNLIKE, CLASSES, UNCERTAIN)
UP, DOWN, OTHER = "up", "down", "other"


class Check(NamedTuple):
    """One check of one window. `psi` is the population stability index, less what chance makes of it.

    `expected` and `observed` are (median, 5 %, 95 %) of a statistic, (part of the images,) of an answer.
    """

    name: str  # of `CHECKS`
    against: str  # "train" or "val": what it is compared with
    expected: tuple[float, ...]
    observed: tuple[float, ...]
    direction: str  # `UP`, `DOWN` or `OTHER`
    label: str  # of the mix of classes the one whose part differs most; "" elsewhere
    distance: float | None  # of Kolmogorov and Smirnov; None of the other checks
    raw_psi: float
    psi: float
    p: float


class Distance(NamedTuple):
    """How far a sample lies from a reference: the largest excess of either distribution function.

    `up` is large where the sample's values are larger than the reference's.
    """

    up: float
    down: float

    @property
    def largest(self) -> float:
        """Kolmogorov and Smirnov's D."""
        return max(self.up, self.down)


def compared(window: Window, log: Log, expected: Expectation, rng: np.random.Generator) -> list[Check]:
    """All checks of a window, in the order of `CHECKS`; `rng` draws tables where classes are rare."""
    rows = window.rows
    checks = [_statistic(name, expected.statistics[name], log.statistics[name][rows]) for name in STATISTICS]
    unlike = _rate(UNLIKE, expected.val.unlike, expected.val.images, log.unlike[rows])
    uncertain = _rate(UNCERTAIN, expected.val.uncertain, expected.val.images, log.uncertain[rows])
    return [*checks, unlike, _classes(expected, log.named[rows], rng), uncertain]


def _statistic(name: str, references: Mapping[str, Reference], values: np.ndarray) -> Check:
    """Against train and against val; what counts is the split that the window is more alike."""
    values = values.round(DECIMALS)
    distances = {split: ks_distance(own, values) for split, own in references.items()}
    p_values = {
        split: ks_p(own.largest, references[split].images, len(values)) for split, own in distances.items()
    }
    against = max(p_values, key=lambda split: p_values[split])
    own, reference = distances[against], references[against]
    raw, psi = stability_index(*binned(reference, values), reference.images)
    sides = sorted(own)
    direction = OTHER if sides[0] > sides[1] / 2 else UP if own.up > own.down else DOWN
    expected = tuple(reference.quantile(part) for part in SHOWN)
    observed = tuple(np.quantile(values, SHOWN, method="inverted_cdf").tolist())
    p = p_values[against]
    return Check(name, against, expected, observed, direction, "", own.largest, raw, psi, p)


def ks_distance(reference: Reference, values: np.ndarray) -> Distance:
    """The distance of values (n,) from a reference, at least: between two percents of it nothing is known."""
    at, counts = np.unique(values, return_counts=True)
    after = np.cumsum(counts) / len(values)
    before = after - counts / len(values)
    (low_after, high_after), (low_before, high_before) = (
        reference.bounds(at, side) for side in ("right", "left")
    )
    up = max(0.0, (low_after - after).max(), (low_before - before).max())
    down = max(0.0, (after - high_after).max(), (before - high_before).max())
    return Distance(float(up), float(down))


def ks_p(distance: float, n: int, m: int) -> float:
    """The chance of such a distance, or a larger one, between samples of n and m of one distribution.

    Exact, by the number of ways along which the two distribution functions stay closer (Hodges 1958, Arkiv
    för Matematik 3, 469), for continuous values; ties make it smaller. For large samples by the
    distribution of one sample of n * m / (n + m).
    """
    n, m = sorted((n, m))
    if n * m > EXACT:
        from scipy.stats import kstwo

        return float(kstwo.sf(distance, round(n * m / (n + m))))
    from scipy.special import gammaln

    most = distance * n * m - 1e-6  # of |i * m - j * n|, in whole numbers
    steps = np.arange(m + 1)
    ways, logarithm = np.where(steps * n < most, 1.0, 0.0), 0.0
    for i in range(1, n + 1):
        inside = np.abs(i * m - steps * n) < most
        ways = np.cumsum(np.where(inside, ways, 0.0)) * inside
        largest = ways.max()
        if not largest:
            return 1.0
        ways, logarithm = ways / largest, logarithm + np.log(largest)
    if not ways[-1]:
        return 1.0
    logarithm += np.log(ways[-1]) - (gammaln(n + m + 1) - gammaln(n + 1) - gammaln(m + 1))
    return float(np.clip(-np.expm1(logarithm), 0.0, 1.0))


def binned(reference: Reference, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many of the reference, and of values (n,), lie between the deciles of the reference: (B,) each.

    Deciles that are equal make fewer bins; below the least and above the largest value there are no others.
    """
    deciles = [reference.quantile(part) for part in np.arange(1, BINS) / BINS]
    edges = np.unique(deciles)
    parts, _ = reference.bounds(edges)
    theirs = np.diff(np.concatenate([[0.0], parts, [1.0]])) * reference.images
    ours = np.bincount(np.searchsorted(edges, values, "left"), minlength=len(edges) + 1)
    return theirs, ours.astype(np.float64)


def stability_index(theirs: np.ndarray, ours: np.ndarray, images: int | None = None) -> tuple[float, float]:
    """The population stability index of counts (B,) by bin, and the same less what chance makes of it.

    sum((q - p) * log(q / p)), p and q with half an image more in each bin. Of samples of one distribution it
    is about chi-square of B - 1 degrees times 1/n + 1/m (Yurdakul and Naranjo 2020, Journal of Risk Model
    Validation 14(4), 89), so (B - 1) * (1/n + 1/m) on average, which is taken off; nothing is below 0.
    """
    occupied = (theirs > 0) | (ours > 0)
    theirs, ours = theirs[occupied], ours[occupied]
    p, q = ((counts + HALF) / (counts.sum() + HALF * len(counts)) for counts in (theirs, ours))
    raw = float(((q - p) * np.log(q / p)).sum())
    by_chance = (len(p) - 1) * (1 / ours.sum() + 1 / (images or theirs.sum()))
    return raw, max(0.0, raw - by_chance)


def _rate(name: str, theirs: int, of: int, flags: np.ndarray) -> Check:
    """How often something is said, (n,) bool, against `theirs` of val: both are samples of few images.

    Given how many there are in both together, their number here is hypergeometric (Fisher's exact test).
    """
    from scipy.stats import fisher_exact

    ours, n = int(flags.sum()), len(flags)
    p = float(fisher_exact([[ours, n - ours], [theirs, of - theirs]]).pvalue)
    raw, psi = stability_index(np.array([theirs, of - theirs], float), np.array([ours, n - ours], float))
    direction = UP if ours * of > theirs * n else DOWN
    return Check(name, "val", (theirs / of,), (ours / n,), direction, "", None, raw, psi, p)


def _classes(expected: Expectation, named: np.ndarray, rng: np.random.Generator) -> Check:
    """How often each class is named against val; in words the class whose part changed most."""
    theirs, ours = expected.val.named, np.bincount(named, minlength=len(expected.classes))
    before, after = theirs / theirs.sum(), ours / ours.sum()
    most = int(np.abs(after - before).argmax())
    raw, psi = stability_index(theirs.astype(float), ours.astype(float))
    direction, label = UP if after[most] > before[most] else DOWN, expected.classes[most]
    parts = (float(before[most]),), (float(after[most]),)
    return Check(CLASSES, "val", *parts, direction, label, None, raw, psi, mix_p(theirs, ours, rng))


def mix_p(theirs: np.ndarray, ours: np.ndarray, rng: np.random.Generator) -> float:
    """The chance of counts (K,) that differ as much as these two do, where both are samples of one mix.

    By Pearson's chi-square; where a class is rarer than its distribution allows (five expected), by that of
    `DRAWS` tables with the same sums.
    """
    from scipy.stats import chi2

    table = np.stack([theirs, ours])[:, theirs + ours > 0]
    if table.shape[1] < 2:
        return 1.0
    sums, n = table.sum(axis=0), int(ours.sum())
    means = np.outer(table.sum(axis=1), sums) / table.sum()
    statistic = ((table - means) ** 2 / means).sum()
    if means.min() >= COMMON:
        return float(chi2.sf(statistic, table.shape[1] - 1))
    drawn = rng.multivariate_hypergeometric(sums, n, size=DRAWS, method="marginals")  # (DRAWS, K)
    both = (drawn - means[1]) ** 2
    statistics = (both / means[1] + both / means[0]).sum(axis=1)
    return float((1 + (statistics >= statistic - 1e-9).sum()) / (1 + DRAWS))
