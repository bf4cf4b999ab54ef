"""Every row of the registry as a network on pixels: what its graph does to them, and that it trains."""

import keras
import numpy as np
import pytest

from kdtf.models.registry import TEACHERS
from kdtf.models.teachers import build_base, build_head, prepared, with_head
from kdtf.models.weights import WeightSource

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3)).astype("float32")


@pytest.mark.parametrize("name", TEACHERS)
def test_every_row_builds_trains_a_step_and_predicts(name):
    base = build_base(name, (32, 32, 1), WeightSource("none"), momentum=0.7)
    momenta = {
        b.momentum for b in base.model._flatten_layers() if isinstance(b, keras.layers.BatchNormalization)
    }
    assert momenta <= {0.7}
    model = with_head(base.model, build_head(name, base.model.output.shape[1:], 3))
    logits = np.asarray(model(PIXELS[..., :1], training=False))
    assert logits.shape == (6, 3) and np.isfinite(logits).all()
    before = [w.copy() for w in model.get_weights()]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-3), loss, run_eagerly=True)  # tracing takes seconds each
    assert np.isfinite(model.train_on_batch(PIXELS[:3, ..., :1], np.arange(3)))
    changed = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert np.mean(changed) > 0.9  # the whole network, BatchNormalization's statistics among it


@pytest.mark.parametrize("name", TEACHERS)
def test_preprocessing_in_the_graph_is_that_of_keras(name):
    row = TEACHERS[name]
    pixels = keras.Input((32, 32, 3))
    in_graph = keras.Model(pixels, prepared(pixels, row))(PIXELS).numpy()
    side = max(32, row.min_side)
    resized = keras.layers.Resizing(side, side)(PIXELS).numpy()
    assert np.allclose(in_graph, row.preprocess(resized.copy()), atol=1e-4)


def test_a_grey_image_is_a_colour_image_with_equal_channels():
    grey, colour = keras.Input((32, 32, 1)), keras.Input((32, 32, 3))
    row = TEACHERS["vgg16"]
    a = keras.Model(grey, prepared(grey, row))(PIXELS[..., :1])
    b = keras.Model(colour, prepared(colour, row))(PIXELS[..., [0, 0, 0]])
    assert np.array_equal(a, b)


def test_the_graph_resizes_to_the_teachers_side():
    pixels = keras.Input((32, 48, 3))
    assert prepared(pixels, TEACHERS["vgg16"]).shape == (None, 48, 48, 3)
    assert prepared(pixels, TEACHERS["vgg16"], 64).shape == (None, 64, 64, 3)
    assert prepared(pixels, TEACHERS["xception"]).shape == (None, 71, 71, 3)
