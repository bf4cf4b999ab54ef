"""A teacher by LiteRT: the same outputs as by Keras, whatever their number, and Keras where that fails."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdtf.distill.hints import with_features
from kdtf.distill.inference import inferences_of
from kdtf.models.seeding import initial_weights_from
from kdtf.tflite import labelling
from kdtf.tflite.labelling import BATCH, litert_or_keras

PIXELS = np.random.default_rng(0).integers(0, 256, (2 * BATCH + 5, 12, 16, 1), np.uint8)


@pytest.fixture(scope="module")
def teacher() -> keras.Model:
    """Of one channel that becomes three, resized, scaled and normalized in the graph."""
    layers = keras.layers
    with initial_weights_from(0):
        pixels = layers.Input(PIXELS.shape[1:])
        x = layers.Resizing(20, 20)(layers.Concatenate()([pixels] * 3))
        x = layers.Rescaling(1 / 127.5, -1)(x)
        x = layers.DepthwiseConv2D(3, padding="same")(layers.Conv2D(8, 3, strides=2)(x))
        x = layers.GlobalAveragePooling2D()(layers.ReLU(6)(layers.BatchNormalization()(x)))
        x = layers.Dropout(0.5)(layers.Dense(16, activation="relu")(x))
        return keras.Model(pixels, layers.Dense(3)(x), name="toy")


def test_logits_and_features_are_those_of_keras_in_their_order(teacher):
    model = with_features(teacher)
    own = litert_or_keras(model, PIXELS[:BATCH])
    assert own.by == "LiteRT" and own.reason == "" and own.difference < 1e-5
    features, logits = own.inferences(PIXELS)
    assert features.shape == (len(PIXELS), 16) and logits.shape == (len(PIXELS), 3)
    for values, expected in zip((features, logits), inferences_of(model)(PIXELS), strict=True):
        assert np.abs(values - expected).max() < 1e-5 and np.ptp(expected) > 0.01


def test_an_image_has_its_label_whatever_it_stands_beside_and_however_many_threads_there_are(teacher):
    """Else labels depended on where an interrupted pass went on, and on --jobs."""
    label = litert_or_keras(teacher, PIXELS[:BATCH]).inferences
    (whole,) = label(PIXELS)
    assert np.array_equal(np.concatenate([label(PIXELS[i : i + 3])[0] for i in range(0, 37, 3)]), whole)
    interpreter = labelling.Interpreter
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            labelling,
            "Interpreter",
            lambda **own: interpreter(**{**own, "num_threads": 2 + own["num_threads"]}),
        )
        assert np.array_equal(litert_or_keras(teacher, PIXELS[:BATCH]).inferences(PIXELS)[0], whole)


def test_keras_stands_in_where_litert_is_too_far_off(teacher, monkeypatch):
    interpreted = labelling._interpreted
    monkeypatch.setattr(
        labelling,
        "_interpreted",
        lambda content: lambda batch: interpreted(content)(batch) + np.float32(1e-3),
    )
    own = litert_or_keras(teacher, PIXELS[:BATCH])
    assert own.by == "Keras" and own.difference == pytest.approx(1e-3, rel=0.01)
    assert "1.0e-03 off" in own.reason
    assert np.allclose(own.inferences(PIXELS)[0], inferences_of(teacher)(PIXELS)[0], atol=1e-6)


def test_keras_stands_in_where_the_network_cannot_be_converted_or_run():
    class Unknown(keras.layers.Layer):
        def call(self, x):
            return tf.raw_ops.Betainc(a=tf.nn.sigmoid(x), b=tf.ones_like(x), x=tf.nn.sigmoid(x))

    pixels = keras.Input((4,))
    model = keras.Model(pixels, Unknown()(pixels))
    x = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    own = litert_or_keras(model, x)
    assert own.by == "Keras" and own.difference is None and "does not run the network" in own.reason
    assert np.allclose(own.inferences(x)[0], np.asarray(model(x)), atol=1e-6)
