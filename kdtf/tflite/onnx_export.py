"""A float32 student as an ONNX file, and how far its answers in ONNX Runtime are from LiteRT's.

Takes the `.tflite` that is shipped, so that both runtimes have the same weights. A quantized file is refused:
ONNX would round at other places, and its answers would be another student's.
"""

import json
import logging
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import UserError, require
from ..extras import require_extras
from ..predictor import Predictor, read_bundle

OPSET = 17  # of ONNX, of 2022: older than what tf2onnx can write, for runtimes that are older
TOLERANCE = 1e-5  # between probabilities of the two runtimes
IMAGES = 64  # that both answer; a batch, so that its free size is tried too
METADATA = "kdtf_card"  # the key under which an ONNX file holds the card


class Agreement(NamedTuple):
    """How the ONNX file of a student answers beside the student itself."""

    images: int
    difference: float  # the largest between two probabilities
    same_classes: bool
    opset: int


def check_float(path: Path) -> None:
    """Raise `UserError` where the bundle is no float32 student, or a package for ONNX is missing.

    Raises `BundleError` where it is no bundle.
    """
    _, card = read_bundle(path)
    recipe = card.get("recipe") or card["input"].get("dtype", "")
    hint = "The same student's ..._float32.tflite is one: --recipes float32 makes it."
    require(recipe == "float32", str(path), "a float32 student", recipe, hint)
    require_extras("--to onnx", "tf2onnx", "onnx", "onnxruntime")


def onnx_of(path: Path) -> tuple[bytes, Agreement]:
    """A float32 bundle as an ONNX file of opset `OPSET`: pixels (N, H, W, C) float32 to probabilities (N, K).

    The card is in its metadata. Raises `UserError` where the two runtimes do not agree, and `BundleError`.
    """
    predictor = Predictor(path)
    content = _converted(path, predictor)
    agreement = compare(predictor, content)
    same = agreement.same_classes and agreement.difference <= TOLERANCE
    rule = f"a student whose probabilities ONNX Runtime gives within {TOLERANCE:g}"
    require(same, str(path), rule, f"{agreement.difference:.2g} apart")
    return content, agreement


def _converted(path: Path, predictor: Predictor) -> bytes:
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    import onnx
    import tf2onnx

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"\s*Warning: tf.lite.Interpreter is deprecated", UserWarning)
            model, _ = tf2onnx.convert.from_tflite(str(path), opset=OPSET)
    except (ValueError, KeyError, RuntimeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} must be a student that tf2onnx converts. It does not: {reason}.") from None
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.shape.dim[0].dim_param = "N"
    card = json.dumps(predictor.card, sort_keys=True)
    onnx.helper.set_model_props(model, {METADATA: card})
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def compare(predictor: Predictor, content: bytes) -> Agreement:
    """What a student and its ONNX file say of `IMAGES` seeded images, from black to noise."""
    pixels = varied_images(predictor.shape)
    expected, probs = predictor(pixels), onnx_probs(content, pixels)
    difference = float(np.abs(expected - probs).max())
    same = bool((expected.argmax(axis=1) == probs.argmax(axis=1)).all())
    return Agreement(len(pixels), difference, same, opset_of(content))


def onnx_probs(content: bytes, pixels: np.ndarray) -> np.ndarray:
    """Probabilities (N, K) of an ONNX file for pixels (N, H, W, C) 0..255, by ONNX Runtime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (port,) = session.get_inputs()
    (probs,) = session.run(None, {port.name: pixels.astype(np.float32)})
    return probs


def varied_images(shape: tuple[int, int, int]) -> np.ndarray:
    """Seeded images (`IMAGES`, H, W, C) uint8 of many brightnesses and contrasts.

    A coarse pattern and noise on top: plain noise alone makes most students as good as certain, and then
    their probabilities hide what their logits differ in.
    """
    rng = np.random.default_rng(0)
    height, width, channels = shape
    coarse = rng.uniform(0, 255, (IMAGES, 4, 4, channels))
    rows, columns = (np.arange(side) * 4 // side for side in (height, width))
    pattern = coarse[:, rows][:, :, columns]
    noise = rng.uniform(-1, 1, (IMAGES, *shape)) * np.linspace(0, 127, IMAGES)[:, None, None, None]
    return np.clip(pattern * np.linspace(0, 1, IMAGES)[:, None, None, None] + noise, 0, 255).astype(np.uint8)


def opset_of(content: bytes) -> int:
    """The version of ONNX's own operators that a file asks for."""
    import onnx

    model: Any = onnx.load_from_string(content)
    return max(row.version for row in model.opset_import if row.domain in ("", "ai.onnx"))
