"""How sure one can be: bootstrap draws, intervals, paired comparisons, corrected p values.

A bootstrap draw is a row of weights, the number of times each image was taken, so that all metrics of all
models are computed from the same draws and differences are paired. They are kept as bytes, 2 KB an image, and
used a block of draws at a time. Trains nothing, draws no picture.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .metrics import Sample, is_right, ratio, scores

DRAWS = 2000
BLOCK_BYTES = 32 << 20  # of weights in use at once: all draws of 4,190 images
BLOCK_ROWS = 16  # the least draws of a block, whatever the images


class Interval(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Is zero outside the interval?"""
        return self.low > 0 or self.high < 0


class Draws(NamedTuple):
    """Bootstrap draws: how often each image was taken (D, N), and the number of units drawn.

    Row 0 is the sample itself, every image once.
    """

    times: np.ndarray
    units: int

    def blocks(self) -> Iterator[np.ndarray]:
        """The draws one after the other as weights (d, N) float32, as many at once as take little memory."""
        rows = _rows_at_once(self.times.shape[1])
        for start in range(0, len(self.times), rows):
            # by columns: sums over images then come out alike in most blocks, in the last digits too
            yield self.times[start : start + rows].astype(np.float32, order="F")

    def sample(self) -> np.ndarray:
        """The weights (1, N) of the sample itself."""
        beside = np.ones((2, self.times.shape[1]), np.float32, order="F")  # by columns, as in `blocks`
        return beside[:1]

    def within(self, inside: np.ndarray, units: int) -> "Draws":
        """The draws of the images `inside` (N,) bool, so many units; not those that took none of them."""
        times = self.times[:, inside]
        return Draws(times[times.any(axis=1)], units)

    def compute(self, statistic: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """What `statistic` makes of weights (d, N), draw by draw (d, ...), for all draws (D, ...)."""
        return np.concatenate([statistic(weights) for weights in self.blocks()])


def _rows_at_once(images: int) -> int:
    """Draws in a block of so many images."""
    return max(BLOCK_ROWS, BLOCK_BYTES // (4 * images) // BLOCK_ROWS * BLOCK_ROWS)


def draw(
    count: int, *, rng: np.random.Generator, draws: int = DRAWS, groups: np.ndarray | None = None
) -> Draws:
    """`draws` bootstrap samples of `count` images.

    With `groups` (count,) whole groups are drawn: images of one patient are not independent
    (Davison and Hinkley 1997, section 3.8).
    """
    names, member = np.unique(np.arange(count) if groups is None else groups, return_inverse=True)
    parts, rows = np.full(len(names), 1 / len(names)), _rows_at_once(len(names))
    times = np.ones((1 + draws, count), np.uint8)  # more than 255 times: once in 10^500 draws
    for start in range(1, 1 + draws, rows):
        own = times[start : start + rows]
        own[:] = rng.multinomial(len(names), parts, size=len(own))[:, member]  # (rows, groups) to images
    return Draws(times, len(names))


def drawn_counts(draws: Draws, probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """`Sample.counts` of probabilities (N, K) and labels (N,) in every draw: right, true, named (3, D, K)."""
    counts = draws.compute(lambda weights: np.stack(Sample(weights, probs, labels).counts, axis=1))
    return np.moveaxis(counts, 1, 0)


def drawn_scores(draws: Draws, probs: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """{metric: (D,)} of probabilities (N, K) and labels (N,) in every draw."""
    blocks = [scores(weights, probs, labels) for weights in draws.blocks()]
    return {metric: np.concatenate([block[metric] for block in blocks]) for metric in blocks[0]}


def interval(values: np.ndarray, units: int) -> Interval:
    """A metric's value on the sample (entry 0 of (D,)) and its 95 % interval; NaN draws do not count.

    Percentiles, moved outwards as Student's t is from the normal for so many `units`: plain ones are
    too narrow on small samples (the expanded percentile interval, Hesterberg 2015, arXiv 1411.5279).
    """
    from scipy.stats import norm, t

    tail = 100 * norm.cdf(-np.sqrt(units / max(1, units - 1)) * t.ppf(0.975, max(1, units - 1)))
    drawn = values[1:][np.isfinite(values[1:])]
    if not len(drawn):
        return Interval(float(values[0]), np.nan, np.nan)
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return Interval(float(values[0]), float(low), float(high))


def proportion_interval(part: np.ndarray, whole: np.ndarray, units: int) -> Interval:
    """`interval` of part / whole, counts (D,) of draws; NaN where there is nothing to count.

    Where all or none are right every draw says the same, and the interval is Wilson's (1927) of as many
    images, or units where these are fewer: 7 of 7 are not "100 % to 100 %".
    """
    from statsmodels.stats.proportion import proportion_confint

    ends = interval(ratio(part, whole), units)
    if ends.value not in (0, 1):
        return ends
    count = min(float(whole[0]), units)
    low, high = proportion_confint(ends.value * count, count, method="wilson")
    return Interval(ends.value, float(low), float(high))


class Comparison(NamedTuple):
    """Model b against model a on the same images: difference in accuracy b - a, and McNemar's test."""

    difference: Interval
    only_a: int  # images that a alone has right
    only_b: int
    p: float


def compare(draws: Draws, probs_a: np.ndarray, probs_b: np.ndarray, labels: np.ndarray) -> Comparison:
    """Paired comparison of two models' accuracy: bootstrap interval and McNemar's exact test (1947).

    Probabilities are (N, K), labels (N,).
    """
    from statsmodels.stats.contingency_tables import mcnemar

    a, b = is_right(probs_a, labels), is_right(probs_b, labels)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    table = [[int((a & b).sum()), only_a], [only_b, int((~a & ~b).sum())]]
    p = float(mcnemar(table, exact=True).pvalue)
    return Comparison(paired_difference(draws, a, b), only_a, only_b, p)


def paired_difference(draws: Draws, a: np.ndarray, b: np.ndarray) -> Interval:
    """The difference in accuracy b - a of two models by the images that each has right, (N,) in 0..1."""
    return mean_interval(draws, b.astype(np.float32) - a)


def mean_interval(draws: Draws, values: np.ndarray) -> Interval:
    """The mean of a number of every image (N,), as the part of it that some models have right.

    To six significant digits, as tables have it: 19 of 400 are 0.0475, and 0.04749999 in float32, which
    pictures and sentences would round to other points than tables.
    """
    means = draws.compute(lambda weights: weights @ values / weights.sum(axis=1))
    ends = interval(means, draws.units)
    return Interval(*(float(f"{end:.6g}") for end in ends))


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for their number (Holm 1979), in the order of `p_values`."""
    p = np.asarray(p_values, np.float64)
    order = p.argsort(kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted.tolist()


def p_in_words(p: float) -> str:
    """A p value as sentences and tables have it, with its sign of relation: "= 0.015", "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def in_words(name: str, difference: Interval, p: float) -> str:
    """A verdict on `name` ("distilled against alone") from a difference of accuracies and a corrected p."""
    points, low, high = (100 * v for v in difference)
    certainty = f"interval {low:+.1f} to {high:+.1f}, corrected p {p_in_words(p)}"
    if difference.excludes_zero and p < 0.05:
        return f"{name}: {'gain' if points > 0 else 'loss'} of {abs(points):.1f} points ({certainty})."
    return f"{name}: no evidence of a difference ({points:+.1f} points, {certainty})."


def gain_in_words(change: str, gain: Interval, seeds: int) -> str:
    """A verdict on a `change` ("distilling from vgg16 against training alone"): its mean gain over seeds."""
    points, low, high = (100 * v for v in gain)
    finding = "no evidence of a difference"
    if gain.excludes_zero:
        finding = "a gain" if points > 0 else "a loss"
    return (
        f"Over {seeds} seeds {change}: {finding} "
        f"({points:+.1f} points on average, {low:+.1f} to {high:+.1f})."
    )
