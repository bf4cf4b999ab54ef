"""What performs the tasks of a run beside it, and what is heard of them."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from ..errors import UserError
from ..store import Stage
from ..tasks import Task
from .relay import Note


class Done(NamedTuple):
    """A task was performed: its stage, and what the reader of the results must be warned of."""

    stage: Stage
    warnings: tuple[str, ...] = ()


class Returned(NamedTuple):
    """A task was not begun, because one before it in its chain failed."""


class Failed(NamedTuple):
    """A task was not performed: why, in words, and what the user can mend, where that is the reason."""

    reason: str
    error: UserError | None = None


class Event(NamedTuple):
    """What is heard of a task that a pool performs."""

    task: Task
    what: Note | Done | Failed | Returned


class Pool(Protocol):
    """Processes that perform tasks."""

    slots: int  # how many tasks, or chains of them, are performed at once
    chained: bool  # whether to begin one costs so much that all tasks of a teacher or student go together

    @property
    def free(self) -> int:
        """How many can be begun now."""

    def begin(self, tasks: Sequence[Task]) -> None:
        """Have a task performed whose inputs stand, or a chain of them, one after the other."""

    def events(self, wait_for_one: bool) -> Iterable[Event]:
        """What has happened since; waits until something has, if so wanted."""

    def log_of(self, task: Task) -> Path:
        """Where a task's log is, while it is performed and after it failed."""

    def close(self) -> None:
        """End what is being done, tidily, and all processes."""


class LoggingPool:
    """What pools share: a file in the folder `logs` of what each task writes to stdout and stderr."""

    def __init__(self, logs: Path):
        self._logs = logs

    def log_of(self, task: Task) -> Path:
        """Where a task's log is: while it is performed on a folder that all see, and after it failed."""
        return self._logs / f"{task.name}.log"

    def _remove_empty_folder(self) -> None:
        """Take the folder away, unless a log of a task that failed is in it."""
        with suppress(OSError):
            self._logs.rmdir()
