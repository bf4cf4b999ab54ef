"""What a notebook uses: load, audit, run, and results as records and tables."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_run import pictures_without_drawings, teachers_of_one_convolution

import kdtf
from kdtf.config import DataConfig
from kdtf.errors import UserError
from kdtf.records import FileResult, StudentResult, TeacherResult
from kdtf.runs.session import settings_of

ROOT = Path(__file__).parents[2]
NAMES = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def result(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    data = kdtf.load(tiny, class_names=NAMES, image_size=16, val_fraction=0.2, work=folder / "work")
    quick = {"views": 1, "epochs": 1, "scratch_epochs": 1, "recipes": ["int8"], "weights": "none"}
    quick["student"] = "baseline"
    unused = {"data": "elsewhere", "image_size": 64, "val_fraction": 0.3}  # the data are there already
    config = kdtf.Config().with_values({"teachers": ["cnn5"], "results": str(folder), **quick, **unused})
    with pictures_without_drawings(), teachers_of_one_convolution():
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
    assert all(isinstance(text, str) for text in result.warnings)
    assert result.ship in result.summary and result.ship["recipe"] == "int8"
    probs = result.models[0].predictions.test_probs
    assert probs.shape == (24, 4) and np.allclose(probs.sum(axis=1), 1, atol=1e-5)


def test_the_settings_of_a_run_say_how_its_data_were_opened(result, tiny):
    settings = json.loads((result.folder / "manifest.json").read_text())["config"]
    opened = {"data": str(tiny), "class_names": list(NAMES), "image_size": 16, "val_fraction": 0.2}
    assert settings["data"] == {**opened, "demo": False, "strict": False, "unlabelled": None}


def test_data_made_by_hand_have_no_path(tiny, tmp_path):
    data = replace(kdtf.load(tiny, work=tmp_path), origin=None)
    assert settings_of(data, strict=True) == DataConfig(data="", strict=True)


def test_its_student_runs(result, tiny):
    path = result.folder / f"{result.ship['teacher']}_Student_int8.tflite"
    data = kdtf.load(tiny, image_size=16, work=result.folder / "work")
    probs = kdtf.Predictor(path)(np.asarray(data.test.pixels))
    assert (probs.argmax(1) == np.load(tiny / "y_test.npy")).mean() == pytest.approx(result.ship["accuracy"])


def test_bad_settings_are_one_line(tiny, tmp_path):
    with pytest.raises(UserError, match=r"^--student must be one of"):
        kdtf.run(kdtf.Config().with_values({"student": "cnn33", "results": str(tmp_path)}), kdtf.load(tiny))


def test_copies_go_below_the_results_of_a_run_by_default(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = kdtf.load(tiny, image_size=16)
    copies = [path.relative_to(tmp_path) for path in tmp_path.rglob("*.npy")]
    assert len(copies) == 3 and {path.parts[:2] for path in copies} == {("Results", "work")}
    assert data.train.pixels.shape == (48, 16, 16, 1) and data.train.teacher_pixels.shape == (48, 64, 64, 1)


# a process a case, all of them forked from one that has imported TensorFlow and done nothing with it yet
TWO_RUNS = """
import keras, os, sys
from kdtf.config import RunConfig
from kdtf.errors import UserError
from kdtf.runs.runtime import tensorflow_runtime

def two_runs(first, second):
    for arguments in (first, second):
        try:
            with tensorflow_runtime(RunConfig(**arguments)):
                keras.ops.ones(1) + 1
                print(keras.config.is_interactive_logging_enabled(), end=" ")
        except UserError as error:
            print(error, end=" ")
        print(keras.config.is_interactive_logging_enabled(), end="|")

keras.config.enable_interactive_logging()
for first, second, _ in {cases}:
    if child := os.fork():
        os.waitpid(child, 0)
        print(flush=True)
    else:
        two_runs(first, second)
        sys.stdout.flush()
        os._exit(0)
"""
OFF, ON = {"deterministic": False}, {"deterministic": True}
ONLY = "Only a new process can change it."
SECOND_RUNS = [
    ({"threads": 1}, {"threads": 1}, "False"),
    ({"threads": 1}, {"threads": 2}, f"--threads must be what TensorFlow runs with here, 1. Got 2. {ONLY}"),
    ({}, {"threads": 2}, f"--threads must be what TensorFlow runs with here, its own choice. Got 2. {ONLY}"),
    (ON, ON, "False"),
    (ON, OFF, f"--deterministic must be on, as TensorFlow runs here. Got False. {ONLY}"),
    (OFF, ON, f"--deterministic must be off, as TensorFlow runs here. Got True. {ONLY}"),
]


@pytest.fixture(scope="module")
def printed():
    """What the two runs of every case printed."""
    code = TWO_RUNS.format(cases=SECOND_RUNS)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("case", range(len(SECOND_RUNS)), ids=lambda i: f"{SECOND_RUNS[i][:2]}")
def test_a_second_run_in_a_process_has_the_threads_and_determinism_of_the_first(case, printed):
    """What cannot be had is said in a line; what a run silences is heard again after it."""
    assert printed[case] == f"False True|{SECOND_RUNS[case][2]} True|"


def test_registries_are_at_hand():
    assert "vgg16" in kdtf.TEACHERS and "cnn3" in kdtf.STUDENTS
    assert "kd" in kdtf.LOSSES and "int8" in kdtf.RECIPES
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = kdtf.nothing
