"""Labels, groups and the validation split, by value: no file and no pixel."""

import re

import numpy as np
import pytest

from kdtf.data.arrays import NamedArray
from kdtf.data.labels import label_notes, read_groups, read_labels, split_off
from kdtf.errors import UserError

TRAIN, VAL = np.array([0, 1, 2, 0, 1, 2]), np.array([2, 0, 1])


def read(names=(), **splits):
    return read_labels({split: NamedArray(f"y_{split}.npy", y) for split, y in splits.items()}, names)


@pytest.mark.parametrize(
    "form",
    [
        lambda y: y,
        lambda y: y.astype(np.uint8),
        lambda y: y.astype(np.float32),
        lambda y: y[:, None],
        lambda y: np.eye(3)[y],
        lambda y: np.eye(3, dtype=np.int64)[y],
        lambda y: np.eye(3, dtype=bool)[y],
    ],
)
def test_labels_in_any_form_mean_the_same(form):
    labels, classes = read(train=form(TRAIN), val=form(VAL))
    assert {split: y.tolist() for split, y in labels.items()} == {"train": [0, 1, 2] * 2, "val": [2, 0, 1]}
    assert all(y.dtype == np.int64 for y in labels.values())
    assert classes == ("class 0", "class 1", "class 2")


def test_bool_labels_are_two_classes_and_names_are_kept():
    labels, classes = read(("no", "yes"), train=np.array([True, False, True]))
    assert labels["train"].tolist() == [1, 0, 1] and classes == ("no", "yes")


def test_a_one_hot_width_counts_the_classes_and_a_split_may_lack_some():
    labels, classes = read(train=np.eye(3)[TRAIN], test=np.eye(3)[[1, 1]])
    assert len(classes) == 3 and labels["test"].tolist() == [1, 1]


REFUSED = {
    "from one": (dict(train=TRAIN + 1), "y_train.npy must be labels with every class in them. * class 0"),
    "beyond": (dict(val=VAL + 1), "labels in y_val.npy must be between 0 and 2. Got 3. Labels count from 0"),
    "below": (dict(train=TRAIN - 1), "labels in y_train.npy must be between 0 and 1. Got -1"),
    "vast": (dict(train=TRAIN * 10**6), "none of class 1'"),
    "fraction": (dict(val=VAL + 0.5), "labels in y_val.npy must be whole numbers. Got 2.5"),
    "nan": (dict(val=VAL * np.nan), "labels in y_val.npy must be whole numbers. Got nan"),
    "past 31 bits": (
        dict(val=np.array([2.0**31])),
        "labels in y_val.npy must be whole numbers. Got 21474836",
    ),
    "text": (dict(val=VAL.astype(str)), "must be whole numbers * Names of classes go into classes.txt"),
    "rank": (dict(val=VAL[:, None, None]), "y_val.npy must be whole numbers shaped (N,) * Got (3, 1, 1)"),
    "two hot": (dict(val=np.eye(3)[VAL] + np.eye(3)[0]), "must be 0 and 1, * Got 'row 0: [1.0, 0.0, 1.0]'"),
    "soft": (dict(val=np.full((9, 3), 1 / 3)), "one-hot rows of y_val.npy must be 0 and 1, with a sum of 1"),
    "widths": (dict(train=np.eye(3)[TRAIN], val=np.eye(4)[VAL]), "the same width in all splits. Got [3, 4]"),
    "one class": (dict(train=TRAIN * 0, val=VAL * 0), "classes must be at least 2. Got 1"),
    "one in val": (dict(val=VAL * 0 + 1), "y_val.npy must be labels of at least two classes. Got 'class 1"),
    "few names": (dict(names=("a", "b"), train=np.eye(3)[TRAIN]), "for each of the 3 classes. Got 2"),
    "unused name": (dict(names=("a", "b", "c", "d")), "y_train.npy must be *none of class 3 (d)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_labels_that_are_refused(case):
    changes, message = REFUSED[case]
    with pytest.raises(UserError, match=re.escape(message).replace(r"\*", ".*")):
        read(**{"train": TRAIN, "val": VAL, **changes})


@pytest.mark.parametrize(
    "groups, expected",
    [
        (np.array([7, 12]), ["7", "12"]),
        (np.array(["p1", "é"]), ["p1", "é"]),
        (np.array(["é".encode(), b"\xff"]), ["é", r"\xff"]),  # bytes that are no UTF-8 as escapes
    ],
)
def test_groups_become_strings(groups, expected):
    assert read_groups(NamedArray("groups_train.npy", groups)).tolist() == expected


@pytest.mark.parametrize("groups", [np.ones(9), np.ones((3, 3), int), np.array([True, False])])
def test_groups_that_are_refused(groups):
    message = r"groups_val\.npy must be \(N,\) whole numbers or strings\. Got '(float64|int64|bool) \("
    with pytest.raises(UserError, match=message):
        read_groups(NamedArray("groups_val.npy", groups))


def test_split_off_keeps_the_classes_shares():
    labels = np.repeat([0, 1], [80, 20])
    train, val = split_off(labels, None, 0.1, 0)
    assert np.bincount(labels[val]).tolist() == [8, 2] and len(train) == 90
    assert (
        sorted([*train, *val]) == list(range(100)) and (np.diff(train) > 0).all() and (np.diff(val) > 0).all()
    )
    assert val.tolist() == split_off(labels, None, 0.1, 0)[1].tolist()
    assert val.tolist() != split_off(labels, None, 0.1, 1)[1].tolist()


def test_split_off_takes_whole_groups_and_every_class():
    labels = np.arange(40) % 2
    groups = (np.arange(40) // 4).astype(str)  # ten of them, each of both classes
    train, val = split_off(labels, groups, 0.2, 0)
    assert len(val) == 8 and len(set(groups[val])) == 2 and not set(groups[train]) & set(groups[val])
    assert set(labels[val]) == set(labels[train]) == {0, 1}


TOO_FEW = {
    "one of a class": (np.r_[np.zeros(14, int), np.ones(15, int), 2], None),
    "one group": (np.arange(30) % 3, np.zeros(30, int)),
    "less than a class each": (np.arange(12) % 6, None),
}


@pytest.mark.parametrize("case", TOO_FEW)
def test_too_few_to_split_off(case):
    labels, groups = TOO_FEW[case]
    with pytest.raises(UserError, match="train must be large enough to split validation off it") as caught:
        split_off(labels, groups, 0.1, 0)
    assert f"Got '{len(labels)} images, " in str(caught.value)


def test_notes_name_what_val_and_test_lack():
    labels = {"train": TRAIN, "val": np.array([0, 2]), "test": np.array([1, 1])}
    assert label_notes(labels, ("a", "b", "c"), ("a", "b", "c")) == [
        "No image of 'b' is in val.",
        "No image of 'a' is in test.",
        "No image of 'c' is in test.",
    ]
    unnamed = label_notes({"train": TRAIN}, ("class 0",), ())
    assert unnamed == ["No names of classes were given (--class-names): they are numbered."]
