"""SIGINT and SIGTERM while a network is trained: the batch is finished and the state written first."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """A training finishes its batch and writes its state, all else stops at once."""

    def __init__(self) -> None:
        self.signal: int | None = None  # that came and was not obeyed yet
        self.trainings = 0  # under way

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Hear a signal; the second one is not waited with."""
        earlier, self.signal = self.signal, number
        if earlier or not self.trainings:
            self.obey()

    def obey(self) -> None:
        """Raise `KeyboardInterrupt` for SIGINT and `SystemExit` for SIGTERM, if one of them came."""
        number, self.signal = self.signal, None
        if number:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """In this block signals wait for the end of a batch."""
        handlers = {}
        if threading.current_thread() is threading.main_thread():
            # what is ignored, as SIGINT is by `&` in a shell, stays so
            numbers = (signal.SIGINT, signal.SIGTERM)
            obeyed = [n for n in numbers if signal.getsignal(n) != signal.SIG_IGN]
            handlers = {n: signal.signal(n, self) for n in obeyed}
        self.trainings += 1
        try:
            yield
        finally:
            self.trainings -= 1
            for number, handler in handlers.items():
                signal.signal(number, handler)


INTERRUPTION = Interruption()
