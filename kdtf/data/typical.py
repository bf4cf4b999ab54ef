"""What the training images are like, in numbers that travel with a student.

A device compares each image with them by the functions of `predictor`, and warns of one that is unlike.
Reads pixels; knows no model.
"""

import base64
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from ..predictor import BATCH, THUMBNAIL, likeness, patterns_of, statistics, thumbnails, unexplained
from ..threads import one_thread
from .arrays import KeptRows, forget
from .dataset import PixelArray

RANGE = (0.005, 0.5, 0.995)  # quantiles over the training images: low, median, high
EXPLAINED, MOST_PATTERNS, FOLDS = 0.9, 32, 5  # of the variance of thumbnails; a pattern is 64 bytes
AT_ONCE = 65_536  # thumbnails in memory: 34 MB
QUANTILES, DECIMALS = 101, 2  # of a statistic, at every percent, as a card has them


def typical(pixels: PixelArray) -> dict[str, list[float]]:
    """{statistic: [low, median, high]} of images (N, H, W, C), in grey levels 0..255, a batch at a time.

    All but the layout, which takes images that its patterns were not found in: `layout`.
    """
    return {name: np.quantile(own, RANGE).round(2).tolist() for name, own in _measured(pixels).items()}


def _measured(pixels: PixelArray, patterns: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """`statistics` of images (N, H, W, C), a batch at a time."""
    batches = []
    for i in range(0, len(pixels), BATCH):
        batches.append(statistics(pixels[i : i + BATCH], patterns))
        forget(pixels)
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def reference(
    splits: Mapping[str, PixelArray],
    known: dict[str, list[float]],
    stored: str,
    folder: Path | None = None,
) -> dict[str, dict[str, Any]]:
    """What images that a student meets later are compared with: train, val and test (N, H, W, C) in numbers.

    `known` are `typical` and the range of `layout`, `stored` its patterns. Of each split "images", their
    number, and of val and test "unlike", how many a device would warn of; of train and val "quantiles", each
    statistic at every percent, or the values themselves where these are fewer, as numbers in a text. The
    layout of train is measured on images that the patterns were not found in, as in `layout`, which says what
    `folder` is.
    """
    values = {
        name: _measured(pixels, patterns_of({"training_layout": stored})) for name, pixels in splits.items()
    }
    values["train"]["layout"] = _cross_fitted(_thumbnails(splits["train"], folder))
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


def layout(train: PixelArray, val: PixelArray, folder: Path | None = None) -> tuple[str, list[float]]:
    """The main patterns of the thumbnails of images (N, H, W, C), and [low, median, high] of what they leave.

    The patterns are the principal components (uncentred: a thumbnail has no mean) that make nine tenths of
    the variance, in base64 as a card holds them. What they leave is measured, in percent, on images that
    they were not found in: fold by fold within train, and on val; the higher end counts. Thumbnails are
    kept in files without a name in `folder`, by default where temporary files are.
    """
    train_thumbnails, val_thumbnails = _thumbnails(train, folder), _thumbnails(val, folder)
    stored = base64.b64encode(_packed(_principal(_parts(train_thumbnails)))).decode()
    low, median, high = np.quantile(_cross_fitted(train_thumbnails), RANGE)
    val_left = _unexplained(_parts(val_thumbnails), patterns_of({"training_layout": stored}))
    return stored, np.round([low, median, max(high, np.quantile(val_left, RANGE[-1]))], 2).tolist()


def _cross_fitted(values: np.ndarray) -> np.ndarray:
    """What is left of thumbnails (N, 64) beside the patterns of others, fold by fold: (N,), by folds."""
    left = []
    for fold in range(FOLDS):
        patterns = _principal(_parts(values, fold, others=True))
        left.append(_unexplained(_parts(values, fold), patterns))
    return np.concatenate(left)


def _thumbnails(pixels: PixelArray, folder: Path | None) -> np.ndarray:
    """(N, 64) of images (N, H, W, C), mapped."""
    kept = KeptRows(THUMBNAIL**2, np.float64, folder)
    for i in range(0, len(pixels), BATCH):
        kept.append(thumbnails(pixels[i : i + BATCH].astype(np.float32).mean(axis=3)))
        forget(pixels)
    return kept.mapped()


def _parts(values: np.ndarray, fold: int | None = None, others: bool = False) -> Iterator[np.ndarray]:
    """Thumbnails (N, 64), `AT_ONCE` at a time: all, those of a fold, or all but those."""
    for start in range(0, len(values), AT_ONCE):
        part = values[start : start + AT_ONCE]
        own = np.arange(start, start + len(part)) % FOLDS == fold
        yield part if fold is None else part[own != others]
        forget(values)


def _unexplained(parts: Iterable[np.ndarray], patterns: np.ndarray) -> np.ndarray:
    """What of thumbnails (N, 64) that come in parts is not made of patterns: (N,)."""
    return np.concatenate([unexplained(part, patterns) for part in parts])


def _principal(parts: Iterable[np.ndarray]) -> np.ndarray:
    """The principal components (K, 64) of thumbnails (N, 64) that come in parts, the largest first."""
    with one_thread():
        products = reduce(np.add, (part.T @ part for part in parts))
    energies, directions = np.linalg.eigh(products)  # ascending
    explained = np.cumsum(energies[::-1]) / max(energies.sum(), 1e-12)
    count = min(int(np.searchsorted(explained, EXPLAINED)) + 1, MOST_PATTERNS)
    return directions[:, ::-1].T[:count]


def _packed(patterns: np.ndarray) -> bytes:
    """Patterns (K, 64) at a byte a value, each by its own largest one."""
    return np.rint(patterns / np.abs(patterns).max(axis=1, keepdims=True) * 127).astype(np.int8).tobytes()
