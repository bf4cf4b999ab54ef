"""Unlabelled images at the door: where they may lie, whose copy they are, what is refused, their digest."""

import re

import numpy as np
import pytest

from kdtf.config import DataConfig
from kdtf.data.dataset import UNLABELLED
from kdtf.data.load import load, open_source
from kdtf.data.pixels import resize
from kdtf.errors import UserError

COUNTS = {"train": 30, "val": 9, "test": 12}
M = 7  # unlabelled images


def pixels(count, side=8, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, channels), dtype=np.uint8)


def save(folder, files):
    for name, array in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{name}.npy", array)
    return folder


@pytest.fixture
def folder(tmp_path):
    """A sound data folder without unlabelled images."""
    files = {f"X_{split}": pixels(n, seed=n) for split, n in COUNTS.items()}
    return save(tmp_path / "in", files | {f"y_{split}": np.arange(n) % 3 for split, n in COUNTS.items()})


@pytest.fixture
def with_teacher(folder):
    """The same with a copy of 16 px for the teacher."""
    return save(folder, {f"teacher/X_{split}": pixels(n, 16, seed=n + 1) for split, n in COUNTS.items()})


@pytest.fixture
def work(tmp_path):
    return tmp_path / "work"


# What is accepted, and what comes of it


def test_without_unlabelled_images_there_are_none(folder, work):
    loaded = load(folder, work)
    assert loaded.unlabelled is None and loaded.unlabelled_digest == ""
    assert not any("unlabelled" in note for note in loaded.notes)


def test_images_in_the_data_folder_are_mapped_and_leave_the_rest_as_it_was(folder, work):
    before = load(folder, work)
    images, names = pixels(M), np.array([f"s{i // 2}" for i in range(M)])
    save(folder, {"X_unlabelled": images, "groups_unlabelled": names})
    loaded = load(folder, work)
    own = loaded.unlabelled
    assert isinstance(own.pixels, np.memmap) and np.array_equal(own.pixels, images)
    assert own.teacher_pixels is own.pixels and own.groups.tolist() == names.tolist()
    assert own.labels.dtype == np.int64 and own.labels.tolist() == [UNLABELLED] * M
    assert not own.pixels.flags.writeable and not own.labels.flags.writeable
    assert loaded.digest == before.digest and len(loaded.unlabelled_digest) == 16
    assert loaded.notes == (*before.notes, "7 unlabelled images (groups known).")
    assert list(loaded.splits) == list(COUNTS) and not work.exists()


def test_a_folder_or_a_file_that_the_setting_names_goes_before(folder, tmp_path, work):
    save(folder, {"X_unlabelled": pixels(M), "groups_unlabelled": np.arange(M)})
    own = load(folder, work)
    other = save(tmp_path / "more", {"X_unlabelled": pixels(5, seed=9)})
    for place in (other, other / "X_unlabelled.npy"):
        loaded = load(folder, work, unlabelled=place)
        assert (
            np.array_equal(loaded.unlabelled.pixels, pixels(5, seed=9)) and loaded.unlabelled.groups is None
        )
        assert loaded.notes[-2:] == (
            "The unlabelled images are those of --unlabelled, not X_unlabelled.npy.",
            "5 unlabelled images (groups unknown).",
        )
        assert loaded.origin.unlabelled == place
        assert open_source(loaded.origin, work).unlabelled_digest == loaded.unlabelled_digest
    again = load(folder, work, unlabelled=folder)  # the same place: nothing to say
    assert again.notes == own.notes and again.unlabelled_digest == own.unlabelled_digest


def test_labels_beside_them_are_left_alone(folder, work):
    save(folder, {"X_unlabelled": pixels(M), "y_unlabelled": np.arange(3)})
    (folder / "y_unlabelled.npy").write_bytes(b"anything")
    loaded = load(folder, work)
    assert loaded.unlabelled.labels.tolist() == [UNLABELLED] * M
    assert "y_unlabelled.npy was not read: these images count as unlabelled." in loaded.notes


