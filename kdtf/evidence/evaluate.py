"""One path for every model: a predict function and a split in, a record out.

Teacher, student and every `.tflite` are scored by these lines, so that a difference between two
records is a difference between two models.
"""

import time
from collections.abc import Callable

import numpy as np

from .metrics import score

Predict = Callable[[np.ndarray], np.ndarray]  # pixels (N, H, W, C) 0..255 -> probabilities (N, K)


def latency_ms(predict: Predict, pixels: np.ndarray, runs: int) -> float:
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


def measure(predict: Predict, val_pixels, test_pixels, *, runs: int) -> dict[str, np.ndarray]:
    """Everything about a model that needs the model: probabilities on val and test, time for one image."""
    return {
        "val_probs": predict(val_pixels),
        "test_probs": predict(test_pixels),
        "latency_ms": np.float64(latency_ms(predict, test_pixels, runs)),
    }


def record(measured, val_labels, test_labels, clean, **facts) -> dict:
    """A row of `summary.csv`: `facts`, scores on test, on its `clean` (N,) bool part, and on val."""
    probs, val_probs = np.asarray(measured["test_probs"]), np.asarray(measured["val_probs"])
    val = score(val_probs, val_labels)
    return {
        **facts,
        **score(probs, test_labels),
        "test_images": len(test_labels),
        **(
            {f"clean_{k}": v for k, v in score(probs[clean], test_labels[clean]).items()}
            if clean.any()
            else {}
        ),
        "clean_images": int(clean.sum()),
        "latency_ms": float(measured["latency_ms"]),
        "val_accuracy": val["accuracy"],
        "val_loss": val["loss"],
    }
