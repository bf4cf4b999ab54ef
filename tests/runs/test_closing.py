"""What a run warns of and says of its students, from finished models."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kdtf.config import Config
from kdtf.data.audit import Audit
from kdtf.data.dataset import Dataset, Split
from kdtf.distill.batches import batch_sizes
from kdtf.progress import Progress
from kdtf.records import Agreement, Predictions, StudentResult, TeacherResult
from kdtf.runs.close import Closing
from kdtf.runs.records import Group
from kdtf.store import Store

PIXELS = np.zeros((20, 4, 4, 1), np.uint8)
SPLIT = Split(PIXELS, np.zeros(20, int), None, PIXELS)
AUDIT = Audit([], [], dict.fromkeys(("val", "test"), np.zeros(20, bool)), [])


def predictions(teacher, model, right):
    """Right on the first `right` of the 20 images of val and of test."""
    probs = np.eye(2)[(np.arange(20) >= right).astype(int)]
    return Predictions(teacher, model, "keras", 0, probs, probs)


def closing(tmp_path, config=None, unlabelled=0):
    data = Dataset(SPLIT, SPLIT, SPLIT, ("a", "b"), "digest", ())
    audit = replace(AUDIT, unlabelled_rows=np.arange(unlabelled))
    return Closing(config or Config(), data, audit, Store(tmp_path), Progress())


@pytest.mark.parametrize(
    "on_train, unlabelled, warning",
    [
        (0.9, False, None),
        (1.0, False, "its labels repeat yours; add unlabelled images (--unlabelled)."),
        (1.0, True, "its labels repeat yours."),
    ],
)
def test_a_teacher_that_has_memorised_its_images_is_warned_about(tmp_path, on_train, unlabelled, warning):
    own = closing(tmp_path)
    teacher = predictions("vgg16", "teacher", 18)
    own.teachers["vgg16"] = [TeacherResult(teacher, "k", "random", False, 1, 1.0, 1.0, [])]
    agreement = (Agreement("train", 20, on_train, 0.5, 0.5),)
    facts = ("cnn3", "random", None, None, {}, {}, 1, 1.0, 1.0, [], agreement)
    student = StudentResult(predictions("vgg16", "distilled", 10), "k", Path(), *facts)
    own.students["vgg16"] = [(student, {})]
    own._warn_of_memory(Group("vgg16"), unlabelled=unlabelled)
    start = "The teacher vgg16 is right on 1.000 of its training images and on 0.900 of val: "
    assert own.progress.warnings == ([start + warning] if warning else [])


def test_a_teacher_without_students_is_not_warned_about(tmp_path):
    own = closing(tmp_path)
    teacher = predictions("vgg16", "teacher", 10)
    own.teachers["vgg16"] = [TeacherResult(teacher, "k", "random", False, 1, 1.0, 1.0, [])]
    own.students["vgg16"] = []
    own._warn_of_memory(Group("vgg16"), unlabelled=False)
    assert own.progress.warnings == []


@pytest.mark.parametrize("batch_size", [3, 10, 20, 256])
def test_how_much_every_student_sees(tmp_path, batch_size):
    config = Config().with_values({"epochs": 7, "batch_size": batch_size})
    steps = 7 * len(batch_sizes(20, batch_size))
    words = f"Every student sees 140 images in {steps} steps, with a teacher or without"
    assert closing(tmp_path, config).budget == f"{words}."
    more = closing(tmp_path, config, unlabelled=3)
    assert more.budget == f"{words}, with unlabelled images or without."
    none = closing(tmp_path, config.with_values({"unlabelled_share": 0.0}), unlabelled=3)
    assert none.budget == f"{words}."
