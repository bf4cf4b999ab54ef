"""A process that performs tasks beside the run: told where by values, it opens the rest itself."""

from dataclasses import dataclass

from ..config import RunConfig
from ..data.dataset import DataSource
from ..data.load import open_source
from ..progress import Progress
from ..store import Stage, Store
from ..tasks import Task
from .kinds import DETERMINISTIC
from .perform import perform
from .session import tensorflow_runtime


@dataclass(frozen=True)
class Worker:
    """The results folder and the data, by values that can be pickled; `threads` as in `RunConfig`."""

    results: str
    source: DataSource
    threads: int | None = None

    def perform(self, task: Task) -> Stage:
        """Perform one task as it was planned. Raises `UserError`."""
        chain = (*task.upstream(), task)
        deterministic = any(own.environment.get(DETERMINISTIC) for own in chain)
        store = Store(self.results)
        reads = any(own.data for own in chain)
        data = open_source(self.source, store.work, digests=store.digests) if reads else None
        with tensorflow_runtime(RunConfig(threads=self.threads, deterministic=deterministic)):
            return perform(task, store, data, Progress())
