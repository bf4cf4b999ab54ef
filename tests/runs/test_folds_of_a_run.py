"""Teachers and the student alone compared by cross-validation before anything is distilled."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from small_run import SMALL, made_once, pictures_without_drawings, stages, teachers_of_one_convolution
from test_plan import FACTS, KNOWN, keys

from kdtf.cli import main
from kdtf.config import Config
from kdtf.data.audit import Audit
from kdtf.data.dataset import Dataset
from kdtf.errors import UserError
from kdtf.evidence.gains import mean_gain
from kdtf.progress import Progress
from kdtf.runs.data import assign_folds
from kdtf.runs.perform import Workspace
from kdtf.runs.plan import plan

FOLDS = Config().with_values({"folds": 3})
COMMAND = [*SMALL, "--recipes", "int8", "--folds", "3", "--patience", "0"]


def test_a_plan_without_folds_is_as_it_was():
    planned = plan(FOLDS, KNOWN)
    reports = {task.folder for task in planned.tasks() if "report" in task.kind}
    within = {t.folder for own in planned.folds.values() for fold in own for t in fold.tasks()}
    assert keys(FOLDS) - within == keys(Config()) and not within & keys(Config())
    assert not reports & within and not plan(Config(), KNOWN).folds


def test_every_fold_has_a_teacher_and_the_student_alone():
    """Tasks of a fold read that fold, and nothing of a run without it."""
    planned = plan(FOLDS, replace(KNOWN, unlabelled="u", unlabelled_images=9))
    assert planned.folds.keys() == {"vgg16", "cnn5"}
    order = [task.folder for task in planned.tasks()]
    for k in range(3):
        folds = [own[k] for own in planned.folds.values()]
        assert folds[0].alone == folds[1].alone and folds[0].alone.rule is None
        for fold in folds:
            for task in list(fold.tasks())[1:]:
                assert task.fold == k and task.inputs["folds"] == fold.folds
                assert task.name.startswith(f"fold{k}-") and task.note()["fold"] == k
                assert not any("unlabelled" in role for role in task.inputs)
            assert fold.evaluations == (fold.teacher.evaluation, fold.alone.evaluation)
            assert order.index(fold.folds.folder) < order.index(fold.views.folder)
    first = order.index(planned.groups[0].students[0].student.folder)
    assert max(order.index(t.folder) for t in planned.folds["cnn5"][2].tasks()) < first
    keys = {task.key for own in planned.folds.values() for fold in own for task in fold.tasks()}
    assert len(keys) == 1 + 3 * (1 + 2 + 2 * (2 + 1) - 1 + 1)  # cnn5 from random weights has one training


def test_a_teacher_is_in_folds_once_it_is_known_how_it_is_trained():
    assert not plan(FOLDS, FACTS).folds
    known = replace(FACTS, origins={("cnn5", 0): KNOWN.origins["cnn5", 0]})
    assert plan(FOLDS, known).folds.keys() == {"cnn5"}


@pytest.fixture(scope="module")
def results(tiny, tmp_path_factory):
    def run(folder):
        with teachers_of_one_convolution(), pictures_without_drawings():
            assert main([*COMMAND, "--data", str(tiny), "--results", str(folder)]) == 0

    return made_once(tmp_path_factory, "run-of-folds", run)


def stage(results, name):
    (folder,) = (results / "work").glob(f"{name}-" + "?" * 16)
    return folder


def test_the_run_says_what_the_folds_say(results, tiny):
    """The sentence of the manifest, computed anew from what teacher and student said of each fold."""
    labels = np.concatenate([np.load(tiny / f"y_{name}.npy") for name in ("train", "val")])
    fold_of = np.load(stage(results, "folds") / "folds.npy")
    gains = []
    for k in range(3):
        right = {}
        for model in ("cnn5", "alone-student"):
            said = np.load(stage(results, f"fold{k}-{model}-evaluation") / "measured.npz")["test_probs"]
            right[model] = (said.argmax(1) == labels[fold_of == k]).mean()
        gains.append(right["cnn5"] - right["alone-student"])
    gain = mean_gain(np.array(gains))[0]
    (sentence,) = json.loads((results / "manifest.json").read_text())["expectations"]
    assert sentence.startswith("In 3 folds of train and val the teacher cnn5 is ")
    assert f"(interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f})" in sentence


def test_the_same_command_again_makes_nothing_again(results, tiny, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(results, again)
    before = stages(again)
    with teachers_of_one_convolution(), pictures_without_drawings():
        assert main([*COMMAND, "--data", str(tiny), "--results", str(again)]) == 0
    assert stages(again) == before and any("fold2-" in name for name in before)


def test_two_jobs_make_the_same_of_folds(results, tiny, tmp_path):
    """In processes of their own, which take the fold from the data themselves."""
    with pictures_without_drawings():
        command = [*COMMAND, "--data", str(tiny), "--jobs", "2", "--teachers", "cnn5"]
        assert main([*command, "--results", str(tmp_path), "--seed", "1", "--recipes", "float32"]) == 0
    names = {path.name[:-17] for path in (tmp_path / "work").glob("fold*")}
    assert names == {path.name[:-17] for path in (results / "work").glob("fold*")}
    (sentence,) = json.loads((tmp_path / "manifest.json").read_text())["expectations"]
    assert sentence.startswith("In 3 folds of train and val")


def test_copies_that_are_not_all_listed_are_refused(monkeypatch, tmp_path):
    rows = [{"check": "pairs of exact copies listed", "split": "", "count": 5000, "of": 9000, "value": None}]
    monkeypatch.setattr("kdtf.runs.data.read_audit", lambda folder, data: Audit(rows, [], {}, ["found"]))
    space = Workspace(tmp_path, {"audit": tmp_path}, None, Progress(), "folds")
    space = replace(space, dataset=Dataset(*[None] * 3, ("a",), "digest", ()))
    with pytest.raises(UserError, match="--folds must be given for images with fewer copies"):
        assign_folds(space, 3)


def test_more_folds_than_images_of_a_class_end_with_one_line(tiny, tmp_path, capsys):
    few = tmp_path / "few"
    shutil.copytree(tiny, few)
    labels = np.load(few / "y_train.npy")
    val = np.load(few / "y_val.npy")
    last = labels.max()
    labels[np.flatnonzero(labels == last)[1:]] = 0
    val[val == last] = 0
    np.save(few / "y_train.npy", labels)
    np.save(few / "y_val.npy", val)
    assert main([*COMMAND, "--data", str(few), "--results", str(tmp_path / "r")]) == 2
    assert "--folds must be so few that every class" in capsys.readouterr().err


@pytest.mark.parametrize("folds", ["2", "0", "21", "x"])
def test_a_number_of_folds_is_checked_at_the_door(folds, tmp_path, capsys):
    assert main(["--folds", folds, "--demo", "--results", str(tmp_path / "r")]) == 2
    assert "--folds" in capsys.readouterr().err and not (tmp_path / "r").exists()
