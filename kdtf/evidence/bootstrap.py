"""How sure one can be: intervals, paired tests, operating points, calibration.

Takes probabilities and labels, gives plain values. A bootstrap draw is a row of weights, the number
of times each image was taken, so that all metrics of all models are computed from the same draws and
differences are paired. Trains nothing, draws nothing.
"""

from typing import NamedTuple

import numpy as np

from ..predictor import tempered

DRAWS = 2000
BINS = 15  # of the reliability diagram and of the ECE


class Interval(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


class Draws(NamedTuple):
    """Bootstrap draws: weights (D, N), how often each image was taken, and the number of units drawn.

    Row 0 is the sample itself, every weight 1.
    """

    weights: np.ndarray
    units: int

    def of(self, part) -> "Draws":
        """The same draws restricted to some of the images: an index or a bool mask (N,)."""
        return Draws(self.weights[:, part], self.units)


def draw(count: int, *, rng: np.random.Generator, draws: int = DRAWS, groups=None) -> Draws:
    """`draws` bootstrap samples of `count` images.

    With `groups` (count,) whole groups are drawn: images of one patient are not independent
    (Davison and Hinkley 1997, section 3.8).
    """
    names, member = np.unique(np.arange(count) if groups is None else groups, return_inverse=True)
    taken = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)  # (draws, groups)
    return Draws(np.concatenate([np.ones((1, count)), taken[:, member]]).astype(np.float32), len(names))


