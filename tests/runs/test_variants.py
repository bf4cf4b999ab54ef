"""Runs of other shapes: copies in the data, several seeds, a frozen base."""

import numpy as np
import pytest
from small_run import SMALL, table

from kdtf.cli import main
from kdtf.stage_folders import read_note


def test_scores_are_also_given_on_images_without_a_copy(tiny, small, tmp_path, blank):
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
    assert main([*argv, *SMALL]) == 0
    row = table(tmp_path / "r", "summary.csv").iloc[0]
    predictions = table(tmp_path / "r", "alone_predictions.csv")
    assert (row.test_images, row.clean_images) == (24, 22)
    assert row.clean_accuracy == pytest.approx(predictions.correct[2:].mean(), abs=1e-5)
    assert row.accuracy == pytest.approx(predictions.correct.mean(), abs=1e-5)
    untouched = table(small, "summary.csv").iloc[0]
    assert untouched.clean_images == 24 and untouched.clean_accuracy == untouched.accuracy


def trained(results):
    """The stages of a results folder in which a network was trained, or labelled the views."""
    folders = [path.parent for path in (results / "work").glob("*/stage.json")]
    return {path.name for path in folders if read_note(path)["kind"] in ("whole", "labels", "student")}


def networks(results):
    """{file of a float student: its bytes}."""
    return {path.name: path.read_bytes() for path in results.glob("*_Student.keras")}


def test_seeds_repeat_the_students_and_keep_the_first_ones_files(small, tiny, blank):
    """A finished run goes on with a second seed: the first one's stages stand."""
    one, files = trained(small), networks(small)
    argv = ["--data", str(tiny), "--results", str(small), *SMALL, "--recipes", "int8", "--seeds", "2"]
    assert main(argv) == 0
    runs = table(small, "runs.csv")
    keys = list(zip(runs.teacher, runs.model, runs.recipe, runs.seed, strict=True))
    students = [("alone", "alone", s) for s in (0, 1)] + [("cnn5", "distilled", s) for s in (0, 1)]
    expected = [(t, m, r, s) for t, m, s in students for r in ("keras", "int8")]
    assert sorted(keys) == sorted([*expected, ("cnn5", "teacher", "keras", 0)])
    assert (table(small, "summary.csv").seed == 0).all() and networks(small) == files
    both = trained(small)
    repeats = {name for name in both if "-seed1-" in name}
    assert len(one) == 4 and both - repeats == one  # by the very same tasks
    assert {name.partition("-seed1-")[0] for name in repeats} == {"alone-student", "cnn5-student"}
    seeds = table(small, "seeds.csv").set_index(["teacher", "model", "recipe"])
    ours = runs.query("model == 'distilled' and recipe == 'keras'").accuracy
    assert seeds.loc[("cnn5", "distilled", "keras"), "mean"] == pytest.approx(ours.mean(), abs=1e-5)
    compared = table(small, "comparisons.csv")
    assert (compared.question == "distilled against alone").sum() == 2


def test_frozen_features_take_the_short_way(tiny, tmp_path, blank):
    """--freeze --fine-tune-epochs 0: logits from cached features are those of the whole saved teacher."""
    argv = ["--data", str(tiny), "--results", str(tmp_path), "--freeze", "--fine-tune-epochs", "0"]
    assert main([*argv, *SMALL, "--views", "1", "--recipes", "int8"]) == 0
    from kdtf.distill.inference import inference_of
    from kdtf.models.teachers import build_base, build_head, with_head
    from kdtf.models.weights import WeightSource

    base = build_base("cnn5", (64, 64, 1), WeightSource("none"))
    teacher = with_head(base.model, build_head("cnn5", base.model.output.shape[1:], 4))
    (head,) = (tmp_path / "work").glob("cnn5-head-*")
    (labels,) = (tmp_path / "work").glob("cnn5-labels-*")
    teacher.load_weights(head / "teacher.weights.h5")
    logits = inference_of(teacher)(np.load(tiny / "teacher" / "X_train.npy"))
    assert np.allclose(np.load(labels / "logits.npy")[0], logits, atol=1e-4)
