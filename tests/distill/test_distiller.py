import keras
import numpy as np
import pytest

from kdtf.distill.distiller import Distiller
from kdtf.distill.losses import LOSSES
from kdtf.errors import UserError
from kdtf.models.seeding import initial_weights_from
from kdtf.records import Rule

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 3)).astype("float32")
Y = RNG.integers(0, 4, 8)
T_LOGITS = RNG.normal(size=(8, 4)).astype("float32")


def linear(seed, regularizer=None):
    inputs = keras.Input((3,))
    with initial_weights_from(seed):
        return keras.Model(inputs, keras.layers.Dense(4, kernel_regularizer=regularizer)(inputs))


def softmax(z):
    return np.exp(z) / np.exp(z).sum(1, keepdims=True)


def expected(logits, teacher, alpha, temperature, weight=1.0):
    """The formula in NumPy, independent of Keras."""
    hard = -np.log(softmax(logits)[np.arange(8), Y])
    p, q = softmax(teacher / temperature), softmax(logits / temperature)
    soft = temperature**2 * (p * np.log(p / q)).sum(1)
    return np.mean(weight * (alpha * hard + (1 - alpha) * soft))


def fitted(model, *, rate=0.0, **fit):
    model.compile(keras.optimizers.SGD(rate), jit_compile=False)
    return model.fit(**fit, batch_size=8, epochs=1, verbose=0, shuffle=False).history


CACHED = {"pixels": X, "teacher_logits": T_LOGITS}


@pytest.mark.parametrize("alpha, temperature", [(0.5, 2.0), (0.1, 4.0), (0.0, 1.0), (1.0, 2.0)])
def test_loss_is_the_formula(alpha, temperature):
    student = linear(1)
    logged = fitted(Distiller(student, alpha=alpha, temperature=temperature), x=CACHED, y=Y)
    assert logged["loss"][0] == pytest.approx(
        expected(student.predict(X, verbose=0), T_LOGITS, alpha, temperature), rel=1e-5
    )


def test_soft_ce_weighs_the_teacher_by_alpha():
    student = linear(1)
    logged = fitted(Distiller(student, alpha=0.3, loss="soft-ce"), x=CACHED, y=Y)
    log_q = np.log(softmax(student.predict(X, verbose=0)))
    wanted = 0.3 * -(softmax(T_LOGITS) * log_q).sum(1) - 0.7 * log_q[np.arange(8), Y]
    assert logged["loss"][0] == pytest.approx(wanted.mean(), rel=1e-5)
    assert fitted(Distiller(linear(1), alpha=0.0, loss="soft-ce"), x=X, y=Y)  # needs no teacher


@pytest.mark.parametrize("loss", LOSSES)
def test_a_live_teacher_gives_what_its_cached_logits_give(loss):
    teacher = linear(2)
    cached = {"pixels": X, "teacher_logits": teacher.predict(X, verbose=0)}
    live, stored = linear(1), linear(1)
    a = fitted(Distiller(live, teacher, loss=loss), x=X, y=Y, rate=0.1)
    b = fitted(Distiller(stored, loss=loss), x=cached, y=Y, rate=0.1)
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
    for one, other in zip(live.get_weights(), stored.get_weights(), strict=True):
        assert np.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_student_that_can_be_its_teacher_becomes_it(loss):
    """Of the same shape, with the teacher alone to learn from: as likely classes in the end, nothing left."""
    teacher, student = linear(2), linear(1)
    cached = {"pixels": X, "teacher_logits": teacher.predict(X, verbose=0)}
    model = Distiller(student, alpha=LOSSES[loss].teacher_weight(1.0), temperature=1.0, loss=loss)
    model.compile(keras.optimizers.Adam(0.1), jit_compile=False)
    before = model.evaluate(cached, Y, verbose=0, return_dict=True)["distillation"]
    often = {name: np.tile(values, (200, 1)) for name, values in cached.items()}
    model.fit(often, np.tile(Y, 200), batch_size=8, verbose=0, shuffle=False)
    p = softmax(cached["teacher_logits"])
    least = -(p * np.log(p)).sum(1).mean() if loss == "soft-ce" else 0  # the teacher's entropy
    after = model.evaluate(cached, Y, verbose=0, return_dict=True)["distillation"]
    assert before - least > 0.1 and after - least < 0.02 * (before - least)
    assert (student.predict(X, verbose=0).argmax(1) == p.argmax(1)).all()


def test_only_the_student_learns_and_the_teacher_is_left_as_it_came():
    teacher, student = linear(2), linear(1)
    before, started = [w.copy() for w in teacher.get_weights()], [w.copy() for w in student.get_weights()]
    fitted(Distiller(student, teacher), x=X, y=Y, rate=0.1)
    assert all(np.array_equal(a, b) for a, b in zip(before, teacher.get_weights(), strict=True))
    assert not np.allclose(started[0], student.get_weights()[0])
    assert teacher.trainable and len(teacher.trainable_variables) == 2


