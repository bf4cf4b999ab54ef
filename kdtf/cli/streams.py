"""Stdin, stdout and stderr as they may be: closed, on a full disk, or with a reader that has gone away.

One that is closed is opened on nothing: else a file of the run gets its number, and libraries write their
notes into it. What cannot be said on stderr is lost, because it is no result. What cannot be written to
stdout is an error.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from ..errors import UserError
from .terminal import Terminal

NUMBERS = (0, 1, 2)  # of the three, for the operating system


class Stream:
    """A text stream whose writes may fail: `failed` hears of it. In all else it is the stream itself."""

    def __init__(self, stream: TextIO, failed: Callable[[TextIO, OSError], None]):
        self.stream, self.failed = stream, failed

    def write(self, text: str) -> int:
        """Write, or say that it failed; characters that the stream does not know as escapes."""
        try:
            try:
                return self.stream.write(text)
            except UnicodeEncodeError as error:
                return self.stream.write(
                    text.encode(error.encoding, "backslashreplace").decode(error.encoding)
                )
        except OSError as error:
            self.failed(self.stream, error)
            return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write, or say that it failed."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Write what waits, or say that it failed."""
        try:
            self.stream.flush()
        except OSError as error:
            self.failed(self.stream, error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def standard_streams() -> Iterator[None]:
    """The three streams open, and `sys.stdout` and `sys.stderr` as above, in this block."""
    _open_closed()
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w") as nothing:  # what Python has of a stream that was closed is None
        out: Any = Stream(before[0] or nothing, _refuse)
        error: Any = Stream(before[1] or nothing, silence)
        sys.stdout, sys.stderr = out, error
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


def new_terminal() -> Terminal:
    """A terminal whose notes are lost where stderr cannot take them."""
    terminal = Terminal()
    notes: Any = Stream(terminal.console.file, silence)  # type: ignore[arg-type]
    terminal.console.file = notes
    return terminal


def silence(stream: TextIO, error: OSError | None = None) -> None:
    """From here on what is written to a stream is lost, what waits in it too."""
    with suppress(OSError), open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), stream.fileno())  # a stream of Python's own, as tests have, has no number
        stream.flush()


def _refuse(stream: TextIO, error: OSError) -> None:
    """Raise `UserError`, or `BrokenPipeError` where the reader has seen enough."""
    if isinstance(error, BrokenPipeError):
        raise error
    silence(stream)
    raise UserError(f"stdout must be writable. It is not ({error.strerror}).") from None


def _open_closed() -> None:
    for number in NUMBERS:
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the least number that is free: this one
