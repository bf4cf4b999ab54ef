from itertools import product

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdtf.distill.distiller import Distiller
from kdtf.distill.losses import (
    LOSSES,
    cross_entropy,
    dist_loss,
    dkd_loss,
    feature_distance,
    fitnet_loss,
    kd_loss,
    soft_cross_entropy,
)
from kdtf.records import Rule

Z = np.array([[2.0, -1.0, 0.5], [0.5, 0.5, 0.0]], "float32")
W = np.array([[0.0, 1.0, -2.0], [3.0, 0.1, 0.2]], "float32")
LABELS = np.array([0, 2])


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


def signal(name, student, teacher, labels=LABELS, temperature=2.0, **options):
    """What a row takes from the teacher, per image."""
    rule = Rule(0.5, temperature, name, tuple(options.items()))
    return LOSSES[name].terms(student, labels, teacher, rule).distillation


@pytest.mark.parametrize("name", LOSSES)
def test_every_row_gives_one_value_per_image_and_is_least_on_itself(name):
    assert tuple(signal(name, Z, W).shape) == (2,)
    nudged = Z + np.array([[0.1, 0.0, -0.1]], "float32")
    assert (np.asarray(signal(name, Z, Z)) < np.asarray(signal(name, nudged, Z))).all()


FLAT = np.zeros_like(Z)
SURE = np.array([[50.0, -50.0, -50.0], [-50.0, -50.0, 50.0]], "float32")
ASTRAY = np.array([[-50.0, 50.0, 0.0], [50.0, -50.0, 50.0]], "float32")


KINDS_OF_LOGITS = (Z, FLAT, SURE, ASTRAY)


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("name", [name for name in LOSSES if name != "soft-ce"])
def test_every_row_is_zero_on_itself(name, images):  # but for soft-ce: the teacher's entropy is left
    for logits in KINDS_OF_LOGITS:
        own = logits[:images]
        assert np.allclose(signal(name, own, own, LABELS[:images]), 0, atol=1e-5)


@pytest.mark.parametrize("images, classes", [(1, 2), (1, 3), (2, 2), (2, 3)])
@pytest.mark.parametrize("name", LOSSES)
def test_values_and_gradients_are_finite(name, images, classes):
    labels = np.minimum(LABELS[:images], classes - 1)

    @tf.function
    def values_and_gradients(student, teacher):
        with tf.GradientTape() as tape:
            tape.watch(student)
            terms = LOSSES[name].terms(student, labels, teacher, Rule(0.5, 2.0, name))
        return terms.mixture, tape.gradient(terms.mixture, student)

    kinds = [tf.constant(logits[:images, :classes]) for logits in KINDS_OF_LOGITS]
    for student, teacher in product(kinds, kinds):
        for values in values_and_gradients(student, teacher):
            assert np.isfinite(values).all()


def test_soft_cross_entropy_known_value():  # teacher (1/2, 1/2), student (3/4, 1/4)
    value = soft_cross_entropy(np.log([[0.75, 0.25]]), np.zeros((1, 2)), 7.0)
    assert np.allclose(value, -0.5 * np.log(0.75) - 0.5 * np.log(0.25), atol=1e-6)


def test_alpha_means_what_each_row_says():
    assert LOSSES["kd"].teacher_weight(0.1) == pytest.approx(0.9)  # alpha is the label's
    assert LOSSES["soft-ce"].teacher_weight(0.1) == pytest.approx(0.1)  # alpha is the teacher's
    for name in ("dkd", "dist", "logit-mse", "fitnet"):
        assert LOSSES[name].teacher_weight(0.1) == pytest.approx(0.9)


def softmax(z):
    return np.exp(z) / np.exp(z).sum(1, keepdims=True)


def kl(p, q):
    return (p * np.log(p / q)).sum()


def decoupled(q, p, label):
    """(TCKD, NCKD) of one image in NumPy, by the words of the paper: q and p (K,)."""
    others_p, others_q = np.delete(p, label), np.delete(q, label)
    pair_p, pair_q = (np.array([v[label], 1 - v[label]]) for v in (p, q))
    return kl(pair_p, pair_q), kl(others_p / others_p.sum(), others_q / others_q.sum())


def uncorrelated(q, p):
    """1 - Pearson's r of every row in NumPy: (rows,)."""
    return np.array([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(q, p, strict=True)])


