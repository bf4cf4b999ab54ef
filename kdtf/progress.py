"""What long work reports to. `Progress` says nothing: library code runs in silence unless told otherwise.

`cli` passes one that prints; nothing else in the package does.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Progress:
    """Silent, but it keeps the warnings, which go into every report."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def say(self, text: str) -> None:
        """One line about what is being done."""

    def warn(self, text: str) -> None:
        """One line that the reader of the results must see too; the same one is kept once."""
        if text not in self.warnings:
            self.warnings.append(text)

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[float], None]]:
        """A bar over `total` steps; what is yielded takes the number of steps done so far."""
        yield lambda done: None
