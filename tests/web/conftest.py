"""Students for a page: grey ones of a finished run, and RGB ones made here."""

import json

import numpy as np
import pytest
from page_parts import LIMITS, RECIPES

from kdtf.data.typical import layout


@pytest.fixture(scope="session")
def colour(tmp_path_factory):
    """RGB students of both input types, after a few steps on noise; one knows how to prepare images."""
    import keras

    from kdtf.models.students import build_student, exported
    from kdtf.tflite.card import runnable_card
    from kdtf.tflite.quantize import convert, file_facts, representative_images

    folder, shape = tmp_path_factory.mktemp("rgb"), (32, 32, 3)
    views = np.random.default_rng(0).integers(0, 256, (1, 40, *shape), dtype=np.uint8)
    model = build_student("cnn3", shape, 3, momentum=0.5, dropout=0.5, seed=0)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    model.fit(views[0].astype("float32"), np.arange(40) % 3, epochs=2, verbose=0)
    known = {"brightness": [60, 80, 90], "contrast": [40, 50, 60], "colour": [0, 0, 0], "layout": [0, 10, 50]}
    quantiles = {"int8": {"b": 0.54, "c": 0.158}, "float32": {"a": 0.45, "b": 0.37, "c": 0.15}}
    methods = {"int8": "adaptive", "float32": "threshold"}
    ways = {"int8": {}, "float32": {"side": 57, "keep_aspect": True, "window": [300.0, 600.0]}}
    for recipe, prepared in ways.items():
        content = convert(exported(model), recipe, representative_images(views, 40, 0))
        card = runnable_card(file_facts(content, recipe), 3, shape) | {
            "classes": list("abc"),
            "recipe": recipe,
        }
        card |= {"temperature": 1.7, "thresholds": {"a": 0.4, "b": 0.5, "c": 0.99}, "training_images": known}
        card |= {"training_layout": layout(views[0], views[0])[0], "limits": LIMITS}
        sets = {"method": methods[recipe], "coverage": 0.95, "quantiles": quantiles[recipe]}
        card["input"]["prepared"], card["prediction_sets"] = prepared, sets
        (folder / f"rgb_{recipe}.tflite").write_bytes(content)
        (folder / f"rgb_{recipe}.json").write_text(json.dumps(card))
    return folder


@pytest.fixture(scope="session")
def bundles(finished, colour):
    grey = [finished / f"mobilenet_Student_{recipe}.tflite" for recipe in RECIPES]
    return [*grey, *sorted(colour.glob("*.tflite"))]