def scores(weights: np.ndarray, probs: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Every metric of `metrics.score`, and balanced accuracy, per draw: weights (D, N) -> {name: (D,)}.

    Classes that a draw has not taken are left out of its macro averages.
    """
    classes = probs.shape[1]
    cell = labels * classes + probs.argmax(axis=1)  # (N,)
    counts = (weights @ np.eye(classes**2, dtype=np.float32)[cell]).reshape(-1, classes, classes)  # (D, K, K)
    right = np.diagonal(counts, axis1=1, axis2=2)  # (D, K)
    true, predicted = counts.sum(axis=2), counts.sum(axis=1)  # (D, K)
    total = weights.sum(axis=1)  # (D,)
    recall = np.divide(right, true, out=np.full_like(right, np.nan), where=true > 0)
    precision = np.divide(right, predicted, out=np.zeros_like(right), where=predicted > 0)
    f1 = np.divide(2 * right, true + predicted, out=np.zeros_like(right), where=true + predicted > 0)
    taken = np.where(true > 0, 1.0, np.nan)
    loss = -np.log(np.clip(probs[np.arange(len(labels)), labels], 1e-7, 1))  # (N,)
    ranks = [ranked(weights, probs[:, k], labels == k) for k in range(classes)]
    return {
        "accuracy": right.sum(axis=1) / total,
        "balanced_accuracy": np.nanmean(recall, axis=1),
        "precision": np.nanmean(precision * taken, axis=1),
        "recall": np.nanmean(recall, axis=1),
        "f1": np.nanmean(f1 * taken, axis=1),
        "auc": np.mean([weighted_auc(r) for r in ranks], axis=0),
        "average_precision": np.mean([weighted_average_precision(r) for r in ranks], axis=0),
        "loss": weights @ loss / total,
        "brier": weights @ ((probs - np.eye(classes)[labels]) ** 2).sum(axis=1) / total,
        "ece": weighted_ece(weights, probs, labels),
    }


class Ranked(NamedTuple):
    """Weights of positives and negatives (D, R) at each distinct value, ascending."""

    pos: np.ndarray
    neg: np.ndarray


def ranked(weights, values, positive) -> Ranked:
    """Weights (D, N) of images with `values` (N,), `positive` (N,) bool, in the order of their values."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(values[order]) > 0])
    taken, positive = weights[:, order], positive[order].astype(weights.dtype)
    pos = taken * positive
    neg = taken - pos
    if len(starts) == len(values):  # no ties: nothing to add up, which is most of the time spent
        return Ranked(pos, neg)
    return Ranked(np.add.reduceat(pos, starts, axis=1), np.add.reduceat(neg, starts, axis=1))


def weighted_auc(ranks: Ranked) -> np.ndarray:
    """Area under the ROC curve per draw: the part of positive-negative pairs in order, ties half. (D,).

    NaN where a draw has only one of the two kinds.
    """
    pos, neg = ranks
    below = np.cumsum(neg, axis=1) - neg / 2
    pairs = pos.sum(axis=1, dtype=np.float64) * neg.sum(axis=1, dtype=np.float64)
    return _ratio((pos * below).sum(axis=1, dtype=np.float64), pairs)


def weighted_average_precision(ranks: Ranked) -> np.ndarray:
    """Average precision per draw, sum of (recall step) * precision as in scikit-learn. (D,)."""
    pos, neg = (part[:, ::-1] for part in ranks)  # descending
    hits = np.cumsum(pos, axis=1)
    alarms = hits + np.cumsum(neg, axis=1)
    precision = hits / np.maximum(alarms, 1)  # weights are whole: nothing taken yet is 0 of 1
    return _ratio((pos * precision).sum(axis=1, dtype=np.float64), pos.sum(axis=1, dtype=np.float64))


def _ratio(above, below):
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def weighted_ece(weights, probs, labels) -> np.ndarray:
    """Expected calibration error of the top class per draw, equal-width bins (Guo et al. 2017). (D,)."""
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == labels
    one_hot = np.eye(BINS)[np.minimum((confidence * BINS).astype(int), BINS - 1)]  # (N, B)
    gap = (weights * (right - confidence)) @ one_hot  # (D, B)
    return np.abs(gap).sum(axis=1) / weights.sum(axis=1)


def interval(values: np.ndarray, units: int) -> Interval:
    """A metric's value on the sample (entry 0) and its 95 % interval from the draws; NaN draws do not count.

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


class Comparison(NamedTuple):
    """Model b against model a on the same images: difference in accuracy b - a, and McNemar's test."""

    difference: Interval
    only_a: int  # images that a alone has right
    only_b: int
    p: float


def compare(draws: Draws, probs_a, probs_b, labels) -> Comparison:
    """Paired comparison of two models' accuracy: bootstrap interval and McNemar's exact test (1947)."""
    from statsmodels.stats.contingency_tables import mcnemar

    a, b = probs_a.argmax(axis=1) == labels, probs_b.argmax(axis=1) == labels
    difference = draws.weights @ (b.astype(np.float32) - a) / draws.weights.sum(axis=1)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    table = [[int((a & b).sum()), only_a], [only_b, int((~a & ~b).sum())]]
    return Comparison(
        interval(difference, draws.units), only_a, only_b, float(mcnemar(table, exact=True).pvalue)
    )


def holm(p_values) -> list[float]:
    """P values adjusted for their number (Holm 1979), in the order given."""
    from statsmodels.stats.multitest import multipletests

    return multipletests(p_values, method="holm")[1].tolist() if len(p_values) else []


def in_words(name: str, difference: Interval, p: float) -> str:
    """A verdict on `name` ("distilled against alone") from a difference of accuracies and a corrected p."""
    points, low, high = (100 * v for v in difference)
    shown = f"interval {low:+.1f} to {high:+.1f}, corrected p {p:.2g}"
    if difference.excludes_zero and p < 0.05:
        return f"{name}: {'gain' if points > 0 else 'loss'} of {abs(points):.1f} points ({shown})."
    return f"{name}: no evidence of a difference ({points:+.1f} points, {shown})."


def threshold(
    scores_of_class: np.ndarray, positive: np.ndarray, min_sensitivity: float | None = None
) -> float:
    """The operating point of one class against the rest, chosen on val: scores (N,), positive (N,) bool.

    The largest Youden index (sensitivity + specificity - 1; Youden 1950), or, with `min_sensitivity`,
    the highest threshold that reaches it. Images at or above the threshold are called positive.
    """
    from sklearn.metrics import roc_curve

    false, true, cuts = roc_curve(positive, scores_of_class, drop_intermediate=False)
    if min_sensitivity is None:
        return float(min(1.0, cuts[np.argmax(true - false)]))
    return float(min(1.0, cuts[np.argmax(true >= min_sensitivity)]))


def operating_point(draws: Draws, scores_of_class, positive, cut: float) -> dict[str, Interval]:
    """Sensitivity, specificity, PPV and NPV of one class at a threshold, with intervals."""
    called = scores_of_class >= cut
    hit, miss, alarm, calm = (
        draws.weights @ part.astype(np.float32)
        for part in (called & positive, ~called & positive, called & ~positive, ~called & ~positive)
    )
    return {
        "sensitivity": interval(_ratio(hit, hit + miss), draws.units),
        "specificity": interval(_ratio(calm, calm + alarm), draws.units),
        "ppv": interval(_ratio(hit, hit + alarm), draws.units),
        "npv": interval(_ratio(calm, calm + miss), draws.units),
    }


def temperature(probs: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that minimises the log loss of softmax(log p / T) on val (Guo et al. 2017)."""
    from scipy.optimize import minimize_scalar

    def loss(log_t):
        p = tempered(probs, np.exp(log_t))
        return -np.mean(np.log(np.clip(p[np.arange(len(labels)), labels], 1e-12, 1)))

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


class Reliability(NamedTuple):
    """Mean confidence, part right and images of every bin that has any."""

    confidence: np.ndarray
    frequency: np.ndarray
    count: np.ndarray


def reliability(probs: np.ndarray, labels: np.ndarray) -> Reliability:
    """How often the top class is right, by how sure the model is of it."""
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == labels
    bin_of = np.minimum((confidence * BINS).astype(int), BINS - 1)
    count = np.bincount(bin_of, minlength=BINS)
    full = count > 0
    means = (np.bincount(bin_of, v, BINS)[full] / count[full] for v in (confidence, right))
    return Reliability(*means, count[full])


def agreement(student: np.ndarray, teacher: np.ndarray) -> dict[str, float]:
    """Part of images with the same top class, and mean KL(teacher || student), of probabilities (N, K)."""
    p, q = np.clip(teacher, 1e-7, 1), np.clip(student, 1e-7, 1)
    return {
        "top1_agreement": float(np.mean(student.argmax(axis=1) == teacher.argmax(axis=1))),
        "kl_from_teacher": float(np.mean((p * np.log(p / q)).sum(axis=1))),
    }
