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
from kdtf.data.dataset import Dataset, Split
from kdtf.evidence.choose import outlook_by_folds
from kdtf.runs.perform import data_of
from kdtf.runs.plan import plan
from kdtf.tasks import Task

FOLDS = Config().with_values({"folds": 3})
PARTS = slice(7), slice(7, None)  # of ten images: train, val
COMMAND = [*SMALL, "--recipes", "int8", "--folds", "3", "--patience", "0"]


def tasks_of(planned):
    """Of all teachers in all folds, without the assignment."""
    return [t for own in planned.folds.values() for fold in own for unit in fold.units() for t in unit]


def test_a_plan_without_folds_is_as_it_was():
    planned = plan(FOLDS, KNOWN)
    within = {planned.assignment.folder, *(task.folder for task in tasks_of(planned))}
    assert keys(FOLDS) - within == keys(Config()) and not within & keys(Config())
    without = plan(Config(), KNOWN)
    assert not without.folds and without.assignment is None


def test_every_fold_has_a_teacher_and_the_student_alone():
    """Tasks of a fold read that fold, and nothing of a run without it."""
    planned = plan(FOLDS, replace(KNOWN, unlabelled="u", unlabelled_images=9))
    assert planned.folds.keys() == {"vgg16", "cnn5"}
    order = [task.folder for task in planned.tasks()]
    for k in range(3):
        folds = [own[k] for own in planned.folds.values()]
        assert folds[0].alone == folds[1].alone and folds[0].alone.rule is None
        for fold in folds:
            for task in (task for unit in fold.units() for task in unit):
                assert task.fold == k and task.inputs["folds"] == planned.assignment
                assert task.name.startswith(f"fold{k}-") and task.note()["fold"] == k
                assert not any("unlabelled" in role for role in task.inputs)
            assert fold.evaluations == (fold.teacher.evaluation, fold.alone.evaluation)
    first = order.index(planned.groups[0].students[0].student.folder)
    assert order[1] == planned.assignment.folder
    assert max(order.index(task.folder) for task in tasks_of(planned)) < first
    # views, the student and its evaluation; three trainings of vgg16 and one of cnn5 with an evaluation each
    assert len({task.key for task in tasks_of(planned)}) == 3 * (1 + 2 + 4 + 2)


def test_other_classes_and_unlabelled_images_train_no_fold_again():
    def folders(**changed):
        return {task.folder for task in tasks_of(plan(FOLDS, replace(KNOWN, **changed)))}

    assert folders() == folders(unlabelled="u", unlabelled_images=9) == folders(classes=("x", "y"))
    assert not folders() & folders(data="other")


def test_all_teachers_are_compared_before_any_is_distilled():
    """As a run goes on: its first plans know of no teacher how it begins."""
    facts, done = FACTS, []
    while True:
        planned = plan(FOLDS, facts)
        task = next((t for t in planned.tasks() if t.folder not in {own.folder for own in done}), None)
        if task is None:
            break
        done.append(task)
        if task.kind == "origin":
            name = task.settings["network"].name
            facts = replace(facts, origins={**facts.origins, (name, 0): KNOWN.origins[name, 0]})
    names = [task.name for task in done]
    assert names.index("alone-student") > max(
        names.index(f"fold2-{own}-evaluation") for own in facts.teachers
    )
    assert names[:2] == ["audit", "folds"] and names.count("vgg16-origin") == 1


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


def the_sentence(results):
    (sentence,) = json.loads((results / "manifest.json").read_text())["expectations"]
    return sentence


def sentence_of_folds(results, data):
    """Computed anew from what teacher and student said of each fold."""
    labels = np.concatenate([np.load(data / f"y_{name}.npy") for name in ("train", "val")])
    fold_of = np.load(stage(results, "folds") / "folds.npy")
    right = []
    for k in range(3):
        folders = (stage(results, f"fold{k}-{model}-evaluation") for model in ("cnn5", "alone-student"))
        said = (np.load(folder / "measured.npz")["test_probs"] for folder in folders)
        right.append(tuple(probs.argmax(1) == labels[fold_of == k] for probs in said))
    return outlook_by_folds("cnn5", right, 0).in_words


