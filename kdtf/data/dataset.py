"""What travels from `data` to everything else: images that have been checked, and their labels.

Frozen records that compute nothing. Whoever holds a `Dataset` may trust it: its arrays are read-only, and
only `load` makes one of a user's files.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..records import GroundTruth

SPLITS = ("train", "val", "test")

OnProgress = Callable[[int, int], None]  # hears of images: (done, total)


@dataclass(frozen=True)
class DataSource:
    """Where a data set is and how it is read: with it, `load.open_source` opens the same one anywhere."""

    path: str | Path
    class_names: tuple[str, ...]
    image_size: int | None
    val_fraction: float
    seed: int


@dataclass(frozen=True)
class Split:
    """The images of train, val or test, in one order."""

    pixels: np.ndarray  # (N, H, W, C) uint8 0..255, mapped, read-only: what the student sees
    labels: np.ndarray  # (N,) int64
    groups: np.ndarray | None  # (N,) str: patient or study, where known
    teacher_pixels: np.ndarray  # (N, H', W', C) uint8; is `pixels` without a larger copy


@dataclass(frozen=True)
class Dataset:
    """Three splits and what is known of them."""

    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    digest: str  # 16 hex digits of sha256 over all that makes up the splits: see `load`
    notes: tuple[str, ...]  # what `load` decided, one plain sentence each
    synthetic: bool = False
    source: str = ""  # the path it was read from
    origin: DataSource | None = None  # how it was read; None of one made by hand

    @property
    def splits(self) -> dict[str, Split]:
        """Train, val and test by name, in the order of `SPLITS`."""
        return {name: getattr(self, name) for name in SPLITS}

    @property
    def ground_truth(self) -> GroundTruth:
        """The class names, the labels of val and test and the groups of test, without any pixel."""
        return GroundTruth(self.classes, self.val.labels, self.test.labels, self.test.groups)
