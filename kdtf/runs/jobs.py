"""The tasks of a run one after the other, or side by side in a pool of processes that perform them.

A run goes through its plan in one order, whatever is done when: what is said and written of it does not
depend on the number of jobs. A pool goes ahead of it: it performs whatever tasks have their inputs, by a
plan of its own that is made with all that they have found out.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from ..config import Config, RunConfig
from ..data.dataset import Dataset
from ..errors import UserError
from ..progress import Place, Progress
from ..store import Store
from ..tasks import Task
from .forecast import Forecast
from .outcomes import learned
from .perform import perform, standing
from .plan import plan
from .pool import Done, Failed, Pool, Returned
from .records import Facts
from .relay import Replay

ONE_AT_A_TIME = ("origin", "cut")  # kinds that may download weights: into one file, if they are the same
AGAIN = "{task} is performed again: {reason}. What it wrote is in {log}."
TWICE = (
    "{task} must be performed by one of two tries. Both failed, the second one because {reason}. What they "
    "wrote is in {log}. What is finished stays valid; the same command goes on from it."
)


TIMED = (
    "Times of one image were measured while other jobs ran, and are longer than on an idle machine: `bench` "
    "measures those of a file."
)


class Hands(Protocol):
    """Those that perform the tasks of a run."""

    def perform(self, facts: Facts, task: Task, finished: set[str]) -> None:
        """See to it that the stage of a task stands. Raises `UserError`."""

    def place(self, facts: Facts, task: Task, finished: set[str]) -> Place:
        """Where a task stands in the run."""


class OneByOne:
    """This process performs a task when it is asked for."""

    def __init__(self, config: Config, store: Store, data: Dataset, progress: Progress):
        self._store, self._data, self._progress = store, data, progress
        self._accept = config.run.accept_versions
        self._forecast = Forecast(config, store)

    def perform(self, facts: Facts, task: Task, finished: set[str]) -> None:
        """Perform a task, unless its stage stands. Raises `UserError`."""
        place = self.place(facts, task, finished)
        stage = perform(
            task, self._store, self._data, self._progress, accept_versions=self._accept, place=place
        )
        self._forecast.learn(task, stage.seconds)

    def place(self, facts: Facts, task: Task, finished: set[str]) -> Place:
        """Where a task stands in the run."""
        return self._forecast.place(facts, task, finished)


class _Running(NamedTuple):
    """A task that a pool performs, and where its progress is shown."""

    task: Task
    replay: Replay
    side: Progress


class SideBySide:
    """A pool performs tasks before they are asked for, as soon as their inputs stand.

    A task that fails is performed once more, unless what failed is the user's to mend.
    """

    def __init__(
        self, config: Config, facts: Facts, store: Store, data: Dataset, progress: Progress, pool: Pool
    ):
        self._config, self._store, self._data, self._progress = config, store, data, progress
        self._facts, self._plan, self._pool = facts, plan(config, facts), pool
        self._forecast = Forecast(config, store)
        self._done: dict[str, tuple[str, ...]] = {}  # {folder of a finished stage: warnings}
        self._running: dict[str, _Running] = {}
        self._tried: set[str] = set()  # folders of tasks that failed once
        self._finished: set[str] = set()  # what the run has come past, reports among it
        self._idle = [progress.beside() for _ in range(pool.slots)]

    def perform(self, facts: Facts, task: Task, finished: set[str]) -> None:
        """Wait until a task's stage stands; meanwhile others are begun. Raises `UserError`."""
        self._finished = finished
        self._begin()
        while task.folder not in self._done:
            self._hear(wait_for_one=True)
        self._hear(wait_for_one=False)
        for warning in self._done[task.folder]:
            self._progress.warn(warning)

    def place(self, facts: Facts, task: Task, finished: set[str]) -> Place:
        """Where a task stands in the run: after all that were begun; the rest is shared by all jobs."""
        self._finished = finished
        begun = {*self._done, *self._running, *finished}
        number, total, own, others = self._forecast.place(self._facts, task, begun)
        return Place(number, total, own, others and others / self._pool.slots)

    def _begin(self) -> None:
        """Have all tasks performed that can be, as many as there are free hands."""
        while (task := next(self._ready(), None)) is not None:
            stage = standing(task, self._store)
            if stage:
                self._finish(task, Done(stage))
                continue
            if not self._pool.free:
                return
            chain = self._chain(task) if self._pool.chained else [task]
            side = self._idle.pop() if self._idle else self._progress.beside()
            for own in chain:
                replay = Replay(side, self.place(self._facts, own, self._finished))
                self._running[own.folder] = _Running(own, replay, side)
            self._pool.begin(chain)

    def _chain(self, first: Task) -> list[Task]:
        """A task and those of the same teacher or student that have all inputs once it is done."""
        units = (
            list(tasks)
            for group in self._plan.all_groups()
            for tasks in (
                *(teacher.tasks() for teacher in group.teachers),
                *(student.tasks() for student in (*group.candidates, *group.students)),
            )
        )
        of_folds = (list(own) for folds in self._plan.folds.values() for f in folds for own in f.units())
        unit = next((own for own in (*units, *of_folds) if first in own), [first])
        chain, there = [first], {*self._done, first.folder}
        for task in unit:
            if "part" in (*first.settings, *task.settings):  # of labels: others make the others meanwhile
                continue
            begun = task.folder in there or task.folder in self._running
            if not begun and all(own.folder in there for own in task.inputs.values()):
                chain.append(task)
                there.add(task.folder)
        return chain

    def _ready(self) -> Iterator[Task]:
        """The tasks that are not begun and do not wait for another one of the plan, in its order."""
        tasks = [task for task in self._plan.tasks() if not task.kind.endswith("-report")]
        listed = {task.folder for task in tasks}
        for task in tasks:
            if task.folder in self._done or task.folder in self._running or self._waits(task, listed):
                continue
            if task.kind in ONE_AT_A_TIME and self._is_running(ONE_AT_A_TIME):
                continue
            yield task

    def _is_running(self, kinds: tuple[str, ...]) -> bool:
        return any(own.task.kind in kinds for own in self._running.values())

    def _waits(self, task: Task, listed: set[str]) -> bool:
        """Whether a task of the plan must be finished first; inputs that are not in it come with the task."""
        others = [own for own in task.inputs.values() if own.folder not in self._done]
        return any(own.folder in listed or self._waits(own, listed) for own in others)

    def _hear(self, wait_for_one: bool) -> None:
        for task, what in self._pool.events(wait_for_one):
            if isinstance(what, Done | Failed | Returned):
                self._end(task)
                if isinstance(what, Done):
                    self._finish(task, what)
                elif isinstance(what, Failed):
                    self._failed(task, what)
            else:
                self._running[task.folder].replay.hear(what)
        self._begin()

    def _end(self, task: Task) -> None:
        ended = self._running.pop(task.folder)
        ended.replay.cut_off()
        if all(own.side is not ended.side for own in self._running.values()):
            self._idle.append(ended.side)

    def _finish(self, task: Task, done: Done) -> None:
        """Keep what a finished task found out."""
        self._forecast.learn(task, done.stage.seconds)
        self._done[task.folder] = done.warnings
        finished = set(self._done)
        facts = learned(self._config, self._facts, self._plan, finished, self._store, self._data)
        if facts != self._facts:
            self._facts, self._plan = facts, plan(self._config, facts)

    def _failed(self, task: Task, failed: Failed) -> None:
        """Have a task performed once more. Raises `UserError` where that was done, or would be of no use."""
        if failed.error:
            raise failed.error
        words = {"task": task.name, "reason": failed.reason, "log": self._pool.log_of(task)}
        if task.folder in self._tried:
            raise UserError(TWICE.format(**words))
        self._tried.add(task.folder)
        self._progress.say(f"Warning: {AGAIN.format(**words)}")


def threads_of_a_job(settings: RunConfig, cores: int) -> int | None:
    """CPU threads of each job; None leaves it to TensorFlow.

    The cores are divided between jobs, but not with --deterministic: sums over threads are in their order,
    so a result must not depend on the number of jobs.
    """
    if settings.threads is not None or (settings.jobs == 1 and settings.engine == "local"):
        return settings.threads
    if settings.deterministic:
        return cores
    return max(1, cores // settings.jobs) if settings.engine == "local" else 1
