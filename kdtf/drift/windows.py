"""A log cut into windows: by day, week or month in UTC, or by a number of images in the order of time."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

LEAST = 20  # images of a window: of fewer nothing is said
EPOCH_TO_MONDAY = np.timedelta64(3, "D")  # 1970-01-01 was a Thursday
PERIODS: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # days to the first day of their period
    "day": lambda days: days,
    "week": lambda days: (
        (days + EPOCH_TO_MONDAY).astype("datetime64[W]").astype("datetime64[D]") - EPOCH_TO_MONDAY
    ),
    "month": lambda days: days.astype("datetime64[M]").astype("datetime64[D]"),
}


NONE = np.array([], "datetime64[ms]")


class Window(NamedTuple):
    """Images of a log, one after the other, and how people call them."""

    name: str  # of a period its first day; of a number of images its own number and the day of the first
    rows: slice
    first: np.datetime64
    last: np.datetime64
    unread: int = 0  # images of the same time that could not be read

    @property
    def images(self) -> int:
        """How many they are."""
        return self.rows.stop - self.rows.start

    @property
    def unread_part(self) -> float:
        """What part of all images of that time could not be read."""
        return self.unread / (self.images + self.unread)


def by_period(times: np.ndarray, period: str, unread: np.ndarray = NONE) -> list[Window]:
    """Windows of ascending times (N,) by a row of `PERIODS`: a week begins on Monday.

    `unread` (M,), ascending, are the times of images that could not be read.
    """
    days, missed = (PERIODS[period](own.astype("datetime64[D]")) for own in (times, unread))
    starts = np.unique(np.concatenate([days, missed]))
    rows, gaps = (np.searchsorted(own, starts) for own in (days, missed))
    return _windows([str(day) for day in starts], times, rows, unread, gaps)


def by_number(times: np.ndarray, images: int, unread: np.ndarray = NONE) -> list[Window]:
    """Windows of so many of ascending times (N,); the last may be smaller. `unread` are as in `by_period`."""
    rows = np.arange(0, len(times), images)
    gaps = np.searchsorted(unread, times[rows])
    gaps[:1] = 0  # what came before the first image counts with it
    names = [f"#{k} ({start.astype('datetime64[D]')})" for k, start in enumerate(times[rows], 1)]
    return _windows(names, times, rows, unread, gaps)


def _windows(
    names: list[str], times: np.ndarray, rows: np.ndarray, unread: np.ndarray, gaps: np.ndarray
) -> list[Window]:
    """Windows that begin with these `rows` of `times` and these, `gaps`, of `unread`."""
    stops, ends = [*rows[1:], len(times)], [*gaps[1:], len(unread)]
    windows = []
    for name, start, stop, gap, end in zip(names, rows, stops, gaps, ends, strict=True):
        own = np.concatenate([times[start:stop], unread[gap:end]])
        windows.append(Window(name, slice(int(start), int(stop)), own.min(), own.max(), int(end - gap)))
    return windows
