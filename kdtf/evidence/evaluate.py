"""One path for every model: a predict function and pixels in, probabilities and scores out.

Teacher, student and every `.tflite` are scored by these lines, so that a difference between two scores
is a difference between two models.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import require
from ..records import GroundTruth, Predictions
from ..words import plural
from .metrics import METRICS, score

Predict = Callable[[Any], np.ndarray]  # pixels (N, H, W, C) 0..255, or what is indexed as such -> (N, K)


def latency_ms(predict: Predict, pixels: Any, runs: int) -> float:
    """Median milliseconds for one image (the first of `pixels`), after five calls to warm up."""
    image = np.ascontiguousarray(pixels[:1])
    for _ in range(5):
        predict(image)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        predict(image)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


def measure(predict: Predict, val_pixels: Any, test_pixels: Any, *, runs: int) -> dict[str, np.ndarray]:
    """Everything about a model that needs the model: probabilities on val and test, time for one image.

    Raises `UserError` where a probability is not finite: a score of such answers would look like one.
    """
    probs = {"val_probs": predict(val_pixels), "test_probs": predict(test_pixels)}
    for name, answers in probs.items():
        lost = int((~np.isfinite(answers)).any(axis=1).sum())
        got = f"{lost} of {len(answers)} {plural(len(answers), 'image')} of {name.split('_')[0]} without one"
        hint = "Its weights have grown too large: try a lower learning rate."
        require(not lost, "A model's probabilities", "finite", got, hint)
    return {**probs, "latency_ms": np.asarray(latency_ms(predict, test_pixels, runs))}


def summary_scores(model: Predictions, truth: GroundTruth, clean: np.ndarray) -> dict[str, Any]:
    """The scores of a row of `summary.csv`: on test, on its `clean` (N,) bool part, and on val.

    Where no test image is clean there are no `clean_` scores.
    """
    test = _in_summary(model.test_probs, truth.test)
    without_copies = _in_summary(model.test_probs[clean], truth.test[clean]) if clean.any() else {}
    val = score(model.val_probs, truth.val)
    return {
        **test,
        "test_images": len(truth.test),
        **{f"clean_{name}": value for name, value in without_copies.items()},
        "clean_images": int(clean.sum()),
        "latency_ms": model.latency_ms,
        "val_accuracy": val["accuracy"],
        "val_loss": val["loss"],
    }


def _in_summary(probs: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
    values = score(probs, labels)
    return {name: values[name] for name, metric in METRICS.items() if metric.in_summary}
