"""The log of predictions: a line of JSON for each image, by any number of processes.

A line holds numbers and classes, no pixel, and no path unless one is asked for; of an image that could not
be read it says that alone. It is written by one call at
the end of the file, under a lock where the file system has locks. A line that a crash has torn is never
continued. A file that has grown to `MOST_BYTES` gets a number in its name; none is ever removed.
"""

import errno
import fcntl
import json
import math
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..predictor import UNLIKE, Row

CURRENT = "predictions.jsonl"
FULL = re.compile(r"predictions-(\d{6,18})\.jsonl")
MOST_BYTES = 16 << 20  # about 40,000 images
PATIENCE, PAUSE = 1.0, 0.002  # seconds for a lock in all, and between two tries


@dataclass(frozen=True)
class PredictionLog:
    """Where the answers of one student are logged: a folder, the sha256 of the `.tflite`, its classes.

    With `paths` a line names the file of its image. It can be carried to another process.
    """

    folder: Path
    model: str
    classes: tuple[str, ...]
    paths: bool = False
    most_bytes: int = MOST_BYTES

    def __call__(self, row: Row) -> None:
        """Append what was said of an image. Raises `OSError`."""
        text = json.dumps(self.record(row, datetime.now(UTC)), separators=(",", ":"), allow_nan=False)
        place, line = self.folder / CURRENT, text.encode() + b"\n"
        try:
            _append(place, line, self.most_bytes)
        except FileNotFoundError:  # the first line, or somebody has put the folder away
            self.open_folder()
            _append(place, line, self.most_bytes)

    def open_folder(self) -> None:
        """Make the folder and the file of the log where they are missing. Raises `OSError`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        os.close(_opened(self.folder / CURRENT))

    def record(self, row: Row, now: datetime) -> dict[str, Any]:
        """A row as a value of JSON."""
        place = {"file": row.file, "index": row.index} if self.paths else {}
        made = {"time": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"), "model": self.model}
        if row.error:  # which may quote a name
            return {**made, "unread": True, **place}
        chosen = {} if row.prediction_set is None else {"prediction_set": list(row.prediction_set)}
        probabilities = zip(self.classes, row.probs, strict=True)
        return {
            **made,
            "class": row.label,
            "probabilities": {name: _six_digits(p) for name, p in probabilities},
            "uncertain": bool(row.uncertain),
            "unlike": UNLIKE in row.warning,
            "warning": row.warning,
            **chosen,
            "statistics": {name: _six_digits(value) for name, value in (row.statistics or {}).items()},
            **place,
        }


def _six_digits(value: float) -> float | None:
    """A number as a line has it; null for none, which a damaged student may give."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


class Recorder:
    """Rows on their way, each logged. A row that the disk refuses goes on too, and is counted."""

    def __init__(self, log: PredictionLog):
        self.log = log
        self.rows = self.lost = 0
        self.error: OSError | None = None  # the first

    def __call__(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Pass `rows` on."""
        for row in rows:
            try:
                self.log(row)
            except OSError as error:
                self.error, self.lost = self.error or error, self.lost + 1
            self.rows += 1
            yield row


def log_files(folder: Path) -> list[Path]:
    """The files of a log, the oldest first; none where there is no log."""
    numbered = {int(match[1]): path for path in folder.iterdir() if (match := FULL.fullmatch(path.name))}
    current = [folder / CURRENT] if (folder / CURRENT).exists() else []
    return [numbered[number] for number in sorted(numbered)] + current


def _append(path: Path, line: bytes, most_bytes: int) -> None:
    """Write a line at the end of a file, whole or not at all where it can be locked."""
    descriptor, is_alone = _locked(path)
    try:
        size = os.fstat(descriptor).st_size
        if is_alone and size and size + len(line) > most_bytes:
            _number(path)
            os.close(descriptor)
            descriptor, is_alone = _locked(path)
            size = os.fstat(descriptor).st_size
        torn = size and os.pread(descriptor, 1, size - 1) != b"\n"
        _write(descriptor, b"\n" + line if torn else line, size if is_alone else None)
    finally:
        os.close(descriptor)


def _write(descriptor: int, content: bytes, size: int | None) -> None:
    """Write all of `content`; where a disk is full before its end, the file is cut to `size` again."""
    try:
        while content:
            content = content[os.write(descriptor, content) :]
    except OSError:
        if size is not None:
            with suppress(OSError):
                os.ftruncate(descriptor, size)
        raise


def _locked(path: Path) -> tuple[int, bool]:
    """The file that bears this name now, open to append to, and whether it is locked for this process alone.

    Who waited for the lock may hold a file that was given a number meanwhile: it opens the new one. Where a
    file system has no locks, or a process that was stopped keeps one, a line is written without: then two
    processes still write whole lines, but no file gets a number.
    """
    ends = time.monotonic() + PATIENCE
    descriptor = _opened(path)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > ends:
                return descriptor, False
            time.sleep(PAUSE)
            continue
        except OSError:
            return descriptor, False
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor, True
        os.close(descriptor)
        descriptor = _opened(path)


def _opened(path: Path) -> int:
    """Raises `OSError` for what is no file, too: a pipe would be written to for ever."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o644)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EISDIR, "not a file", str(path))
    return descriptor


def _number(path: Path) -> None:
    """Give the current file the next number, for good."""
    numbers = [int(match[1]) for own in path.parent.iterdir() if (match := FULL.fullmatch(own.name))]
    path.rename(path.with_name(f"predictions-{max(numbers, default=0) + 1:06}.jsonl"))
