import keras
import numpy as np
import pytest

from kdtf.distill.distiller import Distiller
from kdtf.distill.hints import FeatureScale, feature_scale, with_features
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


def outputs(model):
    """What a network says of `X`, in inference mode."""
    return np.asarray(model(X, training=False))


def tensors(batch):
    return keras.tree.map_structure(keras.ops.convert_to_tensor, batch)


def fitted(model, *, rate=0.0, traced=False, x, y, **weights):
    """The logs of one step. Tracing it costs more: only where a graph may make a difference."""
    model.compile(keras.optimizers.SGD(rate), jit_compile=False, run_eagerly=not traced)
    if not traced:
        return model.train_on_batch(tensors(x), tensors(y), **weights, return_dict=True)
    fit = model.fit(x, y, **weights, batch_size=8, epochs=1, verbose=0, shuffle=False)
    return {name: values[0] for name, values in fit.history.items()}


def scored(model, x, y=Y):
    """The logs of a batch in inference mode, of a model that is as it was."""
    model.compile(keras.optimizers.SGD(0.0), jit_compile=False, run_eagerly=True)
    return model.test_on_batch(tensors(x), tensors(y), return_dict=True)


CACHED = {"pixels": X, "teacher_logits": T_LOGITS}
ON_LOGITS = [name for name, row in LOSSES.items() if not row.takes_features]


@pytest.mark.parametrize("alpha, temperature", [(0.5, 2.0), (0.1, 4.0), (0.0, 1.0), (1.0, 2.0)])
def test_loss_is_the_formula(alpha, temperature):
    student = linear(1)
    logged = fitted(Distiller(student, alpha=alpha, temperature=temperature), x=CACHED, y=Y)
    assert logged["loss"] == pytest.approx(expected(outputs(student), T_LOGITS, alpha, temperature), rel=1e-5)


@pytest.mark.parametrize("one_hot", [False, True])
def test_an_image_without_a_label_is_learned_from_the_teacher_alone(one_hot):
    unlabelled = np.arange(8) % 4 == 1
    labels = np.where(unlabelled, -1, Y)
    rows = np.eye(4, dtype="float32")[Y] * ~unlabelled[:, None] if one_hot else labels
    student = linear(1)
    logged = fitted(Distiller(student, alpha=0.3, temperature=2.0), x=CACHED, y=rows, traced=True)
    logits = outputs(student)
    hard = -np.log(softmax(logits)[np.arange(8), Y])
    p, q = softmax(T_LOGITS / 2), softmax(logits / 2)
    soft = 4 * (p * np.log(p / q)).sum(1)
    wanted = np.where(unlabelled, 0, 0.3 * hard) + 0.7 * soft
    assert logged["loss"] == pytest.approx(wanted.mean(), rel=1e-5)
    assert logged["cross_entropy"] == pytest.approx(hard[~unlabelled].mean(), rel=1e-5)
    assert logged["distillation"] == pytest.approx(soft.mean(), rel=1e-5)
    assert logged["accuracy"] == pytest.approx((logits.argmax(1) == Y)[~unlabelled].mean())


def test_a_live_teacher_labels_what_has_no_label():
    live = fitted(Distiller(linear(1), linear(2), alpha=0.0), x=X, y=np.full(8, -1), traced=True)
    cached = {"pixels": X, "teacher_logits": outputs(linear(2))}
    logged = fitted(Distiller(linear(1), alpha=0.0), x=cached, y=np.full(8, -1))
    assert live["loss"] == pytest.approx(logged["loss"], rel=1e-5)


def test_soft_ce_weighs_the_teacher_by_alpha():
    student = linear(1)
    logged = fitted(Distiller(student, alpha=0.3, loss="soft-ce"), x=CACHED, y=Y)
    log_q = np.log(softmax(outputs(student)))
    wanted = 0.3 * -(softmax(T_LOGITS) * log_q).sum(1) - 0.7 * log_q[np.arange(8), Y]
    assert logged["loss"] == pytest.approx(wanted.mean(), rel=1e-5)
    assert fitted(Distiller(linear(1), alpha=0.0, loss="soft-ce"), x=X, y=Y)  # needs no teacher


@pytest.mark.parametrize("loss", ON_LOGITS)
def test_a_live_teacher_gives_what_its_cached_logits_give(loss):
    teacher = linear(2)
    cached = {"pixels": X, "teacher_logits": outputs(teacher)}
    live, stored = linear(1), linear(1)
    a = fitted(Distiller(live, teacher, loss=loss), x=X, y=Y, rate=0.1)
    b = fitted(Distiller(stored, loss=loss), x=cached, y=Y, rate=0.1)
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
    for one, other in zip(live.get_weights(), stored.get_weights(), strict=True):
        assert np.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("loss", ON_LOGITS)
