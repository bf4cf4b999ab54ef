"""Post-training quantization: a student to `.tflite` bytes, one registry row per recipe.

Converts, counts and describes; it measures no accuracy (`evaluate` does, through the real interpreter).
"""

import hashlib
import warnings
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from . import __version__


@dataclass(frozen=True)
class Recipe:
    """Storage types of weights and activations, and whether their ranges need calibration images."""

    weights: str
    activations: str
    calibrated: bool = False


RECIPES = {
    "float32": Recipe("float32", "float32"),
    "float16": Recipe("float16", "float32"),
    "dynamic": Recipe("int8", "float32"),
    "int8": Recipe("int8", "int8", calibrated=True),
}


def calibration(views: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`count` views out of (V, N, H, W, C), one black and one white image: (count + 2, H, W, C) float32.

    Black and white make the input range exactly 0..255, scale 1.0: without them pixels brighter than
    the brightest calibration image would saturate silently.
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

    def call(layer, *args, **kwargs):
        if isinstance(layer, keras.layers.Flatten):
            return keras.ops.reshape(args[0], (-1, int(np.prod(args[0].shape[1:]))))
        return layer(*args, **kwargs)

    return keras.models.clone_model(model, call_function=call, clone_function=lambda layer: layer)


def convert(student: keras.Model, recipe: str, images: np.ndarray) -> bytes:
    """An exported student (pixels to probabilities) as a `.tflite`.

    `images` (N, H, W, C) float32 calibrate recipes that need it; `int8` takes and gives uint8, with
    input scale 1.0 and zero point 0.
    """
    row = RECIPES[recipe]
    model = _plain_shapes(student)
    signature = [tf.TensorSpec((None, *student.input.shape[1:]), tf.float32, name="pixels")]
    graph = tf.function(lambda pixels: model(pixels, training=False), input_signature=signature)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph.get_concrete_function()])
    if row.weights != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if row.weights == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if row.calibrated:
        converter.representative_dataset = lambda: ([image[None]] for image in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
    with warnings.catch_warnings():
        # it asks for input statistics that only the long-gone TF 1 converter used
        warnings.filterwarnings("ignore", "Statistics for quantized inputs were expected", UserWarning)
        return converter.convert()


def count_quantized(model: bytes) -> tuple[int, int]:
    """How many of a `.tflite` file's constant tensors with data are stored below float32, of how many.

    The names of the recipes promise more than the converter does: "dynamic" leaves kernels under
    1,024 weights in float.
    """
    interpreter = Interpreter(
        model_content=model, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    made = {i for op in interpreter._get_ops_details() for i in op["outputs"]}
    used = {i for op in interpreter._get_ops_details() for i in op["inputs"] if i >= 0}
    inputs = {d["index"] for d in interpreter.get_input_details()}
    constants = [d for d in interpreter.get_tensor_details() if d["index"] in used - made - inputs]
    below = [d for d in constants if d["dtype"] == np.float16 or len(d["quantization_parameters"]["scales"])]
    # shapes and axes are int32 without a scale: neither quantized nor a candidate
    weights = [d for d in constants if d in below or np.issubdtype(d["dtype"], np.floating)]
    return len(below), len(weights)


def card(model: bytes, recipe: str, *, classes, shape, made_by: dict, synthetic: bool) -> dict:
    """What the `.json` beside a `.tflite` says: enough to run it, and to know where it comes from.

    `shape` is the input (H, W, C), `made_by` plain values (teacher, alpha, data digest, versions, ...).
    """
    row = RECIPES[recipe]
    quantized, tensors = count_quantized(model)
    return {
        "format": 1,
        "kdtf": __version__,
        "classes": list(classes),
        "input": {
            "height": shape[0],
            "width": shape[1],
            "channels": shape[2],
            "dtype": "uint8" if row.calibrated else "float32",
            "range": [0, 255],
        },
        "output": "probabilities",
        "recipe": recipe,
        "weights": row.weights,
        "activations": row.activations,
        "quantized_tensors": quantized,
        "weight_tensors": tensors,
        "bytes": len(model),
        "sha256": hashlib.sha256(model).hexdigest(),
        "synthetic_data": synthetic,
        "made_by": made_by,
        "intended_use": "Research only. Not a medical device; not for diagnosis.",
    }
