"""From settings to a finished run: the lock, the data checked, the audit, TensorFlow without its noise."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ..config import Config, DataConfig, RunConfig
from ..data.audit import Audit
from ..data.dataset import Dataset, DataSource
from ..data.load import open_source
from ..errors import Leakage, UserError
from ..files import disk_errors
from ..progress import Progress
from ..store import Store
from ..versions import versions
from . import copies
from .check import check_names, check_networks, check_sides
from .engine import RunResult, audit_data, chosen_versions, run_tasks
from .kinds import PACKAGES
from .perform import perform
from .plan import phantom_task
from .runtime import tensorflow_runtime

NO_DATA = (
    "FData must hold X_train.npy, y_train.npy, X_test.npy and y_test.npy. Got none of them. Three ways on: "
    "put your arrays there; or give --data DIR or --data FILE.npz; or try --demo, which needs nothing."
)
LEAK = "--strict: splits share images or patients. See audit.csv and audit_pairs.csv."


@contextmanager
def open_store(settings: RunConfig, progress: Progress) -> Iterator[Store]:
    """The results folder, locked. Raises `UserError`."""
    # on the console alone: the report is the same whether or not a run was interrupted
    store = Store(settings.results, lambda text: progress.say(f"Warning: {text}"), verify=settings.verify)
    with store.locked():
        yield store


def require_data(settings: DataConfig) -> None:
    """Raise `UserError` where the settings name no data and the default folder has none."""
    default = settings.data == DataConfig.data and not settings.demo
    if default and not (Path(settings.data) / "X_train.npy").exists():
        raise UserError(NO_DATA)


def open_data(config: Config, store: Store, progress: Progress) -> Dataset:
    """The data the settings name, checked, or the demo's phantom; says what loading decided."""
    settings, seed = config.data, config.run.seed
    path = draw_demo(store, progress, seed) if settings.demo else Path(settings.data)
    source = DataSource(
        path,
        settings.class_names,
        settings.image_size,
        settings.val_fraction,
        seed,
        settings.unlabelled,
    )
    copies.remove_damaged(store)
    with disk_errors(store.root), progress.bar("checking images", 1) as advance:
        data = open_source(source, store.work, lambda done, total: advance(done / total), store.digests)
    copies.note(store)
    for note in data.notes:
        progress.say(note)
    return data


def settings_of(data: Dataset, *, strict: bool) -> DataConfig:
    """The settings by which `data` were opened, for a run on them to record; no path if made by hand."""
    source = data.origin
    if source is None:
        return DataConfig(data="", strict=strict)
    return DataConfig(
        data=str(source.path),
        unlabelled=None if source.unlabelled is None else str(source.unlabelled),
        class_names=source.class_names,
        image_size=source.image_size,
        val_fraction=source.val_fraction,
        strict=strict,
    )


def draw_demo(store: Store, progress: Progress, seed: int) -> Path:
    """The folder of the demo's images."""
    progress.say("Demo: every image is a synthetic phantom. Nothing here says anything about patients.")
    return perform(phantom_task(seed, versions(PACKAGES)), store, None, progress).path


def audit_run(config: Config, progress: Progress) -> Audit:
    """The audit of the data alone. Raises `UserError`, and `Leakage` with --strict."""
    require_data(config.data)
    with open_store(config.run, progress) as store:
        data = open_data(config, store, progress)
        return _audit(config, data, store, progress, chosen_versions(config, store, progress))


def run_config(config: Config, progress: Progress, data: Dataset | None = None) -> RunResult:
    """A whole run on the data of the settings, or on `data`, which brings its own. Raises `UserError`."""
    check_names(config)
    if data is None:
        require_data(config.data)
    else:
        config = replace(config, data=settings_of(data, strict=config.data.strict))
    with open_store(config.run, progress) as store:
        data = data or open_data(config, store, progress)
        check_sides(config, data)
        with tensorflow_runtime(config.run):
            check_networks(config)  # before anything is forgotten: bad settings leave all as it was
            if config.run.fresh:
                if config.data.strict:
                    _audit(config, data, store, progress, versions(PACKAGES))  # the last check
                store.forget_stages()
                if config.data.demo:
                    data = open_data(config, store, Progress())
            packages = chosen_versions(config, store, progress)
            audit = _audit(config, data, store, progress, packages)
            return run_tasks(config, data, audit, store, progress, packages)


def _audit(
    config: Config, data: Dataset, store: Store, progress: Progress, packages: Mapping[str, str]
) -> Audit:
    audit = audit_data(data, store, progress, packages)
    if config.data.strict and audit.leaks:
        raise Leakage(LEAK)
    return audit
