"""Has something changed? All checks of all windows corrected for their number, and the answer in plain words.

A check counts as changed where chance explains it in at most 5 % of all logs of unchanged images, and where
the change is of a size that matters: 0.1 of the population stability index, its usual limit.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..evidence.bootstrap import holm
from ..words import plural
from .comparison import CHECKS, CLASSES, DOWN, OTHER, UNCERTAIN, UNLIKE, UP, Check, compared
from .expectation import Expectation
from .reading import Log
from .windows import LEAST, Window

ALPHA = 0.05  # of a false alarm, in a window taken alone and in all of them together
MODERATE, LARGE = 0.1, 0.25  # of the index: the usual reading
EXPECTED, UNUSUAL, CHANGED, FEW = "as expected", "unusual", "changed", "too few images"
NO_DRIFT, TOO_FEW = "No drift seen.", "Too few images to tell."
MANY_UNREAD = 0.05  # of the images of a window of at least `LEAST`
PATIENTS = (
    "Every test takes images as independent. Images of one patient or study are alike, so that windows of "
    "few patients alarm too often: choose windows of many patients."
)
IMAGES = {  # a change of the images in words that "than in training" follows
    "brightness": {UP: "brighter", DOWN: "darker", OTHER: "spread otherwise in brightness"},
    "contrast": {UP: "richer in contrast", DOWN: "flatter", OTHER: "spread otherwise in contrast"},
    "colour": {UP: "more colourful", DOWN: "less colourful", OTHER: "spread otherwise in colour"},
    "layout": {UP: "laid out otherwise", DOWN: "laid out more alike", OTHER: "laid out otherwise"},
}
ANSWERS = {  # a change of what is said
    UNLIKE: {
        UP: "More images are unlike the training images",
        DOWN: "Fewer images are unlike the training images",
    },
    CLASSES: {UP: "{label} is named more often", DOWN: "{label} is named less often"},
    UNCERTAIN: {UP: "More answers are uncertain", DOWN: "Fewer answers are uncertain"},
}


class Judged(NamedTuple):
    """A check, its p corrected for those of its window and for all there are, and what it comes to."""

    check: Check
    p_window: float
    p_all: float
    state: str  # `EXPECTED`, `UNUSUAL` by `p_window` alone, or `CHANGED`


class JudgedWindow(NamedTuple):
    """A window and its checks in the order of `CHECKS`; one of too few images has none."""

    window: Window
    checks: tuple[Judged, ...]

    @property
    def state(self) -> str:
        """`CHANGED` where many images could not be read, else that of its checks which says most.

        `FEW` without any.
        """
        if window_is_lost(self.window):
            return CHANGED
        states = [own.state for own in self.checks]
        return next((state for state in (CHANGED, UNUSUAL, EXPECTED) if state in states), FEW)


class Verdict(NamedTuple):
    """What there is to say of a log: a headline, sentences below it, how sure that is, windows."""

    headline: str
    sentences: tuple[str, ...]
    limits: tuple[str, ...]
    windows: tuple[JudgedWindow, ...]

    @property
    def drift(self) -> bool:
        """Is anything changed?"""
        return self.count(CHANGED) > 0

    def count(self, state: str) -> int:
        """How many windows are in a state."""
        return sum(own.state == state for own in self.windows)


def judged(windows: Sequence[Window], log: Log, expected: Expectation, rng: np.random.Generator) -> Verdict:
    """The verdict on a log cut into windows; `rng` is for tests of rare classes."""
    large = [window for window in windows if window.images >= LEAST]
    checks = {window.name: compared(window, log, expected, rng) for window in large}
    p_all = iter(holm([check.p for own in checks.values() for check in own]))
    rows = tuple(
        JudgedWindow(window, tuple(_judged_checks(checks.get(window.name, []), p_all))) for window in windows
    )
    changes = list(_changes([row for row in rows if row.checks]))
    unread = [_unread_in_words(windows, log)] if len(log.unread) else []
    if any(window_is_lost(window) for window in windows):
        changes, unread = [*unread, *changes], []
    headline = changes[0] if changes else NO_DRIFT if large else TOO_FEW
    sentences = (*changes[1:], *unread, *_remarks(rows, log))
    return Verdict(headline, sentences, tuple(_limits(rows, expected)), rows)


def window_is_lost(window: Window) -> bool:
    """Could so many of its images not be read that it changed, whatever the others show?"""
    return window.images + window.unread >= LEAST and window.unread_part >= MANY_UNREAD


def _judged_checks(checks: list[Check], p_all: Iterator[float]) -> Iterator[Judged]:
    for check, p_window in zip(checks, holm([check.p for check in checks]), strict=True):
        p = next(p_all)
        state = CHANGED if p <= ALPHA else UNUSUAL if p_window <= ALPHA else EXPECTED
        yield Judged(check, p_window, p, state if check.psi >= MODERATE else EXPECTED)


def _changes(rows: list[JudgedWindow]) -> Iterator[str]:
    """What changed and since when, the images first: a sentence on statistics, then one an answer."""
    found: dict[str, list[int]] = {name: [] for name in CHECKS}
    for i, row in enumerate(rows):
        for own in row.checks:
            if own.state == CHANGED:
                found[own.check.name].append(i)
    last = {name: rows[at[-1]].checks[CHECKS.index(name)].check for name, at in found.items() if at}
    images: dict[str, list[str]] = {}
    for name in IMAGES:
        if name in last:
            images.setdefault(_when(rows, found[name]), []).append(IMAGES[name][last[name].direction])
    if images:
        parts = [(", ".join(words), when) for when, words in images.items()]
        first, *more = parts
        texts = [f"{first[0]} than in training {first[1]}", *(f"{words} {when}" for words, when in more)]
        yield f"The images changed: {'; '.join(texts)}."
    for name in [name for name in IMAGES if name in last]:
        median, usual = last[name].observed[0], last[name].expected[0]
        where = "there" if len(found[name]) == 1 else "in the last of them"
        yield f"Median {name}: {median:.1f} {where}, {usual:.1f} in {last[name].against}."
    for name in ANSWERS:
        if name in last:
            check = last[name]
            said = ANSWERS[name][check.direction].format(label=check.label)
            where = "" if len(found[name]) == 1 else " in the last"
            figures = f"{100 * check.observed[0]:.1f} %{where}, on val {100 * check.expected[0]:.1f} %"
            yield f"{said} {_when(rows, found[name])} ({figures})."


def _when(rows: list[JudgedWindow], at: list[int]) -> str:
    """Since when, for windows up to the last one; from when to when, for others."""
    first = at[-1]
    while first - 1 in at:
        first -= 1
    earlier = len([i for i in at if i < first])
    if at[-1] == len(rows) - 1:
        more = f" and in {earlier} earlier {plural(earlier, 'window')}" if earlier else ""
        return f"since {rows[first].window.name}{more}"
    if len(at) == 1:
        return f"in the window of {rows[first].window.name}"
    return f"in {len(at)} windows from {rows[at[0]].window.name} to {rows[at[-1]].window.name}"


def _unread_in_words(windows: Sequence[Window], log: Log) -> str:
    worst = max(windows, key=lambda window: window.unread_part)
    count = len(log.unread)
    return (
        f"{count:,} {plural(count, 'image')} could not be read, {100 * worst.unread_part:.1f} % of those in "
        f"the window of {worst.name}."
    )


def _remarks(rows: tuple[JudgedWindow, ...], log: Log) -> Iterator[str]:
    ends = min(row.window.first for row in rows), max(row.window.last for row in rows)
    first, last = (str(end.astype("datetime64[D]")) for end in ends)
    images, count = len(log.times), len(rows)
    days = f"of {first}" if first == last else f"from {first} to {last}"
    yield (f"The log has {images:,} {plural(images, 'image')} {days}, in {count} {plural(count, 'window')}.")
    tested = [row for row in rows if row.checks]
    unusual = sum(row.state == UNUSUAL for row in rows)
    if unusual:
        yield (
            f"{unusual} of {len(tested)} {plural(len(tested), 'window')} {plural(unusual, 'is', 'are')} "
            "unusual taken alone. Of unchanged images one window in 20 may be."
        )
    few = len(rows) - len(tested)
    if few:
        yield (
            f"{few} {plural(few, 'window')} {plural(few, 'has', 'have')} fewer than {LEAST} images and "
            f"{plural(few, 'is', 'are')} not compared."
        )


def _limits(rows: tuple[JudgedWindow, ...], expected: Expectation) -> Iterator[str]:
    tested = [row for row in rows if row.checks]
    if tested:
        yield _noticeable(tested, expected)
    yield PATIENTS


def _noticeable(tested: list[JudgedWindow], expected: Expectation) -> str:
    """How large a change of a statistic must be to be told from chance in a window of the usual size."""
    from scipy.stats import kstwo

    n = int(np.median([row.window.images for row in tested]))
    least = min(own.images for own in expected.statistics["brightness"].values())
    distance = kstwo.isf(ALPHA / (len(CHECKS) * len(tested)), max(1, round(n * least / (n + least))))
    return (
        f"In a window of {n:,} {plural(n, 'image')} a statistic must lie {distance:.2f} from both train and "
        f"val (Kolmogorov and Smirnov's distance, 0 to 1) to be told from chance."
    )
