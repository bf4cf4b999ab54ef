"""One task, in any process: what it needs is made or found, then its function is called.

A task is performed once: where its finished stage stands, it is that. Two processes that perform the same
one do not disturb each other, and the second finds the first one's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.dataset import Dataset, Split
from ..data.folds import held_out
from ..errors import require
from ..progress import Place, Progress
from ..store import Stage, Store
from ..tasks import Task
from ..versions import versions
from .kinds import DETERMINISTIC, KINDS
from .stages import FOLDS, FOLDS_ROLE


@dataclass(frozen=True)
class Workspace:
    """What a task's function works with beside its settings.

    It writes into `folder`, reads the finished stages of its `inputs` by the part they play, and `data`
    where its kind says so: pixels, labels and groups, which the digest in the key covers. What else a
    `Dataset` knows (names of classes, where it came from) comes with the settings.
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

    @property
    def unlabelled(self) -> Split:
        """The images without labels. Raises `LookupError` where there are none."""
        if self.data.unlabelled is None:
            raise LookupError("A task on unlabelled images must be given a data set that has some.")
        return self.data.unlabelled


def perform(
    task: Task,
    store: Store,
    data: Dataset | None,
    progress: Progress,
    *,
    accept_versions: bool = False,
    place: Place | None = None,
) -> Stage:
    """The finished stage of a task; what it is made of is performed before where it does not stand.

    A stage whose inputs came out otherwise when they were made again is made again too. Raises `UserError`
    for what the user can mend, as where other packages are installed than the task was planned for: with
    `accept_versions` it is performed with those there are, and its note says which they were. `place` is
    where it stands in a run, for `progress`.
    """
    stands = standing(task, store)
    if stands:
        return stands
    inputs = {
        role: perform(own, store, data, progress, accept_versions=accept_versions).path
        for role, own in task.inputs.items()
    }
    kind = KINDS[task.kind]
    if kind.reads_data:
        same = data is not None and data.digest == task.data
        require(same, "--data", f"the images that {task.name} is made of", data and data.digest)
    if not accept_versions:
        _check_packages(task)
    title = task.name.removesuffix(f"-{task.kind}")

    def make(folder: Path) -> None:
        read = data_of(task, data, inputs) if kind.reads_data and data else None
        space = Workspace(folder, inputs, read, progress, title)
        with progress.stage(task.name, place):
            kind.load()(space, **task.settings)

    return store.stage(task, make)


def standing(task: Task, store: Store) -> Stage | None:
    """The finished stage of a task; one whose inputs came out otherwise since is taken away."""
    finished = store.find(task)
    if finished and store.is_stale(task):
        store.remove(task)
        return None
    return finished


def data_of(task: Task, data: Dataset, inputs: Mapping[str, Path]) -> Dataset:
    """What a task reads: the data, or train and val without a fold, which is its test. The next is val."""
    if task.fold is None:
        return data
    fold_of = np.load(inputs[FOLDS_ROLE] / FOLDS)
    return held_out(data, fold_of, task.fold, (task.fold + 1) % (fold_of.max() + 1))


def _check_packages(task: Task) -> None:
    """Raise `UserError` where a package is not of the version that a task was planned for."""
    planned = {name: version for name, version in task.environment.items() if name != DETERMINISTIC}
    for name, version in versions(planned).items():
        rule = f"{planned[name]}, for which {task.name} was planned"
        require(version == planned[name], name, rule, version, "--accept-versions takes this one.")