def by_definition(name, z, w, labels, temperature, options=()):
    """What a row takes from the teacher, per image, in NumPy: logits (N, K), labels (N,). Returns (N,)."""
    z, w, options = z.astype("float64"), w.astype("float64"), dict(options)
    if name == "logit-mse":
        return ((z - w) ** 2).mean(1)
    if name == "soft-ce":
        return -(softmax(w) * np.log(softmax(z))).sum(1)
    q, p = softmax(z / temperature), softmax(w / temperature)
    if name in ("kd", "fitnet"):  # without features
        return temperature**2 * (p * np.log(p / q)).sum(1)
    beta = options.get("beta", {"dkd": 8.0, "dist": 1.0}[name])
    if name == "dist":
        intra = uncorrelated(q.T, p.T).mean()
        return temperature**2 * (beta * uncorrelated(q, p) + options.get("gamma", 1.0) * intra)
    target, other = np.transpose([decoupled(*image) for image in zip(q, p, labels, strict=True)])
    return temperature**2 * (options.get("target", 1.0) * target + beta * other)


def formula(name, alpha, temperature):
    """(cross entropy, distillation, mixture) of student Z and teacher W in NumPy, each (2,)."""
    hard = -np.log(softmax(Z)[[0, 1], LABELS])
    soft = by_definition(name, Z, W, LABELS, temperature)
    if name == "soft-ce":
        return hard, soft, alpha * soft + (1 - alpha) * hard
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
    distiller.compile("sgd", jit_compile=False, run_eagerly=True)
    inputs = {"pixels": Z, "teacher_logits": W}
    logs = distiller.test_on_batch(inputs, LABELS, return_dict=True)
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


RNG = np.random.default_rng(0)
STUDENT, TEACHER = (scale * RNG.normal(size=(16, 5)).astype("float32") for scale in (1, 3))
MANY = RNG.integers(0, 5, 16)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize(
    "name, options",
    [
        ("dkd", {}),
        ("dkd", {"target": 0.5, "beta": 2.0}),
        ("dist", {}),
        ("dist", {"beta": 0.5, "gamma": 3.0}),
        ("logit-mse", {}),
    ],
)
def test_a_batch_by_value_with_options(name, options, temperature):
    values = signal(name, STUDENT, TEACHER, MANY, temperature, **options)
    expected = by_definition(name, STUDENT, TEACHER, MANY, temperature, options)
    assert np.allclose(values, expected, rtol=1e-4)


FIRST = np.array([0])


def test_dkd_known_value():
    """T=1, label first, p=(1/2, 1/4, 1/4), q=(1/2, 1/8, 3/8): TCKD is 0, NCKD ln 2 - (ln 3)/2."""
    student, teacher = np.log([[0.5, 0.125, 0.375]]), np.log([[0.5, 0.25, 0.25]])
    assert np.allclose(dkd_loss(student, teacher, 1.0, labels=FIRST, target=1.0, beta=0.0), 0, atol=1e-9)
    assert np.allclose(
        dkd_loss(student, teacher, 1.0, labels=FIRST, target=0.0, beta=2.0), 2 * 0.143841, atol=1e-5
    )


def test_kd_is_dkd_with_the_teachers_doubt_as_beta():
    """KL = TCKD + (1 - p(label)) * NCKD, image by image: equation 6 of Zhao et al. 2022."""
    doubt = 1 - softmax(TEACHER / 3)[np.arange(16), MANY]  # (16,)
    coupled = dkd_loss(STUDENT, TEACHER, 3.0, labels=MANY, target=1.0, beta=doubt)
    assert np.allclose(coupled, kd_loss(STUDENT, TEACHER, 3.0), rtol=1e-4, atol=1e-6)


def test_dkd_of_two_classes_is_kd_whatever_beta_is():
    student, teacher, labels = STUDENT[:, :2], TEACHER[:, :2], MANY % 2
    for beta in (0.0, 8.0):
        values = signal("dkd", student, teacher, labels, beta=beta)
        assert np.allclose(values, kd_loss(student, teacher, 2.0), rtol=1e-4, atol=1e-6)
    assert np.array_equal(signal("dkd", student, teacher, labels, target=0.0), np.zeros(16))


def test_dkd_takes_every_form_of_labels():
    forms = [signal("dkd", STUDENT, TEACHER, labels) for labels in (MANY, MANY[:, None], np.eye(5)[MANY])]
    assert np.array_equal(forms[0], forms[1]) and np.array_equal(forms[0], forms[2])


