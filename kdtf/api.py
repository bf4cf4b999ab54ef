"""What a notebook calls: data loaded and audited, a run as records and tables. Prints nothing."""

from pathlib import Path

from .config import Config, DataConfig
from .data.audit import Audit
from .data.audit import audit as audit_dataset
from .data.dataset import Dataset
from .data.load import load as load_dataset
from .progress import Progress
from .runs.engine import RunResult
from .runs.session import run_config


def load(
    path: str | Path,
    *,
    class_names: tuple[str, ...] = (),
    image_size: int | None = None,
    val_fraction: float = DataConfig.val_fraction,
    seed: int = 0,
    unlabelled: str | Path | None = None,
    work: str | Path | None = None,
) -> Dataset:
    """A folder of arrays, or an .npz file with MedMNIST or Keras keys, checked: pixels (N, H, W, C) uint8.

    The settings are those of a run, with its rules: `seed` splits off val where there is none, `unlabelled`
    is where images without labels are, if they do not lie beside the others. Arrays that are uint8 and keep
    their size are mapped where they lie. Of others copies are written into the folder `work`, by default
    `Results/work` under the working directory: give another one where the run's results go elsewhere.
    Raises `UserError`.
    """
    return load_dataset(
        path,
        Path(Config().run.results, "work") if work is None else Path(work),
        class_names=class_names,
        image_size=image_size,
        val_fraction=val_fraction,
        seed=seed,
        unlabelled=unlabelled,
    )


def audit(data: Dataset) -> Audit:
    """Copies, leaks, shared patients, shifted prevalence and shortcuts of a data set; writes nothing."""
    return audit_dataset(data)


def run(config: Config, data: Dataset | None = None, progress: Progress | None = None) -> RunResult:
    """A whole run into `config.run.results`, as `python main.py` does it; goes on from finished stages.

    Without `data` those that the settings name are loaded, the demo's phantom with `Config.demo()`; with
    `data` the settings record how they were opened. `progress` hears of what is done; the `warnings` of
    the result are those of the report. Raises `UserError`, also for `threads` and `deterministic` where
    TensorFlow runs in this process with others already.
    """
    return run_config(config, progress or Progress(), data)
