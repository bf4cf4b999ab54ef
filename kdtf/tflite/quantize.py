"""Post-training quantization: a student to `.tflite` bytes, one registry row per recipe.

TensorFlow's converter makes the float32 file and nothing else; `litert-quantizer` makes the others
from it (why: docs/results.md). Converts and describes; it measures no accuracy (`evaluate` does,
through the real interpreter) and trains nothing (`qat` and `compress` do).
"""

import hashlib
import re
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..data.views import ViewArray
from ..errors import UserError
from ..records import FileFacts
from .compact import compact
from .recipes import RECIPES, Recipe
from .tensors import (
    count_quantized,
    gzip_bytes,
    operators,
    plain_interpreter,
    ranges,
    sparsity,
)

Ranges = dict[str, dict[str, np.ndarray]]  # {tensor: {"min", "max"}}


LEAST_RANGE = np.float32(1e-5)


def representative_images(views: ViewArray, count: int, seed: int) -> np.ndarray:
    """`count` views out of (V, N, H, W, C), one black and one white image: (count + 2, H, W, C) float32.

    Black and white make the input range exactly 0..255, scale 1.0: without them pixels brighter than
    the brightest representative image would saturate silently.
    """
    total = views.shape[0] * views.shape[1]
    chosen = np.sort(np.random.default_rng([seed, 0xCA1]).choice(total, min(count, total), replace=False))
    pixels = views[chosen // views.shape[1], chosen % views.shape[1]]
    ends = np.stack([np.full(pixels.shape[1:], value, pixels.dtype) for value in (0, 255)])
    return np.concatenate([ends, pixels]).astype(np.float32)


def _plain_shapes(model: keras.Model) -> keras.Model:
    """The same network with every Flatten as a reshape to (-1, features).

    Keras' Flatten asks for the batch size at run time (SHAPE, STRIDED_SLICE, PACK in the file); a
    constant shape keeps the graph plain for microcontrollers and still takes any batch.
    """

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> keras.KerasTensor:
        if isinstance(layer, keras.layers.Flatten):
            return keras.ops.reshape(args[0], (-1, int(np.prod(args[0].shape[1:]))))
        return layer(*args, **kwargs)

    return keras.models.clone_model(model, call_function=call, clone_function=lambda layer: layer)


def float32_file(probs: Callable[[tf.Tensor], tf.Tensor], shape: tuple[int, int, int]) -> bytes:
    """A function of tensors, pixels (N, H, W, C) to probabilities (N, K), as a float32 `.tflite`.

    `shape` is (H, W, C).
    """
    signature = [tf.TensorSpec((None, *shape), tf.float32, name="pixels")]
    graph = tf.function(probs, input_signature=signature).get_concrete_function()
    return tf.lite.TFLiteConverter.from_concrete_functions([graph]).convert()


def float32_of(student: keras.Model) -> bytes:
    """An exported student (pixels to probabilities) as a float32 `.tflite`."""
    model = _plain_shapes(student)
    return float32_file(lambda pixels: model(pixels, training=False), student.input.shape[1:])


def convert(student: keras.Model, recipe: str, images: np.ndarray) -> bytes:
    """An exported student (pixels to probabilities) as a `.tflite`: see `quantize`."""
    return quantize(float32_of(student), recipe, images)


def quantize(model: bytes, recipe: str, images: np.ndarray, in_float: str | None = None) -> bytes:
    """A float32 `.tflite` by one of the recipes.

    `images` (N, H, W, C) float32 in 0..255 set the ranges of recipes that need them; `int8` takes and gives
    uint8, with input scale 1.0 and zero point 0. The operator whose output is named `in_float` stays
    in float. Raises `UserError` where LiteRT has no kernel for the student in these types.
    """
    row = RECIPES[recipe]
    if row.weights == "float32":
        return model
    from litert_quantizer.quantizer import Quantizer  # 1 s, and of no use to those who only train

    extremes = _static_ranges(row, model, images) if row.static_range else None
    if extremes and row.activations == "int8":
        model = _with_fitting_biases(model, extremes)
    rules = _rules(row, model, images)
    if in_float:
        rules.append({"regex": f"^{re.escape(in_float)}", "operation": "*", "algorithm_key": "no_quantize"})
    quantizer = Quantizer(bytearray(model), rules)
    with warnings.catch_warnings():
        # its own look at a model's tensors is what it warns of
        warnings.filterwarnings("ignore", "Warning: Enabling `experimental_preserve", UserWarning)
        result = quantizer.quantize(extremes, enable_progress_report=False, enable_progress_bar=False)
    quantized = compact(bytes(result.quantized_model))
    try:
        plain_interpreter(quantized).allocate_tensors()
    except RuntimeError as error:
        raise UserError(
            f"--recipes {recipe} must be for a student that LiteRT can run so. This one it cannot: {error}"
        ) from None
    return quantized


def _static_ranges(row: Recipe, model: bytes, images: np.ndarray) -> Ranges:
    """Extremes of the tensors of a float `.tflite` over the representative images."""
    extremes = {tensor: _wide_enough(ends) for tensor, ends in ranges(model, images).items()}
    if row.activations == "int16":
        # LiteRT's int16 ADD takes scales that are powers of two for its old fixed-point format, and then
        # refuses some of them: a range of exactly -1..1 must not come out as 2^-15
        extremes = {
            tensor: {end: 1.005 * value for end, value in r.items()} for tensor, r in extremes.items()
        }
    return extremes


def _wide_enough(ends: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The range of a tensor, widened where all but nothing is in it.

    The scale of a dead layer would be so fine that the 6 of its ReLU6 overflows, and LiteRT refuses it.
    """
    return {**ends, "max": np.maximum(ends["max"], ends["min"] + LEAST_RANGE)}


def _with_fitting_biases(model: bytes, extremes: Ranges) -> bytes:
    """A float `.tflite` in which every bias can be told in int32 steps of input scale * weight scale.

    A channel whose weights all but vanished (pruned away, or its BatchNormalization's gain decayed) has
    so fine a scale that `litert-quantizer` lets its bias overflow. One weight of such a channel is
    lifted until the bias takes up half of int32: it adds at most 3e-5 of the bias.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    parsed = flatbuffer_utils.convert_bytearray_to_object(bytearray(model))
    graph = parsed.subgraphs[0]
    for op in graph.operators:
        if len(op.inputs) != 3 or min(op.inputs) < 0:
            continue
        pixels, kernel, bias = (graph.tensors[i] for i in op.inputs)
        stored = [parsed.buffers[t.buffer] for t in (kernel, bias)]
        if any(b.data is None for b in stored) or len(kernel.shape) < 2 or len(bias.shape) != 1:
            continue
        weights, offsets = (np.frombuffer(bytes(b.data), np.float32) for b in stored)
        # the channels come first, but for depthwise kernels (1, H, W, C)
        channels = weights.reshape(kernel.shape).copy()
        rows = np.moveaxis(channels, 0 if kernel.shape[0] == len(offsets) else -1, 0)
        spread = extremes[pixels.name.decode()]
        scale = (max(0.0, spread["max"].item()) - min(0.0, spread["min"].item())) / 255
        least = 127 * np.abs(offsets) / (2**30 * max(scale, 1e-30))  # (channels,)
        small = np.abs(rows).reshape(len(offsets), -1).max(axis=1) < least
        if small.any():
            rows[(small, *(0,) * (rows.ndim - 1))] = least[small]
            stored[0].data = np.frombuffer(channels.tobytes(), np.uint8)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(parsed))


def _rules(row: Recipe, model: bytes, images: np.ndarray) -> list[dict[str, Any]]:
    """A recipe in the terms of `litert-quantizer`: which operators get which types; later rules win."""
    if row.weights == "float16":
        return [_rule("*", 16, algorithm="float_casting", compute="FLOAT", dtype="FLOAT")]
    if row.activations != "float32":
        weights, activations = (int(t.removeprefix("int")) for t in (row.weights, row.activations))
        rules = [_rule("*", weights, activations=activations)]
        if row.pixels == "uint8":
            rules += [_rule(end, 8, activations=8, kind="UINT") for end in ("INPUT", "OUTPUT")]
        return rules
    rules = [_rule("*", 8)]
    if row.weights == "int4":
        # OCTAV (Sakr et al. 2022) clips a channel's range where that lowers the squared error. The first
        # layer's few weights stay at 8 bits: with 4 it alone costs most of what int4 costs.
        rules += [_rule(op, 4, algorithm="OCTAV") for op in ("CONV_2D", "FULLY_CONNECTED")]
        first = next(op for op in next(operators(model, images[:1])) if op.weights is not None)
        rules.append(_rule(first.name, 8, regex=f"^{re.escape(first.tensor)}"))
    return rules


def _rule(
    operation: str,
    bits: int,
    *,
    regex: str = ".*",
    activations: int | None = None,
    kind: str = "INT",
    algorithm: str = "min_max_uniform_quantize",
    compute: str = "INTEGER",
    dtype: str = "INT",
) -> dict[str, Any]:
    """Weights of `bits` per channel, and activations of so many bits: int16 symmetric, as kernels want it."""
    weights = {"num_bits": bits, "symmetric": True, "granularity": "CHANNELWISE", "dtype": dtype}
    config = {
        "weight_tensor_config": weights,
        "compute_precision": compute,
        "explicit_dequantize": compute == "FLOAT",
    }
    if activations:
        symmetric = activations == 16
        config["activation_tensor_config"] = {
            "num_bits": activations, "symmetric": symmetric, "granularity": "TENSORWISE", "dtype": kind,
        }  # fmt: skip
    return {"regex": regex, "operation": operation, "algorithm_key": algorithm, "op_config": config}


def file_facts(model: bytes, recipe: str) -> FileFacts:
    """What is read from the bytes of a `.tflite`: types, scales, zero points, sizes, digest.

    Raises `ValueError` where they are not what the recipe promises.
    """
    row = RECIPES[recipe]
    interpreter = plain_interpreter(model)
    pixels, probs = _port(interpreter.get_input_details()[0]), _port(interpreter.get_output_details()[0])
    promised = {"dtype": row.pixels, "scale": 1.0 if row.pixels == "uint8" else pixels["scale"]}
    if {**pixels, **promised} != pixels or probs["dtype"] != row.pixels:
        raise ValueError(f"{recipe} must take {promised} and give {row.pixels}. Got {pixels}, {probs}.")
    quantized, tensors = count_quantized(model)
    return FileFacts(
        recipe=recipe,
        sha256=hashlib.sha256(model).hexdigest(),
        bytes=len(model),
        gzip_bytes=gzip_bytes(model),
        sparsity=sparsity(model),
        quantized_tensors=quantized,
        weight_tensors=tensors,
        pixels=pixels,
        probs=probs,
    )


def _port(tensor: dict[str, Any]) -> dict[str, Any]:
    """Type, scale and zero point of an interpreter's input or output; a float tensor's scale is 0."""
    scale, zero = tensor["quantization"]
    return {"dtype": np.dtype(tensor["dtype"]).name, "scale": float(scale), "zero_point": int(zero)}
