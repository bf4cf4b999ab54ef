"""Fused batch normalization: the numbers of Keras' layer, what falls back to it, and nothing left behind."""

import itertools
import subprocess
import sys
import zipfile
from contextlib import nullcontext
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


@pytest.fixture
def kernels(monkeypatch):
    """Grows by the shape of the maps, without the batch, when the fused kernel is called or traced."""
    shapes, kernel = [], tf.raw_ops.FusedBatchNormV3

    def counted(x, **arguments):
        shapes.append(tuple(x.shape[1:]))
        return kernel(x=x, **arguments)

    monkeypatch.setattr(tf.raw_ops, "FusedBatchNormV3", counted)
    return shapes


def alone(shape, kind=layers.BatchNormalization, **arguments):
    """A model of one such layer over inputs of `shape`, none of its weights 0 or 1."""
    inputs = keras.Input(shape, dtype=arguments.get("dtype"))
    model = keras.Model(inputs, kind(**arguments)(inputs))
    rng = np.random.default_rng(1)
    model.set_weights([rng.uniform(0.5, 2, weight.shape) for weight in model.weights])
    return model


def a_step(model, inputs, fused):
    """[outputs, their weighted sum's gradients by inputs, gamma and beta, and the statistics after it]."""
    weight = tf.constant(np.random.default_rng(2).normal(size=inputs.shape), inputs.dtype)
    variables = [variable.value for variable in model.trainable_variables]

    @tf.function(input_signature=[tf.TensorSpec((None, *model.input.shape[1:]), inputs.dtype)])
    def outputs_and_gradients(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = model(inputs, training=True)
            loss = tf.reduce_sum(outputs * tf.cast(weight, outputs.dtype))
        return [outputs, *tape.gradient(loss, [inputs, *variables])]

    with fused_batch_normalization(model) if fused else nullcontext():
        values = outputs_and_gradients(tf.constant(inputs))
    return [np.asarray(value) for value in (*values, *model.non_trainable_variables)]


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


def trained(model, epochs=1):
    """The weights after a few steps from where the model is, and its history."""
    x, y = PIXELS.astype("float32"), LABELS
    fit = model.fit(x, y, batch_size=16, epochs=epochs, shuffle=False, validation_data=(x, y), verbose=0)
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
    expected = a_step(alone(shape[1:], **settings), inputs, fused=False)
    assert not kernels
    values = a_step(alone(shape[1:], **settings), inputs, fused=True)
    assert len(kernels) == 1
    assert len(values) == 4 + center + scale
    for value, keras_value in zip(values, expected, strict=True):
        tolerance = 3e-5 * max(1, np.abs(keras_value).max())
        np.testing.assert_allclose(value, keras_value, rtol=0, atol=tolerance)


def test_statistics_by_hand():
    """Pixels 0 and 4: mean 2, variance 4; the unbiased one is 8."""
    model = alone((1, 2, 1), momentum=0.5, epsilon=1e-6)
    model.set_weights(np.array([[3.0], [1.0], [0.0], [1.0]]))  # gamma, beta, mean, variance
    outputs, *_, mean, variance = a_step(model, np.array([[[[0.0], [4.0]]]], "float32"), fused=True)
    np.testing.assert_allclose(outputs.ravel(), [-2, 4], rtol=1e-5)
    assert mean == [1.0] and variance == [2.5]


def test_it_is_as_exact_as_keras_where_the_mean_is_large():
    inputs = (np.random.default_rng(0).normal(size=(16, 32, 32, 4)) + 100).astype("float32")
    exact = inputs.var((0, 1, 2), dtype="float64")
    for fused in (False, True):
        variance = a_step(alone((32, 32, 4), momentum=0.0), inputs, fused)[-1]
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


@pytest.mark.parametrize("batch", [1, 6])
@pytest.mark.parametrize("case", FALLBACKS)
def test_what_the_kernel_is_not_for_is_keras_bit_for_bit(case, batch, kernels):
    shape, arguments = FALLBACKS[case]
    sides = [side or 4 for side in shape]
    inputs = np.random.default_rng(0).normal(size=(batch, *sides)).astype(arguments.get("dtype", "float32"))
    steps = [a_step(alone(shape, **arguments), inputs, fused) for fused in (False, True)]
    assert same_bits(*steps) and not kernels


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_is_left_to_keras(policy, kernels):
    def model():
        inputs = keras.Input((5, 4, 3))
        return keras.Model(inputs, layers.BatchNormalization(dtype=policy)(inputs))

    inputs = np.random.default_rng(0).normal(size=(6, 5, 4, 3)).astype("float32")
    assert same_bits(a_step(model(), inputs, False), a_step(model(), inputs, True)) and not kernels


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


def test_files_are_those_of_keras_layer(tmp_path):
    """Config, .keras, .h5, weights: names and contents."""
    files = ("student.keras", "student.h5", "student.weights.h5")
    fused, plain = (
        fitted_student()[0],
        build_student("cnn3", (16, 16, 1), 3, momentum=0.9, dropout=0.3, seed=3),
    )
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


def fitted_student(progress=None, epochs=3):
    """A cnn3 distilled for 3 epochs of three steps, as a run does it."""
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(2, 48, 3)).astype("float32")
    views = np.stack([PIXELS, PIXELS[:, :, ::-1]])
    examples = Examples(views, LABELS, PIXELS[:16], LABELS[:16], logits, logits[0, :16])
    model = build_student("cnn3", (16, 16, 1), 3, momentum=0.9, dropout=0.3, seed=3)
    training = Training(epochs, batch_size=16, rate=1e-3)
    history = train_student(
        model, examples, training, Rule(0.5, 2.0), seed=3, title="", progress=progress or Progress()
    )
    return model, history


