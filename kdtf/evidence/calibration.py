"""Operating points and calibration: thresholds and a temperature chosen on val, what they give on test.

Takes probabilities and labels, gives plain values.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..predictor import tempered, uncertain
from ..records import Agreement
from .bootstrap import Draws, Interval, proportion_interval
from .metrics import LEAST_PROB, accuracy, confidence_bins, is_right

TEMPERATURES_TRIED = (0.05, 20.0)  # the ends of the search
FOLDS = 10


def threshold(
    probs_of_class: np.ndarray, positive: np.ndarray, min_sensitivity: float | None = None
) -> float:
    """The operating point of one class against the rest, chosen on val: probs (n,), positive (n,) bool.

    The largest Youden index (sensitivity + specificity - 1; Youden 1950), the lowest of equally good
    thresholds; or, with `min_sensitivity`, the highest threshold that reaches it. Images at or above the
    threshold are called positive. Of two thresholds of one index the lower misses fewer. Where no threshold
    tells the class from the rest (an index of 0) it is 1: an answer below its threshold counts as uncertain,
    and of such a class every answer should.
    """
    from sklearn.metrics import roc_curve

    false, true, cuts = roc_curve(positive, probs_of_class, drop_intermediate=False)
    if min_sensitivity is not None:
        return float(min(1.0, cuts[np.argmax(true >= min_sensitivity)]))
    positives, negatives = int(positive.sum()), int((~positive).sum())
    # in whole images: as fractions two equal indices differ by rounding, which would choose
    hits, alarms = np.rint(true * positives), np.rint(false * negatives)
    index = hits * negatives - alarms * positives
    if index.max() <= 0:
        return 1.0
    return float(min(1.0, cuts[len(cuts) - 1 - np.argmax(index[::-1])]))


def class_thresholds(
    probs: np.ndarray, labels: np.ndarray, min_sensitivity: float | None = None
) -> dict[int, float]:
    """{class: `threshold`} from val probabilities (n, K) and labels (n,).

    A class that all val images have, or none, has no threshold.
    """
    return {
        k: threshold(probs[:, k], labels == k, min_sensitivity)
        for k in range(probs.shape[1])
        if 0 < (labels == k).sum() < len(labels)
    }


def threshold_rule(min_sensitivity: float | None = None) -> str:
    """How `threshold` chooses, in words that follow "a threshold"."""
    if min_sensitivity is None:
        return "of the largest Youden index, the lowest where several have it"
    return f"the highest that reaches a sensitivity of {min_sensitivity}"


def never_uncertain(thresholds: Mapping[str, float], classes: int) -> list[str]:
    """A sentence on each class whose threshold no image that is named so can be below, of so many classes."""
    return [
        f"An image that is named {name} is uncertain only where another class is as likely: the threshold of "
        f"{name}, {cut:.3f}, is not above 1/{classes}, which the likeliest class always reaches."
        for name, cut in thresholds.items()
        if cut <= 1 / classes
    ]


def answers(probs: np.ndarray, cuts: Mapping[int, float]) -> dict[str, Any]:
    """How often each class is named, and how often the answer is uncertain, of probabilities (N, K).

    `cuts` are `class_thresholds`; an answer below that of its class is uncertain, as on a device.
    """
    named, classes = probs.argmax(axis=1), probs.shape[1]
    least = np.array([cuts.get(k, 0.0) for k in range(classes)])
    count = int(uncertain(probs, least).sum())
    return {"classes": np.bincount(named, minlength=classes).tolist(), "uncertain": count}


def answers_of_val(
    probs: np.ndarray, labels: np.ndarray, min_sensitivity: float | None = None
) -> dict[str, Any]:
    """As `answers`, of val itself: (n, K) and (n,). Whether an image is uncertain the others decide.

    Thresholds are chosen on val, so that its own images are less often below them than new ones: those of
    each tenth are chosen on the nine others.
    """
    tenth = np.random.default_rng(0).permutation(len(labels)) % FOLDS
    count = 0
    for k in range(FOLDS):
        cuts = class_thresholds(probs[tenth != k], labels[tenth != k], min_sensitivity)
        count += answers(probs[tenth == k], cuts)["uncertain"]
    return {**answers(probs, {}), "uncertain": count}


def operating_point(
    draws: Draws, probs_of_class: np.ndarray, positive: np.ndarray, cut: float
) -> dict[str, Interval]:
    """Sensitivity, specificity, PPV and NPV of one class at a threshold: probs (N,), positive (N,) bool."""
    called = probs_of_class >= cut
    parts = (called & positive, ~called & positive, called & ~positive, ~called & ~positive)
    columns = np.stack(parts, axis=1).astype(np.float32)  # (N, 4)
    hits, misses, false_alarms, rejections = draws.compute(lambda weights: weights @ columns).T  # each (D,)
    return {
        "sensitivity": proportion_interval(hits, hits + misses, draws.units),
        "specificity": proportion_interval(rejections, rejections + false_alarms, draws.units),
        "ppv": proportion_interval(hits, hits + false_alarms, draws.units),
        "npv": proportion_interval(rejections, rejections + misses, draws.units),
    }


def temperature(probs: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that minimises the log loss of softmax(log p / T) on val (Guo et al. 2017).

    Probabilities are (n, K), labels (n,); between the ends of `TEMPERATURES_TRIED`.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_t: float) -> float:
        p = tempered(probs, np.exp(log_t))
        return -np.mean(np.log(np.clip(p[np.arange(len(labels)), labels], 1e-12, 1)))

    bounds = np.log(TEMPERATURES_TRIED)
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


class Reliability(NamedTuple):
    """Mean confidence, part right with its 95 % interval and number of images of every bin that has any."""

    confidence: np.ndarray
    frequency: np.ndarray
    count: np.ndarray  # type: ignore[assignment]
    low: np.ndarray
    high: np.ndarray


def reliability(probs: np.ndarray, labels: np.ndarray) -> Reliability:
    """How often the top class is right, by how sure the model is of it: probs (N, K), labels (N,).

    Intervals are Wilson's (1927), which hold for bins of few images too, but count every image as
    independent.
    """
    from statsmodels.stats.proportion import proportion_confint

    confidence, right = probs.max(axis=1), is_right(probs, labels)
    bins = confidence_bins(confidence)
    count = np.bincount(bins)
    full = count > 0
    means = [np.bincount(bins, values)[full] / count[full] for values in (confidence, right)]
    hits = np.rint(means[1] * count[full])
    low, high = proportion_confint(hits, count[full], method="wilson")
    return Reliability(means[0], means[1], count[full], np.asarray(low), np.asarray(high))


def class_agreement(
    images: str, teacher: np.ndarray, student: np.ndarray, labels: np.ndarray | None = None
) -> Agreement:
    """Teacher and student on some images, by the classes (N,) that they name and the true ones, if known."""
    teacher_right, student_right = (
        None if labels is None else float((named == labels).mean()) for named in (teacher, student)
    )
    return Agreement(images, len(student), teacher_right, student_right, float((teacher == student).mean()))


def agreement(student: np.ndarray, teacher: np.ndarray) -> dict[str, float]:
    """Part of images with the same top class, and mean KL(teacher || student), of probabilities (N, K)."""
    p, q = np.clip(teacher, LEAST_PROB, 1), np.clip(student, LEAST_PROB, 1)
    return {
        "top1_agreement": accuracy(student, teacher.argmax(axis=1)),
        "kl_from_teacher": float(np.mean((p * np.log(p / q)).sum(axis=1))),
    }
