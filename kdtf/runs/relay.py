"""The progress of a task in another process, as values: `Relay` tells them, `Replay` shows them here."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from ..progress import Advance, Epoch, Place, Progress

EVERY = 0.2  # seconds between two steps of a bar that are told; epochs all are
Note = tuple[Any, ...]  # what happened, and with what: ("bar", "vgg16: head", 300)


class Relay(Progress):
    """Tells `send` what is said and done. Warnings are kept: they come with the result of the task."""

    def __init__(self, send: Callable[[Note], None]):
        super().__init__()
        self.send = send

    def say(self, text: str) -> None:
        """One line about what is being done."""
        self.send(("say", text))

    @contextmanager
    def stage(self, name: str, place: Place | None = None) -> Iterator[None]:
        """A stage is made in this block; where it stands among others, those know who asked for it."""
        self.send(("stage", name))
        with super().stage(name, place):
            yield
        self.send(("end",))  # after an error nothing follows

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Advance]:
        """A bar over `total` steps."""
        last = 0.0

        def advance(done: float, epoch: Epoch | None = None) -> None:
            nonlocal last
            now = time.monotonic()
            if epoch is not None or now - last > EVERY:
                self.send(("advance", done, epoch))
                last = now

        self.send(("bar", title, total))
        try:
            yield advance
        finally:
            self.send(("end",))


class Replay:
    """Shows on `progress`, one `beside` others, what a `Relay` told of a task; `place` is its place."""

    def __init__(self, progress: Progress, place: Place | None):
        self._progress, self._place = progress, place
        self._blocks: list[tuple[AbstractContextManager[Any], Advance | None]] = []

    def hear(self, note: Note) -> None:
        """Show one of the values that were told."""
        match note:
            case ("say", text):
                self._progress.say(text)
            case ("stage", name):
                self._begin(self._progress.stage(name, None if self._blocks else self._place))
            case ("bar", title, total):
                self._begin(self._progress.bar(title, total))
            case ("advance", done, epoch):
                advance = self._blocks[-1][1]
                if advance:
                    advance(done, epoch)
            case ("end",):
                self._blocks.pop()[0].__exit__(None, None, None)

    def _begin(self, block: AbstractContextManager[Any]) -> None:
        self._blocks.append((block, block.__enter__()))

    def cut_off(self) -> None:
        """End what was begun: the task did not come to its end."""
        while self._blocks:
            with suppress(CutOff):
                self._blocks.pop()[0].__exit__(CutOff, CutOff(), None)


class CutOff(Exception):
    """What was begun in another process was not finished there."""
