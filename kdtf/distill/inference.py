"""A network as a function of arrays, and what it says of every view, kept on disk."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from ..data.views import ViewArray
from ..progress import Progress

AT_ONCE = 512  # images in memory, a multiple of the batch size
Inference = Callable[[np.ndarray], np.ndarray]  # (N, ...) to (N, ...)
Inferences = Callable[[np.ndarray], list[np.ndarray]]  # (N, ...) to some (N, ...)


def inference_of(model: keras.Model, batch_size: int = 64) -> Inference:
    """`model` as a function from pixels (N, ...) of any length to its output (N, ...), traced once."""
    outputs = inferences_of(model, batch_size)
    return lambda pixels: outputs(pixels)[0]


def inferences_of(model: keras.Model, batch_size: int = 64) -> Inferences:
    """`model` as a function from pixels (N, ...) of any length to a list of its outputs, traced once."""
    signature = [tf.TensorSpec((None, *model.input.shape[1:]), tf.float32)]
    run = tf.function(lambda x: tf.nest.flatten(model(x, training=False)), input_signature=signature)

    def outputs(pixels: np.ndarray) -> list[np.ndarray]:
        parts = [
            run(pixels[i : i + batch_size].astype(np.float32)) for i in range(0, len(pixels), batch_size)
        ]
        return [np.concatenate([np.asarray(part) for part in own]) for own in zip(*parts, strict=True)]

    return outputs


def infer_views(
    inferences: Inferences, views: ViewArray, outs: Sequence[Path], progress: Progress, title: str
) -> None:
    """What is inferred from views (V, N, ...), each output kept as a .npy (V, N, D) float32 at its path.

    A plain stream: a disk that fills up kills a process that writes through a map.
    """
    count, images = views.shape[:2]
    with progress.bar(title, count) as advance, ExitStack() as stack:
        files = [stack.enter_context(open(out, "wb")) for out in outs]
        for v in range(count):
            for start in range(0, images, AT_ONCE):
                outputs = inferences(views[v, start : start + AT_ONCE])
                for file, output in zip(files, outputs, strict=True):
                    values = np.ascontiguousarray(output, "<f4")
                    if not v and not start:
                        shape = (count, images, *values.shape[1:])
                        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                        np.lib.format.write_array_header_2_0(file, header)
                    file.write(values.data)
            advance(v + 1)
