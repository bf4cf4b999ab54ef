"""A bundle as a browser takes it: a model of batch size 1, and what the page must know of it.

Every student brings what the predictor says to a test picture: a browser that does not say the same
does not get to use it. Writes nothing.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import UserError, require
from ..predictor import BundleError, Predictor, likeness, open_interpreter, patterns_of, quantized

SCORES = {"accuracy": "Accuracy on test", "auc": "AUC on test", "ece": "ECE on test, before the temperature"}
MALFORMED = (TypeError, ValueError, KeyError, IndexError, AttributeError)  # of a card edited by hand


def student(path: Path, number: int) -> tuple[bytes, dict]:
    """A bundle's model for the browser and, but for its name, its entry in students.json.

    `number` names its file. Raises `UserError`.
    """
    require(path.suffix == ".tflite", "A bundle", "a .tflite file with its .json beside it", str(path))
    try:
        predictor = Predictor(path)
    except BundleError as error:
        raise UserError(str(error)) from None
    model = fixed_batch(path.read_bytes())
    interpreter = open_interpreter(model, path)
    pixels, probs = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    try:
        shown = card(path, predictor.card, pixels)
    except MALFORMED:
        raise UserError(f"{path.with_suffix('.json')} must be a card as kdtf wrote it. It is not.") from None
    answer = predictor(predictor.pixels(picture(shown["input"]))[None])[0]
    require(
        np.isfinite(answer).all(), "A bundle", f"a student of finite probabilities: {path}", answer.tolist()
    )
    scale, zero = probs["quantization"]
    whole = np.issubdtype(pixels["dtype"], np.integer)
    return model, {
        "file": f"students/{number}.tflite",
        # what each grey level is to an integer student; null: as it is
        "levels": quantized(np.arange(256), pixels).tolist() if whole else None,
        "output": {"scale": float(scale), "zero": int(zero)},
        "check": answer.tolist(),
        "card": shown,
    }


def fixed_batch(model: bytes) -> bytes:
    """The same `.tflite` for one image at a time: LiteRT.js refuses tensors whose batch size is left open."""
    from ai_edge_litert.schema_py_generated import Model

    content = bytearray(model)
    root = Model.GetRootAs(content)
    graphs = [root.Subgraphs(i) for i in range(root.SubgraphsLength())]
    for tensor in (graph.Tensors(i) for graph in graphs for i in range(graph.TensorsLength())):
        if tensor.ShapeSignatureLength():
            sides = tensor.ShapeSignatureAsNumpy()  # a view of `content`
            sides[sides == -1] = 1
    return bytes(content)


def card(path: Path, told: dict, pixels: dict) -> dict:
    """What the page shows and uses of a card that `Predictor` took. Raises `UserError`."""
    shape, kind = [int(side) for side in pixels["shape"]], np.dtype(pixels["dtype"]).name
    takes = f"a student of images (1, H, W, 1 or 3), uint8 or float32: {path}"
    good = len(shape) == 4 and shape[3] in (1, 3) and kind in ("uint8", "float32")
    require(good, "A bundle", takes, f"{shape}, {kind}")
    cuts = told.get("thresholds") or {}
    between = all(isinstance(cut, int | float) and 0 <= cut <= 1 for cut in cuts.values())
    require(between, f"{path}: thresholds", "between 0 and 1, by class", cuts)
    return {
        "input": dict(zip(("height", "width", "channels"), shape[1:], strict=True)) | _prepared(told),
        "classes": list(told["classes"]),
        "temperature": told.get("temperature", 1.0),
        "thresholds": cuts,
        "usual": _usual(told.get("training_images") or {}),
        "patterns": patterns_of(told).round(6).tolist(),
        "synthetic": bool(told.get("synthetic_data")),
        "facts": facts(told, shape[1:]),
    }


def _prepared(told: dict) -> dict:
    """How the predictor makes a file's image into the student's, for the page to do the same."""
    how = told["input"].get("prepared", {})
    return {
        "side": how.get("side", 0),
        "keepAspect": bool(how.get("keep_aspect")),
        "windowed": bool(how.get("window")),
    }


def _usual(typical: dict) -> dict[str, list[float]]:
    """{statistic: [low, high, least, most]}: of the training images, and beyond which an image is unlike."""
    return {name: [*typical[name][::2], *ends] for name, ends in likeness(typical).items()}


def facts(told: dict, shape: list[int]) -> dict[str, str]:
    """The model card in words; what a card does not tell is left out."""
    made, test = told.get("made_by") or {}, told.get("test") or {}
    interval = "{:.3f} (95 % interval {:.3f} to {:.3f})"
    weights = ("quantized_tensors", "weight_tensors")
    tensors = f", {told[weights[0]]} of {told[weights[1]]} quantized" if told.keys() >= set(weights) else ""
    found = {
        "Intended use": told.get("intended_use"),
        "Classes": ", ".join(map(str, told["classes"])),
        "Input": "{} × {} px, {}".format(shape[1], shape[0], "grey" if shape[2] == 1 else "RGB"),
        "Training": made.get("model"),
        "Teacher": made.get("teacher") if made.get("model") == "distilled" else None,
        "Teacher's weights": made.get("teacher_weights"),
        "Recipe": f"{told.get('recipe')}{tensors}",
        "Test images": told.get("test_images"),
        **{name: interval.format(*test[key]) for key, name in SCORES.items() if key in test},
        "Temperature": f"{told.get('temperature', 1.0):.3f}",
        "Data": made.get("data_digest"),
        "Size": f"{told['bytes'] / 1024:.0f} KiB" if "bytes" in told else None,
        "sha256": told["sha256"],
        "Made by": f"kdtf {told.get('kdtf')}",
    }
    return {term: str(value) for term, value in found.items() if value is not None}


def picture(sides: dict) -> Image.Image:
    """The test picture of a student of these sides; student.js draws the same one."""
    height, width = sides["height"], sides["width"]
    y, x, c = np.ogrid[: 3 * height + 1, : 2 * width + 1, :3]
    return Image.fromarray(((3 * x + 5 * y) * (c + 1) % 256).astype(np.uint8))
