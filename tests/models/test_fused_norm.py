"""Fused batch normalization: the numbers of Keras' layer, what falls back to it, and nothing left behind."""

import itertools
import json
import subprocess
import sys
import zipfile
from contextlib import contextmanager, nullcontext
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from kdtf.distill.batches import Examples
from kdtf.distill.inference import inference_of
from kdtf.distill.train import train_student
from kdtf.models.fused_norm import fused_batch_normalization
from kdtf.models.seeding import initial_weights_from
from kdtf.models.students import build_student, exported, save_undated
from kdtf.progress import Progress
from kdtf.records import Rule, Training

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 16, 16, 1), dtype=np.uint8)
LABELS = np.arange(48) % 3
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@contextmanager
def kernels_counted():
    """Grows by the shape of the maps, without the batch, when the fused kernel is called or traced."""
    shapes, kernel = [], tf.raw_ops.FusedBatchNormV3

    def counted(x, **arguments):
        shapes.append(tuple(x.shape[1:]))
        return kernel(x=x, **arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.raw_ops, "FusedBatchNormV3", counted)
        yield shapes


@pytest.fixture
def kernels():
    with kernels_counted() as shapes:
        yield shapes


def alone(shape, kind=layers.BatchNormalization, **arguments):
    """A model of one such layer over inputs of `shape`, none of its weights 0 or 1."""
    inputs = keras.Input(shape, dtype=arguments.get("dtype"))
    model = keras.Model(inputs, kind(**arguments)(inputs))
    rng = np.random.default_rng(1)
    model.set_weights([rng.uniform(0.5, 2, weight.shape) for weight in model.weights])
    return model


def steps(model, *batches, fused, traced=True):
    """Of each batch [outputs, their weighted sum's gradients by inputs, gamma and beta, statistics after it].

    As a graph for batches of any size, or operation by operation.
    """
    variables = [variable.value for variable in model.trainable_variables]

    def outputs_and_gradients(inputs, weight):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = model(inputs, training=True)
            loss = tf.reduce_sum(outputs * tf.cast(weight, outputs.dtype))
        return [outputs, *tape.gradient(loss, [inputs, *variables])]

    if traced:
        any_size = tf.TensorSpec((None, *model.input.shape[1:]), batches[0].dtype)
        outputs_and_gradients = tf.function(outputs_and_gradients, input_signature=[any_size] * 2)
    values = []
    with fused_batch_normalization(model) if fused else nullcontext():
        for inputs in batches:
            weight = np.random.default_rng(2).normal(size=inputs.shape).astype(inputs.dtype)
            own = outputs_and_gradients(tf.constant(inputs), tf.constant(weight))
            values += [np.array(value) for value in (*own, *model.non_trainable_variables)]
    return values


def classifier(seed=0):
    """A network with a `BatchNormalization` of its own and one in a model in a model in it."""
    with initial_weights_from(seed):
        inner = keras.Sequential([layers.Conv2D(6, 3, strides=2), layers.BatchNormalization(momentum=0.8)])
        outer = keras.Sequential([inner, layers.ReLU()])
        pixels = keras.Input((16, 16, 1))
        x = layers.BatchNormalization(momentum=0.9)(layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(pixels)))
        x = layers.GlobalAveragePooling2D()(outer(x))
        model = keras.Model(pixels, layers.Dense(3)(x))
    model.compile(keras.optimizers.SGD(0.1), LOSS, metrics=["accuracy"], jit_compile=False)
    return model


def trained(model):
    """The weights after a few steps from where the model is, and its history."""
    x, y = PIXELS.astype("float32"), LABELS
    fit = model.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    return [*model.get_weights(), fit.history["loss"]]


def same_bits(values, others):
    return all(np.array_equal(a, b) for a, b in zip(values, others, strict=True))


