"""Jobs of Slurm that perform the tasks of a run over a shared folder: all of a teacher or student in one."""

import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..config import RunConfig
from ..distill.interruption import INTERRUPTION
from ..errors import UserError
from ..native_log import set_environment
from ..store import Store
from ..tasks import Task
from .pool import Done, Event, Failed, LoggingPool, Returned
from .relay import Note
from .worker import Worker

CLUSTER = "slurm"  # as submitit calls it
POLL = 1.0  # seconds
CANCELLED = 60.0  # seconds that a training may take to write its state
Outcomes = list[tuple[Done | Failed, list[Note]]]


class SlurmPool(LoggingPool):
    """At most `settings.jobs` jobs at once, each of a chain of tasks. Raises `UserError`."""

    chained = True

    def __init__(self, worker: Worker, settings: RunConfig, store: Store, logs: Path):
        import submitit

        super().__init__(logs)
        self.slots, self._worker, self._store = settings.jobs, worker, store
        self._folder = logs / "slurm"  # what submitit writes
        self._jobs: list[tuple[Any, list[Task]]] = []
        self._events: list[Event] = []
        asked = dict(text.split("=", 1) for text in settings.slurm)
        own = {f"slurm_{name.strip()}": value.strip() for name, value in asked.items()}
        try:
            self._executor = submitit.AutoExecutor(folder=self._folder, cluster=CLUSTER)
            self._executor.update_parameters(
                name="kdtf", cpus_per_task=settings.threads or worker.threads or 1, **own
            )
        except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"--engine slurm must find Slurm, and know --slurm. It does not: {reason}."
            ) from None

    @property
    def free(self) -> int:
        """How many chains can be begun now."""
        return self.slots - len(self._jobs)

    def begin(self, tasks: Sequence[Task]) -> None:
        """Submit a chain of tasks."""
        logs = [str(self.log_of(task)) for task in tasks]
        job = self._executor.submit(_perform, self._worker, list(tasks), logs, os.getcwd())
        self._jobs.append((job, list(tasks)))
        self._events.append(Event(tasks[0], ("stage", tasks[0].name)))

    def events(self, wait_for_one: bool) -> Iterator[Event]:
        """What has happened since; waits until something has, if so wanted."""
        events, self._events = self._events, []
        yield from events
        while self._jobs:
            for entry in [own for own in self._jobs if own[0].done()]:
                self._jobs.remove(entry)
                events = list(self._ended(*entry))
                yield from events
            if events or not wait_for_one:
                return
            time.sleep(POLL)

    def _ended(self, job: Any, tasks: list[Task]) -> Iterator[Event]:
        """What became of a chain: outcomes, a failure, and the rest, which was not begun."""
        self._store.refresh()
        try:
            outcomes: Outcomes = job.result()
        except Exception as error:  # submitit's own, and what a job that ended early leaves half written
            first = str(error).strip().partition("\n")[0]
            reason = f"its job {job.job_id} ended without a result ({first[:120]})"
            outcomes = [(Failed(reason), [])]
        for i, (outcome, notes) in enumerate(outcomes):
            for note in notes[1:] if not i else notes:
                yield Event(tasks[i], note)
            yield Event(tasks[i], outcome)
        for task in tasks[len(outcomes) :]:
            yield Event(task, Returned())

    def close(self) -> None:
        """Cancel what is being done, which lets a training write its state."""
        for job, _ in self._jobs:
            job.cancel(check=False)
        patience = time.monotonic() + CANCELLED
        while any(not job.done() for job, _ in self._jobs) and time.monotonic() < patience:
            time.sleep(POLL)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._remove_empty_folder()


def _perform(worker: Worker, tasks: list[Task], logs: list[str], cwd: str) -> Outcomes:
    """In a job: one task after the other, until one fails."""
    os.chdir(cwd)
    set_environment()
    signal.signal(signal.SIGTERM, INTERRUPTION)
    outcomes: Outcomes = []
    for task, log in zip(tasks, logs, strict=True):
        notes: list[Note] = []
        outcome = worker.logged_outcome(task, Path(log), notes.append)
        outcomes.append((outcome, notes))
        if isinstance(outcome, Failed):
            break
    return outcomes
