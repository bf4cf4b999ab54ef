"""Metrics: one row of `METRICS` each, computed alike for one sample and for thousands of bootstrap draws.

A draw is a row of weights, how often each image was taken. Macro averages are over the classes that occur
in the labels (of a draw: in the images it took). Areas under ROC and precision-recall curves are undefined
where a class is missing. NumPy and scikit-learn only, no TensorFlow; draws nothing.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

BINS = 15  # of the ECE and of the reliability diagram
LEAST_PROB = 1e-7  # probabilities are clipped there before their logarithm, as Keras does


@dataclass(frozen=True, eq=False)
class Sample:
    """A model's answers under D draws, and what several metrics need of them, computed once.

    weights (D, N), in whose precision counts are kept; probs (N, K), rows summing to 1; labels (N,) ints.
    """

    weights: np.ndarray
    probs: np.ndarray
    labels: np.ndarray

    @cached_property
    def total(self) -> np.ndarray:
        """Images of each draw (D,)."""
        return self.weights.sum(axis=1)

    @cached_property
    def counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Images of each class that are right, that are of it, and that are predicted to be: each (D, K)."""
        one_hot = np.eye(self.probs.shape[1], dtype=np.float32)
        true, predicted = one_hot[self.labels], one_hot[self.probs.argmax(axis=1)]  # (N, K)
        columns = np.concatenate([true * predicted, true, predicted], axis=1)  # (N, 3K)
        right, true, predicted = np.split(self.weights @ columns, 3, axis=1)
        return right, true, predicted

    @cached_property
    def recall(self) -> np.ndarray:
        """Recall of each class (D, K), NaN where a draw has no image of it."""
        right, true, _ = self.counts
        return ratio(right, true)

    @cached_property
    def areas(self) -> np.ndarray:
        """AUC and average precision of each class against the rest, (K, 2, D)."""
        areas = []
        for k in range(self.probs.shape[1]):
            ranks = ranked(self.weights, self.probs[:, k], self.labels == k)
            areas.append((weighted_auc(ranks), weighted_average_precision(ranks)))
        return np.array(areas)

    def mean_of_occurring(self, values: np.ndarray) -> np.ndarray:
        """The mean (D,) of `values` (D, K) over the classes that occur in a draw."""
        return np.nanmean(values * np.where(self.counts[1] > 0, 1.0, np.nan), axis=1)

    def mean_of_images(self, values: np.ndarray) -> np.ndarray:
        """The weighted mean (D,) of `values` (N,)."""
        return self.weights @ values / self.total


def _accuracy(sample: Sample) -> np.ndarray:
    return sample.counts[0].sum(axis=1) / sample.total


def _recall(sample: Sample) -> np.ndarray:
    return np.nanmean(sample.recall, axis=1)


def _precision(sample: Sample) -> np.ndarray:
    right, _, predicted = sample.counts
    return sample.mean_of_occurring(ratio(right, predicted, otherwise=0))


def _f1(sample: Sample) -> np.ndarray:
    right, true, predicted = sample.counts
    return sample.mean_of_occurring(ratio(2 * right, true + predicted, otherwise=0))


def _auc(sample: Sample) -> np.ndarray:
    return sample.areas[:, 0].mean(axis=0)


def _auc_by_images(sample: Sample) -> np.ndarray:
    """With the part of images of each class as its weight: no few images of a class decide it."""
    areas, true = sample.areas[:, 0].T, sample.counts[1]  # (D, K)
    return (areas * true).sum(axis=1) / sample.total


def _average_precision(sample: Sample) -> np.ndarray:
    return sample.areas[:, 1].mean(axis=0)


def _loss(sample: Sample) -> np.ndarray:
    of_label = sample.probs[np.arange(len(sample.labels)), sample.labels]
    return sample.mean_of_images(-np.log(np.clip(of_label, LEAST_PROB, 1)))