@pytest.mark.parametrize("loss", LOSSES)
def test_one_hot_labels_and_integers_are_the_same(loss):
    a = fitted(Distiller(linear(1), loss=loss), x=CACHED, y=Y)
    b = fitted(Distiller(linear(1), loss=loss), x=CACHED, y=np.eye(4)[Y])
    assert a["loss"] == pytest.approx(b["loss"]) and a["accuracy"] == b["accuracy"]


def test_sample_weight_weighs_every_image():
    student, weight = linear(1), np.arange(8.0)
    logged = fitted(Distiller(student, alpha=0.3, temperature=3.0), x=CACHED, y=Y, sample_weight=weight)
    assert logged["loss"][0] == pytest.approx(
        expected(student.predict(X, verbose=0), T_LOGITS, 0.3, 3.0, weight), rel=1e-5
    )


def test_class_weight_is_sample_weight_by_class():
    by_class = {0: 1.0, 1: 2.0, 2: 0.5, 3: 3.0}
    a = fitted(Distiller(linear(1)), x=CACHED, y=Y, class_weight=by_class)
    b = fitted(Distiller(linear(1)), x=CACHED, y=Y, sample_weight=np.array([by_class[y] for y in Y]))
    assert a["loss"] == pytest.approx(b["loss"])


def test_a_weight_of_zero_removes_an_image():
    weight = np.ones(8)
    weight[0] = 0
    other = {"pixels": X.copy(), "teacher_logits": T_LOGITS.copy()}
    other["pixels"][0], other["teacher_logits"][0] = 9, 9
    a, b = linear(1), linear(1)
    fitted(Distiller(a), x=CACHED, y=Y, sample_weight=weight, rate=0.1)
    fitted(Distiller(b), x=other, y=Y, sample_weight=weight, rate=0.1)
    assert np.allclose(a.get_weights()[0], b.get_weights()[0], atol=1e-6)


def test_the_students_regularisation_counts_and_the_teachers_does_not():
    student, plain = linear(1, keras.regularizers.L2(0.1)), linear(1)
    teacher = linear(2, keras.regularizers.L2(100.0))
    penalty = 0.1 * float((student.get_weights()[0] ** 2).sum())
    a = fitted(Distiller(student, teacher), x=X, y=Y)
    b = fitted(Distiller(plain, teacher), x=X, y=Y)
    assert a["loss"][0] - b["loss"][0] == pytest.approx(penalty, rel=1e-4)


def test_validation_scores_in_inference_mode():
    student = linear(1)
    model = Distiller(student, alpha=0.5)
    model.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    logged = model.evaluate(CACHED, Y, verbose=0, return_dict=True)
    logits = student.predict(X, verbose=0)
    assert logged["loss"] == pytest.approx(expected(logits, T_LOGITS, 0.5, 2.0), rel=1e-5)
    assert logged["accuracy"] == pytest.approx((logits.argmax(1) == Y).mean())
    assert logged["cross_entropy"] == pytest.approx(expected(logits, T_LOGITS, 1.0, 2.0), rel=1e-5)
    hard_only = model.evaluate(X, Y, verbose=0, return_dict=True)  # no teacher at hand
    assert hard_only["loss"] == pytest.approx(logged["cross_entropy"], rel=1e-5)


def test_it_reads_back_with_its_settings_and_weights(tmp_path):
    model = Distiller(linear(1), linear(2), alpha=0.2, temperature=5.0)
    fitted(model, x=X, y=Y, rate=0.1)
    model.save(tmp_path / "d.keras")
    back = keras.saving.load_model(tmp_path / "d.keras")
    assert back.rule == model.rule == Rule(0.2, 5.0, "kd", ())
    assert np.allclose(back.predict(X, verbose=0), model.predict(X, verbose=0), atol=1e-6)
    assert np.allclose(back.teacher.predict(X, verbose=0), model.teacher.predict(X, verbose=0), atol=1e-6)


def test_without_any_teacher_it_says_what_is_missing():
    with pytest.raises(ValueError, match="needs a teacher, or batches of the form"):
        fitted(Distiller(linear(1)), x=X, y=Y)


@pytest.mark.parametrize(
    "settings, text",
    [
        ({"alpha": 1.5}, r"alpha must be between 0 and 1\. Got 1.5\."),
        ({"temperature": 0}, r"temperature must be positive\. Got 0\."),
        (
            {"loss": "kdd"},
            r"loss must be one of kd, soft-ce, dkd, dist, logit-mse\. Got 'kdd'\. Did you mean 'kd'\?",
        ),
        ({"options": {"beta": 1.0}}, r"--loss-options must be options of kd \(none\)\. Got 'beta'\."),
        (
            {"loss": "dkd", "options": {"gamma": 1.0}},
            r"--loss-options must be options of dkd \(target, beta\)\. Got 'gamma'\.",
        ),
        (
            {"loss": "dist", "options": {"labels": 1.0}},
            r"--loss-options must be options of dist \(beta, gamma\)\. Got 'labels'\.",
        ),
        (
            {"loss": "logit-mse", "options": {"beta": 1.0}},
            r"--loss-options must be options of logit-mse \(none\)\. Got 'beta'\.",
        ),
    ],
)
def test_bad_settings(settings, text):
    with pytest.raises(UserError, match=f"^{text}$"):
        Distiller(linear(1), **settings)
