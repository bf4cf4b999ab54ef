"""Students of 32 px that were not trained, but look as if: what the tests of their files are made of."""

import json

import keras
import numpy as np

from kdtf.models.students import build_student, exported
from kdtf.tflite.card import runnable_card
from kdtf.tflite.quantize import file_facts, representative_images
from kdtf.tflite.recipes import RECIPES

CLASSES = ("a", "b", "c")
SHAPE = (32, 32, 1)
RNG = np.random.default_rng(0)
VIEWS = RNG.integers(0, 256, (2, 20, *SHAPE), dtype=np.uint8)
IMAGES = representative_images(VIEWS, 30, 0)
PLAIN = [name for name, row in RECIPES.items() if row.selectable and not row.tuning]  # need no training


def network(name, seed=0):
    """Pixels to logits; BatchNormalization's statistics and the biases are not those of a new network."""
    model = build_student(name, SHAPE, len(CLASSES), momentum=0.5, dropout=0.5, seed=seed)
    rng = np.random.default_rng(seed)
    around = ((1, 0.2), (0, 0.2), (0, 0.1), (1, 0.2))  # gamma, beta, mean, variance
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            weights = zip(around, layer.get_weights(), strict=True)
            layer.set_weights([rng.uniform(m - d, m + d, w.shape) for (m, d), w in weights])
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(rng.normal(0, 0.1, layer.bias.shape))
    return model


def shipped(name):
    """The same, pixels to probabilities."""
    return exported(network(name))


def write_bundle(folder, content, recipe):
    """(path of the `.tflite`, its facts): a file with the least card that runs."""
    facts = file_facts(content, recipe)
    card = {**runnable_card(facts, len(CLASSES), SHAPE), "classes": CLASSES}
    (folder / "s.tflite").write_bytes(content)
    (folder / "s.json").write_text(json.dumps(card))
    return folder / "s.tflite", facts
