"""Grad-CAM against a network whose evidence is known."""

import keras
import numpy as np
import pytest
from keras import layers

from kdtf.models.gradcam import heat, maps_and_logits
from kdtf.models.students import build_student, exported, without_softmax
from kdtf.models.teachers import build_base, build_head, with_head
from kdtf.models.weights import WeightSource


def known():
    """Logit 0 is the mean of the brightness, logit 1 the mean of its negative; the maps are 8 x 8."""
    pixels = keras.Input((8, 8, 1))
    conv = layers.Conv2D(2, 1, use_bias=False, activation="relu")
    x = conv(pixels)
    x = layers.GlobalAveragePooling2D()(x)
    dense = layers.Dense(2, use_bias=False)
    model = keras.Model(pixels, dense(x))
    conv.set_weights([np.array([[[[1.0, -1.0]]]])])
    dense.set_weights([np.array([[1.0, -1.0], [-1.0, 1.0]])])
    return model


def test_the_heat_is_the_map_that_carries_the_class():
    pixels = np.zeros((2, 8, 8, 1), np.float32)
    pixels[0, 2:4, 5:7] = 10  # class 0
    pixels[1, 6, 1] = -3  # class 1
    heat_maps = heat(known(), pixels)
    expected = np.zeros((2, 8, 8))
    expected[0, 2:4, 5:7] = 1
    expected[1, 6, 1] = 1
    np.testing.assert_allclose(heat_maps, expected, atol=1e-6)


def test_an_image_without_evidence_stays_dark():
    assert not heat(known(), np.zeros((1, 8, 8, 1), np.float32)).any()


def test_the_logits_stay_what_they_were_in_a_student():
    student = build_student("cnn3", (32, 32, 3), 4, momentum=0.9, dropout=0.5, seed=0)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    maps, logits = maps_and_logits(without_softmax(exported(student)))(pixels)
    assert maps.shape == (2, 8, 8, 128)  # the last convolution's, before it is pooled
    np.testing.assert_allclose(logits, student(pixels), atol=1e-5)


def test_it_looks_into_the_network_inside_a_teacher_for_maps_wide_enough():
    base = build_base("mobilenet", (32, 32, 3), WeightSource("none")).model
    teacher = with_head(base, build_head("mobilenet", base.output.shape[1:], 4))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    maps, logits = maps_and_logits(teacher)(pixels)
    assert maps.shape[1:3] == (4, 4)  # the very last ones are a single pixel
    np.testing.assert_allclose(logits, teacher(pixels), atol=1e-5)
    heat_maps = heat(teacher, pixels)
    assert heat_maps.shape == (2, 4, 4) and heat_maps.min() >= 0 and heat_maps.max() <= 1


def test_a_network_without_maps_is_refused():
    with pytest.raises(ValueError, match="no feature maps of at least 4 x 4"):
        maps_and_logits(build_head("vgg16", (8,), 3))
