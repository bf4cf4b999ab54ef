"""Train and val in folds: what is kept together, what each fold is made of, what cannot be divided."""

from dataclasses import replace

import numpy as np
import pytest

from kdtf.data.copies import Pair
from kdtf.data.dataset import Dataset, Split
from kdtf.data.folds import clusters, folds_of, held_out
from kdtf.errors import UserError


def split(labels, start, groups=None):
    """Images of one pixel that is their number; the teacher's are twice as large."""
    pixels = np.arange(start, start + len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    return Split(pixels, np.array(labels), groups, pixels.repeat(2, 1).repeat(2, 2))


TRAIN, VAL, TEST = split([0, 1] * 9, 0), split([0, 1] * 3, 18), split([0, 1], 90)
DATA = Dataset(TRAIN, VAL, TEST, ("a", "b"), "digest", (), unlabelled=TEST, unlabelled_digest="u")
PAIRS = [
    Pair("exact", ("train", 0), ("val", 1), 1.0, True),  # images 0 and 19
    Pair("near", ("train", 4), ("train", 0), 0.99, False),  # and 4, by way of 0
    Pair("near", ("train", 2), ("test", 0), 0.99, False),  # no fold has an image of test
]


def together(numbers):
    """The sets of more than one image that share a number."""
    return {frozenset(np.flatnonzero(numbers == n).tolist()) for n in numbers if (numbers == n).sum() > 1}


def test_copies_are_one_cluster_and_so_are_images_of_a_patient():
    assert together(clusters(DATA, PAIRS)) == {frozenset({0, 4, 19})}
    patients = np.array([f"p{i}" for i in range(24)])
    patients[[4, 6, 23]] = "p4"  # 4 is a copy of 0: one cluster by way of both
    train, val = replace(TRAIN, groups=patients[:18]), replace(VAL, groups=patients[18:])
    of_patients = clusters(replace(DATA, train=train, val=val), PAIRS)
    assert together(of_patients) == {frozenset({0, 4, 19, 6, 23})}
    assert not together(clusters(DATA, []))


@pytest.mark.parametrize("count", [3, 5])
def test_every_fold_has_every_class_and_no_half_of_a_cluster(count):
    fold_of = folds_of(DATA, PAIRS, count)
    assert len(fold_of) == 24 and set(fold_of) == set(range(count))
    assert fold_of[0] == fold_of[4] == fold_of[19]
    labels = np.concatenate([TRAIN.labels, VAL.labels])
    assert all(set(labels[fold_of == k]) == {0, 1} for k in range(count))
    assert (fold_of == folds_of(DATA, PAIRS, count)).all()


def test_what_is_held_out_is_neither_learned_from_nor_val():
    fold_of = folds_of(DATA, PAIRS, 4)
    seen = []
    for k in range(4):
        own = held_out(DATA, fold_of, k, (k + 1) % 4)
        numbers = {name: set(part.pixels.ravel().tolist()) for name, part in own.splits.items()}
        assert numbers["test"] == set(np.flatnonzero(fold_of == k))
        assert numbers["val"] == set(np.flatnonzero(fold_of == (k + 1) % 4))
        assert numbers["train"] == set(range(24)) - numbers["test"] - numbers["val"]
        for part in own.splits.values():
            assert (part.labels == part.pixels.ravel() % 2).all()
            assert part.teacher_pixels.shape == (len(part.labels), 2, 2, 1)
            assert (part.teacher_pixels[:, 0, 0, 0] == part.pixels.ravel()).all()
        assert own.unlabelled is None and own.unlabelled_digest == ""
        seen += numbers["test"]
    assert sorted(seen) == list(range(24))  # no image of the real test among them
    same = held_out(DATA, fold_of, 2, 2)
    assert (same.val.pixels == same.test.pixels).all() and len(same.train.labels) == (fold_of != 2).sum()


def test_one_array_for_both_stays_one():
    small = replace(DATA, **{n: replace(s, teacher_pixels=s.pixels) for n, s in DATA.splits.items()})
    own = held_out(small, folds_of(small, [], 3), 0, 1)
    assert all(part.teacher_pixels is part.pixels for part in own.splits.values())


def test_a_class_of_too_few_different_images_is_named():
    few = replace(DATA, train=split([0] * 17 + [1], 0), val=split([0, 1], 18), classes=("common", "rare"))
    with pytest.raises(UserError, match=r"--folds must be .* Got 3. Of rare there are 2 different images"):
        folds_of(few, [], 3)
    copies = [Pair("exact", ("train", 1), ("train", i), 1.0, False) for i in range(3, 18, 2)]
    with pytest.raises(UserError, match="Of b there are 4 different images or patients"):
        folds_of(DATA, copies, 5)
