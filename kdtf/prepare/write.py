"""Items of a plan -> the files of a split, in order, a bounded number of images at a time.

Images are decoded by threads and written in the order of the plan, so that the arrays do not depend on
the number of threads. One that cannot be read leaves no hole: the header gets the final count.
"""

import csv
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..data.arrays import FILE_NAMES, write_npy_header
from ..data.dataset import UNLABELLED, UNLABELLED_SPLIT
from ..data.subgroups import SUBGROUPS
from ..errors import UserError
from ..predictor import Unusable, cell
from .images import square
from .plan import Item
from .settings import PrepareConfig

AHEAD = 2  # images in flight per worker


class Row(NamedTuple):
    """What is written of an image beside its pixels."""

    file: str
    label: int
    group: str | None
    sha256: str
    subgroups: tuple[str, ...]


class Decoded(NamedTuple):
    """What a thread makes of an image."""

    squares: list[np.ndarray]  # (side, side, C) uint8, one for each size
    sha256: str
    peak: int | None


class ArrayStream:
    """A `.npy` file of uint8 items of one shape, written one by one; closing writes their number.

    NumPy's header keeps room for the digits of any length, so it is written again in place.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        path.parent.mkdir(exist_ok=True)
        self.shape, self.count = shape, 0
        self.file = open(path, "xb")  # noqa: SIM115 (__exit__ closes it)
        self._write_header()

    def _write_header(self) -> None:
        write_npy_header(self.file, (self.count, *self.shape))

    def append(self, item: np.ndarray) -> None:
        """Write one item, of the stream's shape."""
        self.file.write(np.ascontiguousarray(item).data)
        self.count += 1

    def __enter__(self) -> "ArrayStream":
        return self

    def __exit__(self, *error: object) -> None:
        with self.file:
            self.file.seek(0)
            self._write_header()


@dataclass
class Writer:
    """Writes splits under `folder`, and counts what came of the images."""

    folder: Path
    classes: tuple[str, ...]
    columns: tuple[str, ...]  # of the subgroups of every image
    settings: PrepareConfig
    pool: Executor
    ahead: int  # images in flight
    advance: Callable[[int], None]
    finished: int = 0  # images, those skipped with them
    skipped: list[dict[str, str]] = field(default_factory=list)  # file and reason
    peak: int | None = None  # largest value of all 16-bit images without a window

    def write(self, split: str, items: list[Item]) -> list[Row]:
        """Decode `items` and write `split`; returns the rows written, without the images skipped.

        Raises `UserError` with `settings.strict` at the first image that cannot be read.
        """
        rows = []
        with ExitStack() as stack:
            streams = [stack.enter_context(stream) for stream in self._streams(split)]
            for item, decoded in in_order(self.pool, self._decode, items, self.ahead):
                self.finished += 1
                self.advance(self.finished)
                if isinstance(decoded, Unusable):
                    self._skip(item, decoded)
                    continue
                for stream, pixels in zip(streams, decoded.squares, strict=True):
                    stream.append(pixels)
                self.peak = max((p for p in (self.peak, decoded.peak) if p is not None), default=None)
                rows.append(Row(item.file, item.label, item.group, decoded.sha256, item.subgroups))
        self._write_rest(split, rows)
        return rows

    def _sides(self) -> dict[str, int]:
        teacher = {"teacher": self.settings.teacher_size} if self.settings.teacher_size else {}
        return {"X": self.settings.size} | teacher

    def _streams(self, split: str) -> Iterator[ArrayStream]:
        channels = 1 if self.settings.grey else 3
        for kind, side in self._sides().items():
            yield ArrayStream(self.folder / FILE_NAMES[kind].format(split), (side, side, channels))

    def _decode(self, item: Item) -> Decoded | Unusable:
        """In a thread: the original is gone when this returns, its squares wait to be written."""
        try:
            picture = item.read()
        except Unusable as reason:
            return reason
        how = {"keep_aspect": self.settings.keep_aspect, "grey": self.settings.grey}
        squares = [square(picture.image, side, **how) for side in self._sides().values()]
        return Decoded(squares, picture.sha256, picture.peak)

    def _skip(self, item: Item, reason: Unusable) -> None:
        if self.settings.strict:
            hint = "Without --strict it is skipped."
            raise UserError(f"{item.file!r} must be an image that can be read. Got: {reason}. {hint}")
        self.skipped.append({"file": printable(item.file), "reason": str(reason)})

    def _write_rest(self, split: str, rows: list[Row]) -> None:
        """Labels and groups where they are known, and the table of what every row is."""
        if split != UNLABELLED_SPLIT:
            labels = np.array([row.label for row in rows], np.int64)
            np.save(self.folder / FILE_NAMES["y"].format(split), labels)
        if rows and rows[0].group is not None:
            groups = np.array([printable(row.group or "") for row in rows])
            np.save(self.folder / FILE_NAMES["groups"].format(split), groups)
        if rows and rows[0].subgroups:
            self._write_table(SUBGROUPS.format(split), self.columns, (row.subgroups for row in rows))
        names = ("row", "file", "class", "group", "sha256")
        self._write_table(f"files_{split}.csv", names, map(self._line, range(len(rows)), rows))

    def _line(self, i: int, row: Row) -> tuple[int | str, ...]:
        """A line of files_{split}.csv."""
        class_name = "" if row.label == UNLABELLED else self.classes[row.label]
        return i, printable(row.file), class_name, printable(row.group or ""), row.sha256

    def _write_table(self, name: str, columns: tuple[str, ...], lines: Iterable[tuple]) -> None:
        with open(self.folder / name, "w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(map(cell, columns))
            table.writerows(map(cell, line) for line in lines)


def printable(text: str) -> str:
    """`text` with bytes of a file name that are no UTF-8 written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def in_order(pool: Executor, function: Callable, items: Iterable, ahead: int) -> Iterator[tuple]:
    """(item, function(item)) in the order of `items`, at most `ahead` of them begun and not yet taken."""
    waiting: deque[tuple] = deque()
    for item in items:
        waiting.append((item, pool.submit(function, item)))
        if len(waiting) == ahead:
            first, future = waiting.popleft()
            yield first, future.result()
    for first, future in waiting:
        yield first, future.result()