SHAPES = [(4, 5, 7, 3), (1, 2, 1, 4), (32, 32, 32, 8), (16, 3, 3, 130), (2, 9, 9, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("center, scale", [*itertools.product((True, False), repeat=2)])
@pytest.mark.parametrize("momentum, epsilon", [(0.9, 1e-3), (0.0, 1e-5), (0.99, 1e-3)])
def test_outputs_gradients_and_statistics_are_those_of_keras(
    shape, center, scale, momentum, epsilon, kernels
):
    rng = np.random.default_rng(0)
    inputs = (3 * rng.normal(size=shape) + 5 * rng.normal(size=shape[-1])).astype("float32")
    settings = {"center": center, "scale": scale, "momentum": momentum, "epsilon": epsilon}
    traced = center == scale and momentum == 0.9  # a graph of every shape, with what Keras has and without
    expected = steps(alone(shape[1:], **settings), inputs, fused=False, traced=traced)
    assert not kernels
    values = steps(alone(shape[1:], **settings), inputs, fused=True, traced=traced)
    assert len(kernels) == 1
    assert len(values) == 4 + center + scale
    for value, keras_value in zip(values, expected, strict=True):
        tolerance = 3e-5 * max(1, np.abs(keras_value).max())
        np.testing.assert_allclose(value, keras_value, rtol=0, atol=tolerance)


def test_statistics_by_hand():
    """Pixels 0 and 4: mean 2, variance 4; the unbiased one is 8."""
    model = alone((1, 2, 1), momentum=0.5, epsilon=1e-6)
    model.set_weights(np.array([[3.0], [1.0], [0.0], [1.0]]))  # gamma, beta, mean, variance
    outputs, *_, mean, variance = steps(model, np.array([[[[0.0], [4.0]]]], "float32"), fused=True)
    np.testing.assert_allclose(outputs.ravel(), [-2, 4], rtol=1e-5)
    assert mean == [1.0] and variance == [2.5]


def test_it_is_as_exact_as_keras_where_the_mean_is_large():
    inputs = (np.random.default_rng(0).normal(size=(16, 32, 32, 4)) + 100).astype("float32")
    exact = inputs.var((0, 1, 2), dtype="float64")
    for fused in (False, True):
        variance = steps(alone((32, 32, 4), momentum=0.0), inputs, fused=fused)[-1]
        np.testing.assert_allclose(variance, exact, rtol=2e-5)


class Subclass(layers.BatchNormalization):
    pass


FALLBACKS = {
    "a subclass": ((5, 4, 3), {"kind": Subclass}),
    "channels first": ((5, 4, 3), {"axis": 1}),
    "rows": ((5, 4, 3), {"axis": 2}),
    "features": ((6,), {}),
    "sequences": ((5, 3), {}),
    "volumes": ((2, 3, 4, 3), {}),
    "sides unknown": ((None, None, 3), {}),
    "one pixel": ((1, 1, 3), {}),
    "float64": ((5, 4, 3), {"dtype": "float64"}),
    "synchronized": ((5, 4, 3), {"synchronized": True}),
    "renormalization": ((5, 4, 3), {"renorm": True}),
    "frozen": ((5, 4, 3), {"trainable": False}),
}


@pytest.mark.parametrize("case", FALLBACKS)
def test_what_the_kernel_is_not_for_is_keras_bit_for_bit(case, kernels):
    """In batches of one and of several."""
    shape, arguments = FALLBACKS[case]
    sides, rng = [side or 4 for side in shape], np.random.default_rng(0)
    dtype = arguments.get("dtype", "float32")
    batches = [rng.normal(size=(size, *sides)).astype(dtype) for size in (1, 6)]
    ours, theirs = (steps(alone(shape, **arguments), *batches, fused=fused) for fused in (True, False))
    assert same_bits(ours, theirs) and not kernels


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_is_left_to_keras(policy, kernels):
    def model():
        inputs = keras.Input((5, 4, 3))
        return keras.Model(inputs, layers.BatchNormalization(dtype=policy)(inputs))

    inputs = np.random.default_rng(0).normal(size=(6, 5, 4, 3)).astype("float32")
    ours, theirs = (steps(model(), inputs, fused=fused) for fused in (True, False))
    assert same_bits(ours, theirs) and not kernels


def test_masked_maps_are_left_to_keras(kernels):
    def statistics(fused):
        layer = layers.BatchNormalization()
        model = keras.Sequential([keras.Input((5, 4, 3)), layer])
        mask = np.random.default_rng(3).random((6, 5, 4)) < 0.5
        inputs = np.random.default_rng(4).normal(size=(6, 5, 4, 3)).astype("float32")
        with fused_batch_normalization(model) if fused else nullcontext():
            outputs = layer(inputs, mask=mask, training=True)
        return [np.asarray(outputs), *layer.get_weights()]

    assert same_bits(statistics(True), statistics(False)) and not kernels


def test_inference_is_keras_bit_for_bit_in_the_block_and_after_it(kernels):
    """Also where Keras traced its test and prediction functions in the block."""
    model, pixels = classifier(), PIXELS.astype("float32")
    with fused_batch_normalization(model):
        trained(model)
        used = len(kernels)
        inside = [model.predict(pixels, verbose=0), *model.evaluate(pixels, LABELS, verbose=0)]
    plain = classifier(seed=9)
    plain.set_weights(model.get_weights())
    expected = [plain.predict(pixels, verbose=0), *plain.evaluate(pixels, LABELS, verbose=0)]
    after = [model.predict(pixels, verbose=0), *model.evaluate(pixels, LABELS, verbose=0)]
    assert same_bits(inside, expected) and same_bits(after, expected)
    assert np.array_equal(inference_of(model)(PIXELS), inference_of(plain)(PIXELS))
    assert len(kernels) == used


def test_norms_in_nested_models_are_fused(kernels):
    model = classifier()
    with fused_batch_normalization(model):
        values = trained(model)
    assert set(kernels) == {(14, 14, 4), (6, 6, 6)}
    for value, keras_value in zip(values, trained(classifier()), strict=True):
        np.testing.assert_allclose(value, keras_value, atol=1e-5)


def test_a_frozen_norm_stays_as_it_is_beside_a_fused_one(kernels):
    model = classifier()
    frozen = next(layer for layer in model.layers if isinstance(layer, layers.BatchNormalization))
    frozen.trainable = False
    model.compile("sgd", LOSS, jit_compile=False)
    before = frozen.get_weights()
    with fused_batch_normalization(model):
        trained(model)
    assert same_bits(before, frozen.get_weights())
    assert set(kernels) == {(6, 6, 6)}


def test_a_training_before_the_block_in_it_and_after_it(kernels):
    """Keras traces a training step once; the one it has is of no use beyond the block's border."""
    model, plain = classifier(), classifier()
    start, expected = model.get_weights(), trained(plain)
    assert same_bits(trained(model), expected) and not kernels
    with fused_batch_normalization(model):
        model.set_weights(start)
        trained(model)
    used = len(kernels)
    assert used >= 2
    model.set_weights(start)
    assert same_bits(trained(model), expected) and len(kernels) == used


def test_the_classes_are_put_back_after_an_error_and_by_the_outer_of_two_blocks():
    model = classifier()
    norm = next(layer for layer in model.layers if isinstance(layer, layers.BatchNormalization))
    with pytest.raises(ZeroDivisionError), fused_batch_normalization(model):
        with fused_batch_normalization(model):
            assert type(norm) is not layers.BatchNormalization
        assert type(norm) is not layers.BatchNormalization
        raise ZeroDivisionError
    assert type(norm) is layers.BatchNormalization


def names_in(path):
    names = []
    with h5py.File(path) as file:
        file.visit(names.append)
    return names


def fitted_student():
    """A cnn3 distilled for 3 epochs of three steps, as a run does it, and its history."""
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(2, 48, 3)).astype("float32")
    views = np.stack([PIXELS, PIXELS[:, :, ::-1]])
    examples = Examples(views, LABELS, PIXELS[:16], LABELS[:16], logits, logits[0, :16])
    model = build_student("cnn3", (16, 16, 1), 3, momentum=0.9, dropout=0.3, seed=3)
    training = Training(epochs=3, batch_size=16, rate=1e-3)
    history = train_student(model, examples, training, Rule(0.5, 2.0), seed=3, title="", progress=Progress())
    return model, history


@pytest.fixture(scope="module")
def fused_student():
    """The same with the shapes of the maps that went through the kernel, to look at."""
    with kernels_counted() as shapes:
        return *fitted_student(), shapes


def test_files_are_those_of_keras_layer(fused_student, tmp_path):
    """Config, .keras, .h5, weights: names and contents."""
    files = ("student.keras", "student.h5", "student.weights.h5")
    fused, *_ = fused_student
    plain = build_student("cnn3", (16, 16, 1), 3, momentum=0.9, dropout=0.3, seed=3)
    plain.set_weights(fused.get_weights())
    for name, model in (("a", fused), ("b", plain)):
        (tmp_path / name).mkdir()
        student = exported(model)
        save_undated(student, tmp_path / name / files[0])
        student.save(tmp_path / name / files[1])
        student.save_weights(tmp_path / name / files[2])
    a, b = tmp_path / "a", tmp_path / "b"
    assert fused.get_config() == plain.get_config()
    assert fused.to_json() == plain.to_json()
    assert [weight.path for weight in fused.weights] == [weight.path for weight in plain.weights]
    assert (a / files[0]).read_bytes() == (b / files[0]).read_bytes()
    assert names_in(a / files[1]) == names_in(b / files[1])
    assert names_in(a / files[2]) == names_in(b / files[2])
    with zipfile.ZipFile(a / files[0]) as archive:
        assert b"Fused" not in archive.read("config.json")


def test_a_trained_student_is_that_of_keras_within_noise(fused_student, monkeypatch, kernels):
    model, history, fused_kernels = fused_student
    assert len(set(fused_kernels)) == 3  # of its three norms
    monkeypatch.setattr("kdtf.distill.fit.fused_batch_normalization", nullcontext)
    plain, keras_history = fitted_student()
    assert not kernels
    for row, keras_row in zip(history, keras_history, strict=True):
        assert row["loss"] == pytest.approx(keras_row["loss"], abs=1e-4)
        # rounding grows to 1e-4 by the third epoch; a momentum of 0.89 for 0.9 makes it 2e-3
        assert row["val_loss"] == pytest.approx(keras_row["val_loss"], abs=5e-4)
    pixels = PIXELS.astype("float32")
    np.testing.assert_allclose(model(pixels), plain(pixels), atol=2e-3)


ELSEWHERE = """\
import json, sys
import keras, numpy as np, tensorflow as tf

for name in ("student.keras", "student.h5"):
    model = keras.models.load_model(name, compile=False)
    np.save(name + ".npy", model(np.load("pixels.npy").astype("float32")))
knows_kdtf = "kdtf" in sys.modules

sys.path[:0] = sys.argv[1:]
tf.config.experimental.enable_op_determinism()
from test_fused_norm import fitted_student

histories = []
for name in ("first", "second"):
    model, history = fitted_student()
    np.savez(name + ".npz", *model.get_weights())
    histories.append(history)
print(json.dumps({"knows kdtf": knows_kdtf, "histories": histories}))
"""


@pytest.fixture(scope="module")
def elsewhere(fused_student, tmp_path_factory):
    """(the student, the folder, what was printed) of another process.

    It loads the finished student without kdtf, then trains two of its own with deterministic operations.
    """
    folder, student = tmp_path_factory.mktemp("elsewhere"), exported(fused_student[0])
    save_undated(student, folder / "student.keras")
    student.save(folder / "student.h5")
    np.save(folder / "pixels.npy", PIXELS)
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    command = [sys.executable, "-c", ELSEWHERE, *paths]
    process = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    return student, folder, json.loads(process.stdout.splitlines()[-1])


def test_a_finished_student_is_loaded_where_kdtf_is_not(elsewhere):
    student, folder, printed = elsewhere
    assert not printed["knows kdtf"]
    expected = student(PIXELS.astype("float32"))
    assert np.array_equal(np.load(folder / "student.keras.npy"), expected)
    assert np.array_equal(np.load(folder / "student.h5.npy"), expected)


def test_with_op_determinism_two_trainings_are_the_same_bits(elsewhere):
    student, folder, printed = elsewhere
    first, second = (np.load(folder / f"{name}.npz") for name in ("first", "second"))
    assert len(first.files) == len(student.get_weights())
    assert same_bits(first.values(), second.values())
    assert printed["histories"][0] == printed["histories"][1]
