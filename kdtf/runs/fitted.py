"""What a finished network leaves in its stage beside its weights: sizes and a history."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..data.dataset import PixelArray
from ..evidence.evaluate import Predict, measure
from ..records import Predictions

if TYPE_CHECKING:
    import keras

RECORD, MEASURED = "record.json", "measured.npz"


class Fitted(NamedTuple):
    """Parameters, KiB on disk, and a row an epoch; nothing of a network that was not fitted."""

    parameters: int | None
    size_kib: float | None
    history: list[dict[str, Any]]


def room_for(network: "keras.Model") -> int:
    """Bytes that the weights of a network take on disk, generously."""
    return int(1.1 * sum(w.nbytes for w in network.get_weights())) + 2**20


def write_fitted(folder: Path, fitted: Fitted) -> None:
    """Leave the record in the folder of a stage."""
    (folder / RECORD).write_text(json.dumps(fitted._asdict()))


def read_fitted(folder: Path) -> Fitted:
    """The record that `write_fitted` left."""
    return Fitted(**json.loads((folder / RECORD).read_text()))


def write_measured(folder: Path, predict: Predict, val: PixelArray, test: PixelArray, runs: int) -> None:
    """What a predict function says of val (n, H, W, C) and test (N, H, W, C), and its time for one image."""
    np.savez(folder / MEASURED, allow_pickle=False, **measure(predict, val, test, runs=runs))


def read_predictions(folder: Path, teacher: str, model: str, recipe: str, seed: int) -> Predictions:
    """The predictions that `write_measured` left, under the four words that name their model."""
    with np.load(folder / MEASURED, allow_pickle=False) as measured:
        probs = measured["val_probs"], measured["test_probs"]
        return Predictions(teacher, model, recipe, seed, *probs, float(measured["latency_ms"]))
