"""The tf_keras copy: the same logits, the same loss, and what fine-tuning leaves in the file."""

import random
import subprocess
import sys
from dataclasses import fields

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager.context import global_seed

from kdtf.config import QuantizeConfig
from kdtf.distill.batches import Examples
from kdtf.distill.distiller import Distiller
from kdtf.distill.losses import LOSSES
from kdtf.errors import UserError
from kdtf.models.students import STUDENTS, build_student
from kdtf.progress import Progress
from kdtf.records import Rule, Tuning
from kdtf.tflite import compress, tuning_state
from kdtf.tflite.quantize import float32_file, quantize, representative_images
from kdtf.tflite.recipes import QAT, RECIPES, TUNING_SETTINGS
from kdtf.tflite.tensors import gzip_bytes, operators, sparsity
from kdtf.tflite.tuning_state import TuningState

SHAPE = (16, 16, 1)
RNG = np.random.default_rng(0)
VIEWS = RNG.integers(0, 256, (2, 24, *SHAPE), dtype=np.uint8)
LOGITS = RNG.normal(0, 2, (2, 24, 3)).astype("float32")
LABELS = np.arange(24) % 3
IMAGES = representative_images(VIEWS, 20, 0)
ALONE = Examples(VIEWS, LABELS, VIEWS[0], LABELS)
LABELLED = ALONE._replace(logits=LOGITS, val_logits=LOGITS[0])
RULE = Rule(0.5, 2.0)


def student(name="cnn3"):
    """One whose BatchNormalization is not the identity."""
    model, rng = build_student(name, SHAPE, 3, momentum=0.5, dropout=0.5, seed=0), np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


@pytest.fixture
def toy(monkeypatch):
    """The method "toy" trains the copy as it is. The (method, steps) that it was asked to prepare."""
    prepared = []

    def plain(copy, tuning, steps):
        prepared.append((tuning.method, steps))
        return compress.Prepared(copy, [], lambda: copy)

    monkeypatch.setitem(compress.METHODS, "toy", plain)
    return prepared


def tuned(method, model=None, examples=LABELLED, epochs=1, rate=3e-4, batch_size=12, checkpoint=None, **own):
    """A student fine-tuned by a method, distilled where the examples have a teacher's logits."""
    rule = RULE if examples.logits is not None else None
    tuning = Tuning(method, epochs, rate, batch_size, rule, **own)
    settings = {"seed": 0, "title": "", "progress": Progress(), "checkpoint": checkpoint}
    return compress.fine_tune(model or student(), examples, tuning, **settings)


@pytest.mark.parametrize("name", [name for name, row in STUDENTS.items() if row.chain])
def test_copy_and_original_agree(name):
    model = student(name)
    pixels = VIEWS.reshape(-1, *SHAPE).astype("float32")
    ours, theirs = (np.asarray(m(pixels, training=False)) for m in (model, compress.tf_keras_copy(model)))
    assert np.abs(ours).max() > 0.1
    assert np.abs(ours - theirs).max() < 1e-5


def test_students_that_are_no_chain_are_refused():
    shape = (32, 32, 1)
    model = build_student("squeezenet", shape, 3, momentum=0.9, dropout=0.5, seed=0)
    rule = r"--student must be cnn3, cnn3-small, cnn5 or baseline for --compress\. Got 'squeezenet'\."
    with pytest.raises(UserError, match=rule):
        compress.tf_keras_copy(model)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_is_the_distillers(loss):
    """By value, on one batch: what the copy minimises is what the student was trained with."""
    model, alpha = student(), 0.3
    distiller = Distiller(model, alpha=alpha, temperature=3.0, loss=loss)
    distiller.compile("adam", jit_compile=False)
    pixels = VIEWS[0].astype("float32")
    inputs = {"pixels": pixels, "teacher_logits": LOGITS[0]}
    logs = distiller.test_on_batch(inputs, LABELS, return_dict=True)
    x, target = compress._target(inputs, LABELS, 1.0)
    ours = np.mean(compress._loss(Rule(alpha, 3.0, loss))(target, model(x, training=False)))
    assert ours == pytest.approx(float(logs["loss"]), rel=1e-5)
    x, target = compress._target(pixels, LABELS, 1.0)
    ours = np.mean(compress._loss(None)(target, model(x, training=False)))
    assert ours == pytest.approx(float(logs["cross_entropy"]), rel=1e-5)


def draws():
    """The next numbers of everybody else's generators: Python's, NumPy's, TensorFlow's and tf_keras'."""
    tf_keras, _ = compress.libraries()
    initial = tf_keras.initializers.GlorotUniform()((1, 1))
    numbers = (tf.random.uniform(()), tf.random.get_global_generator().uniform(()), initial[0, 0])
    # NumPy's generator of the process is the point
    return (random.random(), np.random.random(), *map(float, numbers))  # noqa: NPY002


def test_no_generator_of_the_process_notices(toy):
    tf_keras, _ = compress.libraries()
    numbers = []
    for fine_tuning in (False, True):
        tf_keras.utils.set_random_seed(7)
        tf.random.get_global_generator().reset_from_seed(7)
        first = draws()
        if fine_tuning:
            tuned("cluster", student("baseline"), clusters=4)
        numbers.append((first, draws()))
    assert numbers[0] == numbers[1]
    tf.random.set_seed(None)
    tuned("toy", student("baseline"))
    assert global_seed() is None