@pytest.mark.parametrize("x, y", [("{}_images", "{}_labels"), ("x_{}", "y_{}")])
def test_an_archive_holds_them_under_a_key_of_its_style(folder, tmp_path, work, x, y):
    arrays = {x.format(split): np.load(folder / f"X_{split}.npy") for split in COUNTS}
    arrays |= {y.format(split): np.load(folder / f"y_{split}.npy") for split in COUNTS}
    images = pixels(M)
    np.savez(tmp_path / "a.npz", **arrays, **{x.format("unlabelled"): images, y.format("unlabelled"): 0})
    loaded = load(tmp_path / "a.npz", work)
    assert np.array_equal(loaded.unlabelled.pixels, images)
    assert (
        f"{y.format('unlabelled')} in a.npz was not read: these images count as unlabelled." in loaded.notes
    )
    other = load(tmp_path / "a.npz", work, unlabelled=save(tmp_path / "b", {"X_unlabelled": images[:2]}))
    assert len(other.unlabelled.labels) == 2 and other.digest == load(folder, work).digest


def test_floats_share_the_scale_of_the_others_and_leave_their_digest(folder, work):
    before, images = load(folder, work), pixels(M)
    save(folder, {"X_unlabelled": (images / 255).astype("f4")})  # the labelled images are uint8
    loaded = load(folder, work)
    assert np.array_equal(loaded.unlabelled.pixels, images) and loaded.unlabelled.pixels.dtype == np.uint8
    assert loaded.digest == before.digest
    assert [path.name[:13] for path in work.iterdir()] == ["X_unlabelled_"]


def test_image_size_resizes_the_student_s_alone(folder, work):
    images = pixels(M)
    save(folder, {"X_unlabelled": images})
    loaded = load(folder, work, image_size=16)
    assert np.array_equal(loaded.unlabelled.pixels, resize(images, 16))
    assert np.array_equal(loaded.unlabelled.teacher_pixels, images)


def test_both_copies_as_in_the_other_splits(with_teacher, work):
    small, large = pixels(M), pixels(M, 16)
    save(with_teacher, {"X_unlabelled": small, "teacher/X_unlabelled": large})
    own = load(with_teacher, work).unlabelled
    assert np.array_equal(own.pixels, small) and np.array_equal(own.teacher_pixels, large)


@pytest.mark.parametrize("image_size, side", [(None, 8), (12, 12), (16, 16)])
@pytest.mark.parametrize("kind", ["u1", "f4"])
def test_images_of_the_teacher_s_size_are_its_copy(with_teacher, tmp_path, work, image_size, side, kind):
    large = pixels(M, 16)
    np.save(tmp_path / "ct.npy", large if kind == "u1" else (large / 255).astype(kind))
    loaded = load(with_teacher, work, image_size=image_size, unlabelled=tmp_path / "ct.npy")
    assert np.array_equal(loaded.unlabelled.teacher_pixels, large)
    assert np.array_equal(loaded.unlabelled.pixels, resize(large, side))
    note = "ct.npy has the size of teacher/X_train.npy: the student's copies of it are resized from that."
    assert loaded.notes[-2:] == (note, "7 unlabelled images (groups unknown).")


def test_the_digest_is_of_these_images_alone(folder, tmp_path, work):
    def digest(name, **files):
        return load(folder, work, unlabelled=save(tmp_path / name, files)).unlabelled_digest

    images = pixels(M)
    same = digest("a", X_unlabelled=images)
    others = [
        digest("b", X_unlabelled=images ^ 1),
        digest("c", X_unlabelled=images[::-1]),
        digest("d", X_unlabelled=images, groups_unlabelled=np.arange(M)),
        load(folder, work, image_size=16, unlabelled=tmp_path / "a").unlabelled_digest,
    ]
    assert len({same, *others}) == 5 and same == digest("e", X_unlabelled=images, y_unlabelled=np.arange(M))
    np.save(folder / "y_test.npy", np.arange(12) % 2)  # of another split
    assert load(folder, work, unlabelled=tmp_path / "a").unlabelled_digest == same


def test_progress_counts_them_too(folder, work):
    save(folder, {"X_unlabelled": pixels(M)})
    reports = []
    load(folder, work, progress=lambda *counts: reports.append(counts))
    assert reports[-1] == (58, 58) and reports == sorted(reports)


# Refusals, each with its words

