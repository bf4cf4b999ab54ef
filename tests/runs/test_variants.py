"""A run of another shape: copies in the data, a frozen base; then with a second seed."""

import json
import shutil

import numpy as np
import pytest
from small_run import SMALL, events, pictures_without_drawings, table

from kdtf.cli import main
from kdtf.runs.stages import LABELLER
from kdtf.stage_folders import read_note

COMMAND = [*SMALL, "--recipes", "int8", "--views", "1", "--freeze", "--fine-tune-epochs", "0"]
COMMAND += ["--labeller", "litert"]


@pytest.fixture(scope="module")
def data(tiny, tmp_path_factory):
    """The small data with two test images among those of train."""
    folder = tmp_path_factory.mktemp("copies") / "d"
    shutil.copytree(tiny, folder)
    for own in (folder, folder / "teacher"):
        train = np.load(own / "X_train.npy")
        train[:2] = np.load(own / "X_test.npy")[:2]
        np.save(own / "X_train.npy", train)
    return folder


@pytest.fixture(scope="module")
def results(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("variants")
    with pictures_without_drawings():
        argv = ["--data", str(data), "--results", str(folder), *COMMAND, "--log-dir", str(folder / "tb")]
        assert main(argv) == 0
    return folder


def test_scores_are_also_given_on_images_without_a_copy(results, finished):
    """Two test images are in train: the clean scores are those of the other 22."""
    row = table(results, "summary.csv").iloc[0]
    predictions = table(results, "alone_predictions.csv")
    assert (row.test_images, row.clean_images) == (24, 22)
    assert row.clean_accuracy == pytest.approx(predictions.correct[2:].mean(), abs=1e-5)
    assert row.accuracy == pytest.approx(predictions.correct.mean(), abs=1e-5)
    untouched = table(finished, "summary.csv").iloc[0]
    assert untouched.clean_images == 24 and untouched.clean_accuracy == untouched.accuracy


def test_frozen_features_take_the_short_way(results, data):
    """--freeze --fine-tune-epochs 0: logits from cached features are those of the whole saved teacher."""
    from kdtf.distill.inference import inference_of
    from kdtf.models.teachers import build_base, build_head, with_head
    from kdtf.models.weights import WeightSource

    base = build_base("cnn5", (64, 64, 1), WeightSource("none"))
    teacher = with_head(base.model, build_head("cnn5", base.model.output.shape[1:], 4))
    (head,) = (results / "work").glob("cnn5-head-*")
    (labels,) = (results / "work").glob("cnn5-labels-*")
    teacher.load_weights(head / "teacher.weights.h5")
    logits = inference_of(teacher)(np.load(data / "teacher" / "X_train.npy"))
    assert np.allclose(np.load(labels / "logits.npy")[0], logits, atol=1e-4)


def test_what_labelled_is_told_by_the_stage_the_manifest_and_the_card(results):
    """The frozen base went through LiteRT, its head's labels are of what that gave."""
    (features,) = (results / "work").glob("cnn5-features-*")
    (labels,) = (results / "work").glob("cnn5-labels-*")
    note = json.loads((features / LABELLER).read_text())
    assert note["by"] == "LiteRT" and note["reason"] == "" and 0 < note["difference"] < 1e-4
    assert json.loads((labels / LABELLER).read_text())["by"] == "Keras"
    assert read_note(features)["environment"]["ai-edge-litert"]
    assert json.loads((results / "manifest.json").read_text())["labelled_by"] == {"cnn5": "LiteRT"}
    cards = (json.loads((results / f"{name}_Student_int8.json").read_text()) for name in ("cnn5", "alone"))
    assert [card["made_by"]["labelled_by"] for card in cards] == ["LiteRT", None]


def test_a_run_leaves_the_histories_of_its_trainings_for_tensorboard(results):
    scalars = events(results / "tb")
    assert set(scalars) == {"cnn5-head", "alone-student", "cnn5-student"}
    for stage, name in (("alone-student", "alone_student"), ("cnn5-student", "cnn5_Distiller")):
        rows = table(results, f"{name}_history.csv")
        names = [name for name in rows if name in scalars[stage]]
        assert {"loss", "val_loss", "val_accuracy", "learning_rate"} <= set(names)
        for name in names:
            steps, values = zip(*scalars[stage][name], strict=True)
            assert steps == tuple(rows.epoch) and values == pytest.approx(rows[name], rel=1e-4, abs=1e-6)


def trained(results):
    """The stages of a results folder in which a network was trained, or labelled the views."""
    folders = [path.parent for path in (results / "work").glob("*/stage.json")]
    kinds = ("features", "head", "whole", "labels", "student")
    return {path.name for path in folders if read_note(path)["kind"] in kinds}


def networks(results):
    """{file of a float student: its bytes}."""
    return {path.name: path.read_bytes() for path in results.glob("*_Student.keras")}


def test_seeds_repeat_the_students_and_keep_the_first_ones_files(results, data, tmp_path, blank):
    """A finished run goes on with a second seed: the first one's stages stand."""
    one, files = trained(results), networks(results)
    more = tmp_path / "r"
    shutil.copytree(results, more)
    assert main(["--data", str(data), "--results", str(more), *COMMAND, "--seeds", "2"]) == 0
    runs = table(more, "runs.csv")
    keys = list(zip(runs.teacher, runs.model, runs.recipe, runs.seed, strict=True))
    students = [("alone", "alone", s) for s in (0, 1)] + [("cnn5", "distilled", s) for s in (0, 1)]
    expected = [(t, m, r, s) for t, m, s in students for r in ("keras", "int8")]
    assert sorted(keys) == sorted([*expected, ("cnn5", "teacher", "keras", 0)])
    assert (table(more, "summary.csv").seed == 0).all() and networks(more) == files
    both = trained(more)
    repeats = {name for name in both if "-seed1-" in name}
    assert len(one) == 5 and both - repeats == one  # by the very same tasks
    assert {name.partition("-seed1-")[0] for name in repeats} == {"alone-student", "cnn5-student"}
    seeds = table(more, "seeds.csv").query("images == 'all'").set_index(["teacher", "model", "recipe"])
    ours = runs.query("model == 'distilled' and recipe == 'keras'").accuracy
    assert seeds.loc[("cnn5", "distilled", "keras"), "mean"] == pytest.approx(ours.mean(), abs=1e-5)
    compared = table(more, "comparisons.csv").query("images == 'all'")
    assert (compared.question == "distilled against alone").sum() == 2
