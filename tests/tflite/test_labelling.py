"""A teacher by LiteRT or OpenVINO: the same outputs as by Keras, however many, and Keras where that fails."""

import sys
from importlib.util import find_spec

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdtf.config import LABELLERS
from kdtf.distill.hints import with_features
from kdtf.distill.inference import inferences_of
from kdtf.errors import UserError
from kdtf.models.seeding import initial_weights_from
from kdtf.tflite import labelling
from kdtf.tflite.labelling import BATCH, ENGINES, labeller

PIXELS = np.random.default_rng(0).integers(0, 256, (2 * BATCH + 5, 12, 16, 1), np.uint8)
needs_openvino = pytest.mark.skipif(not find_spec("openvino"), reason="OpenVINO is not installed")
EXACT = pytest.mark.parametrize("engine", ["litert", pytest.param("openvino", marks=needs_openvino)])


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


def test_every_engine_can_be_chosen():
    assert set(LABELLERS) == {"auto", "keras", *ENGINES}


@EXACT
def test_logits_and_features_are_those_of_keras_in_their_order(engine, teacher):
    model = with_features(teacher)
    own = labeller(model, PIXELS[:BATCH], engine)
    assert own.by == ENGINES[engine].name and own.reason == "" and own.difference < 1e-5
    features, logits = own.inferences(PIXELS)
    assert features.shape == (len(PIXELS), 16) and logits.shape == (len(PIXELS), 3)
    for values, expected in zip((features, logits), inferences_of(model)(PIXELS), strict=True):
        assert np.abs(values - expected).max() < 1e-5 and np.ptp(expected) > 0.01


@pytest.mark.parametrize(
    "engine", ["litert", *(pytest.param(name, marks=needs_openvino) for name in ENGINES if name != "litert")]
)
def test_an_image_has_its_label_whatever_it_stands_beside_and_however_many_threads_there_are(
    engine, teacher, monkeypatch
):
    """Else labels depended on where an interrupted pass went on, and on --jobs."""
    label = labeller(teacher, PIXELS[:BATCH], engine).inferences
    (whole,) = label(PIXELS)
    assert np.array_equal(np.concatenate([label(PIXELS[i : i + 3])[0] for i in range(0, 37, 3)]), whole)
    for threads in (1, 2, 4):
        monkeypatch.setattr(labelling, "_threads", lambda own=threads: own)
        assert np.array_equal(labeller(teacher, PIXELS[:BATCH], engine).inferences(PIXELS)[0], whole)


@needs_openvino
def test_bfloat16_says_what_computed_and_how_far_off_it_is(teacher):
    """In float32 where the processor has no bfloat16."""
    import openvino

    native = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    own = labeller(teacher, PIXELS[:BATCH], "openvino-bf16")
    assert own.by == ("OpenVINO in bfloat16" if native else "OpenVINO") and own.reason == ""
    assert (1e-5 if native else 0) <= own.difference < 0.05
    (logits,), (expected,) = own.inferences(PIXELS), inferences_of(teacher)(PIXELS)
    assert np.abs(logits - expected).max() < 0.05


@needs_openvino
def test_openvino_comes_without_its_telemetry(teacher):
    labeller(teacher, PIXELS[:BATCH], "openvino")
    assert sys.modules["openvino_telemetry"] is None


def test_openvino_is_an_extra_that_a_worker_without_it_names(teacher, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(
        UserError, match=r"openvino must be installed for --labeller openvino-bf16.*\[openvino"
    ):
        labeller(teacher, PIXELS[:BATCH], "openvino-bf16")


@EXACT
def test_keras_stands_in_where_an_engine_is_too_far_off(engine, teacher, monkeypatch):
    exact = ENGINES[engine]

    def read(content):
        run, by = exact.read(content)
        return lambda batch: run(batch) + np.float32(1e-3), by

    monkeypatch.setitem(ENGINES, engine, exact._replace(read=read))
    own = labeller(teacher, PIXELS[:BATCH], engine)
    assert own.by == "Keras" and own.difference == pytest.approx(1e-3, rel=0.01)
    assert f"outputs of {exact.name} are up to 1.0e-03 off" in own.reason
    assert np.allclose(own.inferences(PIXELS)[0], inferences_of(teacher)(PIXELS)[0], atol=1e-6)


@EXACT
def test_keras_stands_in_where_the_network_cannot_be_converted_or_run(engine):
    class Unknown(keras.layers.Layer):
        def call(self, x):
            return tf.raw_ops.Betainc(a=tf.nn.sigmoid(x), b=tf.ones_like(x), x=tf.nn.sigmoid(x))

    pixels = keras.Input((4,))
    model = keras.Model(pixels, Unknown()(pixels))
    x = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    own = labeller(model, x, engine)
    assert own.by == "Keras" and own.difference is None and "does not run the network" in own.reason
    assert np.allclose(own.inferences(x)[0], np.asarray(model(x)), atol=1e-6)
