"""The lines at the foot of a terminal while something is done: which stage, a bar, how long it may take.

They are drawn again four times a second, so that nothing is silent, and vanish when it is done.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..progress import Epoch, Place

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.text import Text

BAR_WIDTH, TITLE_WIDTH = 14, 34  # characters of 80
TELLING = 0.02  # part of a bar that must be done before the rest is guessed
STARTING = "starting"


def clock(seconds: float) -> str:
    """0:07, 12:34 or 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def about(seconds: float) -> str:
    """A guess in words: about 40 s, about 2 min, about 1.5 h."""
    if seconds < 90:
        return f"about {max(10, 10 * round(seconds / 10))} s"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"


@dataclass
class Bar:
    """Work in steps."""

    title: str
    total: float
    started: float = field(default_factory=time.monotonic)
    first: float = 0.0  # steps that were done when it began: a training may go on from a checkpoint
    done: float = 0.0
    scores: str = ""

    def advance(self, done: float, epoch: Epoch | None = None) -> None:
        """So many steps are done."""
        if not self.done and not self.first and time.monotonic() - self.started < 0.1:
            self.first = done
        self.done = done
        if epoch is not None:
            self.scores = scores_in_words(epoch, self.total)

    def left(self) -> float | None:
        """Seconds that the rest may take; None where too little is done to say."""
        done, rest = self.done - self.first, self.total - self.done
        if done < TELLING * self.total or not done:
            return None
        return (time.monotonic() - self.started) * max(0.0, rest) / done


def scores_in_words(epoch: Epoch, total: float) -> str:
    """What a row of a training's history says: epoch, loss, accuracy on val."""
    words = [f"epoch {epoch['epoch']} of {total:g}"]
    for name, text in (("loss", "loss"), ("val_loss", "val loss"), ("val_accuracy", "val accuracy")):
        if name in epoch:
            words.append(f"{text} {float(epoch[name]):.3f}")
    return ", ".join(words)


def _line(text: str) -> "Text":
    from rich.text import Text

    return Text(text, no_wrap=True, overflow="ellipsis")


@dataclass
class Running:
    """A stage that is being made."""

    name: str
    place: Place | None
    started: float = field(default_factory=time.monotonic)


class Display:
    """What is being done, drawn on a terminal."""

    def __init__(self, console: "Console"):
        self.console = console
        self.started, self.task = time.monotonic(), STARTING
        self.stages: list[Running] = []
        self.bars: list[Bar] = []
        self.others: list[Display] = []  # of what is done beside this one
        self._foot: Display = self  # the one that draws
        self._live: Live | None = None

    def beside(self) -> "Display":
        """One more of the same terminal: what is done beside this is drawn below it."""
        other = Display(self.console)
        other.started, other._foot = self.started, self._foot
        self.others.append(other)
        return other

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The lines stand at the foot of the terminal in this block."""
        if self._foot is not self:
            with self._foot.shown():
                yield
            return
        if self._live is not None:
            yield
            return
        from rich.live import Live

        # what is printed to stdout may be on its way into a file
        self._live = Live(
            console=self.console,
            get_renderable=self.lines,
            transient=True,
            redirect_stdout=False,
            vertical_overflow="crop",
        )
        try:
            with self._live:
                yield
        finally:
            self._live = None

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Nothing is drawn in this block, which prints to stdout: that may be the same terminal."""
        live = self._live
        if live is not None:
            live.stop()
        try:
            yield
        finally:
            if live is not None:
                live.start()

    @contextmanager
    def stage(self, name: str, place: Place | None) -> Iterator[Running]:
        """The lines are about a stage in this block."""
        running = Running(name, place)
        self.stages.append(running)
        try:
            with self.shown():
                yield running
        finally:
            self.stages.pop()
            self._foot.task = f"after {name}"

    @contextmanager
    def bar(self, title: str, total: float) -> Iterator[Bar]:
        """They have a bar in this block."""
        bar = Bar(title, total)
        self.bars.append(bar)
        try:
            with self.shown():
                yield bar
        finally:
            self.bars.remove(bar)

    def lines(self) -> "RenderableType":
        """At most three lines for each of what is done, none wider than the terminal."""
        from rich.console import Group

        rows = self._rows()
        for other in self.others:
            rows += other._rows()
        since = clock(time.monotonic() - self.started)
        return Group(*rows) if rows else _line(f"{self.task}: {since} since the start")

    def _rows(self) -> "list[RenderableType]":
        bar = self.bars[-1] if self.bars else None
        rows: list[RenderableType] = []
        if self.stages:
            rows.append(_line(self._stage_line(bar)))
        if bar:
            rows.append(self._bar_line(bar))
            rows += [_line(f"  {bar.scores}")] if bar.scores else []
        return rows

    def _stage_line(self, bar: Bar | None) -> str:
        """`17 of 49: cnn5-whole, 0:31 since the start, about 2 min left`."""
        running = self.stages[-1]
        elapsed = f"{running.name}, {clock(time.monotonic() - self.started)} since the start"
        place = running.place
        if place is None:
            return elapsed
        seconds = self._left(running, bar)
        left = "" if seconds is None else f", {about(seconds)} left"
        return f"{place.number} of {place.total}: {elapsed}{left}"

    def _left(self, running: Running, bar: Bar | None) -> float | None:
        """Seconds that are left of the run, by the bar where it can tell."""
        place = running.place
        if place is None or place.others is None:
            return None
        own = max(0.0, (place.own or 0.0) - (time.monotonic() - running.started))
        rest = bar.left() if bar else None
        return place.others + (own if rest is None else rest)

    def _bar_line(self, bar: Bar) -> "RenderableType":
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        left = bar.left()
        times = f"{clock(time.monotonic() - bar.started)} elapsed"
        times += f", {clock(left)} left" if left is not None else ""
        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=TITLE_WIDTH)
        table.add_column()
        table.add_column(no_wrap=True)
        shown = ProgressBar(bar.total, min(bar.done, bar.total), width=BAR_WIDTH, pulse=not bar.done)
        table.add_row(f"  {bar.title}", shown, times)
        return table