def test_dkd_of_an_image_without_a_label_is_the_kl_of_all_classes():
    values = dkd_loss(STUDENT, TEACHER, 2.0, labels=np.full(16, -1), target=1.0, beta=1.0)
    assert np.allclose(values, kd_loss(STUDENT, TEACHER, 2.0), rtol=1e-4, atol=1e-6)


def test_dist_gives_every_image_the_intra_term_of_its_batch():
    intra = np.asarray(signal("dist", STUDENT, TEACHER, MANY, beta=0.0))
    assert np.ptp(intra) == 0 and intra[0] > 0.1
    alone = [signal("dist", STUDENT[[i]], TEACHER[[i]], MANY[[i]]) for i in range(16)]
    inter = signal("dist", STUDENT, TEACHER, MANY, gamma=0.0)
    assert np.allclose(np.concatenate(alone), inter, atol=1e-5)  # a batch of one has no intra term


def test_dist_ignores_scale_and_shift_of_the_students_probabilities():
    """Huang et al. 2022, section 4.1: d(a, b) = d(m * a + n, b), m > 0. Of probabilities, not of logits."""
    q, teacher = softmax(STUDENT.astype("float64")), TEACHER.astype("float64")
    expected = dist_loss(np.log(q), teacher, 1.0, beta=1.0, gamma=1.0)
    flatter = np.log(0.3 * q + 0.7 / 5)  # rows still sum to 1
    assert np.allclose(dist_loss(flatter, teacher, 1.0, beta=1.0, gamma=1.0), expected, atol=1e-5)
    assert np.allclose(dist_loss(np.log(q) + 7, teacher, 1.0, beta=1.0, gamma=1.0), expected, atol=1e-7)
    assert not np.allclose(dist_loss(2 * np.log(q), teacher, 1.0, beta=1.0, gamma=1.0), expected, atol=1e-2)


def test_dist_of_two_classes_learns_from_the_batch_alone():
    logits = tf.Variable(STUDENT[:, :2])
    with tf.GradientTape() as tape:
        inter = signal("dist", logits, TEACHER[:, :2], MANY % 2, gamma=0.0)
    same_side = (STUDENT[:, 0] > STUDENT[:, 1]) == (TEACHER[:, 0] > TEACHER[:, 1])
    assert np.allclose(inter, np.where(same_side, 0, 4 * 2), atol=1e-4)  # T^2 times 0 or 2
    assert np.abs(tape.gradient(inter, logits)).max() < 1e-3


def test_dist_has_no_nan_for_constant_rows():
    flat = np.zeros((1, 3), "float32")
    for student, teacher, distance in [(flat, flat, 0), (flat, Z[:1], 1), (Z[:1], flat, 1)]:
        values = dist_loss(student, teacher, 1.0, beta=1.0, gamma=1.0)
        assert np.allclose(values, distance, atol=1e-3)


def test_logit_mse_ignores_temperature_and_no_shift():
    assert np.array_equal(
        signal("logit-mse", Z, W, temperature=1.0), signal("logit-mse", Z, W, temperature=9)
    )
    assert np.allclose(signal("logit-mse", Z + 2, Z), 4, rtol=1e-5)


def test_feature_distance_known_value():
    assert np.allclose(feature_distance(np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([[0.0, 4.0]])), [2.5, 8])


@pytest.mark.parametrize("options, hint", [({}, 5.0), ({"hint": 0.5}, 0.5), ({"hint": 0.0}, 0.0)])
def test_fitnet_adds_a_hint_to_kd(options, hint):
    distance, rule = np.array([0.25, 2.0], "float32"), Rule(0.3, 4.0, "fitnet", tuple(options.items()))
    hard, kd, _ = formula("kd", 0.3, 4.0)
    terms = LOSSES["fitnet"].terms(Z, LABELS, W, rule, distance)
    assert np.allclose(terms.distillation, kd + hint * distance, rtol=1e-5)
    assert np.allclose(terms.mixture, 0.3 * hard + 0.7 * (kd + hint * distance), rtol=1e-5)


def test_a_distance_reaches_no_loss_on_logits_alone():
    for name, row in LOSSES.items():
        if not row.takes_features:
            terms = row.terms(Z, LABELS, W, Rule(0.5, 2.0, name), np.full(2, np.nan))
            assert np.allclose(terms.distillation, signal(name, Z, W))


def test_fitnet_without_features_is_kd():
    assert np.array_equal(fitnet_loss(Z, W, 3.0, hint=9.0), kd_loss(Z, W, 3.0))
