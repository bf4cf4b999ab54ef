"""Every student by every recipe: what a device gets out of the file, and the bundles it refuses."""

import hashlib
import json
from functools import cache

import numpy as np
import pytest
from small_students import (
    CLASSES,
    IMAGES,
    PLAIN,
    SHAPE,
    VIEWS,
    network,
    shipped,
    write_bundle,
)

from kdtf.cli.entry import main
from kdtf.evidence import choose
from kdtf.models.students import STUDENTS, exported
from kdtf.predictor import BundleError, Predictor
from kdtf.tflite import quantize as quantization
from kdtf.tflite.bench import micro_arena
from kdtf.tflite.quantize import file_facts, float32_of, quantize, representative_images
from kdtf.tflite.recipes import RECIPES
from kdtf.tflite.tensors import count_outside, count_quantized, errors, operators

PIXELS = VIEWS.reshape(-1, *SHAPE)
DIMMED = (VIEWS[0] * np.linspace(0, 1, 20).reshape(20, 1, 1, 1)).astype(np.uint8)
TOLERANCE = {"float32": 1e-5, "float16": 5e-3, "dynamic": 5e-2, "int8": 5e-2, "int16x8": 2e-2, "int4": 0.1}


@pytest.fixture(scope="module", params=STUDENTS)
def student(request):
    return shipped(request.param)


@pytest.fixture(scope="module")
def expected(student):
    """What Keras makes of the pixels."""
    return np.asarray(student(PIXELS.astype("float32")))


@pytest.fixture(scope="module")
def file_by(student):
    """The student's file by a recipe, made once; every other one is made from the float32 one."""
    source = float32_of(student)
    return cache(lambda recipe: quantize(source, recipe, IMAGES))


@pytest.fixture(scope="module")
def small():
    """A float32 file of the smallest student."""
    return float32_of(shipped("baseline"))


@pytest.mark.parametrize("recipe", PLAIN)
def test_every_student_converts_and_predicts_what_keras_predicts(file_by, expected, recipe, tmp_path):
    path, facts = write_bundle(tmp_path, file_by(recipe), recipe)
    predictor = Predictor(path)
    probs = predictor(PIXELS)
    assert probs.shape == (40, 3) and np.allclose(probs.sum(1), 1, atol=1e-5)
    assert np.abs(probs - expected).max() < TOLERANCE[recipe]
    assert np.allclose(predictor(PIXELS[:1]), probs[:1], atol=1e-6)  # any number of images
    assert predictor.classes == CLASSES
    ops = {op["op_name"] for op in predictor._interpreter._get_ops_details()}
    assert not ops & {"SHAPE", "PACK", "STRIDED_SLICE"}  # a plain graph, fit for microcontrollers
    assert facts.bytes == path.stat().st_size and count_outside(path.read_bytes()) == 0


@pytest.fixture(scope="module", params=["cnn3", "cnn5", "baseline"])
def decided(request):
    """A float32 file whose probabilities follow the brightness, though its weights are random."""
    model, pixels = network(request.param), DIMMED.astype("float32")
    last, logits = model.get_layer("logits"), np.asarray(model(pixels))
    last.kernel.assign(last.kernel * 3 / logits.std(axis=0).max())
    last.bias.assign(-np.asarray(model(pixels)).mean(axis=0))
    return float32_of(exported(model))


def test_every_student_answers_on_microcontrollers_as_in_litert(decided, tmp_path):
    """`litert-quantizer` puts constants of more than 1 KB where Micro does not look."""
    pytest.importorskip("tflite_micro", reason="no tflite-micro")
    path, facts = write_bundle(tmp_path, quantize(decided, "int8", IMAGES), "int8")
    assert Predictor(path)(DIMMED).std(axis=0).max() > 0.2
    arena, reason = micro_arena(path.read_bytes())
    assert reason == "" and 32 * 32 < arena < facts.bytes / 2


