"""What a distiller refuses instead of training on it, and what it exports."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdtf.distill.distiller import Distiller
from kdtf.errors import UserError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(6, 3)).astype("float32"), np.arange(6) % 3


def linear(classes=3):
    pixels = keras.Input((3,))
    return keras.Model(pixels, keras.layers.Dense(classes)(pixels))


def said(classes=3):
    """Pixels, and what a teacher of so many classes says of them."""
    return {"pixels": X, "teacher_logits": RNG.normal(size=(6, classes)).astype("float32")}


def step(model, x, y, *, traced=False):
    model.compile(keras.optimizers.SGD(0.1), jit_compile=False, run_eagerly=not traced)
    return model.fit(x, y, batch_size=6, verbose=0).history


@pytest.mark.parametrize("student, teacher", [(linear(1), None), (linear(1), linear(1))])
def test_a_student_of_one_logit_is_refused(student, teacher):
    """Its softmax is 1 whatever it says: its loss would be 0 from the first step."""
    text = r"^student must be a network of at least 2 logits\. Got 1\.$"
    with pytest.raises(UserError, match=text):
        step(Distiller(student, teacher), X if teacher else said(1), Y * 0)


@pytest.mark.parametrize("live", [True, False])
def test_a_teacher_of_other_classes_is_refused(live):
    """One logit would be spread over all classes of the student."""
    model = Distiller(linear(), linear(1) if live else None)
    with pytest.raises(UserError, match=r"^teacher must be of as many logits as the student, 3\. Got 1\.$"):
        step(model, X if live else said(1), Y)


@pytest.mark.parametrize("label, traced", [(3, True), (3, False), (-2, False), (2**31, False)])
def test_a_label_that_is_no_class_is_refused(label, traced):
    labels = np.array([0, 1, 2, -1, label, 0])  # -1 is an image without a label
    text = "Labels must be classes from 0 to 2, or -1 for an image without one"
    model = Distiller(linear())
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        step(model, said(), labels, traced=traced)
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        model.test_on_batch(said(), labels)


def test_labels_of_every_class_and_none_are_taken():
    assert np.isfinite(step(Distiller(linear()), said(), np.array([0, 1, 2, -1, -1, 2]))["loss"]).all()


@pytest.mark.parametrize("temperature", [np.inf, np.nan, -1.0])
def test_a_temperature_is_a_positive_number(temperature):
    with pytest.raises(UserError, match=r"^temperature must be (positive|finite)\. Got "):
        Distiller(linear(), temperature=temperature)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_the_parameters_of_a_loss_are_numbers(value):
    with pytest.raises(UserError, match=r"^--loss-options must be a finite beta\. Got (inf|nan)\.$"):
        Distiller(linear(), loss="dkd", options={"beta": value})


@pytest.mark.parametrize("trained", [True, False])
def test_what_is_exported_is_the_student(trained, tmp_path):
    student = linear()
    model = Distiller(student, linear())
    if trained:
        step(model, X, Y)
    model.export(tmp_path / "student", verbose=False)
    exported = tf.saved_model.load(tmp_path / "student")
    assert np.allclose(exported.serve(X), student(X), atol=1e-6)
