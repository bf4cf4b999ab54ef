"""Students: what every row gives, and how one is saved and read back."""

import keras
import numpy as np
import pytest
from keras import layers

from kdtf.errors import UserError
from kdtf.models.students import (
    STUDENTS,
    build_student,
    exported,
    load_student,
    save_undated,
    without_softmax,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1)).astype("float32")


def student(name, side=32, channels=1, seed=0):
    return build_student(name, (side, side, channels), 5, momentum=0.7, dropout=0.3, seed=seed)


@pytest.mark.parametrize("name", STUDENTS)
@pytest.mark.parametrize("side, channels", [(32, 3), (33, 1)])
def test_every_student_builds_and_gives_probabilities(name, side, channels):
    model = student(name, side, channels)
    momenta = {x.momentum for x in model.layers if isinstance(x, layers.BatchNormalization)}
    assert momenta <= {0.7}
    assert {x.rate for x in model.layers if isinstance(x, layers.Dropout)} == {0.3}
    pixels = np.random.default_rng(0).integers(0, 256, (2, side, side, channels)).astype("float32")
    probs = np.asarray(exported(model)(pixels))
    assert probs.shape == (2, 5) and np.allclose(probs.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("name", STUDENTS)
def test_every_student_takes_its_smallest_side_and_no_smaller(name):
    side = STUDENTS[name].min_side
    assert student(name, side).output.shape == (None, 5)
    with pytest.raises(UserError, match=rf"^image side must be at least {side} px for {name}\."):
        student(name, side - 1)


def test_an_unknown_student_is_told_the_nearest():
    with pytest.raises(UserError, match=r"^--student must be one of cnn3, .*Did you mean 'cnn3'\?$"):
        student("cnn33")


def test_without_softmax_is_the_inverse_of_exported():
    model = student("cnn3")
    assert np.array_equal(without_softmax(exported(model))(PIXELS), model(PIXELS))


@pytest.mark.parametrize("name", STUDENTS)
def test_equal_students_are_equal_files_and_read_back(name, tmp_path):
    """The names of layers too: Keras' own would count what was built before in the process."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        model = exported(student(name))
        save_undated(model, tmp_path / folder / "student.keras")
        student("cnn3", seed=9)
    first, second = ((tmp_path / folder / "student.keras").read_bytes() for folder in ("a", "b"))
    assert first == second
    assert np.array_equal(load_student(tmp_path / "a")(PIXELS), model(PIXELS))


@pytest.mark.parametrize("harm", ["text", "missing", "code"])
def test_a_file_that_is_no_student_is_refused_in_one_line(harm, tmp_path):
    path = tmp_path / "student.keras"
    if harm == "text":
        path.write_text("hello")
    elif harm == "code":
        pixels = keras.Input((2,))
        keras.Model(pixels, layers.Lambda(lambda x: x + 1)(pixels)).save(path)
    with pytest.raises(UserError, match=r"must be a student as kdtf saves it\. It is not: ") as caught:
        load_student(tmp_path)
    assert "\n" not in str(caught.value)
