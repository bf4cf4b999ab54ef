"""What the training images are like, in numbers that travel with a student.

A device compares each image with them by the functions of `predictor`, and warns of one that is unlike.
Reads pixels; knows no model.
"""

import base64

import numpy as np

from ..predictor import BATCH, patterns_of, statistics, thumbnails, unexplained

RANGE = (0.005, 0.5, 0.995)  # quantiles over the training images: low, median, high
EXPLAINED, MOST_PATTERNS, FOLDS = 0.9, 32, 5  # of the variance of thumbnails; a pattern is 64 bytes


def typical(pixels: np.ndarray) -> dict[str, list[float]]:
    """{statistic: [low, median, high]} of images (N, H, W, C), in grey levels 0..255, a batch at a time.

    All but the layout, which takes images that its patterns were not found in: `layout`.
    """
    batches = [statistics(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]
    values = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    return {name: np.quantile(own, RANGE).round(2).tolist() for name, own in values.items()}


def layout(train: np.ndarray, val: np.ndarray) -> tuple[str, list[float]]:
    """The main patterns of the thumbnails of images (N, H, W, C), and [low, median, high] of what they leave.

    The patterns are the principal components (uncentred: a thumbnail has no mean) that make nine tenths of
    the variance, in base64 as a card holds them. What they leave is measured, in percent, on images that
    they were not found in: fold by fold within train, and on val; the higher end counts.
    """
    train_thumbnails, val_thumbnails = _thumbnails(train), _thumbnails(val)
    fold = np.arange(len(train_thumbnails)) % FOLDS
    left = [
        unexplained(train_thumbnails[fold == i], _patterns(train_thumbnails[fold != i])) for i in range(FOLDS)
    ]
    stored = base64.b64encode(_packed(_patterns(train_thumbnails))).decode()
    low, median, high = np.quantile(np.concatenate(left), RANGE)
    val_left = unexplained(val_thumbnails, patterns_of({"training_layout": stored}))
    return stored, np.round([low, median, max(high, np.quantile(val_left, RANGE[-1]))], 2).tolist()


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
