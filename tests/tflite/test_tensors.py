"""What is inside a file, counted and measured tensor by tensor."""

import keras
import numpy as np
import pytest
from small_students import CLASSES, IMAGES, SHAPE, VIEWS, shipped

from kdtf.models.students import build_student, exported
from kdtf.tflite.quantize import convert, float32_of, quantize
from kdtf.tflite.tensors import (
    errors,
    operators,
    plain_interpreter,
    ranges,
    sparsity,
)


@pytest.fixture(scope="module")
def small():
    return shipped("baseline")


def test_weights_are_quantized_per_channel(small):
    for recipe, steps in (("int8", 127), ("int4", 7)):
        interpreter = plain_interpreter(quantize(float32_of(small), recipe, IMAGES))
        interpreter.allocate_tensors()
        kernels = [
            d for d in interpreter.get_tensor_details() if d["quantization_parameters"]["scales"].size > 3
        ]
        kernels = [d for d in kernels if len(d["shape"]) > 1]
        assert sorted(d["quantization_parameters"]["scales"].size for d in kernels) == [32, 64, 128]
        largest = [np.abs(interpreter.get_tensor(d["index"])).max() for d in kernels]
        assert max(largest) == 127  # int4: the first convolution keeps 8 bits
        assert sum(value <= steps + 1 for value in largest) == (2 if recipe == "int4" else 3)


def test_ranges_are_exact_extremes(small):
    """Of every image, however rare: white in 1 of 32 must not be cut off."""
    extremes = ranges(float32_of(small), IMAGES)
    assert extremes["pixels"]["min"] == 0 and extremes["pixels"]["max"] == 255
    first = keras.Model(small.input, small.layers[2].output)(IMAGES)
    name = next(operators(float32_of(small), IMAGES[:1]))[0].tensor
    assert extremes[name]["max"].item() == pytest.approx(float(np.max(first)), rel=1e-4)


def test_a_channel_that_died_keeps_its_bias():
    """All weights of one channel are 0, as pruning leaves them: its output is its bias, also in int8."""
    student = build_student("cnn3", SHAPE, len(CLASSES), momentum=0.5, dropout=0.5, seed=0)
    for layer in student.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            kernel, bias = layer.get_weights()
            kernel[..., 1] = 0
            layer.set_weights([kernel, bias + 0.3])
    source = float32_of(exported(student))
    rows = errors(source, quantize(source, "int8", IMAGES), VIEWS[0])
    assert min(error.snr_db for error in rows) > 35  # 0 to 20 dB where the bias overflows


def test_errors_are_those_of_the_tensors(small):
    source = float32_of(small)
    assert all(
        e.snr_db == 200 and e.max_abs == 0 and e.cosine == pytest.approx(1)
        for e in errors(source, source, VIEWS[0])
    )
    rough = quantize(source, "int8", IMAGES)
    (first, *_), (other, *_) = (next(operators(m, VIEWS[0, :5])) for m in (source, rough))
    error = errors(source, rough, VIEWS[0, :5])[0]
    noise = first.output - other.output
    assert error.layer == "0 CONV_2D" and error.weighted
    assert error.max_abs == pytest.approx(np.abs(noise).max(), rel=1e-5)
    power = np.sum(first.output.astype(float) ** 2) / np.sum(noise.astype(float) ** 2)
    assert error.snr_db == pytest.approx(10 * np.log10(power), abs=1e-3)
    # over batches of 32 the sums must be those of all images at once
    assert errors(source, rough, VIEWS.reshape(-1, *SHAPE))[0].max_abs >= error.max_abs


def test_files_of_other_networks_are_not_compared(small):
    with pytest.raises(ValueError, match="The operators differ"):
        errors(float32_of(small), float32_of(shipped("cnn3")), VIEWS[0])


def test_sparsity_counts_exact_zeros():
    student = build_student("baseline", SHAPE, len(CLASSES), momentum=0.5, dropout=0.5, seed=0)
    kernel, bias = (dense := student.layers[-3]).get_weights()
    kernel[::2] = 0
    dense.set_weights([kernel, bias])
    weights = sum(w.size for w in student.get_weights() if w.ndim > 1)
    for recipe in ("float32", "int8"):
        part = sparsity(convert(exported(student), recipe, IMAGES))
        assert part == pytest.approx(kernel.size / 2 / weights, abs=0.01)
