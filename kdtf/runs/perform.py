"""One task, in any process: what it needs is made or found, then its function is called.

A task is performed once: where its finished stage stands, it is that. Two processes that perform the same
one do not disturb each other, and the second finds the first one's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..data.dataset import Dataset
from ..data.load import DataSource
from ..errors import require
from ..progress import Progress
from ..store import Stage, Store
from ..tasks import Task
from .kinds import KINDS


@dataclass(frozen=True)
class Workspace:
    """What a task's function works with beside its settings: nothing else reaches it.

    It writes into `folder`, reads the finished stages of its `inputs` by the part they play, and `data`
    where its kind says so.
    """

    folder: Path
    inputs: Mapping[str, Path]
    dataset: Dataset | None  # None for a kind that reads no data
    progress: Progress
    title: str  # of its progress bars: the teacher or student it is about

    @property
    def data(self) -> Dataset:
        """The images and labels. Raises `LookupError` where the task's kind does not read them."""
        if self.dataset is None:
            raise LookupError("A task that reads images must be of a kind with `reads_data` in `KINDS`.")
        return self.dataset


def perform(task: Task, store: Store, data: Dataset | None, progress: Progress) -> Stage:
    """The finished stage of a task; what it is made of is performed before where it does not stand.

    Raises `UserError` for what the user can mend.
    """
    finished = store.find(task)
    if finished:
        return finished
    inputs = {role: perform(needed, store, data, progress).path for role, needed in task.inputs.items()}
    kind = KINDS[task.kind]
    if kind.reads_data:
        same = data is not None and data.digest == task.data
        require(same, "--data", f"the images that {task.name} is made of", data and data.digest)
    title = task.name.removesuffix(f"-{task.kind}")
    return store.stage(
        task,
        lambda folder: kind.load()(
            Workspace(folder, inputs, data if kind.reads_data else None, progress, title), **task.settings
        ),
    )


@dataclass(frozen=True)
class Place:
    """Where tasks are performed, told by values: any process that sees the folders can open it."""

    results: str
    source: DataSource

    def perform(self, task: Task) -> Stage:
        """Open the results folder and the data, and perform one task. Raises `UserError`."""
        store = Store(self.results)
        data = self.source.open(store.work) if any(t.data for t in (task, *task.upstream())) else None
        return perform(task, store, data, Progress())
