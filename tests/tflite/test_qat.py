"""int8 in the loop: the simulation computes as the file does, and training it makes the file better."""

from contextlib import nullcontext

import keras
import numpy as np
import pytest
import tensorflow as tf
from eager_steps import eagerly

from kdtf.distill.batches import Examples
from kdtf.distill.checkpoint import Checkpoint
from kdtf.models.cuts import build_cut
from kdtf.models.students import STUDENTS, build_student, exported
from kdtf.models.weights import WeightSource
from kdtf.progress import Progress
from kdtf.records import Rule, Tuning
from kdtf.tflite import qat
from kdtf.tflite.quantize import float32_of, quantize, representative_images
from kdtf.tflite.tensors import operators

SHAPE = (32, 32, 1)
RNG = np.random.default_rng(0)
COARSE = RNG.integers(0, 256, (2, 24, 4, 4, 1), dtype=np.uint8)
VIEWS = COARSE.repeat(8, axis=2).repeat(8, axis=3)  # smooth enough to be told apart
LABELS = np.arange(24) % 3
LOGITS = RNG.normal(0, 2, (2, 24, 3)).astype("float32")
IMAGES = representative_images(VIEWS, 20, 0)
EXAMPLES = Examples(VIEWS, LABELS, VIEWS[0], LABELS, LOGITS, LOGITS[0])
PIXELS = VIEWS[1].astype("float32")
KD = Rule(0.5, 2.0)


def student(name):
    """One whose BatchNormalization is not the identity."""
    if name.startswith("cut:"):
        none = WeightSource("none")
        model, *_ = build_cut(name, SHAPE, 3, momentum=0.9, dropout=0.2, seed=0, source=none, images=None)
    else:
        model = build_student(name, SHAPE, 3, momentum=0.5, dropout=0.5, seed=0)
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


def file_probs(model):
    """Probabilities of the int8 file of a student, by the built-in kernels."""
    (ops,) = operators(quantize(float32_of(exported(model)), "int8", IMAGES), PIXELS)
    return ops[-1].output


def float_probs(model):
    return np.asarray(keras.ops.softmax(model(PIXELS, training=False)))


def tuned(model, epochs=1, rate=1e-4, examples=EXAMPLES, rule=KD, traced=False, **own):
    settings = {"images": IMAGES, "seed": 0, "title": "", "progress": Progress()}
    with nullcontext() if traced else eagerly():
        return qat.fine_tune(model, examples, Tuning("qat", epochs, rate, 12, rule), **settings, **own)


@pytest.mark.parametrize(
    "name", ["cnn3", "dscnn", "squeezenet", "cut:mobilenetv2:4", "cut:efficientnetlite0:3"]
)
def test_the_simulation_answers_as_the_file_does(name):
    """Far nearer to the file than the float student is."""
    model = student(name)
    simulated = qat.simulation(model)
    simulated.calibrate(IMAGES)
    file, ours = file_probs(model), float_probs(simulated.model)
    off, float_off = (np.square(probs - file).mean() ** 0.5 for probs in (ours, float_probs(model)))
    assert off < 0.006 and (off < 0.7 * float_off or float_off < 0.004), (off, float_off)


@pytest.mark.parametrize("name", STUDENTS)
def test_every_student_can_be_simulated_and_shares_its_weights(name):
    model = student(name)
    simulated = qat.simulation(model)
    simulated.calibrate(IMAGES[:4])
    trained = {id(v) for v in simulated.model.trainable_variables}
    assert trained == {id(v) for v in model.trainable_variables}
    assert all(float(point.low) <= 0 <= float(point.high) for point in simulated.points)


def test_a_kernel_is_rounded_by_channel_and_its_gradient_is_its_own():
    kernel = tf.constant(RNG.normal(size=(3, 3, 2, 4)) * [0.01, 1, 10, 100], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        value = qat.rounded(kernel, (0, 1, 2))
        total = tf.reduce_sum(value * 3)
    step = np.abs(kernel).max(axis=(0, 1, 2)) / 127
    assert np.asarray(value / step) == pytest.approx(np.rint(kernel / step), abs=1e-3)
    assert np.asarray(tape.gradient(total, kernel)) == pytest.approx(3)


@pytest.fixture(scope="module")
def learned():
    """(a student that learned for 8 epochs, its history), as a run does it."""
    model = student("dscnn")
    return model, tuned(model, epochs=8, rate=3e-3, traced=True)


def test_it_learns_with_int8_in_the_loop_and_the_student_has_the_last_weights(learned):
    (model, rows), before = learned, student("dscnn").get_weights()
    assert [row["epoch"] for row in rows] == list(range(1, 9)) and {row["phase"] for row in rows} == {"qat"}
    assert rows[-1]["loss"] < rows[0]["loss"]
    pairs = zip(model.weights, before, model.get_weights(), strict=True)
    moved = {w.path for w, a, b in pairs if not np.array_equal(a, b)}
    assert moved == {w.path for w in model.weights if "moving" not in w.path}  # statistics stay


def test_at_no_rate_nothing_changes():
    model = student("cnn3")
    before = [w.copy() for w in model.get_weights()]
    tuned(model, rate=1e-12, rule=None, examples=EXAMPLES.without_teacher())
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(before, model.get_weights(), strict=True))


def test_after_training_the_file_is_what_was_trained(learned):
    """Within a grey level's worth of probability: its ranges are those of the last weights."""
    model, rows = learned
    file = file_probs(model)
    assert (file.argmax(1) == LABELS).mean() == pytest.approx(rows[-1]["val_accuracy"], abs=0.3)
    simulated = qat.simulation(model)
    simulated.calibrate(IMAGES)
    assert np.abs(file - float_probs(simulated.model)).mean() < 0.01


def test_of_a_loss_on_features_kd_is_left():
    features = EXAMPLES._replace(features=LOGITS, val_features=LOGITS[0])
    hinted = tuned(student("cnn3"), examples=features, rule=Rule(0.3, 3.0, "fitnet"))
    kd = tuned(student("cnn3"), rule=Rule(0.3, 3.0))
    assert hinted[0]["loss"] == pytest.approx(kd[0]["loss"], rel=1e-5)


def test_a_fine_tuning_that_was_killed_goes_on(tmp_path, monkeypatch):
    whole, again = student("cnn3"), student("cnn3")
    rows = tuned(whole, epochs=2, rate=1e-3)
    batch_end, batches = Checkpoint.on_train_batch_end, []

    def killed(self, batch, logs=None):
        self.seconds = -1
        batch_end(self, batch, logs)
        batches.append(batch)
        if len(batches) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("kdtf.distill.train.MOST_OF_STUDENT", 1)  # the others took all of an epoch at once
    monkeypatch.setattr(Checkpoint, "on_train_batch_end", killed)
    state = {"epochs": 2, "rate": 1e-3, "checkpoint": tmp_path / "state.npz"}
    with pytest.raises(KeyboardInterrupt):
        tuned(student("cnn3"), **state)
    assert tuned(again, **state)[-1] == pytest.approx(rows[-1])
    for a, b in zip(whole.get_weights(), again.get_weights(), strict=True):
        assert np.array_equal(a, b)
