"""A network as a function of arrays, and what it says of every view, kept on disk."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from ..progress import Progress

Inference = Callable[[np.ndarray], np.ndarray]  # (N, ...) to (N, ...)


def inference_of(model: keras.Model, batch_size: int = 64) -> Inference:
    """`model` as a function from pixels (N, ...) of any length to its outputs (N, ...), traced once."""
    signature = [tf.TensorSpec((None, *model.input.shape[1:]), tf.float32)]
    run = tf.function(lambda x: model(x, training=False), input_signature=signature)

    def outputs(pixels: np.ndarray) -> np.ndarray:
        parts = [
            run(pixels[i : i + batch_size].astype(np.float32)) for i in range(0, len(pixels), batch_size)
        ]
        return np.concatenate([np.asarray(part) for part in parts])

    return outputs


def infer_views(
    inference: Inference, views: np.ndarray, out: Path, progress: Progress, title: str
) -> np.ndarray:
    """`inference` over views (V, N, ...), kept at `out` as a .npy (V, N, D) float32; returns it mapped.

    A plain stream: a disk that fills up kills a process that writes through a map.
    """
    with progress.bar(title, len(views)) as advance, open(out, "wb") as file:
        for v, pixels in enumerate(views):
            values = np.ascontiguousarray(inference(pixels), "<f4")
            if not v:
                shape = (len(views), *values.shape)
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_2_0(file, header)
            file.write(values.data)
            advance(v + 1)
    return np.load(out, mmap_mode="r")