def _brier(sample: Sample) -> np.ndarray:
    """Sum over the classes of the squared error (Brier 1950)."""
    truth = np.eye(sample.probs.shape[1])[sample.labels]  # (N, K)
    return sample.mean_of_images(((sample.probs - truth) ** 2).sum(axis=1))


def _ece(sample: Sample) -> np.ndarray:
    """Expected calibration error of the top class, bins of equal width (Guo et al. 2017)."""
    confidence = sample.probs.max(axis=1)
    one_hot = np.eye(BINS)[confidence_bins(confidence)]  # (N, BINS)
    gaps = (sample.weights * (is_right(sample.probs, sample.labels) - confidence)) @ one_hot  # (D, BINS)
    return np.abs(gaps).sum(axis=1) / sample.total


@dataclass(frozen=True)
class Metric:
    """A metric: what people read, how it is computed, and which tables hold it.

    Every metric stands in `intervals.csv` and on the cards of files.
    """

    label: str
    compute: Callable[[Sample], np.ndarray]  # (D,), NaN where it is undefined
    in_summary: bool = False  # a column of summary.csv, on test and on the images without a copy
    headline: bool = False  # in the closing table of the console and in the first one of the report
    format: str = ".3f"

    @property
    def heading(self) -> str:
        """The label at the head of a column or a line, where it goes without saying that it is a mean."""
        label = self.label.removeprefix("macro ")
        return label[0].upper() + label[1:]


METRICS = {  # in the order of the tables
    "accuracy": Metric("accuracy", _accuracy, in_summary=True, headline=True),
    "balanced_accuracy": Metric("balanced accuracy", _recall),
    "precision": Metric("precision", _precision, in_summary=True),
    "recall": Metric("recall", _recall, in_summary=True),
    "f1": Metric("macro F1", _f1, in_summary=True, headline=True),
    "auc": Metric("AUC", _auc, in_summary=True, headline=True),
    "auc_by_images": Metric("AUC, classes weighted by their images", _auc_by_images),
    "average_precision": Metric("average precision", _average_precision),
    "loss": Metric("loss", _loss, in_summary=True),
    "brier": Metric("Brier", _brier),
    "ece": Metric("ECE", _ece),
}


