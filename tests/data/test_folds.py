"""Train and val in folds: what is kept together, what each fold is made of, what cannot be divided."""

from dataclasses import replace

import numpy as np
import pytest

from kdtf.data.dataset import Dataset, Split
from kdtf.data.folds import clusters, folds_of, held_out
from kdtf.errors import UserError


def split(labels, start, groups=None):
    """Images of one grey that is their number; the teacher's are noise of their own, twice as large."""
    pixels = (
        np.arange(start, start + len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(8, 1).repeat(8, 2)
    )
    noise = [np.random.default_rng(start + i).integers(0, 256, (16, 16, 1)) for i in range(len(labels))]
    return Split(pixels, np.array(labels), groups, np.stack(noise).astype(np.uint8))


TRAIN, VAL, TEST = split([0, 1] * 9, 0), split([0, 1] * 3, 18), split([0, 1], 90)
DATA = Dataset(TRAIN, VAL, TEST, ("a", "b"), "digest", (), unlabelled=TEST, unlabelled_digest="u")


def with_copies():
    """Image 19, of val, is image 0; 4 is nearly that; 2 is one of test, which is in no fold."""
    train, val = TRAIN.teacher_pixels.copy(), VAL.teacher_pixels.copy()
    val[1] = train[0]
    train[4] = np.clip(train[0].astype(int) + 1, 0, 255)
    train[2] = TEST.teacher_pixels[0]
    return replace(DATA, train=replace(TRAIN, teacher_pixels=train), val=replace(VAL, teacher_pixels=val))


def together(numbers):
    """The sets of more than one image that share a number."""
    return {frozenset(np.flatnonzero(numbers == n).tolist()) for n in numbers if (numbers == n).sum() > 1}


def test_copies_are_one_cluster_and_so_are_images_of_a_patient():
    assert not together(clusters(DATA))
    data = with_copies()
    assert together(clusters(data)) == {frozenset({0, 4, 19})}
    patients = np.array([f"p{i}" for i in range(24)])
    patients[[4, 6, 23]] = "p4"  # 4 is a copy of 0: one cluster by way of both
    train, val = replace(data.train, groups=patients[:18]), replace(data.val, groups=patients[18:])
    assert together(clusters(replace(data, train=train, val=val))) == {frozenset({0, 4, 19, 6, 23})}
    assert together(clusters(replace(data, train=train))) == {frozenset({0, 4, 19, 6})}  # val's are not known


@pytest.mark.parametrize("count", [3, 5])
def test_every_fold_has_every_class_and_no_half_of_a_cluster(count):
    of_image = np.arange(24)
    of_image[[4, 19]] = 0
    fold_of = folds_of(DATA, of_image, count)
    assert len(fold_of) == 24 and set(fold_of) == set(range(count))
    assert fold_of[0] == fold_of[4] == fold_of[19]
    labels = np.concatenate([TRAIN.labels, VAL.labels])
    assert all(set(labels[fold_of == k]) == {0, 1} for k in range(count))
    assert (fold_of == folds_of(DATA, of_image, count)).all()


def numbers_of(part):
    return part.pixels[:, 0, 0, 0].tolist()


def test_what_is_held_out_is_neither_learned_from_nor_val():
    fold_of = folds_of(DATA, np.arange(24), 4)
    everyones = np.concatenate([TRAIN.teacher_pixels, VAL.teacher_pixels])
    seen = []
    for k in range(4):
        own = held_out(DATA, fold_of, k, (k + 1) % 4)
        numbers = {name: numbers_of(part) for name, part in own.splits.items()}
        assert numbers["test"] == np.flatnonzero(fold_of == k).tolist()
        assert numbers["val"] == np.flatnonzero(fold_of == (k + 1) % 4).tolist()
        assert set(numbers["train"]) == set(range(24)) - {*numbers["test"], *numbers["val"]}
        for part in own.splits.values():
            assert part.labels.tolist() == [number % 2 for number in numbers_of(part)]
            assert (part.teacher_pixels == everyones[numbers_of(part)]).all()
            assert not part.pixels.flags.writeable and not part.teacher_pixels.flags.writeable
        assert own.unlabelled is None and own.unlabelled_digest == ""
        seen += numbers["test"]
    assert sorted(seen) == list(range(24))  # no image of the real test among them
    same = held_out(DATA, fold_of, 2, 2)
    assert (same.val.pixels == same.test.pixels).all() and len(same.train.labels) == (fold_of != 2).sum()


def test_one_array_for_both_stays_one():
    small = replace(DATA, **{n: replace(s, teacher_pixels=s.pixels) for n, s in DATA.splits.items()})
    own = held_out(small, folds_of(small, np.arange(24), 3), 0, 1)
    assert all(part.teacher_pixels is part.pixels for part in own.splits.values())


def test_a_class_of_too_few_different_images_is_named():
    few = replace(DATA, train=split([0] * 17 + [1], 0), val=split([0, 1], 18), classes=("common", "rare"))
    with pytest.raises(UserError, match=r"--folds must be .* Got 3. Of rare there are 2 different images"):
        folds_of(few, np.arange(20), 3)
    copies = np.where(np.arange(24) % 2, np.minimum(np.arange(24), 7), np.arange(24))  # of b: 1, 3, 5 and 7
    with pytest.raises(UserError, match="Of b there are 4 different images or patients"):
        folds_of(DATA, copies, 5)


def test_patients_that_leave_a_fold_without_a_class_are_told(monkeypatch):
    def split(self, images, labels, groups):
        rows = np.argsort(labels, kind="stable")  # class by class
        return ((None, own) for own in np.array_split(rows, 3))

    monkeypatch.setattr("sklearn.model_selection.StratifiedGroupKFold.split", split)
    with pytest.raises(UserError, match="leave a fold without a class"):
        folds_of(DATA, np.arange(24), 3)
