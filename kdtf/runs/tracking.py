"""What other programs show of a run: event files for TensorBoard, a run of MLflow. No result depends on it.

Nothing is sent anywhere but to the MLflow server that the user names in MLFLOW_TRACKING_URI.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..config import Config, RunConfig
from ..errors import UserError
from ..evidence.metrics import METRICS
from ..extras import require_extras
from ..files import disk_errors
from ..progress import Epoch, Progress
from ..store import Store

MOST_VALUES = 100  # that MLflow takes at a time
MLRUNS = "mlruns"  # the folder of MLflow's runs where no server or other folder is named
SIZES = ("size_kib", "latency_ms", "val_accuracy", "train_seconds")  # of a row of summary.csv, beside scores
Row = Mapping[str, Any]


def check_tracking(settings: RunConfig) -> None:
    """Raise `UserError` where --tracking needs a package that is not installed."""
    if settings.tracking is not None:
        require_extras(f"--tracking {settings.tracking}", settings.tracking)


@contextmanager
def event_files(folder: str | None, progress: Progress) -> Iterator[None]:
    """In this block every training leaves TensorBoard's event files in a folder of its stage's name.

    A scalar an epoch for all that its history has: losses, accuracies, the learning rate. Without `folder`
    none. Raises `UserError` where it cannot be written to.
    """
    if folder is None:
        yield
        return
    import tensorflow as tf

    kind = tf.compat.v1.SummaryMetadata(data_class="DATA_CLASS_SCALAR")
    kind.plugin_data.plugin_name = "scalars"
    writers: dict[str, Any] = {}

    def write(stage: str, epoch: Epoch) -> None:
        place = Path(folder, stage)
        with _event_errors(folder):
            if stage not in writers:
                writers[stage] = tf.summary.create_file_writer(str(place))
            with writers[stage].as_default(step=epoch["epoch"]):
                for name, value in epoch.items():
                    if isinstance(value, float | np.floating):
                        tf.summary.write(name, tf.constant(value, tf.float32), metadata=kind)
            writers[stage].flush()

    with disk_errors(folder, "--log-dir", ""):
        Path(folder).mkdir(parents=True, exist_ok=True)
    progress.watchers.append(write)
    try:
        yield
    finally:
        progress.watchers.remove(write)
        for writer in writers.values():
            writer.close()


@contextmanager
def _event_errors(folder: str) -> Iterator[None]:
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        reason = " ".join(str(error.message).split())
        raise UserError(f"--log-dir must be a folder that can be written to. {folder}: {reason}.") from None


@contextmanager
def tracked(config: Config, progress: Progress) -> Iterator[Callable[[list[dict], Store], None]]:
    """A run of MLflow in this block, with the settings; what is yielded logs scores and files at the end.

    It is marked as failed where the block is left by an error. Without --tracking nothing is done. Raises
    `UserError` where MLflow's folder or server cannot be used.
    """
    if config.run.tracking is None:
        yield lambda rows, store: None
        return
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nobody else is to hear of a run
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # a folder, for those who have no server
    import mlflow

    with _mlflow_errors():
        if not mlflow.environment_variables.MLFLOW_TRACKING_URI.get():
            mlflow.set_tracking_uri(Path(MLRUNS).resolve().as_uri())
        run = mlflow.start_run(run_name=Path(config.run.results).resolve().name)
        settings = {
            f"{section}.{name}": value
            for section, values in config.to_dict().items()
            for name, value in values.items()
        }
        for part in _parts(settings):
            mlflow.log_params(part)
        mlflow.set_tag("kdtf", __version__)
    progress.say(f"MLflow logs this run as {run.info.run_id}: {mlflow.get_tracking_uri()}.")
    status = "FAILED"
    try:
        yield _log_results
        status = "FINISHED"
    finally:
        with _mlflow_errors():
            mlflow.end_run(status)


def _log_results(rows: list[dict], store: Store) -> None:
    """The scores of `summary.csv`, and every file that the run wrote."""
    import mlflow

    with _mlflow_errors():
        for part in _parts(scores_by_name(rows)):
            mlflow.log_metrics(part)
        for name in sorted(store.outputs):
            mlflow.log_artifact(str(store.path(name)))


def scores_by_name(rows: list[dict]) -> dict[str, float]:
    """{teacher/model/recipe/score: value} of rows of `summary.csv`, in letters that MLflow takes.

    A score that is not known is left out.
    """
    scores = [name for name, metric in METRICS.items() if metric.in_summary]
    names = (*scores, *(f"clean_{name}" for name in scores), *SIZES)
    values = {
        "/".join(map(_letters, (row["teacher"], row["model"], row["recipe"], name))): row.get(name)
        for row in rows
        for name in names
    }
    return {
        name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)
    }


def _letters(name: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-. ") else "_" for c in str(name))


def _parts(values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    items = list(values.items())
    for start in range(0, len(items), MOST_VALUES):
        yield dict(items[start : start + MOST_VALUES])


@contextmanager
def _mlflow_errors() -> Iterator[None]:
    """Raise `UserError` for what MLflow cannot do; the run's own results are not touched by it."""
    import mlflow

    try:
        yield
    except (mlflow.exceptions.MlflowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        rule = "used with an MLflow folder or server that works (MLFLOW_TRACKING_URI)"
        raise UserError(f"--tracking must be {rule}. It does not: {reason}.") from None
