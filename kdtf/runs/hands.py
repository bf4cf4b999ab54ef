"""Who performs the tasks of a run, by --jobs and --engine: this process, others of this host, a cluster."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..config import Config, RunConfig
from ..data.dataset import Dataset
from ..extras import require_extras
from ..progress import Progress
from ..store import Store
from .jobs import TIMED, Hands, OneByOne, SideBySide, threads_of_a_job
from .local_pool import LocalPool
from .pool import Pool
from .ray_pool import RayPool
from .records import Facts
from .slurm_pool import SlurmPool
from .worker import Worker

LOGS = "logs"  # the folder under work/ of what tasks that failed wrote
PACKAGES = {"ray": "ray", "slurm": "submitit"}  # that an engine needs


def check_engine(settings: RunConfig) -> None:
    """Raise `UserError` where --engine needs a package that is not installed."""
    if settings.engine in PACKAGES:
        require_extras(f"--engine {settings.engine}", PACKAGES[settings.engine])


@contextmanager
def hands_of(
    config: Config, facts: Facts, store: Store, data: Dataset, progress: Progress
) -> Iterator[Hands]:
    """Those that perform the tasks of a run in this block. Raises `UserError`."""
    if config.run.jobs == 1 and config.run.engine == "local":
        yield OneByOne(config, store, data, progress)
        return
    if not config.run.deterministic:  # which has no times in its tables
        progress.warn(TIMED)
    pool = _pool(config.run, store, data)
    try:
        yield SideBySide(config, facts, store, data, progress, pool)
    finally:
        pool.close()


def _pool(settings: RunConfig, store: Store, data: Dataset) -> Pool:
    threads = threads_of_a_job(settings, os.cpu_count() or 1)
    worker = Worker(
        str(store.root), data.origin or data, threads, settings.deterministic, settings.accept_versions
    )
    logs = store.work / LOGS
    if settings.engine == "ray":
        return RayPool(worker, data, settings, store, logs)
    if settings.engine == "slurm":
        return SlurmPool(worker, settings, store, logs)
    return LocalPool(worker, settings.jobs, logs)
