"""The features of networks and their scale: by value, for every student and for teachers with their heads."""

import keras
import numpy as np
import pytest

from kdtf.distill.hints import FeatureScale, feature_scale, with_features
from kdtf.distill.inference import inference_of, inferences_of
from kdtf.models import networks
from kdtf.models.cuts import build_cut
from kdtf.models.registry import TEACHERS, Teacher, conv_head
from kdtf.models.seeding import initial_weights_from
from kdtf.models.students import STUDENTS, build_student, exported
from kdtf.models.teachers import build_base, build_head, with_head
from kdtf.models.weights import WeightSource
from kdtf.records import TeacherHead

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (5, 32, 32, 1), dtype=np.uint8)


def test_a_scale_by_value():
    features = np.array([[[1.0, 4.0], [3.0, 4.0]], [[1.0, 4.0], [3.0, 8.0]]], "float32")  # (2, 2, 2)
    scale = feature_scale(features)
    assert scale.mean.tolist() == [2.0, 5.0] and scale.mean.dtype == np.float32
    assert scale.rms == pytest.approx(np.sqrt((1 + 1 + 1 + 1 + 1 + 1 + 1 + 9) / 8))
    assert np.allclose(scale.apply(np.array([[2.0, 5.0], [4.0, 5.0]])), [[0, 0], [2 / np.sqrt(2), 0]])


@pytest.mark.parametrize("size, shift", [(1.0, 0.0), (300.0, 2000.0), (1e-4, 1.0)])
def test_features_of_every_size_have_mean_0_and_mean_square_1_on_their_scale(size, shift):
    features = (size * RNG.exponential(size=(3, 40, 6)) + shift).astype("float32")
    scaled = feature_scale(features).apply(features.astype("float64"))
    assert np.allclose(scaled.mean((0, 1)), 0, atol=1e-2) and np.mean(scaled**2) == pytest.approx(1, rel=1e-2)


def test_features_that_never_vary_are_no_hint_and_no_nan():
    assert feature_scale(np.full((2, 3, 4), 7.0, "float32")).apply(np.full((1, 4), 7.0)).tolist() == [
        [0.0] * 4
    ]
    assert feature_scale(np.zeros((2, 3, 4), "float32")) == FeatureScale(pytest.approx(np.zeros(4)), 1.0)


def cut(seed, dropout):
    return build_cut(
        "cut:mobilenetv2:3",
        (32, 32, 1),
        3,
        momentum=0.9,
        dropout=dropout,
        seed=seed,
        source=WeightSource("none"),
        images=None,
    )[0]


def student(name, dropout=0.5):
    if name == "a cut":
        return cut(0, dropout)
    return build_student(name, (32, 32, 1), 3, momentum=0.9, dropout=dropout, seed=0)


@pytest.mark.parametrize("name", [*STUDENTS, "a cut"])
def test_a_students_logits_are_a_linear_map_of_its_features(name):
    """Of the convolution of squeezenet too: the mean of its maps is that of the mean of what enters it."""
    model, pixels = student(name), PIXELS.astype("float32")
    features, logits = map(np.asarray, with_features(model)(pixels))
    kernel, bias = next(layer for layer in reversed(model.layers) if layer.weights).get_weights()
    kernel = kernel.reshape(-1, 3)
    assert features.shape == (5, len(kernel)) and features.std() > 0
    assert np.allclose(features @ kernel + bias, logits, atol=1e-4)
    assert np.allclose(logits, model(pixels), atol=1e-6)


def test_features_are_those_before_dropout():
    model = with_features(student("baseline"))
    pixels = PIXELS.astype("float32")
    features, logits = model(pixels, training=True)
    plain = model(pixels, training=False)
    assert np.array_equal(features, plain[0]) and not np.allclose(logits, plain[1], atol=1e-3)


def test_a_network_is_left_as_it_was():
    model = student("cnn3")
    before, weights = exported(model).to_json(), model.get_weights()
    seen = with_features(model)
    assert exported(model).to_json() == before
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))
    assert [id(v) for v in seen.trainable_variables] == [id(v) for v in model.trainable_variables]


@pytest.mark.parametrize("head", ["own", "linear"])
@pytest.mark.parametrize("maps", [False, True])
def test_a_teachers_features_are_what_its_head_makes_logits_of_pooled(head, maps, monkeypatch):
    def toy(pixels):
        return keras.layers.Conv2D(6, 3, strides=2, padding="same", activation="relu")(pixels)

    monkeypatch.setattr(networks, "toy", toy, raising=False)
    own = {"neck": lambda maps: maps, "head": conv_head} if maps else {}
    monkeypatch.setitem(TEACHERS, "toy", Teacher("toy", "mobilenet", min_side=8, published=False, **own))
    base = build_base("toy", (32, 32, 1), WeightSource("none"), seed=1).model
    whole = with_head(base, build_head("toy", base.output.shape[1:], 3, seed=1, head=TeacherHead(head, 0.5)))
    features, logits = inferences_of(with_features(whole))(PIXELS)
    given = inference_of(base)(PIXELS)
    assert np.allclose(features, given.mean((1, 2)) if maps else given, atol=1e-5)
    assert features.shape == (5, 6)
    assert np.allclose(logits, inference_of(whole)(PIXELS), atol=1e-5)


def test_a_sequential_network_has_features_too():
    with initial_weights_from(0):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    x = RNG.normal(size=(6, 4)).astype("float32")
    features, logits = with_features(model)(x)
    assert np.allclose(features, x @ model.layers[0].get_weights()[0], atol=1e-5)
    assert np.allclose(logits, model(x), atol=1e-6)


def test_a_network_of_one_layer_has_none():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Dropout(0.1)(inputs)), name="flat")
    with pytest.raises(ValueError, match=r"^flat must have a layer with weights before the one that makes"):
        with_features(model)
