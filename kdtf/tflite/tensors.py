"""What is inside a `.tflite`: its tensors operator by operator, and how far two files' tensors are apart.

Runs a file with the plain kernels, every tensor kept. Changes no file and knows no recipe.
"""

import gzip
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from ..predictor import quantized
from ..records import TensorError

CASTS = {"QUANTIZE", "DEQUANTIZE"}  # operators that change a tensor's type and compute nothing
BATCH = 32  # images a run: every tensor of every image is held at once


class Operator(NamedTuple):
    """One operator of a file, what it weighs its input with, and what it made of some images."""

    name: str  # CONV_2D, ...
    tensor: str  # the name of its output
    weights: np.ndarray | None  # its first constant operand in real values, where it has one
    output: np.ndarray  # (n, ...) in real values


def plain_interpreter(model: bytes, **settings: Any) -> Interpreter:
    """An interpreter without XNNPACK, which would hide the operators that it takes over."""
    kind = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return Interpreter(model_content=model, experimental_op_resolver_type=kind, **settings)


def _real(values: np.ndarray, detail: dict) -> np.ndarray:
    """A tensor's stored values in real ones: (q - zero point) * scale, per channel where it has channels."""
    steps = detail["quantization_parameters"]
    if not len(steps["scales"]):
        return values.astype(np.float32)
    shape = [1] * values.ndim
    if len(steps["scales"]) > 1:
        shape[steps["quantized_dimension"]] = -1
    scales, zeros = steps["scales"].reshape(shape), steps["zero_points"].reshape(shape)
    return ((values.astype(np.float64) - zeros) * scales).astype(np.float32)


def constants_of(interpreter: Interpreter) -> dict[int, dict]:
    """{index: details} of the tensors that are used but neither computed nor fed."""
    operators = interpreter._get_ops_details()
    computed = {i for op in operators for i in op["outputs"]}
    used = {i for op in operators for i in op["inputs"] if i >= 0}
    inputs = {d["index"] for d in interpreter.get_input_details()}
    constants = used - computed - inputs
    return {d["index"]: d for d in interpreter.get_tensor_details() if d["index"] in constants}


def is_learned(detail: dict) -> bool:
    """Kernels and biases are floating or quantized; shapes and axes are whole numbers without a scale."""
    return np.issubdtype(detail["dtype"], np.floating) or len(detail["quantization_parameters"]["scales"]) > 0


def _is_weights(detail: dict) -> bool:
    """Kernels have two axes or more, biases one."""
    return is_learned(detail) and len(detail["shape"]) > 1