def test_pruning_reaches_its_sparsity_and_gzip_shows_it():
    probs, _ = tuned("prune", epochs=9, sparsity=0.8)
    source = float32_file(probs, SHAPE)
    kernels = [op.weights for op in next(operators(source, IMAGES[:1])) if op.weights is not None]
    parts = [float((k == 0).mean()) for k in kernels]
    assert parts[0] == parts[-1] == 0  # first and last layer are left whole
    assert np.allclose(parts[1:-1], 0.8, atol=0.01)
    int8 = quantize(source, "int8", IMAGES)
    assert min(sparsity(int8), sparsity(source)) > 0.75
    assert gzip_bytes(int8) < 0.5 * len(int8)


def test_clustering_leaves_as_many_values_as_asked():
    probs, _ = tuned("cluster", examples=ALONE, epochs=2, batch_size=256, clusters=8)
    layers = next(operators(float32_file(probs, SHAPE), IMAGES[:1]))
    values = [len(np.unique(op.weights)) for op in layers if op.weights is not None]
    assert max(values[1:-1]) <= 8 and values[0] > 8 and values[-1] > 8


def test_a_loss_that_is_not_finite_is_told(toy):
    lost = LABELLED._replace(logits=np.full_like(LOGITS, np.nan))
    with pytest.raises(UserError, match=r"The loss must be finite throughout toy\. .*lower --compress-rate"):
        tuned("toy", student("baseline"), examples=lost)


def test_weights_that_the_last_step_loses_are_told(toy):
    """The loss of the only step is that of the weights before it."""
    with pytest.raises(UserError, match=r"The weights of toy must stay below 1e\+20\. .*learning rate"):
        tuned("toy", examples=ALONE, batch_size=256, rate=1e30)


def test_a_toy_method_is_a_row_and_its_file_any_recipe(toy):
    """It trains the copy as it is: the student moves, and ends as a plain float network."""
    model = student("baseline")
    probs, history = tuned("toy", model, epochs=2, rate=1e-3)
    assert toy == [("toy", 4)]  # two steps an epoch
    assert [row["phase"] for row in history] == ["toy", "toy"]
    pixels = VIEWS[0].astype("float32")
    moved = np.abs(probs(pixels) - keras.ops.softmax(model(pixels, training=False))).max()
    assert 1e-4 < moved < 0.5
    assert len(quantize(float32_file(probs, SHAPE), "int8", IMAGES)) > 1000


def test_every_tuned_recipe_has_a_method_and_settings_that_exist():
    assert (
        {row.tuning for row in RECIPES.values() if row.tuning}
        == {QAT, *compress.METHODS}
        == set(TUNING_SETTINGS)
    )
    settings = {field.name for field in fields(QuantizeConfig)}
    own = {field.name for field in fields(Tuning)}
    for method in TUNING_SETTINGS.values():
        assert set(method) <= own and set(method.values()) <= settings


def test_only_compress_knows_tf_keras_and_only_when_asked():
    code = (
        "import sys, os; from kdtf.runs import engine, files; from kdtf.tflite import compress, qat; "
        "assert not {'tf_keras', 'tensorflow_model_optimization'} & sys.modules.keys(); "
        "compress.libraries(); assert 'TF_USE_LEGACY_KERAS' not in os.environ; "
        "assert {'tf_keras', 'tensorflow_model_optimization'} <= sys.modules.keys()"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_missing_libraries_are_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_model_optimization", None)
    with pytest.raises(UserError, match="tensorflow-model-optimization: install kdtf with its extra 'qat'"):
        compress.libraries()


def test_of_a_loss_on_features_kd_is_left(toy):
    """By value; and features among the examples make no difference."""
    model = student()
    x, target = compress._target(
        {"pixels": VIEWS[0].astype("float32"), "teacher_logits": LOGITS[0]}, LABELS, 1.0
    )
    logits = model(x, training=False)
    hinted, kd = (compress._loss(rule)(target, logits) for rule in (Rule(0.3, 3.0, "fitnet"), Rule(0.3, 3.0)))
    assert np.array_equal(hinted, kd)
    examples = LABELLED._replace(features=LOGITS, val_features=LOGITS[0])
    histories = [tuned("toy", student("baseline"), own).history for own in (LABELLED, examples)]
    assert histories[0] == histories[1]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("method, own", [("prune", {"sparsity": 0.5}), ("cluster", {"clusters": 8})])
def test_it_goes_on_where_it_was_killed(method, own, tmp_path, monkeypatch):
    """Twice, after the first epoch and after the second of three: as if it never had been, bit for bit."""
    path, pixels = tmp_path / "state.npz", VIEWS[0].astype("float32")
    undisturbed = tuned(method, epochs=3, **own)
    monkeypatch.setattr(tuning_state, "SECONDS", -1)
    write, epochs = TuningState.write, []

    def dying(state):
        write(state)
        epochs.append(len(state.rows))
        if len(epochs) < 3:
            raise Killed

    monkeypatch.setattr(TuningState, "write", dying)
    for _ in range(2):
        with pytest.raises(Killed):
            tuned(method, epochs=3, checkpoint=path, **own)
    resumed = tuned(method, epochs=3, checkpoint=path, **own)
    assert epochs == [1, 2, 3]  # none was repeated
    assert resumed.history == undisturbed.history
    assert np.array_equal(resumed.probs(pixels), undisturbed.probs(pixels))


def test_a_state_that_does_not_fit_is_ignored(toy, tmp_path):
    path = tmp_path / "state.npz"
    for content in (b"text", b""):
        path.write_bytes(content)
        histories = [tuned("toy", student("baseline"), checkpoint=own).history for own in (path, None)]
        assert histories[0] == histories[1]
