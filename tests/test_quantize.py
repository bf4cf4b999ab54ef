import json

import keras
import numpy as np
import pytest

from kdtf.predictor import BundleError, Predictor
from kdtf.quantize import RECIPES, calibration, card, convert, count_quantized
from kdtf.students import STUDENTS, build_student, exported
from kdtf.train import batched

CLASSES = ("a", "b", "c")
SHAPE = (32, 32, 1)
RNG = np.random.default_rng(0)
VIEWS = RNG.integers(0, 256, (2, 20, *SHAPE), dtype=np.uint8)


@pytest.fixture(scope="module", params=STUDENTS)
def student(request):
    """A student after a few steps, so that its statistics and weights are not those of a new network."""
    model = build_student(request.param, SHAPE, len(CLASSES), momentum=0.5, dropout=0.5, seed=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, jit_compile=False)
    model.fit(VIEWS[0].astype("float32"), np.arange(20) % 3, epochs=3, verbose=0)
    return exported(model)


def bundle(folder, student, recipe):
    content = convert(student, recipe, calibration(VIEWS, 30, 0))
    facts = card(content, recipe, classes=CLASSES, shape=SHAPE, made_by={}, synthetic=True)
    (folder / "s.tflite").write_bytes(content)
    (folder / "s.json").write_text(json.dumps(facts))
    return folder / "s.tflite", facts


TOLERANCE = {"float32": 1e-5, "float16": 5e-3, "dynamic": 5e-2, "int8": 5e-2}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_student_converts_and_predicts_what_keras_predicts(student, recipe, tmp_path):
    path, facts = bundle(tmp_path, student, recipe)
    predictor = Predictor(path)
    pixels = VIEWS.reshape(-1, *SHAPE)
    probs, expected = predictor(pixels), batched(student)(pixels)
    assert probs.shape == (40, 3) and np.allclose(probs.sum(1), 1, atol=1e-5)
    assert np.abs(probs - expected).max() < TOLERANCE[recipe]
    assert np.allclose(predictor(pixels[:1]), probs[:1], atol=1e-6)  # any number of images
    assert predictor.classes == CLASSES
    ops = {op["op_name"] for op in predictor._interpreter._get_ops_details()}
    assert not ops & {"SHAPE", "PACK", "STRIDED_SLICE"}  # a plain graph, fit for microcontrollers
    assert facts["bytes"] == path.stat().st_size


def test_int8_takes_bytes_as_they_are(student, tmp_path):
    path, facts = bundle(tmp_path, student, "int8")
    tensor = Predictor(path)._interpreter.get_input_details()[0]
    assert tensor["dtype"] == np.uint8 and tensor["quantization"] == (1.0, 0)
    assert facts["input"]["dtype"] == "uint8" and facts["quantized_tensors"] == facts["weight_tensors"]


def test_quantized_tensors_are_counted_in_the_file(student):
    images = calibration(VIEWS, 30, 0)
    counts = {recipe: count_quantized(convert(student, recipe, images)) for recipe in RECIPES}
    quantized, tensors = counts["float32"]
    assert quantized == 0 and tensors > 0
    assert counts["float16"] == (tensors, tensors)
    assert 0 < counts["dynamic"][0] < tensors  # kernels under 1,024 weights and biases stay in float


def test_calibration_reaches_black_and_white_and_is_seeded():
    images = calibration(VIEWS, 10, 3)
    assert images.shape == (12, *SHAPE) and images.dtype == np.float32
    assert (images[0] == 0).all() and (images[1] == 255).all()
    assert np.array_equal(images, calibration(VIEWS, 10, 3))
    assert not np.array_equal(images, calibration(VIEWS, 10, 4))
    assert len(calibration(VIEWS, 1000, 0)) == 42  # no more than there are


def damaged(path, how):
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif how == "no json":
        path.with_suffix(".json").unlink()
    elif how == "bad json":
        path.with_suffix(".json").write_text("{")
    elif how == "other json":
        path.with_suffix(".json").write_text("[1]")
    elif how == "not a model":
        path.write_bytes(b"not a model at all")
        facts = json.loads(path.with_suffix(".json").read_text())
        import hashlib

        facts["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        path.with_suffix(".json").write_text(json.dumps(facts))


@pytest.mark.parametrize(
    "how, text",
    [
        ("truncated", r"must be the file its \.json was written for\. Their sha256 differ\."),
        ("no json", r"A bundle must be a \.tflite and a \.json file\. .*s\.json: No such file"),
        ("bad json", r"s\.json must be valid JSON"),
        ("other json", r"s\.json must describe a kdtf student"),
        ("not a model", r"must be a TFLite model\. It cannot be read"),
    ],
)
def test_a_damaged_bundle_is_told(student, tmp_path, how, text):
    path, _ = bundle(tmp_path, student, "float32")
    damaged(path, how)
    with pytest.raises(BundleError, match=text):
        Predictor(path)


def test_images_of_another_size_are_told(student, tmp_path):
    path, _ = bundle(tmp_path, student, "float32")
    with pytest.raises(BundleError, match=r"pixels must be shaped \(N, 32, 32, 1\)\. Got \(2, 28, 28, 1\)\."):
        Predictor(path)(np.zeros((2, 28, 28, 1), np.uint8))