REFUSED = {
    "size": (dict(X_unlabelled=pixels(M, 9)), "X_unlabelled.npy must be of images shaped like those in X_tr"),
    "grey": (dict(X_unlabelled=pixels(M, 8, 1)), "X_train.npy, (8, 8, 3). Got (8, 8, 1)."),
    "empty": (dict(X_unlabelled=pixels(0)), "X_unlabelled.npy must be at least one image"),
    "objects": (dict(X_unlabelled=np.array([{}])), "X_unlabelled.npy must be a readable .npy file of num"),
    "rank": (dict(X_unlabelled=pixels(M)[0, 0]), "X_unlabelled.npy must be shaped * Got (8, 3)."),
    "text": (dict(X_unlabelled=pixels(M).astype(str)), "X_unlabelled.npy must be whole or floating-point"),
    "nan": (dict(X_unlabelled=pixels(M) * np.nan), "X_unlabelled.npy must be finite numbers"),
    "12 bit": (dict(X_unlabelled=pixels(M).astype("u2") * 16), "pixels in X_unlabelled.npy must be at most"),
    "groups": (dict(X_unlabelled=pixels(M), groups_unlabelled=np.arange(6)), "as long as X_unlabelled.npy"),
    "teacher": (
        {"X_unlabelled": pixels(M), "teacher/X_unlabelled": pixels(M, 16)},
        "teacher/X_unlabelled.npy must be left out where the other splits have no copy for the teacher. Got",
    ),
}  # fmt: skip


def refused(message, *arguments, **settings):
    with pytest.raises(UserError, match=re.escape(message).replace(r"\*", ".*")) as caught:
        load(*arguments, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_one_line_and_nothing_written(folder, tmp_path, work, case):
    files, message = REFUSED[case]
    refused(message, folder, work, unlabelled=save(tmp_path / "more", files))
    assert not work.exists()


@pytest.mark.parametrize("case", [case for case in REFUSED if case != "teacher"])
def test_refused_in_the_data_folder_too(folder, work, case):
    files, message = REFUSED[case]
    refused(message, save(folder, files), work)
    assert not work.exists()


def test_groups_without_images(folder, work):
    message = "unlabelled images must be in X_unlabelled.npy. Got 'groups_unlabelled.npy alone'"
    refused(message, save(folder, {"groups_unlabelled": np.arange(6)}), work)


def test_images_of_neither_size_and_of_the_student_s_alone(with_teacher, tmp_path, work):
    for side in (8, 9):
        np.save(tmp_path / "ct.npy", pixels(M, side))
        message = (
            f"ct.npy must be of images shaped like those in teacher/X_train.npy, (16, 16, 3). Got ({side},"
        )
        refused(message, with_teacher, work, unlabelled=tmp_path / "ct.npy")
    save(tmp_path / "both", {"X_unlabelled": pixels(M), "teacher/X_unlabelled": pixels(M - 1, 16)})
    message = "teacher/X_unlabelled.npy must be as long as X_unlabelled.npy, which has 7. Got (6,"
    refused(message, with_teacher, work, unlabelled=tmp_path / "both")


def test_one_range_of_floats_for_all(folder, tmp_path, work):
    for split in COUNTS:
        np.save(folder / f"X_{split}.npy", np.load(folder / f"X_{split}.npy").astype("f4"))
    np.save(tmp_path / "ct.npy", pixels(M) / 255)
    message = "floating-point pixels must have one range in all splits, 0..1 or 0..255. Got a maximum of"
    refused(message, folder, work, unlabelled=tmp_path / "ct.npy")


def test_masks_are_refused_whatever_the_unlabelled_images_are(folder, work):
    for split in COUNTS:
        np.save(folder / f"X_{split}.npy", np.load(folder / f"X_{split}.npy") // 255)
    refused("they lost their grey levels", save(folder, {"X_unlabelled": pixels(M)}), work)


def test_a_place_without_images(folder, tmp_path, work):
    rule = "--unlabelled must be a folder with X_unlabelled.npy, or one .npy file of images. Got "
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.npz").write_bytes(b"PK")
    for place in ("nowhere", "nowhere.npy", "empty", "a.npz"):
        refused(rule, folder, work, unlabelled=tmp_path / place)


def test_the_demo_has_its_own():
    with pytest.raises(UserError, match=r"--demo must be given without --unlabelled\. Got 'more'"):
        DataConfig(demo=True, unlabelled="more")
