"""Jobs of Slurm that perform the tasks of a run over a shared folder: all of a teacher or student in one.

Whether a job is over is asked of the queue and not, as submitit does, of Slurm's accounts: many clusters keep
none, and a job that was lost there would be waited for without end.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
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
LOOK = 15.0  # seconds between two looks at the queue, of which two must not find a job
CANCELLED = 60.0  # seconds that a training may take to write its state
Outcomes = list[tuple[Done | Failed, list[Note]]]


@dataclass
class _Job:
    """A job of submitit's, the chain it performs, and how often the queue was without it."""

    submitted: Any
    tasks: list[Task]
    missed: int = 0

    def has_result(self) -> bool:
        """Whether its result is there, in a folder that another machine writes to."""
        paths = self.submitted.paths
        with suppress(OSError):
            paths.folder.chmod(paths.folder.stat().st_mode)  # over NFS that looks anew
        return paths.result_pickle.exists()

    def is_in(self, queued: set[str] | None) -> bool:
        """Whether it is in the queue, as far as that is known."""
        return queued is None or str(self.submitted.job_id) in queued


def queued_jobs() -> set[str] | None:
    """The numbers of all jobs that Slurm has in its queue; None where it does not say."""
    try:
        done = subprocess.run(["squeue", "--noheader", "--format=%A"], capture_output=True, text=True)
    except OSError:
        return None
    return None if done.returncode else set(done.stdout.split())


class SlurmPool(LoggingPool):
    """At most `settings.jobs` jobs at once, each of a chain of tasks. Raises `UserError`."""

    chained = True

    def __init__(self, worker: Worker, settings: RunConfig, store: Store, logs: Path):
        import submitit

        super().__init__(logs)
        self.slots, self._worker, self._store = settings.jobs, worker, store
        self._folder = logs / "slurm"  # what submitit writes
        self._jobs: list[_Job] = []
        self._looked = time.monotonic()
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
        self._jobs.append(_Job(job, list(tasks)))
        self._events.append(Event(tasks[0], ("stage", tasks[0].name)))

    def events(self, wait_for_one: bool) -> Iterator[Event]:
        """What has happened since; waits until something has, if so wanted."""
        events, self._events = self._events, []
        yield from events
        while self._jobs:
            self._look()
            for job in [own for own in self._jobs if own.has_result() or own.missed > 1]:
                self._jobs.remove(job)
                events = list(self._ended(job))
                yield from events
            if events or not wait_for_one:
                return
            time.sleep(POLL)

    def _look(self) -> None:
        """Count the jobs that are in the queue no more, now and then."""
        if time.monotonic() - self._looked < LOOK:
            return
        self._looked, queued = time.monotonic(), queued_jobs()
        for job in self._jobs:
            job.missed += not job.is_in(queued)

    def _ended(self, job: _Job) -> Iterator[Event]:
        """What became of a chain: outcomes, a failure, and the rest, which was not begun."""
        self._store.refresh()
        tasks, reason = job.tasks, f"its job {job.submitted.job_id} ended without a result"
        outcomes: Outcomes = [(Failed(reason), [])]
        try:
            if job.has_result():
                outcomes = job.submitted.result()
        except Exception as error:  # submitit's own, and what a job that ended early leaves half written
            first = str(error).strip().partition("\n")[0]
            outcomes = [(Failed(f"{reason} ({first[:120]})"), [])]
        for i, (outcome, notes) in enumerate(outcomes):
            for note in notes[1:] if not i else notes:
                yield Event(tasks[i], note)
            yield Event(tasks[i], outcome)
        for task in tasks[len(outcomes) :]:
            yield Event(task, Returned())

    def close(self) -> None:
        """Cancel what is being done, which lets a training write its state."""
        for job in self._jobs:
            job.submitted.cancel(check=False)
        patience = time.monotonic() + CANCELLED
        while self._jobs and time.monotonic() < patience:
            queued = queued_jobs()
            self._jobs = [own for own in self._jobs if own.is_in(queued) and not own.has_result()]
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
