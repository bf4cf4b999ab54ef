import keras
import numpy as np
import pytest

from kdtf.distill.distiller import Distiller
from kdtf.distill.losses import LOSSES, cross_entropy, kd_loss, soft_cross_entropy
from kdtf.records import Rule

Z = np.array([[2.0, -1.0, 0.5], [0.5, 0.5, 0.0]], "float32")
W = np.array([[0.0, 1.0, -2.0], [3.0, 0.1, 0.2]], "float32")


def test_kd_loss_known_value():  # T=1, p=(1/2, 1/2), q=(3/4, 1/4): ln 2 - (ln 3)/2
    assert np.allclose(kd_loss(np.log([[0.75, 0.25]]), np.zeros((1, 2)), 1.0), 0.143841, atol=1e-6)


def test_kd_loss_known_value_at_temperature_two():  # logits doubled and T=2: the value above times T^2
    assert np.allclose(kd_loss(2 * np.log([[0.75, 0.25]]), np.zeros((1, 2)), 2.0), 4 * 0.143841, atol=1e-5)


def test_kd_loss_is_not_the_raw_logits_of_keras_distillation():  # one sample of docs/design.md
    """keras.distillation's string loss takes the KL of raw logits / T; ours is between distributions."""
    student, teacher = np.array([[1.0, 2.0, 0.5]], "float32"), np.array([[3.0, 0.2, 0.1]], "float32")
    p, q = (np.exp(z / 2) / np.exp(z / 2).sum() for z in (teacher, student))
    assert np.allclose(kd_loss(student, teacher, 2.0), 4 * (p * np.log(p / q)).sum(), atol=1e-6)


def test_kd_loss_ignores_a_shift_and_vanishes_on_itself():
    assert np.allclose(kd_loss(Z, Z + 7, 4.0), 0, atol=1e-5)
    assert np.allclose(kd_loss(Z, W, 4.0), kd_loss(Z - 3, W + 5, 4.0), atol=1e-5)


def test_kd_loss_is_never_negative_and_ignores_the_order_of_classes():
    assert (np.asarray(kd_loss(Z, W, 3.0)) > 0).all()
    assert np.allclose(kd_loss(Z, W, 3.0), kd_loss(Z[:, ::-1], W[:, ::-1], 3.0), atol=1e-6)


def test_kd_loss_at_a_high_temperature_is_half_the_squared_distance():
    """Hinton et al. 2015, section 2.1: T^2 KL -> sum (centred differences)^2 / (2 K)."""
    d = (Z - Z.mean(1, keepdims=True)) - (W - W.mean(1, keepdims=True))
    student, teacher = Z.astype("float64"), W.astype("float64")
    assert np.allclose(kd_loss(student, teacher, 1000.0), (d**2).sum(1) / (2 * 3), rtol=1e-2)


def test_kd_loss_stays_finite_for_huge_logits():
    assert np.isfinite(np.asarray(kd_loss(1e4 * Z, -1e4 * Z, 1.0))).all()


@pytest.mark.parametrize("labels", [np.array([0, 2]), np.array([[0], [2]]), np.eye(3)[[0, 2]]])
def test_cross_entropy_takes_every_form_of_labels(labels):
    p = np.exp(Z) / np.exp(Z).sum(1, keepdims=True)
    assert np.allclose(cross_entropy(Z, labels), -np.log([p[0, 0], p[1, 2]]), atol=1e-6)


@pytest.mark.parametrize("row", LOSSES.values(), ids=LOSSES)
def test_every_row_gives_one_value_per_image_and_is_least_on_itself(row):
    assert tuple(row.signal(Z, W, 2.0).shape) == (2,)
    nudged = Z + np.array([[0.1, 0.0, -0.1]], "float32")
    assert (np.asarray(row.signal(Z, Z, 2.0)) < np.asarray(row.signal(nudged, Z, 2.0))).all()


def test_soft_cross_entropy_known_value():  # teacher (1/2, 1/2), student (3/4, 1/4)
    value = soft_cross_entropy(np.log([[0.75, 0.25]]), np.zeros((1, 2)), 7.0)
    assert np.allclose(value, -0.5 * np.log(0.75) - 0.5 * np.log(0.25), atol=1e-6)


def test_alpha_means_what_each_row_says():
    assert LOSSES["kd"].teacher_weight(0.1) == pytest.approx(0.9)  # alpha is the label's
    assert LOSSES["soft-ce"].teacher_weight(0.1) == pytest.approx(0.1)  # alpha is the teacher's


LABELS = np.array([0, 2])


def softmax(z):
    return np.exp(z) / np.exp(z).sum(1, keepdims=True)


def formula(name, alpha, temperature):
    """(cross entropy, distillation, mixture) of student Z and teacher W in NumPy, each (2,)."""
    hard = -np.log(softmax(Z)[[0, 1], LABELS])
    if name == "soft-ce":
        soft = -(softmax(W) * np.log(softmax(Z))).sum(1)
        return hard, soft, alpha * soft + (1 - alpha) * hard
    p, q = softmax(W / temperature), softmax(Z / temperature)
    soft = temperature**2 * (p * np.log(p / q)).sum(1)
    return hard, soft, alpha * hard + (1 - alpha) * soft


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("alpha, temperature", [(0.5, 2.0), (0.1, 4.0), (0.9, 1.0)])
def test_terms_are_the_formula_and_what_distiller_minimises(name, alpha, temperature):
    rule = Rule(alpha, temperature, name)
    terms = LOSSES[name].terms(Z, LABELS, W, rule)
    for values, expected in zip(terms, formula(name, alpha, temperature), strict=True):
        assert values.shape == (2,) and np.allclose(values, expected, rtol=1e-5)
    identity = keras.Sequential([keras.Input((3,)), keras.layers.Identity()])  # the pixels are the logits
    distiller = Distiller(identity, alpha=alpha, temperature=temperature, loss=name)
    distiller.compile("sgd", jit_compile=False)
    logs = distiller.evaluate({"pixels": Z, "teacher_logits": W}, LABELS, verbose=0, return_dict=True)
    names = ("cross_entropy", "distillation", "loss")
    assert [logs[k] for k in names] == pytest.approx([float(np.mean(v)) for v in terms], rel=1e-6)


@pytest.mark.parametrize("name, alpha", [("kd", 1.0), ("soft-ce", 0.0)])
def test_where_the_teacher_has_no_weight_none_is_needed(name, alpha):
    rule = Rule(alpha, 2.0, name)
    for teacher in (None, np.full_like(W, np.nan)):
        hard, soft, mixture = map(np.asarray, LOSSES[name].terms(Z, LABELS, teacher, rule))
        assert np.allclose(hard, formula(name, alpha, 2.0)[0], rtol=1e-5)
        assert np.array_equal(soft, [0, 0]) and np.array_equal(mixture, hard)


@pytest.mark.parametrize("row", LOSSES.values(), ids=LOSSES)
def test_without_a_teacher_the_labels_are_all_there_is(row):
    hard, soft, mixture = map(np.asarray, row.terms(Z, LABELS, None, Rule(0.5, 2.0)))
    assert np.array_equal(soft, [0, 0]) and np.array_equal(mixture, hard)
