"""What travels from `data` to everything else: images that have been checked, and their labels.

Frozen records that compute nothing. Whoever holds a `Dataset` may trust it: its arrays are read-only, and
only `load` makes one of a user's files.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ..records import GroundTruth, Subgroups

SPLITS = ("train", "val", "test")
UNLABELLED_SPLIT = "unlabelled"  # the name of the images without labels, beside those of `SPLITS`
UNLABELLED = -1  # the label of such an image

OnProgress = Callable[[int, int], None]  # hears of images: (done, total)


class PixelArray(Protocol):
    """Images (N, H, W, C) uint8 that are indexed by a slice or by (n,) rows: an array, or computed ones."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, at: slice | np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class DataSource:
    """Where a data set is and how it is read: with it, `load.open_source` opens the same one anywhere."""

    path: str | Path
    class_names: tuple[str, ...]
    image_size: int | None
    val_fraction: float
    seed: int
    unlabelled: str | Path | None = None  # a folder or a .npy file, in place of what is in `path`


@dataclass(frozen=True)
class Split:
    """The images of train, val or test, or those without labels, in one order."""

    pixels: np.ndarray  # (N, H, W, C) uint8 0..255, mapped, read-only: what the student sees
    labels: np.ndarray  # (N,) int64; all of them `UNLABELLED` where there are no labels
    groups: np.ndarray | None  # (N,) str: patient or study, where known
    teacher_pixels: np.ndarray  # (N, H', W', C) uint8; is `pixels` without a larger copy
    rows: np.ndarray | None = None  # (N,) of the user's train, where val was split off it
    subgroups: tuple[Subgroups, ...] = ()  # by which scores are told apart, where known


@dataclass(frozen=True)
class Dataset:
    """Three splits, unlabelled images if there are any, and what is known of them."""

    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    digest: str  # 16 hex digits of sha256 over all that makes up the splits: see `load`
    notes: tuple[str, ...]  # what `load` decided, one plain sentence each
    synthetic: bool = False
    source: str = ""  # the path it was read from
    origin: DataSource | None = None  # how it was read; None of one made by hand
    unlabelled: Split | None = None  # which of them may be trained on, the audit says
    unlabelled_digest: str = ""  # of these images alone, which `digest` does not cover; "" without any

    @property
    def splits(self) -> dict[str, Split]:
        """Train, val and test by name, in the order of `SPLITS`."""
        return {name: getattr(self, name) for name in SPLITS}

    def class_name(self, split: str, row: int) -> str:
        """The class of image `row` of a split by name; "" of an unlabelled one."""
        label = getattr(self, split).labels[row]
        return "" if label == UNLABELLED else self.classes[label]

    @property
    def ground_truth(self) -> GroundTruth:
        """The class names, the labels and groups of val and test, without any pixel."""
        return GroundTruth(
            classes=self.classes,
            val=self.val.labels,
            test=self.test.labels,
            groups=self.test.groups,
            subgroups=self.test.subgroups,
            in_train=tuple(own.counts for own in self.train.subgroups),
            val_groups=self.val.groups,
        )

    @property
    def val_of_train_patients(self) -> np.ndarray:
        """(n,) bool: the val images whose patient is in train too; none where patients are not known."""
        if self.val.groups is None or self.train.groups is None:
            return np.zeros(len(self.val.labels), bool)
        return np.isin(self.val.groups, self.train.groups)

    @property
    def subgroups_digest(self) -> str:
        """16 hex digits over the subgroups of all splits, which `digest` does not cover; "" without any."""
        parts = [
            [name, own.column, own.groups, own.member.tolist()]
            for name, split in self.splits.items()
            for own in split.subgroups
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16] if parts else ""
