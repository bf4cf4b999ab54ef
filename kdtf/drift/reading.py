"""A log of predictions read back. It may be anybody's: what is no line of a log is left out with a word.

Nothing of a line is kept but numbers that were checked and the place of its class, and no line is held in
memory that is longer than one of ours may be.
"""

import json
import math
from array import array
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

import numpy as np

from ..errors import UserError, require
from ..files import require_file
from ..predictor import STATISTICS
from ..words import plural
from .log import log_files

LONGEST = 64 << 10  # bytes of a line
RANGE = (-256.0, 256.0)  # of a statistic: grey levels, or percent
TORN, FOREIGN, LONG = "torn or no JSON", "of another form", "too long"
SHA256 = 64  # hex digits
TRIES = 5  # to read a log while it is written
SHOWN = 3  # other students that are named


class Log(NamedTuple):
    """What a log says of N images that one student answered, and of M it could not, in the order of time."""

    times: np.ndarray  # (N,) datetime64[ms], UTC
    statistics: dict[str, np.ndarray]  # {statistic: (N,)}
    named: np.ndarray  # (N,) int: the class that was named
    uncertain: np.ndarray  # (N,) bool
    unlike: np.ndarray  # (N,) bool: warned of as unlike the training images
    unread: np.ndarray  # (M,) datetime64[ms], UTC: images that could not be read
    others: dict[str, int]  # {sha256 of another student: images that it answered}
    left_out: dict[str, int]  # {why: lines}

    @property
    def remarks(self) -> list[str]:
        """What was left out, a sentence each."""
        sentences = []
        if self.others:
            total, first = (
                sum(self.others.values()),
                ", ".join(f"{m[:12]}..." for m in [*self.others][:SHOWN]),
            )
            more = f" and {len(self.others) - SHOWN} more" if len(self.others) > SHOWN else ""
            sentences.append(
                f"{total:,} {plural(total, 'image')} that another student answered "
                f"{plural(total, 'is', 'are')} left out (sha256 {first}{more})."
            )
        if total := sum(self.left_out.values()):
            reasons = ", ".join(f"{count:,} {why}" for why, count in self.left_out.items())
            sentences.append(f"{total:,} {plural(total, 'line')} of the log cannot be used: {reasons}.")
        return sentences


class _Unread(NamedTuple):
    model: str
    time: float  # seconds since 1970


class _Entry(NamedTuple):
    model: str
    time: float  # seconds since 1970
    statistics: tuple[float, ...]
    named: str
    uncertain: bool
    unlike: bool


def read_log(folder: Path, model: str, classes: tuple[str, ...]) -> Log:
    """The log in a folder, of the student with this sha256 and these classes.

    Raises `UserError` where there is no log, or no line of this student in it.
    """
    require(folder.is_dir(), "DIR", "a folder that predict --log wrote", str(folder))
    try:
        for _ in range(TRIES):
            files = log_files(folder)
            require(files, "DIR", "a folder that predict --log wrote", str(folder), "No log is there.")
            log = _read(files, model, {name: k for k, name in enumerate(classes)})
            if log_files(folder) == files:  # else a file got its number meanwhile, and one may be missing
                break
    except OSError as error:
        raise UserError(
            f"DIR must be a log that can be read. Got {str(error.filename or folder)!r} ({error.strerror})."
        ) from None
    count = len(log.unread)
    unread = [f"{count:,} {plural(count, 'image')} could not be read."] if count else []
    hint = " ".join([*unread, *log.remarks])
    require(len(log.times), "DIR", f"a log of the student with the sha256 {model[:12]}...", str(folder), hint)
    return log


def _read(files: list[Path], model: str, places: dict[str, int]) -> Log:
    """The log in some files, of one student whose classes have these places."""
    kept = array("d")  # eight numbers an image: a log of years is many images
    unread = array("d")
    others: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    for path in files:
        require_file(path, "DIR")
        with open(path, "rb") as file:
            for entry in map(_parsed, _lines(file)):
                if isinstance(entry, str):
                    left_out[entry] += 1
                elif entry.model != model:
                    others[entry.model] += 1
                elif isinstance(entry, _Unread):
                    unread.append(entry.time)
                elif entry.named not in places:
                    left_out[FOREIGN] += 1
                else:
                    kept.extend((entry.time, places[entry.named], entry.uncertain, entry.unlike))
                    kept.extend(entry.statistics)
    rows = np.array(kept).reshape(-1, 4 + len(STATISTICS))
    return _log(rows, np.sort(np.array(unread)), dict(others), dict(left_out))


def _log(rows: np.ndarray, unread: np.ndarray, others: dict[str, int], left_out: dict[str, int]) -> Log:
    """Of rows (N, 8) in any order (time, class, uncertain, unlike, statistics) and ascending times (M,)."""
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    times, named, uncertain, unlike, *values = rows.T
    return Log(
        times=_dates(times),
        statistics=dict(zip(STATISTICS, values, strict=True)),
        named=named.astype(np.int64),
        uncertain=uncertain > 0,
        unlike=unlike > 0,
        unread=_dates(unread),
        others=others,
        left_out=left_out,
    )


def _dates(seconds: np.ndarray) -> np.ndarray:
    return np.rint(1000 * seconds).astype(np.int64).astype("datetime64[ms]")


def _lines(file: BinaryIO) -> Iterator[bytes | None]:
    """The lines of a file that are not empty; None for one that is too long, which is read past."""
    while line := file.readline(LONGEST):
        if len(line) == LONGEST and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = file.readline(LONGEST)
            yield None
        elif line.strip():
            yield line


def _parsed(line: bytes | None) -> _Entry | _Unread | str:
    """What a line says, or why it cannot be used."""
    if line is None:
        return LONG
    try:
        value = json.loads(line, parse_constant=_refused)
    except (ValueError, RecursionError):
        return TORN
    try:
        return _entry(value)
    except (TypeError, KeyError, ValueError, OverflowError):
        return FOREIGN


def _refused(constant: str) -> NoReturn:
    raise ValueError(constant)  # NaN and the infinities are no JSON


def _entry(value: Any) -> _Entry | _Unread:
    """Raises `TypeError`, `KeyError`, `ValueError` or `OverflowError` for what is no record of a log."""
    model = _of(value["model"], str)
    if len(model) != SHA256 or not all(c in "0123456789abcdef" for c in model):
        raise ValueError
    time = datetime.fromisoformat(_of(value["time"], str))
    if time.tzinfo is None or not 1970 < time.year < 9999:
        raise ValueError
    seconds = time.astimezone(UTC).timestamp()
    if "unread" in value and _of(value["unread"], bool):
        return _Unread(model, seconds)
    numbers = tuple(float(_of(value["statistics"][name], int, float)) for name in STATISTICS)
    if not all(RANGE[0] <= number <= RANGE[1] for number in numbers):
        raise ValueError
    answers = _of(value["uncertain"], bool), _of(value["unlike"], bool)
    return _Entry(model, seconds, numbers, _of(value["class"], str), *answers)


def _of(value: Any, *kinds: type) -> Any:
    """A value of one of these types. Raises `TypeError` for any other, and for a number that is none."""
    if type(value) not in kinds or (kinds != (bool,) and type(value) is float and not math.isfinite(value)):
        raise TypeError
    return value
