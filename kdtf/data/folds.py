"""Train and val in folds, for cross-validation: copies of an image, and images of a patient, in one fold.

Of each data set in folds one is what is held out, in the place of test, and one is val. The images of test
are in none of them.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import require
from ..threads import one_thread
from .copies import Equals
from .dataset import Dataset, OnProgress, Split
from .near import Search
from .survey import counter, read_images

SPARSE = "--folds", "so few that every class of train and val is met in every fold"


def clusters(
    data: Dataset, progress: OnProgress = lambda done, total: None, folder: Path | None = None
) -> np.ndarray:
    """(N,) int: a number for every image of train, then of val, the same for copies and for a patient.

    Copies are those of the audit, exact and near, as the teacher sees the images. `folder` as in `audit`.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    splits = {"train": data.train, "val": data.val}
    count = sum(len(split.labels) for split in splits.values())
    digests, thumbs, _ = read_images(splits, counter(count, progress), folder)
    equals = Equals.by(digests)
    joined = [(equals.first, np.arange(count)), (_first_of_patient(splits.values()), np.arange(count))]
    with one_thread():
        joined += Search(thumbs, equals.rows).pairs()
    first, second = (np.concatenate(ends) for ends in zip(*joined, strict=True))
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def _first_of_patient(splits: Iterable[Split]) -> np.ndarray:
    """(N,) int: the first image of the patient of each; itself where patients are not known."""
    first: dict[str, int] = {}
    firsts: list[int] = []
    for split in splits:
        groups = [None] * len(split.labels) if split.groups is None else split.groups.tolist()
        for group in groups:
            row = len(firsts)
            firsts.append(row if group is None else first.setdefault(group, row))
    return np.array(firsts, int)


def folds_of(data: Dataset, of_image: np.ndarray, count: int) -> np.ndarray:
    """(N,) int: the fold of every image of train, then of val, by class as far as its `clusters` allow.

    Raises `UserError` where a fold lacks a class: nothing could be said of it there.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    labels = np.concatenate([data.train.labels, data.val.labels])
    fold_of = np.empty(len(labels), int)
    for label, name in enumerate(data.classes):
        units = len(np.unique(of_image[labels == label]))
        hint = f"Of {name} there are {units} different images or patients."
        require(units >= count, *SPARSE, count, hint)
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=0)
    for k, (_, held) in enumerate(splitter.split(labels, labels, of_image)):
        fold_of[held] = k
    met = np.zeros((count, len(data.classes)), bool)
    met[fold_of, labels] = True
    require(met.all(), *SPARSE, count, "Patients with many images leave a fold without a class.")
    return fold_of


def held_out(data: Dataset, fold_of: np.ndarray, fold: int, val: int) -> Dataset:
    """Train and val with one fold as test and one as val, maybe the same; the others are train.

    Their images are copied into memory, and nothing is known of patients. No unlabelled images.
    """
    masks = (fold_of != fold) & (fold_of != val), fold_of == val, fold_of == fold
    train, own_val, test = (_chosen(data, np.flatnonzero(mask)) for mask in masks)
    return replace(data, train=train, val=own_val, test=test, unlabelled=None, unlabelled_digest="")


def _chosen(data: Dataset, rows: np.ndarray) -> Split:
    """Some images of train, then val."""
    start = len(data.train.labels)
    of_train, of_val = rows[rows < start], rows[rows >= start] - start

    def chosen(name: str) -> np.ndarray:
        train, val = getattr(data.train, name), getattr(data.val, name)
        out = np.empty((len(rows), *train.shape[1:]), train.dtype)
        out[: len(of_train)], out[len(of_train) :] = train[of_train], val[of_val]
        out.flags.writeable = False
        return out

    pixels, larger = chosen("pixels"), data.train.teacher_pixels is not data.train.pixels
    return Split(pixels, chosen("labels"), None, chosen("teacher_pixels") if larger else pixels)
