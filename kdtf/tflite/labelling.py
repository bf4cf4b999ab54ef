"""A network as a function of arrays by LiteRT, where that gives what Keras gives.

LiteRT has faster kernels than TensorFlow for depthwise convolutions. The network is converted as it is, in
float32, into memory: no file is written, and nothing is quantized.
"""

import math
import os
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from tensorflow.lite.python.convert_phase import ConverterError

from ..distill.inference import Inferences, in_batches

BATCH = 16  # images a run: MobileNets are fastest so
TOLERANCE = 1e-4  # of the largest output of a batch, or of 1


class Labeller(NamedTuple):
    """Outputs as a function of arrays. `by` says what computes them: "LiteRT", or "Keras" for a `reason`.

    `difference` is the largest between an output of LiteRT and one of Keras on a batch, where both are known.
    """

    inferences: Inferences
    by: str
    difference: float | None = None
    reason: str = ""


def litert_or_keras(model: keras.Model, pixels: np.ndarray) -> Labeller:
    """`model` from pixels (N, ...) to a list of its outputs (N, ...), by LiteRT if that agrees with Keras.

    They are compared on `pixels` (n, ...), a batch. Keras stands in where the network cannot be converted or
    run, or where an output is further off than `TOLERANCE`. With as many threads as TensorFlow has.
    """
    signature = [tf.TensorSpec((None, *model.input.shape[1:]), tf.float32)]
    joined = tf.function(lambda x: _joined(tf.nest.flatten(model(x, training=False))), signature)
    graph = joined.get_concrete_function()
    widths = [math.prod(own.shape[1:]) for own in tf.nest.flatten(model.output)]

    def split(outputs: np.ndarray) -> list[np.ndarray]:
        ends = np.cumsum(widths)[:-1]
        parts = np.split(outputs, ends, axis=-1) if len(widths) > 1 else [outputs]
        return [np.ascontiguousarray(part) for part in parts]

    by_keras = in_batches(lambda batch: split(graph(tf.constant(batch)).numpy()), 4 * BATCH)
    try:
        run = _interpreted(tf.lite.TFLiteConverter.from_concrete_functions([graph]).convert())
        by_litert = in_batches(lambda batch: split(run(batch)), BATCH)
        pairs = list(zip(by_litert(pixels), by_keras(pixels), strict=True))
    except (ConverterError, RuntimeError, ValueError) as error:  # what converter and interpreter raise
        reason = " ".join(str(error).split())[:160]
        return Labeller(by_keras, "Keras", reason=f"LiteRT does not run the network: {reason}")
    difference = max(float(np.abs(own - theirs).max()) for own, theirs in pairs)
    if all(np.abs(a - b).max() <= TOLERANCE * max(1.0, np.abs(b).max()) for a, b in pairs):
        return Labeller(by_litert, "LiteRT", difference)
    return Labeller(by_keras, "Keras", difference, f"outputs of LiteRT are up to {difference:.1e} off")


def _joined(outputs: list[tf.Tensor]) -> tf.Tensor:
    """Several outputs as one tensor: a converted network may give them in another order."""
    return tf.concat(outputs, axis=-1) if len(outputs) > 1 else outputs[0]


def _interpreted(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """A `.tflite` with an open batch size as a function of at most `BATCH` images.

    A shorter batch is filled up with black images, so that the interpreter plans its memory once.
    """
    threads = tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count() or 1
    interpreter = Interpreter(model_content=content, num_threads=threads)
    port = interpreter.get_input_details()[0]
    interpreter.resize_tensor_input(port["index"], (BATCH, *port["shape"][1:]))
    interpreter.allocate_tensors()
    out = interpreter.get_output_details()[0]["index"]

    def run(batch: np.ndarray) -> np.ndarray:
        padded = np.zeros((BATCH, *batch.shape[1:]), np.float32)
        padded[: len(batch)] = batch
        interpreter.set_tensor(port["index"], padded)
        interpreter.invoke()
        return interpreter.get_tensor(out)[: len(batch)]

    return run
