"""Runs of other shapes: copies in the data, several seeds, a frozen base, a command of its own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_run import QUICK, table

from kdtf.cli import main
from kdtf.stage_folders import read_note


def test_scores_are_also_given_on_images_without_a_copy(tiny, finished, tmp_path):
    """Two test images are put into train: the clean scores are those of the other 22."""
    for file in tiny.rglob("*"):
        if file.is_file():
            (tmp_path / "d" / file.relative_to(tiny)).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "d" / file.relative_to(tiny)).write_bytes(file.read_bytes())
    for folder in (tmp_path / "d", tmp_path / "d" / "teacher"):
        train = np.load(folder / "X_train.npy")
        train[:2] = np.load(folder / "X_test.npy")[:2]
        np.save(folder / "X_train.npy", train)
    argv = ["--data", str(tmp_path / "d"), "--results", str(tmp_path / "r"), "--recipes", "float32"]
    assert main([*argv, *QUICK]) == 0
    row = table(tmp_path / "r", "summary.csv").iloc[0]
    predictions = table(tmp_path / "r", "alone_predictions.csv")
    assert (row.test_images, row.clean_images) == (24, 22)
    assert row.clean_accuracy == pytest.approx(predictions.correct[2:].mean(), abs=1e-5)
    assert row.accuracy == pytest.approx(predictions.correct.mean(), abs=1e-5)
    untouched = table(finished, "summary.csv").iloc[0]
    assert untouched.clean_images == 24 and untouched.clean_accuracy == untouched.accuracy


def trained(results):
    """The stages of a results folder in which a network was trained, or labelled the views."""
    folders = [path.parent for path in (results / "work").glob("*/stage.json")]
    return {path.name for path in folders if read_note(path)["kind"] in ("whole", "labels", "student")}


def test_seeds_repeat_the_students_and_keep_the_first_ones_files(finished, tiny, tmp_path):
    argv = ["--data", str(tiny), "--results", str(tmp_path), *QUICK, "--recipes", "int8", "--seeds", "2"]
    assert main(argv) == 0
    runs = table(tmp_path, "runs.csv")
    keys = list(zip(runs.teacher, runs.model, runs.recipe, runs.seed, strict=True))
    students = [("alone", "alone", s) for s in (0, 1)] + [("mobilenet", "distilled", s) for s in (0, 1)]
    expected = [(t, m, r, s) for t, m, s in students for r in ("keras", "int8")]
    assert sorted(keys) == sorted([*expected, ("mobilenet", "teacher", "keras", 0)])
    assert (table(tmp_path, "summary.csv").seed == 0).all()
    one, both = trained(finished), trained(tmp_path)
    repeats = {name for name in both if "-seed1-" in name}
    assert len(one) == 4 and both - repeats == one  # by the very same tasks
    assert {name.partition("-seed1-")[0] for name in repeats} == {"alone-student", "mobilenet-student"}
    seeds = table(tmp_path, "seeds.csv").set_index(["teacher", "model", "recipe"])
    ours = runs.query("model == 'distilled' and recipe == 'keras'").accuracy
    assert seeds.loc[("mobilenet", "distilled", "keras"), "mean"] == pytest.approx(ours.mean(), abs=1e-5)
    compared = table(tmp_path, "comparisons.csv")
    assert (compared.question == "distilled against alone").sum() == 2


def test_frozen_features_take_the_short_way(tiny, tmp_path):
    """--freeze --fine-tune-epochs 0: logits from cached features are those of the whole saved teacher."""
    argv = ["--data", str(tiny), "--results", str(tmp_path), "--freeze", "--fine-tune-epochs", "0"]
    assert main([*argv, *QUICK, "--views", "1", "--recipes", "int8"]) == 0
    from kdtf.distill.inference import inference_of
    from kdtf.models.teachers import build_base, build_head, with_head
    from kdtf.models.weights import WeightSource

    base = build_base("mobilenet", (64, 64, 1), WeightSource("none"))
    teacher = with_head(base.model, build_head("mobilenet", (1024,), 4))
    (head,) = (tmp_path / "work").glob("mobilenet-head-*")
    (labels,) = (tmp_path / "work").glob("mobilenet-labels-*")
    teacher.load_weights(head / "teacher.weights.h5")
    logits = inference_of(teacher)(np.load(tiny / "teacher" / "X_train.npy"))
    assert np.allclose(np.load(labels / "logits.npy")[0], logits, atol=1e-4)


def test_it_runs_as_a_command_and_keeps_its_output_clean(tiny, tmp_path):
    """stdout holds the table and stderr nothing but what kdtf has to say: no noise, no bars in a pipe."""
    root = Path(__file__).parents[2]
    argv = [sys.executable, "main.py", "--data", tiny, "--results", tmp_path, *QUICK, "--recipes", "int8"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_CPP")}
    done = subprocess.run(list(map(str, argv)), cwd=root, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "Test scores on a synthetic phantom: not patient data" in done.stdout
    ours = (
        "Audit: no copies",
        "Warning: The teacher mobilenet",
        "Warning: mobilenet, seed 0: int8 loses",  # one of 16 val images is enough
        "Warning: alone, seed 0: int8 loses",
        "The teacher sees",
        "The folder says that its images are synthetic",
    )
    assert [line for line in done.stderr.splitlines() if not line.startswith(ours)] == []
