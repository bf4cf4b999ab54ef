"""Initial weights from a seed, and nobody else's random numbers disturbed."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdtf.models.seeding import initial_weights_from
from kdtf.models.students import build_student
from kdtf.models.teachers import build_base, build_head
from kdtf.models.weights import WeightSource

SHAPE = (32, 32, 1)
BUILDERS = {
    "student": lambda seed: build_student("cnn3", SHAPE, 3, momentum=0.9, dropout=0.5, seed=seed),
    "base": lambda seed: build_base("cnn5", SHAPE, WeightSource("none"), seed=seed).model,
    "head": lambda seed: build_head("cnn5", (8,), 3, seed=seed),
}


def draws():
    """The next numbers of everybody else's generators: Python's, NumPy's, TensorFlow's and Keras'."""
    return (
        random.random(),
        np.random.random(),  # noqa: NPY002 (the generator of the process is the point)
        float(tf.random.uniform(())),
        float(tf.random.get_global_generator().uniform(())),
        float(keras.random.uniform(())),
    )


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_no_generator_of_the_process_notices(build):
    keras.utils.set_random_seed(7)
    tf.random.get_global_generator().reset_from_seed(7)
    first, second = draws(), draws()
    keras.utils.set_random_seed(7)
    tf.random.get_global_generator().reset_from_seed(7)
    assert draws() == first
    build(3)
    assert draws() == second


def test_the_state_is_put_back_after_an_error():
    state = random.getstate()
    with pytest.raises(ZeroDivisionError), initial_weights_from(1):
        random.random()
        raise ZeroDivisionError
    assert random.getstate() == state


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a.get_weights(), b.get_weights(), strict=True))


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_the_same_seed_gives_the_same_weights_and_another_others(build):
    first, again, other = build(1), build(1), build(2)
    assert same(first, again) and not same(first, other)


def test_they_are_those_of_a_process_that_was_seeded():
    """Bit for bit what `keras.utils.set_random_seed` gives, the states of dropout among them."""

    def network():
        pixels = keras.Input((8, 8, 1))
        x = keras.layers.Flatten()(keras.layers.Conv2D(4, 3)(pixels))
        x = keras.layers.Dropout(0.5)(x)
        return keras.Model(pixels, keras.layers.Dense(3, bias_initializer="random_normal")(x))

    with initial_weights_from(5):
        own = network()
    keras.utils.set_random_seed(5)
    theirs = network()
    assert same(own, theirs)
    for a, b in zip(own.variables, theirs.variables, strict=True):
        assert np.array_equal(a, b)