def test_a_file_in_two_pieces_is_not_for_microcontrollers(decided, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(quantization, "compact", lambda model: model)
    path, _ = write_bundle(tmp_path, quantize(decided, "int8", IMAGES), "int8")
    outside = count_outside(path.read_bytes())
    assert outside > 0
    assert main(["c-array", str(path), "--out", str(tmp_path / "c")]) == 2
    told = capfd.readouterr().err
    assert (
        f"in one piece, as TensorFlow Lite Micro reads it. Got '{outside} constants behind its end'." in told
    )
    assert told.count("\n") == 1 and not (tmp_path / "c").exists()
    pytest.importorskip("tflite_micro", reason="no tflite-micro")
    arena, reason = micro_arena(path.read_bytes())
    assert arena is None and reason.startswith("TensorFlow Lite Micro does not answer as LiteRT does")


def test_quantized_tensors_are_counted_in_the_file(file_by):
    counts = {recipe: count_quantized(file_by(recipe)) for recipe in PLAIN}
    quantized, tensors = counts["float32"]
    assert quantized == 0 and tensors > 0
    assert counts["int8"] == counts["int16x8"] == (tensors, tensors)
    kernels = sum(op.weights is not None for op in next(operators(file_by("float32"), IMAGES[:1])))
    for recipe in ("float16", "dynamic", "int4"):  # every kernel, no bias
        assert counts[recipe] == (kernels, tensors)


def test_int8_takes_bytes_as_they_are(file_by, tmp_path):
    path, facts = write_bundle(tmp_path, file_by("int8"), "int8")
    tensor = Predictor(path)._interpreter.get_input_details()[0]
    assert tensor["dtype"] == np.uint8 and tensor["quantization"] == (1.0, 0)
    assert facts.pixels["dtype"] == "uint8" and facts.quantized_tensors == facts.weight_tensors


@pytest.mark.parametrize("recipe", PLAIN)
def test_the_facts_are_the_types_and_scales_of_the_file(small, recipe, tmp_path):
    path, facts = write_bundle(tmp_path, quantize(small, recipe, IMAGES), recipe)
    interpreter = Predictor(path)._interpreter
    for port, tensor in (
        (facts.pixels, interpreter.get_input_details()[0]),
        (facts.probs, interpreter.get_output_details()[0]),
    ):
        assert np.dtype(port["dtype"]) == tensor["dtype"] == np.dtype(RECIPES[recipe].pixels)
        assert (port["scale"], port["zero_point"]) == tensor["quantization"]
    assert facts.gzip_bytes < facts.bytes == path.stat().st_size and facts.recipe == recipe
    assert facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_of_another_recipe_is_refused(small):
    with pytest.raises(ValueError, match=r"int8 must take .*'uint8'.* and give uint8\. Got .*'float32'"):
        file_facts(small, "int8")


def test_a_layer_can_be_kept_in_float(small):
    whole = quantize(small, "int8", IMAGES)
    tensor = choose.worst_error(errors(small, whole, VIEWS[0])).tensor
    mixed = quantize(small, "int8-mixed", IMAGES, in_float=tensor)
    weights = {e.tensor: e.weights_snr_db for e in errors(small, mixed, VIEWS[0]) if e.weighted}
    assert weights.pop(tensor) == 200 and all(40 < decibels < 60 for decibels in weights.values())
    assert count_quantized(mixed)[0] == count_quantized(whole)[0] - 2  # its kernel and its bias
    facts = file_facts(mixed, "int8-mixed")
    assert facts.pixels["dtype"] == "uint8" and facts.pixels["scale"] == 1.0


def test_representative_images_reach_black_and_white_and_are_seeded():
    images = representative_images(VIEWS, 10, 3)
    assert images.shape == (12, *SHAPE) and images.dtype == np.float32
    assert (images[0] == 0).all() and (images[1] == 255).all()
    assert np.array_equal(images, representative_images(VIEWS, 10, 3))
    assert not np.array_equal(images, representative_images(VIEWS, 10, 4))
    assert len(representative_images(VIEWS, 1000, 0)) == 42  # no more than there are


def damaged(path, harm):
    card = json.loads(path.with_suffix(".json").read_text())
    if harm == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif harm == "no json":
        path.with_suffix(".json").unlink()
    elif harm == "bad json":
        path.with_suffix(".json").write_text("{")
    elif harm == "other json":
        path.with_suffix(".json").write_text("[1]")
    elif harm == "other scale":
        card["input"]["scale"] = 0.5
        path.with_suffix(".json").write_text(json.dumps(card))
    elif harm == "not a model":
        path.write_bytes(b"not a model at all")
        card["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        path.with_suffix(".json").write_text(json.dumps(card))


@pytest.mark.parametrize(
    "harm, text",
    [
        ("truncated", r"must be the file its \.json was written for\. Their sha256 differ\."),
        ("no json", r"A bundle must be a \.tflite and a \.json file\. .*s\.json: No such file"),
        ("bad json", r"s\.json must be valid JSON"),
        ("other json", r"s\.json must describe a kdtf student"),
        ("other scale", r"must have the types and scales its \.json states\. It has \{'dtype': 'float32'"),
        ("not a model", r"must be a TFLite model\. It cannot be read"),
    ],
)
def test_a_damaged_bundle_is_told(small, tmp_path, harm, text):
    path, _ = write_bundle(tmp_path, small, "float32")
    damaged(path, harm)
    with pytest.raises(BundleError, match=text):
        Predictor(path)


def test_images_of_another_size_are_told(small, tmp_path):
    path, _ = write_bundle(tmp_path, small, "float32")
    with pytest.raises(BundleError, match=r"pixels must be shaped \(N, 32, 32, 1\)\. Got \(2, 28, 28, 1\)\."):
        Predictor(path)(np.zeros((2, 28, 28, 1), np.uint8))
