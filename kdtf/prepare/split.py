"""Cuts images into train, val and test: every class in each, no group in two."""

from collections.abc import Iterator

import numpy as np

from ..data.dataset import SPLITS
from ..errors import require

MOST_FOLDS = 100
DRAWS = 1000  # ways tried of giving folds to splits


def cut(
    labels: np.ndarray,
    groups: np.ndarray | None,
    parts: tuple[float, ...],
    seed: int,
    classes: tuple[str, ...],
) -> dict[str, np.ndarray]:
    """{split: sorted rows} of labels (N,) int and groups (N,) str; `parts` of train, val and test sum to 1.

    Raises `UserError` where a class is too small to be in all three.
    """
    unit, whole = ("images", np.arange(len(labels))) if groups is None else ("groups", groups)
    for k, name in enumerate(classes):
        count = len(np.unique(whole[labels == k]))
        rule = f"of at least 3 {unit}, one each for train, val and test"
        require(count >= 3, f"class {name!r}", rule, count)
    if groups is None:
        return _by_class(labels, parts, np.random.default_rng(seed))
    return _by_group(labels, groups, parts, seed)


def _by_class(
    labels: np.ndarray, parts: tuple[float, ...], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Of every class the nearest whole numbers of images to `parts`, one at least."""
    sides: dict[str, list] = {split: [] for split in SPLITS}
    for k in range(labels.max() + 1):
        rows = rng.permutation(np.flatnonzero(labels == k))
        val = min(max(1, round(parts[1] * len(rows))), len(rows) - 2)
        test = min(max(1, round(parts[2] * len(rows))), len(rows) - val - 1)
        for split, side in zip(
            SPLITS, np.split(rows, [len(rows) - val - test, len(rows) - test]), strict=True
        ):
            sides[split].append(side)
    return {split: np.sort(np.concatenate(side)) for split, side in sides.items()}


def _by_group(
    labels: np.ndarray, groups: np.ndarray, parts: tuple[float, ...], seed: int
) -> dict[str, np.ndarray]:
    """Whole folds of a StratifiedGroupKFold go to each split: the draw closest to `parts` in every class."""
    from sklearn.model_selection import StratifiedGroupKFold  # slow to import

    rng, hot = np.random.default_rng(seed), np.eye(labels.max() + 1)[labels]  # (N, K)
    most = min(MOST_FOLDS, len(np.unique(groups)), int(np.bincount(labels).max()))
    for shares in list(_fold_counts(parts, most))[:5]:
        folds, fold = sum(shares), np.empty(len(labels), int)
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        for i, (_, rows) in enumerate(splitter.split(labels, labels, groups)):
            fold[rows] = i
        counts = np.stack([hot[fold == i].sum(axis=0) for i in range(folds)])  # (folds, K)
        orders = rng.permuted(np.tile(np.arange(folds), (DRAWS, 1)), axis=1)  # (draws, folds)
        sides = np.split(orders, np.cumsum(shares)[:-1], axis=1)
        images = np.stack([counts[side].sum(axis=1) for side in sides], axis=1)  # (draws, 3, K)
        target = np.outer(parts, counts.sum(axis=0))  # (3, K)
        error = (np.abs(images - target) / target).sum(axis=(1, 2))
        error[(images == 0).any(axis=(1, 2))] = np.inf
        if np.isfinite(error.min()):
            break
    else:
        size = f"{len(np.unique(groups))} groups over {hot.shape[1]} classes"
        hint = "Try another --seed or --split, or make folders train, val and test."
        require(False, "groups", "such that train, val and test each get one of every class", size, hint)
    best = [side[error.argmin()] for side in sides]
    return {split: np.flatnonzero(np.isin(fold, own)) for split, own in zip(SPLITS, best, strict=True)}


def _fold_counts(parts: tuple[float, ...], most: int) -> Iterator[tuple[int, int, int]]:
    """(train, val, test) in folds, at most `most` of them: the nearest to `parts` first, then the fewest."""
    candidates = []
    for folds in range(3, most + 1):
        val, test = (max(1, round(part * folds)) for part in parts[1:])
        if val + test < folds:
            error = abs(val / folds - parts[1]) + abs(test / folds - parts[2])
            candidates.append((round(error, 9), folds, (folds - val - test, val, test)))
    return (shares for _, _, shares in sorted(candidates))
