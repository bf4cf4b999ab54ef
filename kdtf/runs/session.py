"""From settings to a finished run: the lock, the data checked, the audit, TensorFlow without its noise."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..config import Config, RunConfig
from ..data.audit import Audit
from ..data.dataset import Dataset
from ..data.load import DataSource
from ..errors import Leakage, UserError
from ..files import disk_errors
from ..native_log import native_noise, set_environment
from ..progress import Progress
from ..store import Store
from ..versions import versions
from .engine import RunResult, audit_data, chosen_versions, run_tasks
from .kinds import PACKAGES
from .perform import perform
from .plan import phantom_task

NO_DATA = (
    "FData must hold X_train.npy, y_train.npy, X_test.npy and y_test.npy. Got none of them. Three ways on: "
    "put your arrays there; or give --data DIR or --data FILE.npz; or try --demo, which needs nothing."
)
LEAK = "--strict: splits share images or patients. See audit.csv and audit_pairs.csv."


@contextmanager
def open_store(config: Config, progress: Progress, *, demo: bool) -> Iterator[Store]:
    """The results folder, locked, once it is clear that there is something to work on. Raises `UserError`."""
    default = Config().data.data
    if not demo and config.data.data == default and not (Path(default) / "X_train.npy").exists():
        raise UserError(NO_DATA)
    # on the console alone: the report is the same whether or not a run was interrupted
    store = Store(config.run.results, lambda text: progress.say(f"Warning: {text}"))
    with store.locked():
        yield store


def open_data(config: Config, store: Store, progress: Progress, *, demo: bool) -> Dataset:
    """The data the settings name, checked, or the demo's phantom; says what the door decided."""
    path = draw_demo(store, progress, config.run.seed) if demo else Path(config.data.data)
    settings = config.data
    source = DataSource(
        path, settings.class_names, settings.image_size, settings.val_fraction, config.run.seed
    )
    with disk_errors(store.root), progress.bar("checking images", 1) as advance:
        data = source.open(store.work, lambda done, total: advance(done / total))
    for note in data.notes:
        progress.say(note)
    return data


def draw_demo(store: Store, progress: Progress, seed: int) -> Path:
    """The folder of the demo's images."""
    progress.say("Demo: every image is a synthetic phantom. Nothing here says anything about patients.")
    return perform(phantom_task(seed, versions(PACKAGES)), store, None, progress).path


def start_tensorflow(settings: RunConfig) -> None:
    """Import TensorFlow without its start-up noise, and set it up as the settings say."""
    set_environment()
    with native_noise():
        import keras
        import tensorflow as tf

        keras.config.disable_interactive_logging()  # "Downloading data from ..." on stdout
        logging.getLogger("absl").setLevel("ERROR")  # Keras logs through it that .h5 is an old format
        tf.get_logger().setLevel("ERROR")  # short trainings one after another look like retracing to it
        if settings.threads:
            tf.config.threading.set_intra_op_parallelism_threads(settings.threads)
            tf.config.threading.set_inter_op_parallelism_threads(settings.threads)
        if settings.deterministic:
            tf.config.experimental.enable_op_determinism()
        tf.config.list_physical_devices()


def audit_run(config: Config, progress: Progress, *, demo: bool) -> Audit:
    """The audit of the data alone. Raises `UserError`, and `Leakage` with --strict."""
    with open_store(config, progress, demo=demo) as store:
        data = open_data(config, store, progress, demo=demo)
        return _audit(config, data, store, progress, chosen_versions(config, store, progress))


def run_config(
    config: Config, progress: Progress, *, demo: bool = False, data: Dataset | None = None
) -> RunResult:
    """A whole run: the data of the settings, the demo's phantom, or `data`. Raises `UserError`."""
    with open_store(config, progress, demo=demo or data is not None) as store:
        data = data or open_data(config, store, progress, demo=demo)
        start_tensorflow(config.run)
        from .check import check_settings

        check_settings(config)  # before anything is written or forgotten: bad settings leave all as it was
        if config.run.fresh:
            store.forget_stages()
            if demo:
                data = open_data(config, store, Progress(), demo=True)
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
