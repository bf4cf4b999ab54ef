"""Where an image of a `Dataset` came from: its row in the user's own array, and the name of its file.

File names are in `files_{split}.csv` of the data folder, as `prepare` writes it. A folder without such a
table, or with one that does not fit its arrays, has none. However many they are, they take no memory.
"""

import csv
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..predictor import text_of
from .arrays import KeptRows
from .dataset import UNLABELLED_SPLIT, Dataset, Split

FILES = "files_{}.csv"
AT_ONCE = 4096  # names in memory


class Trace(NamedTuple):
    """An image as its owner finds it: the split whose array has it, its row there, its file or ""."""

    source: str
    row: int
    file: str


class _Names:
    """Texts by row, in files without a name; `AT_ONCE` of them are in memory while they are taken in."""

    def __init__(self, texts: Iterator[str]):
        content, ends = KeptRows(1, np.uint8), KeptRows(1, np.int64)
        while own := [text.encode("utf-8", "surrogatepass") for text in islice(texts, AT_ONCE)]:
            ends.append(content.rows + np.cumsum([len(text) for text in own])[:, None])
            content.append(np.frombuffer(b"".join(own), np.uint8)[:, None])
        self._content, self._ends = content.mapped(), ends.mapped()[:, 0]

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, row: int) -> str:
        start = int(self._ends[row - 1]) if row else 0
        return self._content[start : int(self._ends[row])].tobytes().decode("utf-8", "surrogatepass")


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

    def _read_names(self, source: str) -> Sequence[str] | _Names:
        """The file of every row of a source's array; none where that is not known."""
        path = self._folder(source) / FILES.format(source)
        if not path.is_file():
            return []
        try:
            with open(path, encoding="utf-8-sig", newline="") as file:
                names = _Names(text_of(line["file"]) for line in csv.DictReader(file))
        except (OSError, ValueError, KeyError, AttributeError, csv.Error):
            return []
        return names if len(names) == self._images(source) else []

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
