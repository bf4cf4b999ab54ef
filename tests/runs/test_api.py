"""What a notebook uses: load, audit, run, and results as records and tables."""

import numpy as np
import pytest

import kdtf
from kdtf.errors import UserError
from kdtf.records import FileResult, StudentResult, TeacherResult


@pytest.fixture(scope="module")
def result(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    data = kdtf.load(tiny, work=folder / "work")
    quick = {"views": 1, "epochs": 1, "scratch_epochs": 1, "recipes": ["int8"], "weights": "none"}
    config = kdtf.Config().with_values({"teachers": ["cnn5"], "results": str(folder), **quick})
    return kdtf.run(config, data)


def test_data_are_loaded_and_audited(tiny, tmp_path):
    data = kdtf.load(tiny, work=tmp_path)
    assert isinstance(data, kdtf.Dataset) and data.train.pixels.shape == (48, 32, 32, 1)
    assert kdtf.audit(data).verdict == ["Audit: no copies, no shared groups and no shortcut found."]
    assert not list(tmp_path.iterdir())  # nothing to convert, nothing written


def test_a_run_gives_records_and_tables(result):
    kinds = [type(model) for model in result.models]
    assert kinds == [StudentResult, FileResult, TeacherResult, StudentResult, FileResult]
    summary = result.tables()["summary"]
    assert summary.accuracy.tolist() == pytest.approx([row["accuracy"] for row in result.summary], abs=1e-5)
    assert result.ship in result.summary and result.ship["recipe"] == "int8"
    probs = result.models[0].predictions.test_probs
    assert probs.shape == (24, 4) and np.allclose(probs.sum(axis=1), 1, atol=1e-5)


def test_its_student_runs(result, tiny):
    path = result.folder / f"{result.ship['teacher']}_Student_int8.tflite"
    probs = kdtf.Predictor(path)(np.load(tiny / "X_test.npy"))
    assert (probs.argmax(1) == np.load(tiny / "y_test.npy")).mean() == pytest.approx(result.ship["accuracy"])


def test_bad_settings_are_one_line(tiny, tmp_path):
    with pytest.raises(UserError, match=r"^--student must be one of"):
        kdtf.run(kdtf.Config().with_values({"student": "cnn33", "results": str(tmp_path)}), kdtf.load(tiny))


def test_registries_are_at_hand():
    assert "vgg16" in kdtf.TEACHERS and "cnn3" in kdtf.STUDENTS
    assert "kd" in kdtf.LOSSES and "int8" in kdtf.RECIPES
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = kdtf.nothing