def test_a_student_that_can_be_its_teacher_becomes_it(loss):
    """Of the same shape, with the teacher alone to learn from: as likely classes in the end, nothing left."""
    teacher, student = linear(2), linear(1)
    cached = {"pixels": X, "teacher_logits": outputs(teacher)}
    model = Distiller(student, alpha=LOSSES[loss].teacher_weight(1.0), temperature=1.0, loss=loss)
    before = scored(model, cached)["distillation"]
    model.compile(keras.optimizers.Adam(0.1), jit_compile=False)
    often = {name: np.tile(values, (200, 1)) for name, values in cached.items()}
    model.fit(often, np.tile(Y, 200), batch_size=8, verbose=0, shuffle=False)
    p = softmax(cached["teacher_logits"])
    least = -(p * np.log(p)).sum(1).mean() if loss == "soft-ce" else 0  # the teacher's entropy
    after = scored(model, cached)["distillation"]
    assert before - least > 0.1 and after - least < 0.02 * (before - least)
    assert (outputs(student).argmax(1) == p.argmax(1)).all()


def test_only_the_student_learns_and_the_teacher_is_left_as_it_came():
    teacher, student = linear(2), linear(1)
    before, started = [w.copy() for w in teacher.get_weights()], [w.copy() for w in student.get_weights()]
    fitted(Distiller(student, teacher), x=X, y=Y, rate=0.1)
    assert all(np.array_equal(a, b) for a, b in zip(before, teacher.get_weights(), strict=True))
    assert not np.allclose(started[0], student.get_weights()[0])
    assert teacher.trainable and len(teacher.trainable_variables) == 2


@pytest.mark.parametrize("loss", ON_LOGITS)
def test_one_hot_labels_and_integers_are_the_same(loss):
    a = fitted(Distiller(linear(1), loss=loss), x=CACHED, y=Y)
    b = fitted(Distiller(linear(1), loss=loss), x=CACHED, y=np.eye(4)[Y])
    assert a["loss"] == pytest.approx(b["loss"]) and a["accuracy"] == b["accuracy"]


def test_sample_weight_weighs_every_image():
    student, weight = linear(1), np.arange(8.0)
    weighed = {"y": Y, "sample_weight": weight}
    logged = fitted(Distiller(student, alpha=0.3, temperature=3.0), x=CACHED, **weighed, traced=True)
    assert logged["loss"] == pytest.approx(expected(outputs(student), T_LOGITS, 0.3, 3.0, weight), rel=1e-5)


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
    assert a["loss"] - b["loss"] == pytest.approx(penalty, rel=1e-4)


def test_validation_scores_in_inference_mode():
    student = linear(1)
    model = Distiller(student, alpha=0.5)
    logged = scored(model, CACHED)
    logits = outputs(student)
    assert logged["loss"] == pytest.approx(expected(logits, T_LOGITS, 0.5, 2.0), rel=1e-5)
    assert logged["accuracy"] == pytest.approx((logits.argmax(1) == Y).mean())
    assert logged["cross_entropy"] == pytest.approx(expected(logits, T_LOGITS, 1.0, 2.0), rel=1e-5)
    hard_only = scored(model, X)  # no teacher at hand
    assert hard_only["loss"] == pytest.approx(logged["cross_entropy"], rel=1e-5)


def test_it_reads_back_with_its_settings_and_weights(tmp_path):
    model = Distiller(linear(1), linear(2), alpha=0.2, temperature=5.0)
    fitted(model, x=X, y=Y, rate=0.1)
    model.save(tmp_path / "d.keras")
    back = keras.saving.load_model(tmp_path / "d.keras")
    assert back.rule == model.rule == Rule(0.2, 5.0, "kd", ())
    assert np.allclose(outputs(back), outputs(model), atol=1e-6)
    assert np.allclose(outputs(back.teacher), outputs(model.teacher), atol=1e-6)


def test_without_any_teacher_it_says_what_is_missing():
    text = (
        r'needs a teacher, or batches of the form {"pixels": \.\.\., "teacher_logits": \.\.\.}\. Got pixels'
    )
    with pytest.raises(ValueError, match=text):
        fitted(Distiller(linear(1)), x=X, y=Y)


