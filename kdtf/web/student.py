"""A bundle as a browser takes it: a model of batch size 1, and what the page must know of it.

Every student brings what the predictor says to a test picture: a browser that does not say the same
does not get to use it. Writes nothing.
"""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import UserError, require
from ..evidence.metrics import METRICS
from ..predictor import BundleError, Predictor, likeness, open_interpreter, patterns_of, quantized
from ..tflite.card import Card

SCORES = {"accuracy": "", "auc": "", "ece": ", before the temperature"}
MALFORMED = (TypeError, ValueError, LookupError, ArithmeticError)  # what a card edited by hand may raise
INTERVAL = "{:.3f} (95 % interval {:.3f} to {:.3f})"


def student(path: Path, number: int) -> tuple[bytes, dict[str, Any]]:
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
        card = browser_card(path, predictor.card, pixels)
    except MALFORMED:
        raise UserError(f"{path.with_suffix('.json')} must be a card as kdtf wrote it. It is not.") from None
    answer = predictor(predictor.pixels(picture(card["input"]))[None])[0]
    rule = f"a student of finite probabilities: {path}"
    require(np.isfinite(answer).all(), "A bundle", rule, answer.tolist())
    scale, zero = probs["quantization"]
    whole = np.issubdtype(pixels["dtype"], np.integer)
    return model, {
        "file": f"students/{number}.tflite",
        # what each grey level is to an integer student; null: as it is
        "levels": quantized(np.arange(256), pixels).tolist() if whole else None,
        "output": {"scale": float(scale), "zero": int(zero)},
        "check": answer.tolist(),
        "card": card,
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


def browser_card(path: Path, value: dict[str, Any], pixels: dict[str, Any]) -> dict[str, Any]:
    """What the page shows and uses of a card that `Predictor` took.

    `value` is the card's JSON, `pixels` what the interpreter says of the input. Raises `UserError`, and one
    of `MALFORMED` for a card that kdtf did not write so.
    """
    card = Card.from_json(value)
    shape, kind = [int(side) for side in pixels["shape"]], np.dtype(pixels["dtype"]).name
    rule = f"a student of images (1, H, W, 1 or 3), uint8 or float32: {path}"
    fits = len(shape) == 4 and shape[3] in (1, 3) and kind in ("uint8", "float32")
    require(fits, "A bundle", rule, f"{shape}, {kind}")
    between = all(0 <= threshold <= 1 for threshold in card.thresholds.values())
    require(between, f"{path}: thresholds", "between 0 and 1, by class", card.thresholds)
    prepared = card.input.prepared
    return {
        "input": {
            **dict(zip(("height", "width", "channels"), shape[1:], strict=True)),
            # how the predictor makes a file's image into the student's, for the page to do the same
            "side": prepared.get("side", 0),
            "keepAspect": bool(prepared.get("keep_aspect")),
            "windowed": bool(prepared.get("window")),
        },
        "classes": card.classes,
        "temperature": card.temperature,
        "thresholds": card.thresholds,
        "sets": _sets(card),
        "usual": _usual(card.training_images),
        "patterns": patterns_of(value).round(6).tolist(),
        "synthetic": card.synthetic_data,
        "headline": headline(card),
        "facts": facts(card),
        "limits": card.limits,
    }


def _sets(card: Card) -> dict[str, Any] | None:
    """How the page makes prediction sets, quantiles in the order of the classes; None of an older card."""
    rule = card.prediction_sets
    if not rule:
        return None
    quantiles = [rule["quantiles"].get(name) for name in card.classes]
    return {"method": rule["method"], "coverage": rule["coverage"], "quantiles": quantiles}


def _usual(training_images: dict[str, list[float]]) -> dict[str, list[float]]:
    """{statistic: [low, high, least, most]}: of the training images, and beyond which an image is unlike."""
    return {name: [*training_images[name][::2], *ends] for name, ends in likeness(training_images).items()}


def facts(card: Card) -> dict[str, str]:
    """The model card in words: what it is, how it was made, its scores. What it does not tell is left out."""
    making, size = card.made_by, card.input
    quantized_part = f", {card.quantized_tensors} of {card.weight_tensors} quantized"
    lines = {
        "Intended use": card.intended_use,
        "Classes": ", ".join(card.classes),
        "Input": f"{size.width} × {size.height} px, {'grey' if size.channels == 1 else 'RGB'}",
        "Training": making.model,
        "Teacher": making.teacher if making.model == "distilled" else None,
        "Teacher's weights": making.teacher_weights,
        "Recipe": card.recipe + quantized_part * bool(card.weight_tensors),
        "Test images": card.test_images,
        "Without a copy": card.clean_images if _has_copies(card) else None,
        **_scores(card),
        "Temperature": f"{card.temperature:.3f}",
        "Prediction sets": card.prediction_sets.get("rule"),
        "Data": making.data_digest,
        "Size": f"{card.bytes / 1024:.0f} KiB" if card.bytes else None,
        "sha256": card.sha256,
        "Made by": f"kdtf {card.kdtf}",
    }
    return {term: str(value) for term, value in lines.items() if value}


def _has_copies(card: Card) -> bool:
    """Whether test images have copies in train or val: their scores are those of images seen before."""
    return bool(card.test) and card.clean_images != card.test_images


def _scores(card: Card) -> dict[str, str]:
    """Scores on test; where there are copies, first those on the images without one."""
    scores = {}
    for name, where in SCORES.items():
        heading = METRICS[name].heading
        if name in card.clean and _has_copies(card):
            term = f"{heading} on the {card.clean_images} test images without a copy{where}"
            scores[term] = INTERVAL.format(*card.clean[name])
        if name in card.test:
            term = (
                f"{heading} on all {card.test_images} test images"
                if _has_copies(card)
                else f"{heading} on test"
            )
            scores[term + where] = INTERVAL.format(*card.test[name])
    return scores


def headline(card: Card) -> str:
    """The accuracy in a line: where there are copies, first on the images without one."""
    if "accuracy" not in card.test:
        return ""
    raw, images = card.test["accuracy"], f"{card.test_images} test images"
    if not _has_copies(card):
        return f"Accuracy {INTERVAL.format(*raw)} on {images}."
    if "accuracy" not in card.clean:
        return f"Accuracy {raw[0]:.3f} on {images} that all have a copy in train or val: it says nothing."
    clean = f"Accuracy {INTERVAL.format(*card.clean['accuracy'])} on {card.clean_images} test images"
    return f"{clean} without a copy in train or val; {raw[0]:.3f} on all {card.test_images}."


def picture(sides: dict[str, int]) -> Image.Image:
    """The test picture of a student of these sides; student.js draws the same one."""
    height, width = sides["height"], sides["width"]
    y, x, c = np.ogrid[: 3 * height + 1, : 2 * width + 1, :3]
    return Image.fromarray(((3 * x + 5 * y) * (c + 1) % 256).astype(np.uint8))