def scores(weights: np.ndarray, probs: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Every metric per draw: weights (D, N), probs (N, K), labels (N,) ints -> {name: (D,)}.

    NaN where a metric is undefined. Memory grows with D * (N + K). Counts are as exact as `weights`.
    """
    sample = Sample(weights, probs, labels)
    return {name: metric.compute(sample) for name, metric in METRICS.items()}


def score(probs: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
    """Every metric of probabilities (N, K) and labels (N,) ints, in float64; None where it is undefined."""
    values = scores(np.ones((1, len(labels))), probs, labels)
    return {name: None if np.isnan(value[0]) else float(value[0]) for name, value in values.items()}


def is_right(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Is the most probable class the label? probs (N, K), labels (N,) -> bool (N,)."""
    return probs.argmax(axis=1) == labels


def accuracy(probs: np.ndarray, labels: np.ndarray) -> float:
    """The part of images that are right, as in `score`, without the other metrics."""
    return float(is_right(probs, labels).mean())


def confidence_bins(confidence: np.ndarray) -> np.ndarray:
    """Which of `BINS` bins of equal width each confidence (N,) in 0..1 is in."""
    return np.minimum((confidence * BINS).astype(int), BINS - 1)


def ratio(part: np.ndarray, whole: np.ndarray, *, otherwise: float = np.nan) -> np.ndarray:
    """part / whole, and `otherwise` where the whole is 0."""
    return np.divide(part, whole, out=np.full_like(part, otherwise), where=whole > 0)


class Ranked(NamedTuple):
    """Weights of positives and negatives (D, R) at each distinct value, ascending."""

    positives: np.ndarray
    negatives: np.ndarray


def ranked(weights: np.ndarray, values: np.ndarray, positive: np.ndarray) -> Ranked:
    """Weights (D, N) of images with `values` (N,), `positive` (N,) bool, in the order of their values."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(values[order]) > 0])
    weights, positive = weights[:, order], positive[order].astype(weights.dtype)
    positives = weights * positive
    negatives = weights - positives
    if len(starts) == len(values):  # no ties: nothing to add up, which is most of the time spent
        return Ranked(positives, negatives)
    return Ranked(
        np.add.reduceat(positives, starts, axis=1),
        np.add.reduceat(negatives, starts, axis=1),
    )


def weighted_auc(ranks: Ranked) -> np.ndarray:
    """Area under the ROC curve per draw: the part of positive-negative pairs in order, ties half. (D,).

    NaN where a draw has only one of the two kinds.
    """
    positives, negatives = ranks
    below = np.cumsum(negatives, axis=1) - negatives / 2
    pairs = positives.sum(axis=1, dtype=np.float64) * negatives.sum(axis=1, dtype=np.float64)
    return ratio((positives * below).sum(axis=1, dtype=np.float64), pairs)


def weighted_average_precision(ranks: Ranked) -> np.ndarray:
    """Average precision per draw, sum of (recall step) * precision as in scikit-learn. (D,).

    NaN where a draw has no positive.
    """
    positives, negatives = (weights[:, ::-1] for weights in ranks)  # descending
    hits = np.cumsum(positives, axis=1)
    alarms = hits + np.cumsum(negatives, axis=1)
    precision = hits / np.maximum(alarms, 1)  # weights are whole: nothing taken yet is 0 of 1
    gains = (positives * precision).sum(axis=1, dtype=np.float64)
    return ratio(gains, positives.sum(axis=1, dtype=np.float64))


def confusion(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Counts (K, K), rows the true class, columns the predicted one."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(labels, probs.argmax(axis=1), labels=range(probs.shape[1]))


def class_keys(classes: Sequence[str], taken: Collection[str]) -> list[str]:
    """What a table calls its classes (K,) beside its other rows or columns, whose names are `taken`.

    Their own names; where one of these is taken, "class NAME" of every class.
    """
    return [f"class {name}" for name in classes] if set(classes) & set(taken) else list(classes)


AVERAGES = ("accuracy", "macro avg", "weighted avg")  # rows of a classification report beside the classes


def classification_report(
    probs: np.ndarray, labels: np.ndarray, classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Precision, recall, F1 and support per class, then the accuracy, the macro and the weighted averages.

    As in scikit-learn, but for the macro average, which is of `METRICS`. Classes are called by `class_keys`.
    """
    from sklearn.metrics import precision_recall_fscore_support

    *values, support = precision_recall_fscore_support(
        labels, probs.argmax(axis=1), labels=range(len(classes)), zero_division=0
    )  # each (K,)
    values = dict(zip(("precision", "recall", "f1-score"), values, strict=True))
    rows = [
        {"class": name, **{k: v[i] for k, v in values.items()}, "support": support[i]}
        for i, name in enumerate(class_keys(classes, AVERAGES))
    ]
    top = {"precision": None, "recall": None, "f1-score": accuracy(probs, labels)}
    sample = Sample(np.ones((1, len(labels))), probs, labels)
    compute = {"precision": _precision, "recall": _recall, "f1-score": _f1}
    macro = {name: float(metric(sample)[0]) for name, metric in compute.items()}
    weighted = {k: np.average(v, weights=support) for k, v in values.items()}
    averages: list[dict[str, Any]] = [top, macro, weighted]
    named = zip(AVERAGES, averages, strict=True)
    return rows + [{"class": name, **row, "support": len(labels)} for name, row in named]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Row-wise softmax of (N, K) logits, in float64."""
    z = logits.astype(np.float64)
    z = np.exp(z - z.max(axis=-1, keepdims=True))
    return z / z.sum(axis=-1, keepdims=True)
