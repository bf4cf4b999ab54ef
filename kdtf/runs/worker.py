"""A process that performs tasks beside the run: told where by values, it opens the rest itself."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from ..config import RunConfig
from ..data.dataset import Dataset, DataSource
from ..data.load import open_source
from ..distill.interruption import INTERRUPTION
from ..errors import UserError
from ..progress import Progress
from ..store import Stage, Store
from ..tasks import Task
from .kinds import DETERMINISTIC
from .perform import perform
from .pool import Done, Failed
from .relay import Note, Relay
from .runtime import tensorflow_runtime


@dataclass
class Worker:
    """The results folder and the data, by values that can be pickled; `threads` as in `RunConfig`.

    The data are opened, and TensorFlow is set up, for the first task that needs them.
    """

    results: str
    data: DataSource | Dataset
    threads: int | None = None
    deterministic: bool = False
    accept_versions: bool = False
    _dataset: Dataset | None = field(default=None, init=False, repr=False)

    def perform(self, task: Task, progress: Progress | None = None) -> Stage:
        """Perform one task as it was planned. Raises `UserError`."""
        progress = progress or Progress()
        store = Store(self.results, lambda text: progress.say(f"Warning: {text}"))
        chain = (*task.upstream(), task)
        deterministic = self.deterministic or any(own.environment.get(DETERMINISTIC) for own in chain)
        data = self._opened(store) if any(own.data for own in chain) else None
        with tensorflow_runtime(RunConfig(threads=self.threads, deterministic=deterministic)):
            return perform(task, store, data, progress, accept_versions=self.accept_versions)

    def outcome(self, task: Task, send: Callable[[Note], None]) -> Done | Failed:
        """Perform a task; whatever goes wrong becomes a value, and its traceback goes to stderr."""
        progress = Relay(send)
        try:
            return Done(self.perform(task, progress), tuple(progress.warnings))
        except UserError as error:
            return Failed(str(error), error)
        except Exception as error:
            traceback.print_exc()
            return Failed(" ".join(f"{type(error).__name__}: {error}".split())[:200])

    def logged_outcome(self, task: Task, log: Path, send: Callable[[Note], None]) -> Done | Failed:
        """`outcome`; what is written to stdout and stderr meanwhile is in `log`, which stays if it fails."""
        with logged(log):
            try:
                outcome = self.outcome(task, send)
            except BaseException:  # a signal
                log.unlink(missing_ok=True)
                raise
        if isinstance(outcome, Done) or outcome.error:
            log.unlink(missing_ok=True)
        return outcome

    def _opened(self, store: Store) -> Dataset:
        if self._dataset is None:
            own = self.data
            self._dataset = (
                own if isinstance(own, Dataset) else open_source(own, store.work, digests=store.digests)
            )
        return self._dataset


def serve(connection: Connection, worker: Worker, environment: dict[str, str]) -> None:
    """Perform (task, log) after (task, log) that come, until the other end is closed or SIGTERM comes.

    Then, or where the process of the run is no more, a training writes its state first.
    """
    os.environ |= environment
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes: the run ends its own
    signal.signal(signal.SIGTERM, INTERRUPTION)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def send(note: Note) -> None:
        with suppress(OSError):  # nobody hears it any more: the state of the training is still written
            connection.send(note)

    with suppress(EOFError, OSError):
        while True:
            task, log = connection.recv()
            connection.send(worker.logged_outcome(task, Path(log), send))


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def logged(log: Path) -> Iterator[None]:
    """What is written to stdout and stderr in this block, from C++ too, is appended to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    streams: tuple[Any, ...] = (sys.stdout, sys.stderr)
    saved = [os.dup(number) for number in (1, 2)]
    with open(log, "ab", buffering=0) as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        for stream, number, before in zip(streams, (1, 2), saved, strict=True):
            stream.flush()
            os.dup2(before, number)
            os.close(before)
