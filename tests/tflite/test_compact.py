"""A compact file computes what it did, bit for bit, in fewer bytes and in one piece."""

import keras
import numpy as np
import pytest

from kdtf.models.students import build_student, exported
from kdtf.predictor import open_interpreter, quantized
from kdtf.tflite import quantize as quantization
from kdtf.tflite.bench import micro_arena
from kdtf.tflite.compact import compact
from kdtf.tflite.quantize import float32_of, quantize, representative_images
from kdtf.tflite.recipes import RECIPES
from kdtf.tflite.tensors import count_outside, operators, plain_interpreter

VIEWS = np.random.default_rng(0).integers(0, 256, (1, 6, 32, 32, 1), dtype=np.uint8)
IMAGES = representative_images(VIEWS, 6, 0)
PLAIN = [name for name, row in RECIPES.items() if not row.tuning and row.weights != "float32"]


@pytest.fixture(scope="module")
def source():
    """MobileNetV2: depthwise kernels, additions, many channels. Noise in its statistics wakes all of them."""
    student = build_student("mobilenetv2", (32, 32, 1), 4, momentum=0.9, dropout=0.0, seed=0)
    rng = np.random.default_rng(1)
    for layer in student.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = (w.shape for w in layer.get_weights())
            drawn = [rng.uniform(0.5, 2, gamma), rng.normal(0, 0.5, beta), rng.normal(0, 0.1, mean)]
            layer.set_weights([*drawn, rng.uniform(0.02, 0.5, variance)])
    return float32_of(exported(student))


def answers(interpreter):
    """What a file says of images, as whole numbers where it is quantized."""
    interpreter.allocate_tensors()
    fed, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    said = []
    for image in VIEWS[0]:
        interpreter.set_tensor(fed["index"], quantized(image[None], fed))
        interpreter.invoke()
        said.append(interpreter.get_tensor(out["index"]).copy())
    return np.concatenate(said)


@pytest.mark.parametrize("recipe", PLAIN)
def test_it_says_the_same_in_fewer_bytes(recipe, source, monkeypatch):
    monkeypatch.setattr(quantization, "compact", lambda model: model)
    loose = quantize(source, recipe, IMAGES)
    tight = compact(loose)
    assert count_outside(loose) > 0 == count_outside(tight)
    assert len(tight) < len(loose) - 20_000 if recipe != "float16" else len(tight) < len(loose)
    assert np.array_equal(answers(open_interpreter(loose, "a")), answers(open_interpreter(tight, "b")))
    assert np.array_equal(answers(plain_interpreter(loose)), answers(plain_interpreter(tight)))
    for ours, theirs in zip(operators(loose, VIEWS[0]), operators(tight, VIEWS[0]), strict=True):
        assert [a.name for a in ours] == [b.name for b in theirs]
        assert all(np.array_equal(a.output, b.output) for a, b in zip(ours, theirs, strict=True))


def test_equal_vectors_are_stored_once_and_names_are_gone(source):
    from ai_edge_litert.tools import flatbuffer_utils

    file = quantize(source, "int8", IMAGES)
    assert compact(file) == file  # nothing more to be had
    graph = flatbuffer_utils.convert_bytearray_to_object(bytearray(file)).subgraphs[0]
    ends = {*graph.inputs, *graph.outputs}
    assert {i for i, tensor in enumerate(graph.tensors) if tensor.name} == ends
    steps = [t.quantization.zeroPoint for t in graph.tensors if t.quantization is not None]
    widest = max(len(zeros) for zeros in steps if zeros is not None)
    assert widest >= 960 and file.count(bytes(8 * widest)) == 1


def test_microcontrollers_take_it(source):
    pytest.importorskip("tflite_micro", reason="no tflite-micro")
    arena, reason = micro_arena(quantize(source, "int8", IMAGES))
    assert reason == "" and arena > 0
