"""A run with unlabelled images and an ensemble: who learns from what, at which budget, and what stands."""

import json
import shutil

import numpy as np
import pytest
from small_run import (
    SMALL,
    pictures_of_one_pixel,
    pictures_without_drawings,
    stages,
    table,
    teachers_of_one_convolution,
)

from kdtf.cli import main

COMMAND = [*SMALL, "--recipes", "int8", "--teachers", "cnn5", "mobilenet", "--ensemble", "--best-of"]
LEFT_OUT, USED = 3, 17


@pytest.fixture(scope="module")
def data(tiny, tmp_path_factory):
    """The small data with 20 unlabelled images, of which 3 are test images."""
    folder = tmp_path_factory.mktemp("with_unlabelled") / "d"
    shutil.copytree(tiny, folder)
    rng = np.random.default_rng(0)
    for own in (folder, folder / "teacher"):
        test = np.load(own / "X_test.npy")
        others = rng.integers(0, 256, (USED, *test.shape[1:]), dtype=np.uint8)
        np.save(own / "X_unlabelled.npy", np.concatenate([test[:LEFT_OUT], others]))
    return folder


@pytest.fixture(scope="module")
def results(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unlabelled")
    with pictures_of_one_pixel(), teachers_of_one_convolution():
        assert main(["--data", str(data), "--results", str(folder), *COMMAND, "--store-views", "none"]) == 0
    return folder


def stage(results, name):
    (folder,) = (results / "work").glob(f"{name}-" + "?" * 16)
    return folder


def test_copies_of_test_are_left_out_and_the_others_are_labelled_once(results):
    audit = table(results, "audit.csv")
    (used,) = audit[audit.check == "unlabelled images used"]["count"]
    assert used == USED
    labels = np.load(stage(results, "cnn5-unlabelled-labels") / "logits.npy")
    assert labels.shape[:2] == (2, USED)
    assert json.loads((stage(results, "unlabelled-views") / "drawn.json").read_text())["rows"] == list(
        range(LEFT_OUT, LEFT_OUT + USED)
    )


def test_the_teacher_that_is_best_on_val_has_students_with_and_without_them(results):
    summary = table(results, "summary.csv")
    teachers = summary[summary.model == "teacher"]
    assert list(teachers.teacher) == ["cnn5", "mobilenet", "ensemble"]
    best = max(teachers.itertuples(), key=lambda row: (row.val_accuracy, -row.val_loss)).teacher
    students = summary[(summary.model == "distilled") & (summary.recipe == "int8")]
    names = [best, f"{best}-unlabelled"]
    assert list(students.teacher) == names and students.teacher_weights.notna().all()
    cards = [json.loads((results / f"{name}_Student_int8.json").read_text())["made_by"] for name in names]
    assert [card["training"]["unlabelled_share"] for card in cards] == [0, 0.5]


def test_the_ensemble_is_the_mean_of_the_others(results):
    logits = [np.load(stage(results, f"{name}-labels") / "logits.npy") for name in ("cnn5", "mobilenet")]
    probs = [np.exp(z / 2) / np.exp(z / 2).sum(-1, keepdims=True) for z in logits]
    mean = np.load(stage(results, "ensemble-labels") / "logits.npy") / 2
    mean = np.exp(mean) / np.exp(mean).sum(-1, keepdims=True)
    assert mean == pytest.approx(np.mean(probs, axis=0), abs=1e-5)
    measured = [
        np.load(stage(results, f"{name}-evaluation") / "measured.npz")["test_probs"]
        for name in ("cnn5", "mobilenet", "ensemble")
    ]
    assert measured[2] == pytest.approx((measured[0] + measured[1]) / 2, abs=1e-6)
    assert not (results / "ensemble_gradcam.png").exists()


def test_views_that_are_stored_or_computed_are_one_and_the_same(data, results):
    """The same command, to store them: nothing is trained again."""
    assert not list((results / "work").glob("*views-*/*.npy"))
    before = stages(results)
    with pictures_without_drawings(), teachers_of_one_convolution():
        assert main(["--data", str(data), "--results", str(results), *COMMAND, "--store-views", "all"]) == 0
    assert stages(results) == before


def test_without_them_the_other_stages_stand(data, results):
    before = stages(results)
    argv = ["--data", str(data), "--results", str(results), *COMMAND, "--unlabelled-share", "0"]
    with pictures_without_drawings(), teachers_of_one_convolution():
        assert main(argv) == 0
    made = {name for name in stages(results) if stages(results)[name] != before.get(name)}
    assert all("report" in name or "agreement" in name for name in made), made
    summary = table(results, "summary.csv")
    assert not any("unlabelled" in name for name in summary.teacher)
