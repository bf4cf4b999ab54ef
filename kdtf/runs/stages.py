"""What tasks leave in their stages, in files that need no TensorFlow to be read or written."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..records import Attention, CutCost, FileFacts, TensorError
from .records import Origin

LOGITS, VAL_LOGITS = "logits.npy", "val_logits.npy"  # of a teacher
FEATURES, VAL_FEATURES = "features.npy", "val_features.npy"  # what its head makes these of
OF_VAL = {LOGITS: VAL_LOGITS, FEATURES: VAL_FEATURES}
LABELLER = "labeller.json"  # what labels views, how far off Keras it is, and why it is Keras where it is
MODEL = "model.tflite"
FOLDS = "folds.npy"  # a task that reads one of them has this stage among its inputs, under this role:
FOLDS_ROLE = "folds"
ORIGIN, HEAT, CUT = "origin.json", "heat.npz", "cut.json"
FACTS, HISTORY, ERRORS = "facts.json", "history.json", "errors.json"


def write_origin(folder: Path, origin: Origin) -> None:
    """Where a teacher's weights came from."""
    (folder / ORIGIN).write_text(json.dumps({"weights": origin.weights, "pretrained": origin.pretrained}))


def read_origin(folder: Path) -> Origin:
    """Where a teacher's weights came from."""
    return Origin(**json.loads((folder / ORIGIN).read_text()))


def write_labeller(folder: Path, by: str, difference: float | None, reason: str) -> None:
    """What made labels or features, and why Keras where it stood in; see `tflite.labelling.Labeller`."""
    (folder / LABELLER).write_text(json.dumps({"by": by, "difference": difference, "reason": reason}))


def read_labeller(folder: Path) -> str:
    """What made the labels or features in a stage: "Keras", "LiteRT", "OpenVINO in bfloat16"."""
    note = folder / LABELLER
    return json.loads(note.read_text())["by"] if note.exists() else "Keras"


def write_cut(folder: Path, cost: CutCost) -> None:
    """A cut network and what it costs."""
    (folder / CUT).write_text(json.dumps(asdict(cost)))


def read_cut(folder: Path) -> CutCost:
    """A cut network and what it costs."""
    return CutCost(**json.loads((folder / CUT).read_text()))


def write_attention(folder: Path, attention: Attention) -> None:
    """Grad-CAM of some test images."""
    np.savez(folder / HEAT, allow_pickle=False, images=attention.images, **attention.heat)


def read_attention(folder: Path) -> Attention:
    """Grad-CAM of some test images."""
    with np.load(folder / HEAT, allow_pickle=False) as stored:
        return Attention(stored["images"], {name: stored[name] for name in stored.files if name != "images"})


def write_file(
    folder: Path, facts: FileFacts, history: list[dict[str, Any]], errors: list[TensorError]
) -> None:
    """What is known of a `.tflite`: its bytes in numbers, its fine-tuning, its errors by layer."""
    (folder / FACTS).write_text(json.dumps(vars(facts)))
    (folder / HISTORY).write_text(json.dumps(history))
    (folder / ERRORS).write_text(json.dumps([row._asdict() for row in errors]))


def read_file(folder: Path) -> tuple[FileFacts, list[dict[str, Any]], list[TensorError]]:
    """What `write_file` left."""
    facts, history, rows = (json.loads((folder / name).read_text()) for name in (FACTS, HISTORY, ERRORS))
    return FileFacts(**facts), history, [TensorError(**row) for row in rows]
