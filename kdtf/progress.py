"""What long work reports to. `Progress` says nothing: library code runs in silence unless told otherwise.

`cli` passes one that prints; nothing else in the package does.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import Any, NamedTuple, Protocol, Self

Epoch = Mapping[str, Any]  # a row of a training's history: epoch, loss, val_accuracy, learning_rate, ...


class Place(NamedTuple):
    """Where a stage stands among those of a run, and the seconds they may take, where that is known."""

    number: int
    total: int
    own: float | None = None
    others: float | None = None  # of all that come after it


class Advance(Protocol):
    """How work that is done in steps says how far it is."""

    def __call__(self, done: float, epoch: Epoch | None = None) -> None:
        """So many steps are done; with `epoch` the last of them was one of a training, with these scores."""


class Progress:
    """Silent, but it keeps the warnings, which go into every report.

    `watchers` hear of every epoch of every training: the name of its stage, and the row of its history.
    """

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.watchers: list[Callable[[str, Epoch], None]] = []
        self.stages: list[str] = []  # those that are being made, each for the one before it

    def beside(self) -> Self:
        """One for a task that is done beside others: its stages and bars are its own, all else is shared."""
        other = copy(self)
        other.stages = []
        return other

    def say(self, text: str) -> None:
        """One line about what is being done."""

    def warn(self, text: str) -> None:
        """One line that the reader of the results must see too; the same one is kept once."""
        if text not in self.warnings:
            self.warnings.append(text)

    @contextmanager
    def stage(self, name: str, place: Place | None = None) -> Iterator[None]:
        """A stage is made in this block; one without a place is made again, for another one."""
        self.stages.append(name)
        try:
            yield
        finally:
            self.stages.pop()

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Advance]:
        """A bar over `total` steps; what is yielded takes the number of steps done so far."""

        def advance(done: float, epoch: Epoch | None = None) -> None:
            if epoch is not None:
                self.watch(title, epoch)

        yield advance

    def watch(self, title: str, epoch: Epoch) -> None:
        """Tell the watchers of an epoch of a training; `title` names one outside any stage."""
        for watcher in self.watchers:
            watcher(self.stages[-1] if self.stages else title, epoch)