def operators(model: bytes, pixels: np.ndarray) -> Iterator[list[Operator]]:
    """The operators of a `.tflite`, casts left out, with their outputs for pixels (N, H, W, C) 0..255.

    Yields a list for every batch of images.
    """
    interpreter = plain_interpreter(model, experimental_preserve_all_tensors=True)
    port = interpreter.get_input_details()[0]
    for start in range(0, len(pixels), BATCH):
        batch = pixels[start : start + BATCH]
        interpreter.resize_tensor_input(port["index"], batch.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(port["index"], quantized(batch, port))
        interpreter.invoke()
        details = {d["index"]: d for d in interpreter.get_tensor_details()}
        constants = constants_of(interpreter)
        cast: dict[int, int] = {}  # what a cast computes: what it is a cast of
        computed = []
        for op in interpreter._get_ops_details():
            (out,) = op["outputs"]
            if op["op_name"] in CASTS:
                cast[out] = op["inputs"][0]  # weights of a float16 file come through one
                continue
            sources = [cast.get(i, i) for i in op["inputs"]]
            kernel = next((i for i in sources if i in constants and _is_weights(details[i])), None)
            weights = None if kernel is None else _real(interpreter.get_tensor(kernel), details[kernel])
            output = _real(interpreter.get_tensor(out), details[out])
            computed.append(Operator(op["op_name"], details[out]["name"], weights, output))
        yield computed


def ranges(model: bytes, images: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """{tensor: {"min", "max"}} of a float `.tflite`'s input and outputs over images (N, H, W, C).

    Exact extremes over all images. A moving average, the usual rule, would cut off what is rare but
    real: every pixel brighter than most images' brightest.
    """
    name = plain_interpreter(model).get_input_details()[0]["name"]
    extremes = {name: [float(images.min()), float(images.max())]}
    for batch in operators(model, images):
        for op in batch:
            low, high = extremes.get(op.tensor, (np.inf, -np.inf))
            extremes[op.tensor] = [min(low, float(op.output.min())), max(high, float(op.output.max()))]
    return {
        tensor: {"min": np.full((1, 1), low, np.float32), "max": np.full((1, 1), high, np.float32)}
        for tensor, (low, high) in extremes.items()
    }


def _snr(signal: float, noise: float) -> float:
    """Decibels, at most 200: an exact copy has no noise."""
    return 200.0 if signal <= 1e-20 * max(noise, 1e-300) or not noise else 10 * np.log10(signal / noise)


def errors(model: bytes, other: bytes, pixels: np.ndarray) -> list[TensorError]:
    """How far every operator's output in `other` is from the one in the float `model`, over pixels.

    What an operator inherits from those before it counts. Raises `ValueError` where the two files do
    not hold the same operators in the same order.
    """
    sums: list[np.ndarray] = []
    for ours, theirs in zip(operators(model, pixels), operators(other, pixels), strict=True):
        if [op.name for op in ours] != [op.name for op in theirs]:
            raise ValueError(
                f"The operators differ: {[op.name for op in ours]}, {[op.name for op in theirs]}"
            )
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            x, y = a.output.astype(np.float64).ravel(), b.output.astype(np.float64).ravel()
            terms = np.array([x @ y, x @ x, y @ y, (x - y) @ (x - y), np.abs(x - y).max()])
            if i == len(sums):
                sums.append(terms)
            else:
                sums[i] = np.append(sums[i][:4] + terms[:4], max(sums[i][4], terms[4]))
    rows = []
    for i, (a, b, (dot, signal, power, noise, largest)) in enumerate(zip(ours, theirs, sums, strict=True)):
        cosine = dot / np.sqrt(signal * power) if signal and power else float(signal == power)
        weights = None
        if a.weights is not None and b.weights is not None:
            weights = _snr(float((a.weights**2).sum()), float(((a.weights - b.weights) ** 2).sum()))
        rows.append(
            TensorError(
                layer=f"{i} {a.name}",
                tensor=a.tensor,
                weighted=a.weights is not None,
                cosine=float(cosine),
                snr_db=_snr(signal, noise),
                max_abs=float(largest),
                weights_snr_db=weights,
            )
        )
    return rows


def count_quantized(model: bytes) -> tuple[int, int]:
    """How many of a `.tflite` file's constant tensors with data are stored below float32, of how many.

    The names of the recipes promise more than the files hold: "dynamic" leaves the biases in float.
    """
    constants = constants_of(plain_interpreter(model)).values()
    below = [d for d in constants if d["dtype"] == np.float16 or len(d["quantization_parameters"]["scales"])]
    return len(below), sum(map(is_learned, constants))


def sparsity(model: bytes) -> float:
    """The part of a `.tflite` file's kernel weights that are exactly zero."""
    interpreter = plain_interpreter(model)
    interpreter.allocate_tensors()
    constants = constants_of(interpreter)
    kernels = [_real(interpreter.get_tensor(i), d) for i, d in constants.items() if _is_weights(d)]
    return float(sum((k == 0).sum() for k in kernels) / sum(k.size for k in kernels))


def count_outside(model: bytes) -> int:
    """How many constants of a `.tflite` lie behind its flatbuffer: see `compact`."""
    from ai_edge_litert.schema_py_generated import Model

    root = Model.GetRootAs(model)
    return sum(root.Buffers(i).Offset() > 0 for i in range(root.BuffersLength()))


def gzip_bytes(model: bytes) -> int:
    """The size of a file after gzip: what a download costs, and what zeros and shared weights save."""
    return len(gzip.compress(model, 9, mtime=0))
