import json

import keras
import numpy as np
import pytest

from kdtf.cli.entry import main
from kdtf.distill.train import batched
from kdtf.models.students import STUDENTS, build_student, exported
from kdtf.predictor import BundleError, Predictor
from kdtf.tflite import quantize as quantization
from kdtf.tflite.bench import micro_arena
from kdtf.tflite.quantize import RECIPES, calibration, card, convert, float32_of, quantize
from kdtf.tflite.tensors import (
    count_outside,
    count_quantized,
    errors,
    operators,
    plain_interpreter,
    ranges,
    sparsity,
    worst,
)

CLASSES = ("a", "b", "c")
SHAPE = (32, 32, 1)
RNG = np.random.default_rng(0)
VIEWS = RNG.integers(0, 256, (2, 20, *SHAPE), dtype=np.uint8)
DIMMED = (VIEWS[0] * np.linspace(0, 1, 20).reshape(20, 1, 1, 1)).astype(np.uint8)


PLAIN = [name for name, row in RECIPES.items() if row.asked and not row.tuned]  # what needs no training


def plain(name):
    """A student whose BatchNormalization statistics and biases are not those of a new network."""
    model, rng = build_student(name, SHAPE, len(CLASSES), momentum=0.5, dropout=0.5, seed=0), RNG
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            around = ((1, 0.2), (0, 0.2), (0, 0.1), (1, 0.2))  # gamma, beta, mean, variance
            layer.set_weights(
                [
                    rng.uniform(m - d, m + d, w.shape)
                    for (m, d), w in zip(around, layer.get_weights(), strict=True)
                ]
            )
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(rng.normal(0, 0.1, layer.bias.shape))
    return model


def used(name):
    return exported(plain(name))


@pytest.fixture(scope="module", params=STUDENTS)
def student(request):
    return used(request.param)


@pytest.fixture(scope="module")
def small():
    return used("baseline")


@pytest.fixture(scope="module")
def source(student):
    """The student's float32 file: every other one is made from it."""
    return float32_of(student)


def bundle(folder, source, recipe):
    content = quantize(source, recipe, calibration(VIEWS, 30, 0))
    facts = card(content, recipe, classes=CLASSES, shape=SHAPE, made_by={}, synthetic=True)
    (folder / "s.tflite").write_bytes(content)
    (folder / "s.json").write_text(json.dumps(facts))
    return folder / "s.tflite", facts


TOLERANCE = {"float32": 1e-5, "float16": 5e-3, "dynamic": 5e-2, "int8": 5e-2, "int16x8": 2e-2, "int4": 0.1}


@pytest.mark.parametrize("recipe", PLAIN)
def test_every_student_converts_and_predicts_what_keras_predicts(student, source, recipe, tmp_path):
    path, facts = bundle(tmp_path, source, recipe)
    predictor = Predictor(path)
    pixels = VIEWS.reshape(-1, *SHAPE)
    probs, expected = predictor(pixels), batched(student)(pixels)
    assert probs.shape == (40, 3) and np.allclose(probs.sum(1), 1, atol=1e-5)
    assert np.abs(probs - expected).max() < TOLERANCE[recipe]
    assert np.allclose(predictor(pixels[:1]), probs[:1], atol=1e-6)  # any number of images
    assert predictor.classes == CLASSES
    ops = {op["op_name"] for op in predictor._interpreter._get_ops_details()}
    assert not ops & {"SHAPE", "PACK", "STRIDED_SLICE"}  # a plain graph, fit for microcontrollers
    assert facts["bytes"] == path.stat().st_size and count_outside(path.read_bytes()) == 0


@pytest.fixture(scope="module", params=["cnn3", "cnn5", "baseline"])
def decided(request):
    """A float32 file whose probabilities follow the brightness, though its weights are random."""
    model = plain(request.param)
    last, logits = model.get_layer("logits"), batched(model)(DIMMED)
    last.kernel.assign(last.kernel * 3 / logits.std(axis=0).max())
    last.bias.assign(-batched(model)(DIMMED).mean(axis=0))
    return float32_of(exported(model))


def test_every_student_answers_on_microcontrollers_as_in_litert(decided, tmp_path):
    """`litert-quantizer` puts constants of more than 1 KB where Micro does not look."""
    pytest.importorskip("tflite_micro", reason="no tflite-micro")
    path, facts = bundle(tmp_path, decided, "int8")
    assert Predictor(path)(DIMMED).std(axis=0).max() > 0.2
    arena, reason = micro_arena(path.read_bytes())
    assert reason == "" and 32 * 32 < arena < facts["bytes"] / 2


