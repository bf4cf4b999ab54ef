"""A finished student fine-tuned for its file, by the method that the recipe names."""

from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..distill.batches import Examples
from ..models.students import without_softmax
from ..progress import Progress
from ..records import Tuning
from . import compress, qat
from .quantize import float32_file, float32_of
from .recipes import QAT


def tuned_file(
    student: keras.Model,
    examples: Examples,
    tuning: Tuning,
    *,
    images: np.ndarray,
    seed: int,
    title: str,
    progress: Progress,
    checkpoint: Path | None = None,
) -> tuple[bytes, list[dict]]:
    """The float32 `.tflite` of a fine-tuned student, of which the recipe makes its own, and a row an epoch.

    `student` is as it is shipped, from pixels (N, H, W, C) to probabilities; int8 in the loop trains it in
    place. Both go on from what the file `checkpoint` holds. Raises `UserError` where the loss does not stay
    finite.
    """
    network = without_softmax(student)
    settings: dict[str, Any] = {"seed": seed, "title": title, "progress": progress, "checkpoint": checkpoint}
    if tuning.method == QAT:
        rows = qat.fine_tune(network, examples, tuning, images=images, **settings)
        return float32_of(student), rows  # its layers are those that were trained
    tuned = compress.fine_tune(network, examples, tuning, **settings)
    return float32_file(tuned.probs, student.input.shape[1:]), tuned.history
