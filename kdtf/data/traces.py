"""Where an image of a `Dataset` came from: its row in the user's own array, and the name of its file.

File names are in `files_{split}.csv` of the data folder, as `prepare` writes it. A folder without such a
table, or with one that does not fit its arrays, has none.
"""

import csv
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ..predictor import text_of
from .dataset import UNLABELLED_SPLIT, Dataset, Split

FILES = "files_{}.csv"


class Trace(NamedTuple):
    """An image as its owner finds it: the split whose array has it, its row there, its file or ""."""

    source: str
    row: int
    file: str


class Traces:
    """The traces of the images of a data set; tables of file names are read once, when they are needed."""

    def __init__(self, data: Dataset):
        self._data = data
        self._names = cache(self._read_names)

    def of(self, split: str, index: int) -> Trace:
        """Where image `index` of a split came from."""
        own: Split = getattr(self._data, split)
        source, row = (split, index) if own.rows is None else ("train", int(own.rows[index]))
        names = self._names(source)
        return Trace(source, row, names[row] if row < len(names) else "")

    def _read_names(self, source: str) -> list[str]:
        """The file of every row of a source's array; none where that is not known."""
        path = self._folder(source) / FILES.format(source)
        if not path.is_file():
            return []
        try:
            with open(path, encoding="utf-8-sig", newline="") as file:
                names = [text_of(line["file"]) for line in csv.DictReader(file)]
        except (OSError, ValueError, KeyError, csv.Error):
            return []
        return names if len(names) == self._images(source) and None not in names else []

    def _folder(self, source: str) -> Path:
        origin = self._data.origin
        if source == UNLABELLED_SPLIT and origin is not None and origin.unlabelled is not None:
            return Path(origin.unlabelled)
        return Path(self._data.source)

    def _images(self, source: str) -> int:
        """Images of a source's own array: train has lent some of them to val where it had to."""
        lent = [own for own in self._data.splits.values() if own.rows is not None]
        if source == "train" and lent:
            return sum(len(own.labels) for own in lent)
        return len(getattr(self._data, source).labels)
