"""The synthetic data set: seeded, balanced, labelled as what it is, and not to be solved by brightness."""

import numpy as np
import pytest
from PIL import Image

from kdtf.data import phantom
from kdtf.errors import UserError

COUNTS = {"train": 120, "val": 32, "test": 64}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("sample")
    phantom.write(path, **COUNTS)
    return path


def read(folder, name):
    return np.load(folder / f"{name}.npy", allow_pickle=False)


def test_the_same_seed_draws_the_same_slice_and_another_seed_another():
    first, again, other = (phantom.phantom(2, 64, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == (64, 64) and first.dtype == np.uint8
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(folder, tmp_path):
    counts = dict.fromkeys(COUNTS, 8)
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        phantom.write(tmp_path / name, **counts, seed=seed)
    a, b, c = (
        {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*.npy")}
        for name in "abc"
    )
    assert a == b
    assert [p for p in a if p.name.startswith("X_") and a[p] == c[p]] == []


def test_one_slice_at_every_side_a_teacher_may_ask_for():
    for side in (16, 32, 64, 96, 128):
        for label in range(len(phantom.CLASSES)):
            image = phantom.phantom(label, side, np.random.default_rng(0))
            assert image.shape == (side, side) and image.max() > 150


@pytest.mark.parametrize("split", COUNTS)
def test_shapes_types_and_balance(folder, split):
    count = COUNTS[split]
    x, large, y, groups = (read(folder, f"{n}_{split}") for n in ("X", "teacher/X", "y", "groups"))
    assert x.shape == (count, 32, 32, 1) and large.shape == (count, 64, 64, 1)
    assert x.dtype == large.dtype == np.uint8
    assert y.dtype == np.int64 and groups.shape == (count,) and groups.dtype.kind == "U"
    assert np.bincount(y).tolist() == [count // 4] * 4


def test_no_patient_is_in_two_splits_or_two_classes(folder):
    patients = [set(read(folder, f"groups_{split}")) for split in COUNTS]
    assert len(set.union(*patients)) == sum(map(len, patients))
    assert all(name.startswith("synthetic-") for name in set.union(*patients))
    groups, labels = read(folder, "groups_train"), read(folder, "y_train")
    names, images = np.unique(groups, return_counts=True)
    assert images.max() == phantom.IMAGES_EACH
    assert all(len(set(labels[groups == name])) == 1 for name in names)


def test_unlabelled_images_are_of_other_patients_and_leave_the_rest_as_it_was(folder, tmp_path):
    from kdtf.data.load import load

    phantom.write(tmp_path / "more", **COUNTS, unlabelled=60)
    before = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.*")}
    after = {p.relative_to(tmp_path / "more"): p.read_bytes() for p in (tmp_path / "more").rglob("*.*")}
    names = {"X_unlabelled.npy", "groups_unlabelled.npy", "teacher/X_unlabelled.npy"}
    assert {str(path) for path in after.keys() - before.keys()} == names
    assert all(after[path] == before[path] for path in before)
    data = load(tmp_path / "more", tmp_path)
    own = data.unlabelled
    assert own.pixels.shape == (60, 32, 32, 1) and own.teacher_pixels.shape == (60, 64, 64, 1)
    assert not set(own.groups) & set().union(*(split.groups for split in data.splits.values()))
    assert len(np.unique(own.pixels.reshape(60, -1), axis=0)) == 60
    assert np.unique(own.groups, return_counts=True)[1].tolist() == [3] * 20
    assert "60 unlabelled images (groups known)." in data.notes


def test_no_image_comes_twice(folder):
    images = np.concatenate([read(folder, f"X_{split}") for split in COUNTS])
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)


def test_the_students_copy_is_the_reduction_of_the_teachers(folder):
    small, large = read(folder, "X_test"), read(folder, "teacher/X_test")
    for i in (0, 7, 63):
        reduced = Image.fromarray(large[i, ..., 0]).resize((32, 32), Image.Resampling.BILINEAR)
        assert np.array_equal(small[i, ..., 0], np.asarray(reduced))


def test_everything_says_synthetic(folder):
    names = (folder / "classes.txt").read_text().splitlines()
    assert tuple(names) == phantom.CLASSES and len(set(names)) == 4
    assert all(name.startswith("synthetic") for name in names)
    notice = (folder / "SYNTHETIC.txt").read_text()
    assert notice.startswith("SYNTHETIC DATA") and "no patient" in notice


def test_brightness_does_not_tell_the_classes_apart(folder):
    """No threshold on an image's mean separates two classes, and a difference of means explains little."""
    mean = {s: read(folder, f"X_{s}").mean((1, 2, 3)) for s in COUNTS}
    y = {s: read(folder, f"y_{s}") for s in COUNTS}
    centres = np.array([mean["train"][y["train"] == k].mean() for k in range(4)])
    nearest = np.abs(mean["test"][:, None] - centres).argmin(1)  # class by its mean
    assert (nearest == y["test"]).mean() < 0.45  # chance is 0.25
    assert np.ptp(centres) < mean["train"].std()


def test_a_door_for_the_pipeline_and_no_half_file(folder, tmp_path):
    from kdtf.data.load import load

    data = load(folder, tmp_path)
    assert data.synthetic and data.classes == phantom.CLASSES
    assert data.train.teacher_pixels.shape == (120, 64, 64, 1)
    assert {p.name for p in folder.iterdir() if p.is_dir()} == {"teacher"}
    assert not list(folder.rglob("*.part"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": 3}, "train must be at least 4 images, one a class. Got 3."),
        ({"unlabelled": 2}, "unlabelled must be at least 4 images, one a class. Got 2."),
        ({"side": 96}, "side must be from 8 px to the teacher's 64. Got 96."),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_anything_is_written(tmp_path, settings, message):
    with pytest.raises(UserError) as error:
        phantom.write(tmp_path / "new", **settings)
    assert str(error.value) == message
    assert not (tmp_path / "new").exists()


def test_an_unknown_class_is_refused():
    with pytest.raises(UserError, match=r"label must be a whole number from 0 to 3\. Got 4\."):
        phantom.phantom(4, 64, np.random.default_rng(0))