def test_the_run_says_what_the_folds_say(results, tiny):
    assert the_sentence(results) == sentence_of_folds(results, tiny)
    assert the_sentence(results).startswith("In 3 folds of train and val, learned from 33% of their images, ")


def test_the_same_command_again_makes_nothing_again(results, tiny, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(results, again)
    before = stages(again)
    with teachers_of_one_convolution(), pictures_without_drawings():
        assert main([*COMMAND, "--data", str(tiny), "--results", str(again)]) == 0
    assert stages(again) == before and any("fold2-" in name for name in before)


def test_two_jobs_make_the_same_of_folds(tiny, results, tmp_path):
    """In processes of their own, which take the fold from the data themselves."""
    command = [*COMMAND, "--data", str(tiny), "--results", str(tmp_path), "--jobs", "2"]
    with pictures_without_drawings():
        assert main(command) == 0
    assert the_sentence(tmp_path) == sentence_of_folds(tmp_path, tiny)
    one, two = (np.load(stage(own, "folds") / "folds.npy") for own in (results, tmp_path))
    assert (one == two).all()


def test_a_fold_is_held_out_and_the_next_one_is_val(tmp_path):
    fold_of = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 2])
    np.save(tmp_path / "folds.npy", fold_of)
    pixels = np.arange(10, dtype=np.uint8).reshape(-1, 1, 1, 1)
    train, val = (Split(pixels[own], np.zeros(len(pixels[own]), int), None, pixels[own]) for own in PARTS)
    data = Dataset(train, val, val, ("a",), "digest", ())
    sizes = {0: (5, 2, 3), 1: (3, 5, 2), 2: (2, 3, 5)}
    for k, expected in sizes.items():
        read = data_of(Task("views", "views", fold=k), data, {"folds": tmp_path})
        assert tuple(len(own.labels) for own in read.splits.values()) == expected
        assert read.test.pixels.ravel().tolist() == np.flatnonzero(fold_of == k).tolist()
        assert read.val.pixels.ravel().tolist() == np.flatnonzero(fold_of == (k + 1) % 3).tolist()
    assert data_of(Task("views", "views"), data, {}) is data


def test_more_folds_than_images_of_a_class_end_with_one_line_before_anything_is_trained(
    tiny, tmp_path, capsys
):
    few = tmp_path / "few"
    shutil.copytree(tiny, few)
    labels, val = np.load(few / "y_train.npy"), np.load(few / "y_val.npy")
    last = labels.max()
    labels[np.flatnonzero(labels == last)[1:]] = 0
    val[val == last] = 0
    np.save(few / "y_train.npy", labels)
    np.save(few / "y_val.npy", val)
    assert main([*COMMAND, "--data", str(few), "--results", str(tmp_path / "r")]) == 2
    assert "--folds must be so few that every class" in capsys.readouterr().err
    assert {name.rsplit("-", 1)[0] for name in stages(tmp_path / "r")} == {"audit"}


@pytest.mark.parametrize("folds", ["2", "0", "21", "x"])
def test_a_number_of_folds_is_checked_at_the_door(folds, tmp_path, capsys):
    assert main(["--folds", folds, "--demo", "--results", str(tmp_path / "r")]) == 2
    assert "--folds" in capsys.readouterr().err and not (tmp_path / "r").exists()


def test_where_val_cannot_tell_folds_are_advised_once(small, tiny, blank, capfd):
    two = ["--teachers", "cnn5", "mobilenet"]
    assert main(["--data", str(tiny), "--results", str(small), *SMALL, *two]) == 0
    said = capfd.readouterr().err
    assert said.count("val cannot tell whether it helps") == 2 and said.count("--folds 5 compares") == 1
    assert main(["--data", str(tiny), "--results", str(small), *SMALL, "--folds", "3"]) == 0
    assert "--folds 5 compares" not in capfd.readouterr().err
