"""What the training images are like, in numbers that travel with a student.

A device compares each image with them by the functions of `predictor`, and warns of one that is unlike.
Reads pixels; knows no model.
"""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..predictor import BATCH, likeness, patterns_of, statistics, thumbnails, unexplained

RANGE = (0.005, 0.5, 0.995)  # quantiles over the training images: low, median, high
EXPLAINED, MOST_PATTERNS, FOLDS = 0.9, 32, 5  # of the variance of thumbnails; a pattern is 64 bytes
QUANTILES, DECIMALS = 101, 2  # of a statistic, at every percent, as a card has them


def typical(pixels: np.ndarray) -> dict[str, list[float]]:
    """{statistic: [low, median, high]} of images (N, H, W, C), in grey levels 0..255, a batch at a time.

    All but the layout, which takes images that its patterns were not found in: `layout`.
    """
    return {name: np.quantile(own, RANGE).round(2).tolist() for name, own in _measured(pixels).items()}


def _measured(pixels: np.ndarray, patterns: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """`statistics` of images (N, H, W, C), a batch at a time."""
    batches = [statistics(pixels[i : i + BATCH], patterns) for i in range(0, len(pixels), BATCH)]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def reference(
    splits: Mapping[str, np.ndarray], known: dict[str, list[float]], stored: str
) -> dict[str, dict[str, Any]]:
    """What images that a student meets later are compared with: train, val and test (N, H, W, C) in numbers.

    `known` are `typical` and the range of `layout`, `stored` its patterns. Of each split "images", their
    number, and of val and test "unlike", how many a device would warn of; of train and val "quantiles", each
    statistic at every percent, or the values themselves where these are fewer, as numbers in a text. The
    layout of train is measured on images that the patterns were not found in, as in `layout`.
    """
    values = {
        name: _measured(pixels, patterns_of({"training_layout": stored})) for name, pixels in splits.items()
    }
    values["train"]["layout"] = _cross_fitted(_thumbnails(splits["train"]))
    parts: dict[str, dict[str, Any]] = {name: {"images": len(pixels)} for name, pixels in splits.items()}
    for name in ("val", "test"):
        bounds = likeness(known).items()
        outside = [(values[name][own] < least) | (values[name][own] > most) for own, (least, most) in bounds]
        parts[name]["unlike"] = int(np.any(outside, axis=0).sum())
    for name in ("train", "val"):
        parts[name]["quantiles"] = {own: percentiles(numbers) for own, numbers in values[name].items()}
    return parts


def percentiles(values: np.ndarray) -> str:
    """The percentiles of values (N,), each one of them, or all of them in order where these are fewer."""
    ordered = np.sort(values).astype(np.float64)
    if len(values) > QUANTILES:
        # the smallest value that k / 100 of them do not exceed, in whole numbers: 0.35 * 1000 is not 350
        ranks = -(-np.arange(QUANTILES) * len(values) // (QUANTILES - 1))
        ordered = ordered[np.maximum(ranks - 1, 0)]
    return " ".join(f"{value:.{DECIMALS}f}" for value in ordered + 0.0)


def layout(train: np.ndarray, val: np.ndarray) -> tuple[str, list[float]]:
    """The main patterns of the thumbnails of images (N, H, W, C), and [low, median, high] of what they leave.

    The patterns are the principal components (uncentred: a thumbnail has no mean) that make nine tenths of
    the variance, in base64 as a card holds them. What they leave is measured, in percent, on images that
    they were not found in: fold by fold within train, and on val; the higher end counts.
    """
    train_thumbnails, val_thumbnails = _thumbnails(train), _thumbnails(val)
    stored = base64.b64encode(_packed(_patterns(train_thumbnails))).decode()
    low, median, high = np.quantile(_cross_fitted(train_thumbnails), RANGE)
    val_left = unexplained(val_thumbnails, patterns_of({"training_layout": stored}))
    return stored, np.round([low, median, max(high, np.quantile(val_left, RANGE[-1]))], 2).tolist()


def _cross_fitted(values: np.ndarray) -> np.ndarray:
    """What is left of thumbnails (N, 64) beside the patterns of others, fold by fold: (N,), by folds."""
    fold = np.arange(len(values)) % FOLDS
    left = [unexplained(values[fold == i], _patterns(values[fold != i])) for i in range(FOLDS)]
    return np.concatenate(left)


def _thumbnails(pixels: np.ndarray) -> np.ndarray:
    """(N, 64) of images (N, H, W, C)."""
    batches = (pixels[i : i + BATCH] for i in range(0, len(pixels), BATCH))
    return np.concatenate([thumbnails(batch.astype(np.float32).mean(axis=3)) for batch in batches])


def _patterns(values: np.ndarray) -> np.ndarray:
    """The principal components (K, 64) of thumbnails (N, 64), the largest first."""
    energies, directions = np.linalg.eigh(values.T @ values)  # ascending
    explained = np.cumsum(energies[::-1]) / max(energies.sum(), 1e-12)
    count = min(int(np.searchsorted(explained, EXPLAINED)) + 1, MOST_PATTERNS)
    return directions[:, ::-1].T[:count]


def _packed(patterns: np.ndarray) -> bytes:
    """Patterns (K, 64) at a byte a value, each by its own largest one."""
    return np.rint(patterns / np.abs(patterns).max(axis=1, keepdims=True) * 127).astype(np.int8).tobytes()
