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


class Window(NamedTuple):
    """Images of a log, one after the other, and how people call them."""

    name: str  # of a period its first day; of a number of images its own number and the day of the first
    rows: slice
    first: np.datetime64
    last: np.datetime64

    @property
    def images(self) -> int:
        """How many they are."""
        return self.rows.stop - self.rows.start


def by_period(times: np.ndarray, period: str) -> list[Window]:
    """Windows of ascending times (N,) by a row of `PERIODS`: a week begins on Monday."""
    starts = PERIODS[period](times.astype("datetime64[D]"))
    days, first, counts = np.unique(starts, return_index=True, return_counts=True)
    return [
        _window(times, str(day), start, start + count)
        for day, start, count in zip(days, first.tolist(), counts.tolist(), strict=True)
    ]


def by_number(times: np.ndarray, images: int) -> list[Window]:
    """Windows of so many of ascending times (N,); the last may be smaller."""
    starts = range(0, len(times), images)
    return [
        _window(
            times, f"#{k} ({times[start].astype('datetime64[D]')})", start, min(start + images, len(times))
        )
        for k, start in enumerate(starts, 1)
    ]


def _window(times: np.ndarray, name: str, start: int, stop: int) -> Window:
    return Window(name, slice(start, stop), times[start], times[stop - 1])
