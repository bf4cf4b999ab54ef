"""Where a student and its teacher name the same class: a task on view 0 of what students learn from."""

from dataclasses import replace

import numpy as np
import pytest

from kdtf.config import Config, ViewConfig
from kdtf.data.dataset import Dataset, Split
from kdtf.data.views import computed_views
from kdtf.progress import Progress
from kdtf.records import Agreement
from kdtf.runs import agreement
from kdtf.runs.kinds import KINDS, PACKAGES
from kdtf.runs.perform import Workspace
from kdtf.runs.plan import plan
from kdtf.runs.records import Facts, Origin

VERSIONS = {package: "1.0" for package in PACKAGES}
ORIGINS = {(name, seed): Origin("random", False) for name in ("vgg16", "cnn5") for seed in (0, 1)}
FACTS = Facts("digest", "name", ("a", "b"), VERSIONS, ("vgg16", "cnn5"), origins=ORIGINS)


def split(bright, side=4):
    """Black images, and white ones where `bright` says so; the teacher's are twice as large."""
    pixels = np.zeros((len(bright), side, side, 1), np.uint8)
    pixels[np.array(bright, bool)] = 255
    return Split(pixels, np.array([0, 1, 0, 0][: len(bright)]), None, pixels.repeat(2, 1).repeat(2, 2))


TRAIN, OTHERS = split([0, 1, 1, 0]), split([1, 0, 1])
DATA = Dataset(TRAIN, TRAIN, TRAIN, ("dark", "bright"), "digest", (), unlabelled=OTHERS)


@pytest.fixture
def space(tmp_path, monkeypatch):
    """A student that calls white images bright, and a teacher whose labels of view 0 are chosen by hand."""

    def inference_of(model):
        return lambda pixels: np.eye(2)[(pixels.mean(axis=(1, 2, 3)) > 127).astype(int)]

    def views_of(workspace, role):
        return computed_views(
            {"views": TRAIN, "unlabelled_views": OTHERS}[role], seed=0, policy=ViewConfig(views=2)
        )

    monkeypatch.setattr("kdtf.distill.inference.inference_of", inference_of)
    monkeypatch.setattr("kdtf.distill.inference.AT_ONCE", 3)  # so that there are several parts
    monkeypatch.setattr(agreement, "load_student", lambda folder: None)
    monkeypatch.setattr(agreement, "views_of", views_of)
    for name, classes in (("labels", [0, 1, 0, 1]), ("unlabelled_labels", [1, 1, 1])):
        (tmp_path / name).mkdir()
        views = np.stack([np.eye(2)[classes], 1 - np.eye(2)[classes]])  # (V, N, K): view 1 says the opposite
        np.save(tmp_path / name / "logits.npy", views)
    inputs = {name: tmp_path / name for name in ("student", "views", "labels")}
    more = {name: tmp_path / name for name in ("unlabelled_views", "unlabelled_labels")}
    return Workspace(tmp_path, {**inputs, **more}, DATA, Progress(), "vgg16")


@pytest.mark.parametrize("side", [None, 4, 8])
def test_agreement_by_hand(space, side):
    """Of four images with the labels 0 1 0 0 the student names 0 1 1 0 and the teacher 0 1 0 1."""
    agreement.compare(space, side)
    rows = agreement.read_agreement(space.folder)
    assert rows == (
        Agreement("train", 4, 0.75, 0.75, 0.5),
        Agreement("unlabelled", 3, None, None, pytest.approx(2 / 3)),
    )


def test_without_unlabelled_images_train_alone_is_compared(space):
    few = {role: path for role, path in space.inputs.items() if "unlabelled" not in role}
    agreement.compare(replace(space, inputs=few), None)
    assert [row.images for row in agreement.read_agreement(space.folder)] == ["train"]


def test_it_reads_the_images_and_depends_on_what_trained():
    row = KINDS["agreement"]
    assert row.reads_data and row.trains and row.packages == KINDS["student"].packages


def agreements(config, facts):
    return {
        (group.name, student.seed): student.agreement
        for group in plan(config, facts).groups
        for student in group.students
    }


def test_it_is_planned_for_the_first_student_of_every_teacher():
    config = Config().with_values({"seeds": 2, "ensemble": True, "unlabelled_share": 0.5})
    tasks = agreements(config, replace(FACTS, unlabelled="u"))
    names = {name for name, _ in tasks} - {"alone"}
    assert names == {
        f"{name}{more}" for name in ("vgg16", "cnn5", "ensemble") for more in ("", "-unlabelled")
    }
    assert {at for at, task in tasks.items() if task} == {(name, 0) for name in names}
    groups = {group.name: group for group in plan(config, replace(FACTS, unlabelled="u")).groups}
    for name in names:
        task, student = tasks[name, 0], groups[name].students[0].student
        assert task.name == f"{name}-agreement" and task.inputs["student"].key == student.key
        # also what a student did not learn from is compared, by the labels of its own teacher
        roles = {"student", "views", "labels", "unlabelled_labels", "unlabelled_views"}
        assert task.inputs.keys() == roles and task.inputs["labels"].key == student.inputs["labels"].key
        assert task.folder in {own.folder for own in groups[name].report.inputs.values()}


def test_without_unlabelled_images_it_needs_none():
    tasks = agreements(Config(), FACTS)
    assert tasks["vgg16", 0].inputs.keys() == {"student", "views", "labels"}


def test_networks_that_are_only_compared_have_none():
    config = Config().with_values({"students": ("cnn3", "baseline")})
    current = plan(config, FACTS)
    assert current.frontier and not current.groups
    assert not any(task.kind == "agreement" for task in current.tasks())
