"""What every stage of a run needs, and what a finished stage is read back as."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..config import Config
from ..data.load import Dataset
from ..evidence import evaluate
from ..evidence.tables import Subset
from ..progress import Progress
from ..store import Run, Stage
from ..tflite.tensors import TensorError


class Job(NamedTuple):
    """What every stage of a run needs."""

    config: Config
    data: Dataset
    run: Run
    progress: Progress
    parts: list[Subset]  # of test: all of it, and what has no copy in train or val
    told: dict  # what every bundle says of the data


class Model(NamedTuple):
    """A finished teacher, student or file, read back from its stages."""

    teacher: str  # the teacher's name, or "alone" or "baseline"
    kind: str  # "teacher", "distilled", "alone" or "baseline"
    seed: int
    key: str
    folder: Path  # of its weights, or of its `.tflite`
    facts: dict  # what summary.csv says of it beside its scores
    history: list[dict]
    scores: Path  # of what it said of val and test
    logits: Path | None = None  # of a teacher's labels

    @property
    def measured(self):
        return np.load(self.scores / "measured.npz", allow_pickle=False)

    @property
    def tensor_errors(self) -> list[TensorError]:
        """Of a `.tflite`: how far its tensors are from the float file's."""
        return [TensorError(**row) for row in json.loads((self.folder / "errors.json").read_text())]

    def cached_logits(self) -> dict:
        """A teacher's logits over views (V, N, K), mapped, and val (n, K), as training takes them."""
        return {
            "logits": np.load(self.logits / "logits.npy", mmap_mode="r"),
            "val_logits": np.load(self.logits / "val_logits.npy"),
        }


def keep(folder: Path, facts: dict, history: list[dict]) -> None:
    """Leave what is known of a model in its stage's folder."""
    (folder / "model.json").write_text(json.dumps([facts, history]))


def read(stage: Stage) -> tuple[dict, list[dict]]:
    """The facts and the history that `keep` left."""
    facts, history = json.loads((stage.path / "model.json").read_text())
    return facts, history


def room_for(model) -> int:
    """Bytes that a Keras model takes on disk, generously."""
    return int(1.1 * sum(w.nbytes for w in model.get_weights())) + 2**20


def stage_name(job: Job, teacher: str, what: str, seed: int) -> str:
    """`vgg16-student`, and `vgg16-student-seed3` for the repeats."""
    return f"{teacher}-{what}" + (f"-seed{seed}" if seed != job.config.run.seed else "")


def evaluated(job: Job, name: str, key: str, load: Callable[[], evaluate.Predict], *, runs: int, high=False):
    """The folder of what a model said of val and test: the stage `name`, of the model's `key`.

    `load` gives its predict function; `high` shows it the teacher's pixels; `runs` time one image.
    """
    val, test = (split.teacher_pixels if high else split.pixels for split in (job.data.val, job.data.test))

    def make(folder):
        np.savez(folder / "measured.npz", **evaluate.measure(load(), val, test, runs=runs))

    return job.run.stage(name, {"runs": runs}, key, make=make).path
