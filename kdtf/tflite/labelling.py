"""A network as a function of arrays by LiteRT or OpenVINO, where that gives what Keras gives.

Both have faster kernels than TensorFlow for depthwise convolutions. The network is converted as it is, in
float32, and nothing is quantized. OpenVINO may compute in bfloat16.
"""

import math
import os
import sys
import tempfile
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from tensorflow.lite.python.convert_phase import ConverterError

from ..config import LABELLERS
from ..distill.inference import Inferences, in_batches
from ..extras import require_extras

BATCH = 16  # images a run: MobileNets are fastest so
TOLERANCE = 1e-4  # of the largest output of a batch, or of 1
IN_BFLOAT16 = "OpenVINO in bfloat16"
BFLOAT16_TOLERANCE = 0.25  # likewise, of numbers of eight bits: what is further off is no rounding

Run = Callable[[np.ndarray], np.ndarray]  # a batch of at most `BATCH` images to outputs


class Labeller(NamedTuple):
    """Outputs as a function of arrays. `by` says what computes them: "LiteRT", or "Keras" for a `reason`.

    `difference` is the largest between an output of it and one of Keras on a batch, where both are known.
    """

    inferences: Inferences
    by: str
    difference: float | None = None
    reason: str = ""


class Engine(NamedTuple):
    """What may compute a network instead of Keras."""

    name: str
    read: Callable[[bytes], tuple[Run, str]]  # of a `.tflite`: what runs it, and what that is to be called
    tolerance: float = TOLERANCE


def labeller(model: keras.Model, pixels: np.ndarray, engine: str) -> Labeller:
    """`model` from pixels (N, ...) to a list of its outputs (N, ...) by an engine, if that agrees with Keras.

    `engine` is one of `ENGINES`. Both are compared on `pixels` (n, ...), a batch. Keras stands in where the
    network cannot be converted or run, or where an output is further off than the engine's tolerance. With as
    many threads as TensorFlow has. Raises `UserError` where the engine is of an extra that is not installed.
    """
    require_extras(f"--labeller {engine}", *LABELLERS[engine])
    own = ENGINES[engine]
    signature = [tf.TensorSpec((None, *model.input.shape[1:]), tf.float32)]
    joined = tf.function(lambda x: _joined(tf.nest.flatten(model(x, training=False))), signature)
    graph = joined.get_concrete_function()
    widths = [math.prod(output.shape[1:]) for output in tf.nest.flatten(model.output)]

    def split(outputs: np.ndarray) -> list[np.ndarray]:
        ends = np.cumsum(widths)[:-1]
        parts = np.split(outputs, ends, axis=-1) if len(widths) > 1 else [outputs]
        return [np.ascontiguousarray(part) for part in parts]

    by_keras = in_batches(lambda batch: split(graph(tf.constant(batch)).numpy()), 4 * BATCH)
    try:
        run, by = own.read(tf.lite.TFLiteConverter.from_concrete_functions([graph]).convert())
        by_engine = in_batches(lambda batch: split(run(batch)), BATCH)
        pairs = list(zip(by_engine(pixels), by_keras(pixels), strict=True))
    except (ConverterError, RuntimeError, ValueError) as error:  # what converter and engines raise
        reason = " ".join(str(error).split())[:160]
        return Labeller(by_keras, "Keras", reason=f"{own.name} does not run the network: {reason}")
    difference = max(float(np.abs(a - b).max()) for a, b in pairs)
    if all(np.abs(a - b).max() <= own.tolerance * max(1.0, np.abs(b).max()) for a, b in pairs):
        return Labeller(by_engine, by, difference)
    return Labeller(by_keras, "Keras", difference, f"outputs of {own.name} are up to {difference:.1e} off")


def _joined(outputs: list[tf.Tensor]) -> tf.Tensor:
    """Several outputs as one tensor: a converted network may give them in another order."""
    return tf.concat(outputs, axis=-1) if len(outputs) > 1 else outputs[0]


def _filled(batch: np.ndarray) -> np.ndarray:
    """A batch filled up with black images to `BATCH` of them, so that an engine plans its memory once."""
    padded = np.zeros((BATCH, *batch.shape[1:]), np.float32)
    padded[: len(batch)] = batch
    return padded


def _threads() -> int:
    return tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count() or 1


def _by_litert(content: bytes) -> tuple[Run, str]:
    interpreter = Interpreter(model_content=content, num_threads=_threads())
    port = interpreter.get_input_details()[0]
    interpreter.resize_tensor_input(port["index"], (BATCH, *port["shape"][1:]))
    interpreter.allocate_tensors()
    out = interpreter.get_output_details()[0]["index"]

    def run(batch: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(port["index"], _filled(batch))
        interpreter.invoke()
        return interpreter.get_tensor(out)[: len(batch)]

    return run, "LiteRT"


def _by_openvino(content: bytes, precision: str) -> tuple[Run, str]:
    """`precision` is "f32", or "bf16", which a processor without bfloat16 computes in float32."""
    core = _openvino().Core()
    hints = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": _threads(), "NUM_STREAMS": 1}
    with tempfile.NamedTemporaryFile(suffix=".tflite") as file:  # it reads these from files alone
        file.write(content)
        file.flush()
        network = core.read_model(file.name)
        network.reshape([BATCH, *list(network.input().partial_shape)[1:]])
        compiled = core.compile_model(network, "CPU", hints)
    taken = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()

    def run(batch: np.ndarray) -> np.ndarray:
        return compiled([_filled(batch)])[0][: len(batch)].copy()

    return run, IN_BFLOAT16 if taken == "bf16" else "OpenVINO"


def _openvino() -> ModuleType:
    """OpenVINO without its telemetry: it imports that package for conversion tools that kdtf does not use."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # as if it were not there
    import openvino

    return openvino


ENGINES = {
    "litert": Engine("LiteRT", _by_litert),
    "openvino": Engine("OpenVINO", lambda content: _by_openvino(content, "f32")),
    "openvino-bf16": Engine(IN_BFLOAT16, lambda content: _by_openvino(content, "bf16"), BFLOAT16_TOLERANCE),
}
