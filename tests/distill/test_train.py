"""Fitting by recipe: a head, a whole classifier, a student alone and one distilled."""

from dataclasses import replace
from functools import cache

import keras
import numpy as np
import pytest

from kdtf.distill.batches import Examples, UnlabelledExamples
from kdtf.distill.inference import inference_of
from kdtf.distill.train import default_rate, train_classifier, train_student
from kdtf.models.seeding import initial_weights_from
from kdtf.models.students import build_student, exported
from kdtf.models.teachers import build_head
from kdtf.progress import Progress
from kdtf.records import Rule, TeacherHead, Training

RNG = np.random.default_rng(0)


def split(count, side=16):
    """(pixels, labels) of two classes told apart by brightness."""
    labels = np.arange(count) % 2
    noise = RNG.integers(0, 100, (count, side, side, 1))
    return (noise + 120 * labels[:, None, None, None]).astype(np.uint8), labels.astype("int64")


(TRAIN, LABELS), (VAL, VAL_LABELS), (TEST, TEST_LABELS) = split(40), split(12), split(12)
EXAMPLES = Examples(TRAIN[None], LABELS, VAL, VAL_LABELS)
STUDENT = Training(epochs=8, batch_size=8, rate=3e-3)
SETTINGS = {"title": "", "progress": Progress()}


def test_a_head_learns_from_cached_features():
    features, val = (pixels.mean((1, 2)) / 25 - 4 for pixels in (TRAIN, VAL))  # (40, 1), (12, 1)
    examples = Examples(np.stack([features] * 2), LABELS, val, VAL_LABELS)
    training = Training(8, 8, 1e-3, schedule="constant", patience=8)
    head = build_head("vgg16", (1,), 2)
    rows = train_classifier(head, examples, training, phase="head", seed=0, **SETTINGS)
    assert [r["epoch"] for r in rows] == list(range(1, 9))
    assert {r["phase"] for r in rows} == {"head"} and rows[-1]["accuracy"] > 0.9


def test_the_whole_network_learns_and_ends_with_its_best_weights():
    with initial_weights_from(0):
        x = inputs = keras.Input((16, 16, 1))
        x = keras.layers.Rescaling(1 / 255)(x)
        x = keras.layers.BatchNormalization(momentum=0.9)(keras.layers.Conv2D(4, 3)(x))
        x = keras.layers.GlobalAveragePooling2D()(x)
        model = keras.Model(inputs, keras.layers.Dense(2)(x))
    training = Training(4, 32, 3e-4, patience=15)
    rows = train_classifier(model, EXAMPLES, training, phase="whole network", seed=0, **SETTINGS)
    best = max((r["val_accuracy"], -r["val_loss"]) for r in rows)
    scored = model.evaluate(VAL.astype("float32"), VAL_LABELS, verbose=0, return_dict=True)
    assert (scored["accuracy"], -scored["loss"]) == pytest.approx(best, abs=1e-5)
    assert rows[-1]["learning_rate"] == pytest.approx(0, abs=1e-9)


@pytest.mark.usefixtures("eager_steps")
def test_a_smoothed_label_is_spread_over_all_classes():
    features = np.array([[[2.0], [-1.0]]], "float32")  # (1, 2, 1)
    examples = Examples(features, np.array([0, 1]), features[0], np.array([0, 1]))
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(2, kernel_initializer="ones")(inputs))
    weights = [np.array([[1.0, -1.0]]), np.zeros(2)]
    losses = {}
    for smoothing in (0.0, 0.2):
        model.set_weights(weights)
        training = Training(1, 2, 1e-9, schedule="constant", label_smoothing=smoothing)
        rows = train_classifier(model, examples, training, phase="head", seed=0, **SETTINGS)
        losses[smoothing] = rows[0]["loss"]
    log_q = np.array([[2.0, -2.0], [-1.0, 1.0]])
    log_q -= np.log(np.exp(log_q).sum(1, keepdims=True))
    for smoothing, loss in losses.items():
        target = (1 - smoothing) * np.eye(2) + smoothing / 2
        assert loss == pytest.approx(-(target * log_q).sum(1).mean(), rel=1e-5)


@pytest.mark.usefixtures("eager_steps")
def test_without_patience_the_last_weights_are_kept():
    features = np.random.default_rng(0).normal(size=(1, 8, 3)).astype("float32")
    labels = np.arange(8) % 2
    examples = Examples(features, labels, features[0], 1 - labels)  # val says the contrary of train
    kept = {}
    for patience in (None, 9):
        head = build_head("vgg16", (3,), 2, seed=0, head=TeacherHead("linear", 0.0))
        training = Training(9, 8, 0.1, schedule="constant", patience=patience)
        rows = train_classifier(head, examples, training, phase="head", seed=0, **SETTINGS)
        head.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        kept[patience] = head.evaluate(features[0], 1 - labels, verbose=0, return_dict=True)["loss"]
        assert len(rows) == 9
    assert kept[None] == pytest.approx(rows[-1]["val_loss"], rel=1e-4) and kept[9] < kept[None]


