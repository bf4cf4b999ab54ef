"""What a notebook calls: data loaded and audited, a run as records and tables. Prints nothing."""

from pathlib import Path

from .config import Config
from .data.audit import Audit
from .data.audit import audit as audit_dataset
from .data.dataset import Dataset
from .data.load import load as load_dataset
from .progress import Progress
from .runs.engine import RunResult
from .runs.session import run_config

WORK = Path("Results") / "work"  # takes copies of arrays that cannot be used as they are


def load(
    path: str | Path,
    *,
    class_names: tuple[str, ...] = (),
    image_size: int | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
    work: str | Path = WORK,
) -> Dataset:
    """A folder of arrays, or an .npz file with MedMNIST or Keras keys, checked: pixels (N, H, W, C) uint8.

    `work` takes converted copies where the arrays cannot be mapped as they are. Raises `UserError`.
    """
    return load_dataset(
        path,
        Path(work),
        class_names=class_names,
        image_size=image_size,
        val_fraction=val_fraction,
        seed=seed,
    )


def audit(data: Dataset) -> Audit:
    """Copies, leaks, shared patients, shifted prevalence and shortcuts of a data set; writes nothing."""
    return audit_dataset(data)


def run(config: Config, data: Dataset | None = None, progress: Progress | None = None) -> RunResult:
    """A whole run into `config.run.results`, as `python main.py` does it; goes on from finished stages.

    Without `data` those that the settings name are loaded. `progress` hears of what is done; its
    `warnings` are those of the report. Raises `UserError`.
    """
    return run_config(config, progress or Progress(), data=data)