@pytest.mark.parametrize(
    "settings, text",
    [
        ({"alpha": 1.5}, r"alpha must be between 0 and 1\. Got 1.5\."),
        ({"temperature": 0}, r"temperature must be positive\. Got 0\."),
        (
            {"loss": "kdd"},
            rf"loss must be one of {', '.join(LOSSES)}\. Got 'kdd'\. Did you mean 'kd'\?",
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
            {"loss": "fitnet", "options": {"distance": 1.0}},
            r"--loss-options must be options of fitnet \(hint\)\. Got 'distance'\.",
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


# Hints on features

FEATURES = (3 * RNG.exponential(size=(8, 6)) + 5).astype("float32")
SCALE = feature_scale(FEATURES[None])
HINTED = {**CACHED, "teacher_features": FEATURES}


def deep(seed, width, regularizer=None):
    """(3,) to `width` features with dropout after them to 4 logits."""
    inputs = keras.Input((3,))
    with initial_weights_from(seed):
        x = keras.layers.Dense(width, activation="relu", kernel_regularizer=regularizer)(inputs)
        return keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Dropout(0.0)(x)))


def hinted(student, teacher=None, **settings):
    """A distiller with hints, whose projector knows something already."""
    model = Distiller(student, teacher, loss="fitnet", **{"feature_scale": SCALE, **settings})
    if model.projector:
        rng = np.random.default_rng(9)
        model.projector.set_weights([rng.normal(size=w.shape) for w in model.projector.get_weights()])
    return model


def expected_parts(model, student, features=FEATURES):
    """(cross entropy, T^2 KL at T=2, hint) of every image in NumPy, each (8,)."""
    own, logits = (np.asarray(values) for values in with_features(student)(X))
    kernel, bias = model.projector.get_weights()
    target = (features - features.mean(0)) / np.sqrt(((features - features.mean(0)) ** 2).mean())
    p, q = softmax(T_LOGITS / 2), softmax(logits / 2)
    hard = -np.log(softmax(logits)[np.arange(8), Y])
    return hard, 4 * (p * np.log(p / q)).sum(1), ((own @ kernel + bias - target) ** 2).mean(1)


@pytest.mark.parametrize("alpha, options, hint", [(0.3, {}, 5.0), (0.0, {"hint": 0.7}, 0.7)])
@pytest.mark.parametrize("weight", [None, np.arange(8.0)])
def test_hints_by_value(alpha, options, hint, weight):
    """Also of images without a label and with weights: neither keeps a teacher from giving hints."""
    labels = np.where(np.arange(8) % 4 == 1, -1, Y)
    student = deep(1, 5)
    model = hinted(student, alpha=alpha, options=options)
    hard, kd, distance = expected_parts(model, student)
    own = np.ones(8) if weight is None else weight
    logged = fitted(model, x=HINTED, y=labels, sample_weight=weight, traced=weight is not None)
    wanted = np.where(labels < 0, 0, alpha * hard) + (1 - alpha) * (kd + hint * distance)
    assert logged["loss"] == pytest.approx((own * wanted).mean(), rel=1e-5)
    assert logged["hint"] == pytest.approx(np.average(distance, weights=own), rel=1e-5)
    assert logged["distillation"] == pytest.approx(np.average(kd + hint * distance, weights=own), rel=1e-5)
    labelled = own * (labels >= 0)
    assert logged["cross_entropy"] == pytest.approx(np.average(hard, weights=labelled), rel=1e-5)


@pytest.mark.parametrize("cached", [("logits", "features"), ("logits",), ("features",)])
@pytest.mark.parametrize("scaled", [True, False])
def test_live_hints_are_cached_ones(cached, scaled):
    teacher = deep(2, 6)
    features, logits = (np.asarray(values) for values in with_features(teacher)(X))
    scale = feature_scale(features[None]) if scaled else FeatureScale(np.zeros(6, "float32"), 1.0)
    stored = {"logits": logits, "features": features}
    batch = {"pixels": X, **{f"teacher_{name}": stored[name] for name in cached}}
    students = [deep(1, 5), deep(1, 5)]
    models = [hinted(students[0], teacher, feature_scale=scale if scaled else None)]
    models += [hinted(students[1], teacher if len(cached) == 1 else None, feature_scale=scale)]
    fit = {"y": Y, "rate": 0.1, "traced": scaled and len(cached) == 2}
    logs = [fitted(model, x=x, **fit) for model, x in zip(models, (X, batch), strict=True)]
    assert logs[0]["loss"] == pytest.approx(logs[1]["loss"], rel=1e-5)
    for one, other in zip(*(m.trainable_variables for m in models), strict=True):
        assert np.allclose(one, other, atol=1e-5)


def test_the_projector_learns_with_the_student_and_is_no_part_of_it():
    teacher, student = deep(2, 6), deep(1, 5)
    model = hinted(student, teacher)
    assert [tuple(v.shape) for v in model.trainable_variables] == [(3, 5), (5,), (5, 4), (4,), (5, 6), (6,)]
    assert [id(w) for w in model.trainable_weights] == [id(v) for v in model.trainable_variables]
    fitted(model, x=X, y=Y, rate=0.1)
    started, moved = hinted(deep(1, 5), deep(2, 6)), model
    for one, other in zip(started.trainable_variables, moved.trainable_variables, strict=True):
        assert not np.allclose(one, other)
    assert all(
        np.array_equal(a, b) for a, b in zip(deep(2, 6).get_weights(), teacher.get_weights(), strict=True)
    )
    assert len(student.weights) == 4 and len(model.weights) == 4 + 4 + 2


def test_a_student_learns_what_its_teacher_makes_of_images():
    """It is as wide: in the end the projector explains nearly all variance of the teacher's features."""
    teacher, student = deep(2, 6), deep(1, 6)
    features, logits = (np.asarray(values) for values in with_features(teacher)(X))
    model = hinted(student, alpha=0.0, options={"hint": 50.0}, feature_scale=feature_scale(features[None]))
    batch = {"pixels": X, "teacher_logits": logits, "teacher_features": features}
    often = {name: np.tile(values, (200, 1)) for name, values in batch.items()}
    model.projector.set_weights([0 * w for w in model.projector.get_weights()])
    before = scored(model, batch)["hint"]
    model.compile(keras.optimizers.Adam(0.05), jit_compile=False)
    model.fit(often, np.tile(Y, 200), batch_size=8, verbose=0, shuffle=False)
    assert before == pytest.approx(1, rel=1e-5)  # it knows the mean alone
    assert scored(model, batch)["hint"] < 0.1


def test_where_the_teacher_has_no_weight_there_are_no_hints():
    model = Distiller(linear(1), alpha=1.0, loss="fitnet")  # one layer would have no features
    assert model.projector is None and "hint" not in fitted(model, x=X, y=Y)


def test_without_features_a_student_is_looked_over_by_kd():
    student = deep(1, 5)
    model = hinted(student)
    hard, kd, distance = expected_parts(model, student)
    for batch, wanted in [(HINTED, 0.5 * hard + 0.5 * (kd + 5 * distance)), (CACHED, 0.5 * hard + 0.5 * kd)]:
        logged = scored(model, batch)
        assert logged["loss"] == pytest.approx(wanted.mean(), rel=1e-5)
    assert scored(model, X)["loss"] == pytest.approx(hard.mean(), rel=1e-5)


@pytest.mark.parametrize("settings, batch", [({}, CACHED), ({}, X), ({"feature_scale": None}, HINTED)])
def test_without_features_or_their_scale_training_says_what_is_missing(settings, batch):
    text = (
        r"^Distiller with loss fitnet and alpha 0\.5 needs a teacher, or batches of the form a feature_scale "
        r'and {"pixels": \.\.\., "teacher_logits": \.\.\., "teacher_features": \.\.\.}\. Got '
        f"{', '.join(batch) if isinstance(batch, dict) else 'pixels'} alone"
    )
    with pytest.raises(ValueError, match=text):
        fitted(hinted(deep(1, 5), **settings), x=batch, y=Y)


def test_the_students_regularisation_counts_beside_hints():
    student, plain = deep(1, 5, keras.regularizers.L2(0.1)), deep(1, 5)
    penalty = 0.1 * float((student.get_weights()[0] ** 2).sum())
    a, b = (fitted(hinted(own), x=HINTED, y=Y)["loss"] for own in (student, plain))
    assert a - b == pytest.approx(penalty, rel=1e-4)


@pytest.mark.parametrize("live", [True, False])
def test_hints_read_back_with_scale_and_projector(live, tmp_path):
    model = hinted(deep(1, 5), deep(2, 6) if live else None, options={"hint": 3.0})
    fitted(model, x=HINTED, y=Y, rate=0.1)
    model.save(tmp_path / "d.keras")
    back = keras.saving.load_model(tmp_path / "d.keras")
    assert back.rule == model.rule and back.feature_scale.rms == model.feature_scale.rms
    assert np.array_equal(back.feature_scale.mean, model.feature_scale.mean)
    logs = [m.test_on_batch(HINTED, Y, return_dict=True) for m in (model, back)]
    assert logs[0] == pytest.approx(logs[1], rel=1e-5) and "hint" in logs[1]
