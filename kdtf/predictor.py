"""A `.tflite` student and the `.json` beside it: pixels in, probabilities out.

This file stands alone: copy it next to a bundle and it works with numpy and ai-edge-litert (or
TensorFlow) only. It imports nothing of kdtf and trains nothing.

    predictor = Predictor("vgg16_Student_int8.tflite")
    probs = predictor(pixels)          # (N, H, W, C) 0..255 -> (N, K)
    predictor.classes[probs[0].argmax()]
"""

import hashlib
import json
from pathlib import Path

import numpy as np

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:  # older installations have the interpreter inside TensorFlow only
    from tensorflow.lite.python.interpreter import Interpreter

BATCH = 64  # images a call: larger ones gain nothing on a CPU and cost memory


class BundleError(ValueError):
    """A bundle or an input that cannot be used. Its text is one line."""


class Predictor:
    """Runs one bundle.

    Args:
        path: the `.tflite` file; its `.json` is expected beside it under the same name.
        threads: CPU threads of the interpreter.

    Raises `BundleError` when a file is missing or damaged, or the two do not belong together.
    """

    def __init__(self, path, threads: int = 1):
        path = Path(path)
        try:
            model = path.read_bytes()
            self.card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        except OSError as error:
            raise BundleError(
                f"A bundle must be a .tflite and a .json file. {error.filename}: {error.strerror}."
            ) from None
        except ValueError as error:
            raise BundleError(
                f"{path.with_suffix('.json')} must be valid JSON. It is not: {error}."
            ) from None
        if not isinstance(self.card, dict) or not {"sha256", "classes", "input"} <= self.card.keys():
            raise BundleError(f"{path.with_suffix('.json')} must describe a kdtf student. It does not.")
        if hashlib.sha256(model).hexdigest() != self.card["sha256"]:
            raise BundleError(f"{path} must be the file its .json was written for. Their sha256 differ.")
        try:
            self._interpreter = Interpreter(model_content=model, num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise BundleError(f"{path} must be a TFLite model. It cannot be read: {error}.") from None
        self.classes: tuple[str, ...] = tuple(self.card["classes"])
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]
        for told, tensor in (("input", self._input), ("output_tensor", self._output)):
            self._check(path, self.card.get(told, {}), tensor)

    @staticmethod
    def _check(path, told: dict, tensor) -> None:
        """Does a tensor have the type, scale and zero point that the card states, where it states them."""
        scale, zero = tensor["quantization"]
        has = {"dtype": np.dtype(tensor["dtype"]).name, "scale": scale, "zero_point": zero}
        if any(told.get(name, value) != value for name, value in has.items()):
            raise BundleError(f"{path} must have the types and scales its .json states. It has {has}.")

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels (N, H, W, C), 0..255, to probabilities (N, K) float32, rows summing to 1."""
        shape = tuple(int(side) for side in self._input["shape"][1:])
        if pixels.ndim != 4 or pixels.shape[1:] != shape:
            raise BundleError(f"pixels must be shaped (N, {', '.join(map(str, shape))}). Got {pixels.shape}.")
        parts = [self._run(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.classes)), np.float32)

    def _run(self, pixels):
        index = self._input["index"]
        if len(pixels) != self._interpreter.get_input_details()[0]["shape"][0]:
            self._interpreter.resize_tensor_input(index, pixels.shape)
            self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(index, quantized(pixels, self._input))
        self._interpreter.invoke()
        raw = self._interpreter.get_tensor(self._output["index"])  # (N, K)
        scale, zero = self._output["quantization"]
        probs = (raw.astype(np.float32) - zero) * scale if scale else raw.astype(np.float32)
        total = probs.sum(axis=1, keepdims=True)
        return probs / np.where(total > 0, total, 1)  # 8-bit steps of 1/256 do not add up exactly


def quantized(pixels, tensor) -> np.ndarray:
    """Pixels 0..255 in the type, scale and zero point of an interpreter's input tensor."""
    scale, zero = tensor["quantization"]
    if np.issubdtype(tensor["dtype"], np.floating):
        return pixels.astype(tensor["dtype"])
    limits = np.iinfo(tensor["dtype"])
    steps = np.rint(pixels / scale) + zero if (scale, zero) != (1.0, 0) else np.rint(pixels)
    return np.clip(steps, limits.min, limits.max).astype(tensor["dtype"])