def test_a_trained_student_is_that_of_keras_within_noise(monkeypatch, kernels):
    model, history = fitted_student()
    assert len(set(kernels)) == 3  # of its three norms
    monkeypatch.setattr("kdtf.distill.fit.fused_batch_normalization", nullcontext)
    kernels.clear()
    plain, keras_history = fitted_student()
    assert not kernels
    for row, keras_row in zip(history, keras_history, strict=True):
        assert row["loss"] == pytest.approx(keras_row["loss"], abs=1e-4)
        assert row["val_loss"] == pytest.approx(keras_row["val_loss"], abs=1e-4)
    pixels = PIXELS.astype("float32")
    np.testing.assert_allclose(model.predict(pixels, verbose=0), plain.predict(pixels, verbose=0), atol=2e-3)


def test_a_finished_student_is_loaded_where_kdtf_is_not(tmp_path):
    model = exported(fitted_student()[0])
    save_undated(model, tmp_path / "student.keras")
    model.save(tmp_path / "student.h5")
    np.save(tmp_path / "pixels.npy", PIXELS)
    code = (
        "import sys, numpy as np, keras\n"
        "for name in ('student.keras', 'student.h5'):\n"
        "    model = keras.models.load_model(name, compile=False)\n"
        "    probs = model.predict(np.load('pixels.npy').astype('float32'), verbose=0)\n"
        "    np.save(name + '.npy', probs)\n"
        "assert 'kdtf' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    expected = model.predict(PIXELS.astype("float32"), verbose=0)
    assert np.array_equal(np.load(tmp_path / "student.keras.npy"), expected)
    assert np.array_equal(np.load(tmp_path / "student.h5.npy"), expected)


def test_with_op_determinism_two_trainings_are_the_same_bits():
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "import numpy as np, tensorflow as tf\n"
        "tf.config.experimental.enable_op_determinism()\n"
        "from test_fused_norm import fitted_student, same_bits\n"
        "first, second = (fitted_student() for _ in range(2))\n"
        "assert same_bits(first[0].get_weights(), second[0].get_weights())\n"
        "assert first[1] == second[1]\n"
    )
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    subprocess.run([sys.executable, "-c", code, *folders], check=True)