def trained(examples=EXAMPLES, rule=None, seed=0, training=STUDENT):
    """(student, history)."""
    student = build_student("cnn3", (16, 16, 1), 2, momentum=0.9, dropout=0.5, seed=seed)
    return student, train_student(student, examples, training, rule, seed=seed, **SETTINGS)


@cache
def trained_alone():
    """The same, to look at."""
    return trained()


def test_a_student_learns_alone_and_from_a_teacher():
    alone, _ = trained_alone()
    right = inference_of(alone)(TEST).argmax(1) == TEST_LABELS
    assert right.mean() > 0.9
    wrong = [8 * np.eye(2, dtype="float32")[1 - labels] for labels in (LABELS, VAL_LABELS)]
    examples = EXAMPLES._replace(logits=wrong[0][None], val_logits=wrong[1])  # a teacher that is always wrong
    misled, history = trained(examples, Rule(0.0, 2.0))
    errors = inference_of(misled)(TEST).argmax(1) != TEST_LABELS
    assert errors.mean() > 0.9  # with alpha 0 the teacher alone is believed
    assert history[-1]["loss"] == pytest.approx(history[-1]["distillation"], rel=1e-5)


@pytest.mark.usefixtures("eager_steps")
def test_the_same_seed_gives_the_same_start_and_another_another():
    step = replace(STUDENT, epochs=1, batch_size=40)
    first, again, other = (trained(seed=seed, training=step)[1][0]["loss"] for seed in (0, 0, 1))
    assert first == pytest.approx(again, rel=1e-4) and first != pytest.approx(other, rel=1e-3)


def test_a_teacher_without_weight_changes_nothing():
    """With alpha 1 its logits are not even read: as if the student had been trained alone."""
    lost = EXAMPLES._replace(logits=np.full((1, 40, 2), np.nan), val_logits=np.full((12, 2), np.nan))
    (alone, rows), (student, other) = trained_alone(), trained(lost, Rule(1.0, 2.0))
    assert rows == other
    assert all(np.array_equal(a, b) for a, b in zip(alone.get_weights(), student.get_weights(), strict=True))


def test_a_rate_that_is_not_set_depends_on_batch_normalization():
    norm = build_student("cnn3", (16, 16, 1), 2, momentum=0.9, dropout=0.5, seed=0)
    plain = build_student("baseline", (16, 16, 1), 2, momentum=0.9, dropout=0.5, seed=0)
    assert (default_rate(norm), default_rate(plain)) == (1e-3, 1e-4)


HINTS = RNG.normal(size=(1, 40, 3)).astype("float32") + 4 * LABELS[None, :, None]
HINTED = EXAMPLES._replace(
    logits=np.zeros((1, 40, 2), "float32"),
    val_logits=np.zeros((12, 2), "float32"),
    features=HINTS,
    val_features=HINTS[0, :12],
)


def test_a_student_learns_from_hints_and_is_exported_without_their_projector():
    """Of a teacher whose logits know nothing, and whose features know the class."""
    student, rows = trained(HINTED, Rule(0.0, 2.0, "fitnet", (("hint", 2.0),)))
    assert rows[-1]["hint"] < 0.5 * rows[0]["hint"]
    assert rows[-1]["loss"] == pytest.approx(rows[-1]["distillation"], rel=1e-5)
    plain, _ = trained_alone()
    assert exported(student).to_json() == exported(plain).to_json()
    assert [w.path for w in exported(student).weights] == [w.path for w in exported(plain).weights]


def test_without_features_a_loss_on_them_is_refused():
    with pytest.raises(ValueError, match="needs a teacher, or batches of the form a feature_scale"):
        trained(HINTED._replace(features=None, val_features=None), Rule(0.5, 2.0, "fitnet"))


@pytest.mark.usefixtures("eager_steps")
def test_unlabelled_images_give_hints_too():
    lost = HINTED._replace(features=0 * HINTS, val_features=None)
    others = UnlabelledExamples(TRAIN[None], lost.logits, HINTS)
    rows = {}
    for share in (0.0, 0.5):
        training = replace(STUDENT, epochs=1, batch_size=40, unlabelled_share=share)
        student = build_student("baseline", (16, 16, 1), 2, momentum=0.9, dropout=0.0, seed=0)
        rule = Rule(0.0, 2.0, "fitnet")
        examples = lost._replace(unlabelled=others)
        rows[share] = train_student(student, examples, training, rule, seed=0, **SETTINGS)[0]
    assert rows[0.5]["hint"] > 1 + rows[0.0]["hint"]  # features that never vary, and some that do