def test_a_file_in_two_pieces_is_not_for_microcontrollers(decided, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(quantization, "in_one_piece", lambda model: model)
    path, _ = bundle(tmp_path, decided, "int8")
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


def test_int8_takes_bytes_as_they_are(source, tmp_path):
    path, facts = bundle(tmp_path, source, "int8")
    tensor = Predictor(path)._interpreter.get_input_details()[0]
    assert tensor["dtype"] == np.uint8 and tensor["quantization"] == (1.0, 0)
    assert facts["input"]["dtype"] == "uint8" and facts["quantized_tensors"] == facts["weight_tensors"]


@pytest.mark.parametrize("recipe", PLAIN)
def test_the_card_states_the_types_and_scales_of_the_file(small, recipe, tmp_path):
    path, facts = bundle(tmp_path, float32_of(small), recipe)
    interpreter = Predictor(path)._interpreter
    for told, tensor in (
        (facts["input"], interpreter.get_input_details()[0]),
        (facts["output_tensor"], interpreter.get_output_details()[0]),
    ):
        assert np.dtype(told["dtype"]) == tensor["dtype"] == np.dtype(RECIPES[recipe].pixels)
        assert (told["scale"], told["zero_point"]) == tensor["quantization"]
    assert facts["output"] == "probabilities" and facts["gzip_bytes"] < facts["bytes"]


def test_a_card_refuses_a_file_of_another_recipe(small):
    content = float32_of(small)
    with pytest.raises(ValueError, match=r"int8 must take .*'uint8'.* and give uint8\. Got .*'float32'"):
        card(content, "int8", classes=CLASSES, shape=SHAPE, made_by={}, synthetic=True)


def test_the_names_of_recipes_decode():
    schemes = {name: row.scheme for name, row in RECIPES.items() if row.asked}
    assert schemes["float32"] == "wfp32_afp32" and schemes["float16"] == "wfp16_afp32"
    assert schemes["dynamic"] == "wi8_afp32" and schemes["int4"] == "wi4_afp32"
    assert schemes["int16x8"] == "wi8_ai16" and schemes["int8"] == schemes["int8-qat"] == "wi8_ai8"


def test_quantized_tensors_are_counted_in_the_file(source):
    images = calibration(VIEWS, 30, 0)
    counts = {recipe: count_quantized(quantize(source, recipe, images)) for recipe in PLAIN}
    quantized, tensors = counts["float32"]
    assert quantized == 0 and tensors > 0
    assert counts["int8"] == counts["int16x8"] == (tensors, tensors)
    kernels = sum(op.weights is not None for op in next(operators(source, images[:1])))
    for recipe in ("float16", "dynamic", "int4"):  # every kernel, no bias
        assert counts[recipe] == (kernels, tensors)


def test_weights_are_quantized_per_channel(small):
    for recipe, steps in (("int8", 127), ("int4", 7)):
        interpreter = plain_interpreter(quantize(float32_of(small), recipe, calibration(VIEWS, 30, 0)))
        interpreter.allocate_tensors()
        kernels = [
            d for d in interpreter.get_tensor_details() if d["quantization_parameters"]["scales"].size > 3
        ]
        kernels = [d for d in kernels if len(d["shape"]) > 1]
        assert sorted(d["quantization_parameters"]["scales"].size for d in kernels) == [32, 64, 128]
        most = [np.abs(interpreter.get_tensor(d["index"])).max() for d in kernels]
        assert max(most) == 127  # int4: the first convolution keeps 8 bits
        assert sum(m <= steps + 1 for m in most) == (2 if recipe == "int4" else 3)


def test_ranges_are_exact_extremes(small):
    """Of every image, however rare: white in 1 of 32 must not be cut off."""
    images = calibration(VIEWS, 30, 0)
    found = ranges(float32_of(small), images)
    assert found["pixels"]["min"] == 0 and found["pixels"]["max"] == 255
    first = keras.Model(small.input, small.layers[2].output)(images)
    name = next(operators(float32_of(small), images[:1]))[0].tensor
    assert found[name]["max"].item() == pytest.approx(float(np.max(first)), rel=1e-4)


def test_a_channel_that_died_keeps_its_bias():
    """All weights of one channel are 0, as pruning leaves them: its output is its bias, also in int8."""
    student = build_student("cnn3", SHAPE, len(CLASSES), momentum=0.5, dropout=0.5, seed=0)
    for layer in student.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            kernel, bias = layer.get_weights()
            kernel[..., 1] = 0
            layer.set_weights([kernel, bias + 0.3])
    source = float32_of(exported(student))
    found = errors(source, quantize(source, "int8", calibration(VIEWS, 30, 0)), VIEWS[0])
    assert min(error.snr_db for error in found) > 35  # 0 to 20 dB where the bias overflows


def test_a_layer_can_be_kept_in_float(small):
    source, images = float32_of(small), calibration(VIEWS, 30, 0)
    whole = quantize(source, "int8", images)
    tensor = worst(errors(source, whole, VIEWS[0])).tensor
    mixed = quantize(source, "int8-mixed", images, in_float=tensor)
    kept = {e.tensor: e.weights_snr_db for e in errors(source, mixed, VIEWS[0]) if e.weighted}
    assert kept.pop(tensor) == 200 and all(40 < decibels < 60 for decibels in kept.values())
    assert count_quantized(mixed)[0] == count_quantized(whole)[0] - 2  # its kernel and its bias
    facts = card(mixed, "int8-mixed", classes=CLASSES, shape=SHAPE, made_by={}, synthetic=True)
    assert facts["input"]["dtype"] == "uint8" and facts["input"]["scale"] == 1.0


def test_errors_are_those_of_the_tensors(small):
    source = float32_of(small)
    assert all(
        e.snr_db == 200 and e.max_abs == 0 and e.cosine == pytest.approx(1)
        for e in errors(source, source, VIEWS[0])
    )
    rough = quantize(source, "int8", calibration(VIEWS, 30, 0))
    (first, *_), (other, *_) = (next(operators(m, VIEWS[0, :5])) for m in (source, rough))
    found = errors(source, rough, VIEWS[0, :5])[0]
    noise = first.output - other.output
    assert found.layer == "0 CONV_2D" and found.weighted
    assert found.max_abs == pytest.approx(np.abs(noise).max(), rel=1e-5)
    power = np.sum(first.output.astype(float) ** 2) / np.sum(noise.astype(float) ** 2)
    assert found.snr_db == pytest.approx(10 * np.log10(power), abs=1e-3)
    # over batches of 32 the sums must be those of all images at once
    assert errors(source, rough, VIEWS.reshape(-1, *SHAPE))[0].max_abs >= found.max_abs


def test_files_of_other_networks_are_not_compared(small):
    with pytest.raises(ValueError, match="The operators differ"):
        errors(float32_of(small), float32_of(used("cnn3")), VIEWS[0])


def test_sparsity_counts_exact_zeros():
    student = build_student("baseline", SHAPE, len(CLASSES), momentum=0.5, dropout=0.5, seed=0)
    kernel, bias = (dense := student.layers[-3]).get_weights()
    kernel[::2] = 0
    dense.set_weights([kernel, bias])
    everything = sum(w.size for w in student.get_weights() if w.ndim > 1)
    for recipe in ("float32", "int8"):
        got = sparsity(convert(exported(student), recipe, calibration(VIEWS, 30, 0)))
        assert got == pytest.approx(kernel.size / 2 / everything, abs=0.01)


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
    elif how == "other scale":
        facts = json.loads(path.with_suffix(".json").read_text())
        facts["input"]["scale"] = 0.5
        path.with_suffix(".json").write_text(json.dumps(facts))
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
        ("other scale", r"must have the types and scales its \.json states\. It has \{'dtype': 'float32'"),
        ("not a model", r"must be a TFLite model\. It cannot be read"),
    ],
)
def test_a_damaged_bundle_is_told(small, tmp_path, how, text):
    path, _ = bundle(tmp_path, float32_of(small), "float32")
    damaged(path, how)
    with pytest.raises(BundleError, match=text):
        Predictor(path)


def test_images_of_another_size_are_told(small, tmp_path):
    path, _ = bundle(tmp_path, float32_of(small), "float32")
    with pytest.raises(BundleError, match=r"pixels must be shaped \(N, 32, 32, 1\)\. Got \(2, 28, 28, 1\)\."):
        Predictor(path)(np.zeros((2, 28, 28, 1), np.uint8))
