"""Students as ONNX: the same answers in ONNX Runtime, the card inside, and what is refused."""

import json
import re

import numpy as np
import pytest
from small_students import CLASSES, SHAPE, shipped, write_bundle

from kdtf.cli.entry import main
from kdtf.errors import UserError
from kdtf.models.students import STUDENTS
from kdtf.predictor import Predictor
from kdtf.tflite import onnx_export
from kdtf.tflite.onnx_export import METADATA, OPSET, TOLERANCE, onnx_of, onnx_probs, varied_images
from kdtf.tflite.quantize import float32_of

onnx = pytest.importorskip("onnx", reason="no onnx: pip install '.[edge]'")
pytest.importorskip("tf2onnx", reason="no tf2onnx: pip install '.[edge]'")
pytest.importorskip("onnxruntime", reason="no onnxruntime: pip install '.[edge]'")


@pytest.mark.parametrize("name", STUDENTS)
def test_every_student_answers_in_onnx_runtime_as_it_does(name, tmp_path):
    path, _ = write_bundle(tmp_path, float32_of(shipped(name)), "float32")
    content, agreement = onnx_of(path)
    assert agreement.same_classes and agreement.difference <= TOLERANCE and agreement.opset == OPSET
    pixels = np.random.default_rng(1).integers(0, 256, (3, *SHAPE), dtype=np.uint8)
    expected = Predictor(path)(pixels)
    for count in (1, 3):  # the batch size is free
        assert np.abs(onnx_probs(content, pixels[:count]) - expected[:count]).max() <= TOLERANCE


def test_the_images_that_are_compared_tell_students_apart():
    """Answers that are all certain would agree whatever the weights."""
    images = varied_images(SHAPE)
    assert images.min() == 0 and images.max() == 255 and len(np.unique(images, axis=0)) == len(images)


def test_the_file_says_what_it_is(bundle, tmp_path):
    path = bundle("float32", temperature=1.5)
    content, _ = onnx_of(path)
    model = onnx.load_from_string(content)
    (metadata,) = model.metadata_props
    assert (metadata.key, json.loads(metadata.value)) == (METADATA, Predictor(path).card)
    shapes = [port.type.tensor_type.shape.dim for port in (*model.graph.input, *model.graph.output)]
    assert [[side.dim_param or side.dim_value for side in dims] for dims in shapes] == [
        ["N", *Predictor(path).shape],
        ["N", len(CLASSES)],
    ]
    assert [row.version for row in model.opset_import if not row.domain] == [OPSET]


def test_another_students_answers_are_refused(bundle, monkeypatch):
    path = bundle("float32")
    off = 2 * TOLERANCE
    monkeypatch.setattr(onnx_export, "onnx_probs", lambda _, pixels: Predictor(path)(pixels) + off)
    with pytest.raises(UserError, match=re.escape("ONNX Runtime gives within 1e-05. Got '2e-05 apart'")):
        onnx_of(path)


def test_the_command_writes_the_file_and_says_how_far_it_is(bundle, tmp_path, capfd):
    path = bundle("float32")
    assert main(["export", str(path), "--to", "onnx", "--out", str(tmp_path / "out")]) == 0
    told = capfd.readouterr()
    assert "64 images have the same classes" in told.out and f"opset {OPSET}" in told.out
    assert "Deprecat" not in told.err and "Traceback" not in told.err
    assert onnx.load(tmp_path / "out" / "s.onnx").graph.input[0].name


def test_a_quantized_student_is_refused(bundle, tmp_path, capsys):
    assert main(["export", str(bundle("int8")), "--to", "onnx", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "must be a float32 student. Got 'int8'." in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
