"""Train and val in folds, for cross-validation: copies of an image, and images of a patient, in one fold.

Of each data set in folds one is what is held out, in the place of test, and one is val. The images of test
are in none of them.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ..errors import require
from .copies import Pair
from .dataset import Dataset, Split

SMALL = "--folds", "so few that every class of train and val is met in every fold"


def clusters(data: Dataset, pairs: Iterable[Pair]) -> np.ndarray:
    """(N,) int: a number for every image of train, then of val, the same for copies and for a patient.

    `pairs` are those of the audit, which lists at most `copies.MOST_PAIRS` of each kind.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    start = {"train": 0, "val": len(data.train.labels)}
    count = len(data.train.labels) + len(data.val.labels)
    within = [pair for pair in pairs if {pair.first[0], pair.second[0]} <= start.keys()]
    joined = [(start[a] + i, start[b] + j) for (a, i), (b, j) in ((p.first, p.second) for p in within)]
    if data.train.groups is not None and data.val.groups is not None:
        groups = np.concatenate([data.train.groups, data.val.groups])
        _, first, of_image = np.unique(groups, return_index=True, return_inverse=True)
        joined += zip(first[of_image], range(count), strict=True)
    rows = np.array(joined, int).reshape(-1, 2)
    graph = coo_array((np.ones(len(rows)), (rows[:, 0], rows[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def folds_of(data: Dataset, pairs: Iterable[Pair], count: int) -> np.ndarray:
    """(N,) int: the fold of every image of train, then of val, by class as far as clusters allow.

    Raises `UserError` where a fold lacks a class: it could not be said what is right there.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    labels = np.concatenate([data.train.labels, data.val.labels])
    own, fold_of = clusters(data, pairs), np.empty(len(labels), int)
    for name, label in zip(data.classes, range(len(data.classes)), strict=True):
        units = len(np.unique(own[labels == label]))
        hint = f"Of {name} there are {units} different images or patients."
        require(units >= count, *SMALL, count, hint)
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=0)
    for k, (_, held) in enumerate(splitter.split(labels, labels, own)):
        fold_of[held] = k
    return fold_of


def pooled(data: Dataset) -> Split:
    """Train and val as one split."""
    parts = (data.train, data.val)
    student = np.concatenate([part.pixels for part in parts])
    larger = data.train.teacher_pixels is not data.train.pixels
    teacher = np.concatenate([part.teacher_pixels for part in parts]) if larger else student
    return Split(student, np.concatenate([part.labels for part in parts]), None, teacher)


def part(split: Split, rows: np.ndarray) -> Split:
    """Some rows of a split, without what is known of patients."""
    pixels = split.pixels[rows]
    teacher = pixels if split.teacher_pixels is split.pixels else split.teacher_pixels[rows]
    return Split(pixels, split.labels[rows], None, teacher)


def held_out(data: Dataset, fold_of: np.ndarray, fold: int, val: int) -> Dataset:
    """Train and val with one fold as test and one as val, maybe the same; the others are train."""
    split = pooled(data)
    masks = (fold_of != fold) & (fold_of != val), fold_of == val, fold_of == fold
    train, own_val, test = (part(split, np.flatnonzero(mask)) for mask in masks)
    return replace(data, train=train, val=own_val, test=test, unlabelled=None, unlabelled_digest="")
