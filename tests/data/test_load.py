"""The door: what is accepted and what comes of it, what is refused and in which words."""

import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest

from kdtf.config import Config
from kdtf.data import load as loading
from kdtf.data import pixels as module
from kdtf.data.dataset import DataSource
from kdtf.data.load import load, open_source
from kdtf.data.pixels import resize
from kdtf.errors import UserError

RNG_SEED = 3
COUNTS = {"train": 30, "val": 9, "test": 12}


def arrays(shape=(8, 8, 3), classes=3, counts=COUNTS):
    """{file name: array} of a sound folder; labels cycle through the classes."""
    rng, files = np.random.default_rng(RNG_SEED), {}
    for split, n in counts.items():
        files[f"X_{split}"] = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
        files[f"y_{split}"] = np.arange(n) % classes
    return files


def save(folder, files, **text):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        np.save(folder / f"{name}.npy", array)
    for name, content in text.items():
        (folder / f"{name}.txt").write_text(content, "utf-8")
    return folder


def without_val(files):
    return {name: array for name, array in files.items() if "val" not in name}


@pytest.fixture
def work(tmp_path):
    return tmp_path / "work"


def test_pixels_that_did_not_change_are_measured_once(tmp_path, work, monkeypatch):
    measured, measure = [], loading.measure_range
    monkeypatch.setattr("kdtf.digests.AT_REST", 0.0)
    monkeypatch.setattr(
        loading, "measure_range", lambda source, p: measured.append(source.name) or measure(source, p)
    )
    work.mkdir()
    files = arrays((64, 64, 1))
    first, again = (load(save(tmp_path / "in", files) if n == 0 else tmp_path / "in", work) for n in range(2))
    assert first.digest == again.digest and measured[3:] == ["X_val.npy", "X_test.npy"]  # which are small
    files["X_train"][0, 0, 0] ^= 1
    changed = load(save(tmp_path / "in", {"X_train": files["X_train"]}), work)
    assert changed.digest != first.digest and measured[5:] == ["X_train.npy", "X_val.npy", "X_test.npy"]


# What is accepted, and what comes of it


def test_uint8_passes_through_mapped_read_only_and_unwritten(tmp_path, work):
    files = arrays()
    loaded = load(save(tmp_path / "in", files), work)
    for split in COUNTS:
        got = getattr(loaded, split)
        assert isinstance(got.pixels, np.memmap) and not got.pixels.flags.writeable
        assert np.array_equal(got.pixels, files[f"X_{split}"]) and got.teacher_pixels is got.pixels
        assert got.labels.dtype == np.int64 and np.array_equal(got.labels, files[f"y_{split}"])
        assert got.groups is None and not got.labels.flags.writeable
    assert loaded.classes == ("class 0", "class 1", "class 2") and not loaded.synthetic
    assert not work.exists()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
@pytest.mark.parametrize("scale", [1, 255])
def test_floats_come_back_exactly(tmp_path, work, dtype, scale):
    files = arrays()
    given = {k: (v.astype("f8") / 255 * scale).astype(dtype) if k[0] == "X" else v for k, v in files.items()}
    loaded = load(save(tmp_path / "in", given), work)
    for split in COUNTS:
        assert np.array_equal(getattr(loaded, split).pixels, files[f"X_{split}"])
        assert getattr(loaded, split).pixels.dtype == np.uint8
    assert any("0 to 255" in note for note in loaded.notes)


def test_wider_integers_fortran_order_and_a_hair_beyond_one_are_taken(tmp_path, work):
    files = arrays()
    wide = {**files, "X_train": np.asfortranarray(files["X_train"].astype(np.int32))}
    assert np.array_equal(load(save(tmp_path / "a", wide), work).train.pixels, files["X_train"])
    unit = {k: v / 255 * 1.00001 - 1e-6 if k[0] == "X" else v for k, v in files.items()}
    assert np.array_equal(load(save(tmp_path / "b", unit), work).test.pixels, files["X_test"])


def test_chunks_do_not_change_what_is_stored(tmp_path, monkeypatch):
    given = {k: v / 255 if k[0] == "X" else v for k, v in without_val(arrays()).items()}
    folder = save(tmp_path / "in", given)
    whole = load(folder, tmp_path / "a", image_size=16)
    monkeypatch.setattr(module, "CHUNK_BYTES", 7 * given["X_train"][0].nbytes)
    parts = load(folder, tmp_path / "b", image_size=16)
    assert whole.digest == parts.digest
    assert np.array_equal(whole.val.pixels, parts.val.pixels)
    assert np.array_equal(whole.train.teacher_pixels, parts.train.teacher_pixels)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (6, 10), (6, 10, 3)])
def test_grey_gets_a_channel_and_oblong_images_stay_oblong(tmp_path, work, shape):
    loaded = load(save(tmp_path / "in", arrays(shape)), work)
    assert loaded.train.pixels.shape == (30, *(*shape, 1)[:3])


def test_class_names_groups_and_the_synthetic_mark(tmp_path, work):
    files = arrays()
    files |= {f"groups_{s}": np.arange(n) // 2 for s, n in COUNTS.items()}
    files["groups_test"] = np.array([f"é{i}".encode() for i in range(12)])
    loaded = load(save(tmp_path / "in", files, classes="\ufeffnormal\ncœur\n c \n", SYNTHETIC="yes"), work)
    assert loaded.classes == ("normal", "cœur", "c") and loaded.synthetic
    assert loaded.train.groups[:3].tolist() == ["0", "0", "1"] and loaded.test.groups[0] == "é0"
    assert "synthetic" in loaded.notes[0]


def test_the_digest_follows_pixels_labels_and_groups_not_names(tmp_path, work):
    files = arrays()
    changed = {
        "same": files,
        "pixel": {**files, "X_test": files["X_test"] ^ 1},
        "label": {**files, "y_test": files["y_test"][::-1].copy()},
        "groups": {**files, "groups_val": np.arange(9)},
    }
    digests = {name: load(save(tmp_path / name, given), work).digest for name, given in changed.items()}
    named = load(save(tmp_path / "names", files, classes="a\nb\nc"), work)
    assert named.classes == ("a", "b", "c") and named.digest == digests["same"]
    assert load(tmp_path / "names", work, class_names=("x", "y", "z")).classes == ("x", "y", "z")
    digests["size"] = load(tmp_path / "same", work, image_size=16).digest
    assert len(set(digests.values())) == len(digests)
    assert digests["same"] == load(tmp_path / "same", tmp_path / "elsewhere").digest


# Sizes


def test_image_size_shrinks_the_student_and_leaves_the_teacher(tmp_path, work):
    files = arrays((16, 16, 3))
    loaded = load(save(tmp_path / "in", files), work, image_size=8)
    assert np.array_equal(loaded.test.pixels, resize(files["X_test"], 8))
    assert np.array_equal(loaded.test.teacher_pixels, files["X_test"])
    assert "Images of 16x16 were resized to 8x8 for the student." in loaded.notes
    same = load(tmp_path / "in", tmp_path / "other", image_size=16)
    assert same.train.teacher_pixels is same.train.pixels and not (tmp_path / "other").exists()


def test_a_teacher_folder_is_what_the_teacher_sees(tmp_path, work):
    files = arrays((8, 8))
    big = {f"teacher/{k}": v / 255 for k, v in arrays((16, 16, 1)).items() if k[0] == "X"}
    loaded = load(save(tmp_path / "in", without_val(files | big)), work)
    assert loaded.val.pixels.shape == (3, 8, 8, 1) and loaded.val.teacher_pixels.shape == (3, 16, 16, 1)
    train = np.rint(big["teacher/X_train"] * 255)  # the same rows went to the same side in both
    for s in (loaded.train, loaded.val):
        rows = [int(np.flatnonzero((files["X_train"] == p[..., 0]).all(axis=(1, 2)))[0]) for p in s.pixels]
        assert np.array_equal(s.teacher_pixels, train[rows])


# Validation split off


def test_validation_is_split_off_by_class_and_found_again(tmp_path, work):
    files = without_val(arrays(counts={"train": 100, "test": 12}, classes=2))
    loaded = load(save(tmp_path / "in", files), work, seed=5)
    assert len(loaded.train.labels) == 90 and np.bincount(loaded.val.labels).tolist() == [5, 5]
    note = "No X_val.npy: 10 of the 100 training images were split off as validation (stratified, seed 5)."
    assert note in loaded.notes
    both = np.concatenate([loaded.train.pixels, loaded.val.pixels])
    assert sorted(p.tobytes() for p in both) == sorted(p.tobytes() for p in files["X_train"])
    before = {p: p.stat().st_mtime_ns for p in work.iterdir()}
    again = load(tmp_path / "in", work, seed=5)
    assert again.digest == loaded.digest and before == {p: p.stat().st_mtime_ns for p in work.iterdir()}
    assert load(tmp_path / "in", work, seed=6).digest != loaded.digest


def test_a_group_is_never_on_both_sides(tmp_path, work):
    files = without_val(arrays(counts={"train": 200, "test": 12}, classes=2))
    files["groups_train"] = np.random.default_rng(1).integers(0, 40, 200)
    loaded = load(save(tmp_path / "in", files), work)
    assert not set(loaded.train.groups) & set(loaded.val.groups)
    assert 10 <= len(loaded.val.labels) <= 30 and "by class and group" in " ".join(loaded.notes)


# .npz


@pytest.mark.parametrize("x, y", [("{}_images", "{}_labels"), ("x_{}", "y_{}")])
@pytest.mark.parametrize("writer", [np.savez, np.savez_compressed])
def test_npz_of_both_styles_loads_as_the_folder_does(tmp_path, work, x, y, writer):
    files = arrays((8, 8))
    style = {k: (x if k[0] == "X" else y).format(k[2:]) for k in files}
    writer(tmp_path / "a.npz", **{style[k]: v for k, v in files.items()}, extra=np.zeros(3))
    loaded, plain = load(tmp_path / "a.npz", work), load(save(tmp_path / "in", files), work)
    assert loaded.digest == plain.digest and isinstance(loaded.train.pixels, np.memmap)
    assert len(list(work.iterdir())) == 6


def test_npz_unpacked_is_removed_when_a_check_fails(tmp_path, work):
    files = {f"{k[2:]}_{'images' if k[0] == 'X' else 'labels'}": v for k, v in arrays().items()}
    np.savez(tmp_path / "a.npz", **{**files, "test_labels": files["test_labels"] + 7})
    with pytest.raises(UserError, match=r"labels in test_labels in a\.npz must be between 0 and 2\. Got 7"):
        load(tmp_path / "a.npz", work)
    assert not list(work.iterdir())


def test_half_a_validation_split_in_an_npz(tmp_path, work):
    files = {f"{'x' if k[0] == 'X' else 'y'}_{k[2:]}": v for k, v in arrays().items() if k != "y_val"}
    np.savez(tmp_path / "c.npz", **files)
    message = r"the val split must be both images and labels\. Got 'x_val in c\.npz"
    with pytest.raises(UserError, match=message):
        load(tmp_path / "c.npz", work)
    assert not list(work.iterdir())


# Refusals, each with its words

XS, YS = ("X_train", "X_val", "X_test"), ("y_train", "y_val", "y_test")


def words(text):
    """The pattern for a message: `text` as it stands, `*` for anything."""
    return re.escape(text).replace(r"\*", ".*")


def nan_at(x, image):
    x = x.astype(np.float32) / 255
    x[image, 1, 1] = np.nan
    return x


REFUSED = {
    "rank": (dict(X_val=lambda x: x[0, 0]), "X_val.npy must be shaped * Got (8, 3)."),
    "rgba": (dict(X_val=lambda x: np.repeat(x, 2, 3)), "X_val.npy must be shaped * Got (9, 8, 8, 6)."),
    "channels first": (dict(X_train=lambda x: np.moveaxis(x, 3, 1)), "Channels come last: np.moveaxis"),
    "text pixels": (dict(X_test=lambda x: x.astype(str)), "X_test.npy must be whole or floating-p"),
    "empty": (dict(X_test=lambda x: x[:0], y_test=lambda y: y[:0]), "test.npy must be at least one image"),
    "length": (dict(y_test=lambda y: y[1:]), "as long as X_test.npy, which has 12. Got (11,)"),
    "sides": (dict(X_val=lambda x: x[:, 1:]), "must be of images shaped like those in X_train.npy"),
    "nan": (dict(X_test=lambda x: nan_at(x, 5)), "X_test.npy must be finite * infinity in image 5'"),
    "negative": (dict(X_train=lambda x: x / 127.5 - 1), "must be 0 or more. Got -1.0.* standardised"),
    "12 bit": (dict(X_train=lambda x: x.astype("u2") * 16), "must be at most 255. Got 4080.0. Window"),
    "lost grey": (dict.fromkeys(XS, lambda x: x // 255), "they lost their grey levels"),
    "ranges": (dict(X_test=lambda x: x / 255, X_val=lambda x: x * 1.0), "1 in X_test.npy and of 255 in X_"),
    "no range": (dict.fromkeys(XS, lambda x: x / 200), "must be 0..1 or 0..255. Got 'a maximum of 1.275'"),
    "beyond": (dict(y_val=lambda y: y + 1), "between 0 and 2. Got 3. Labels count from 0"),
    "one class": (dict.fromkeys(YS, lambda y: y * 0), "classes must be at least 2. Got 1"),
    "objects": (dict(X_val=lambda x: x.astype(object)), "X_val.npy must be a readable .npy file of numbers"),
}  # fmt: skip


@pytest.mark.parametrize("name", ["pipe", "in/classes.txt", "in/provenance.json"])
def test_a_pipe_is_refused_before_it_is_read(tmp_path, work, name):
    save(tmp_path / "in", arrays())
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match=r"must be a file that ends\. .* It is a pipe"):
        load(tmp_path / name.split("/")[0], work)


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_one_line_and_nothing_written(tmp_path, work, case):
    changes, message = REFUSED[case]
    files = arrays()
    files |= {name: change(files[name]) for name, change in changes.items()}
    with pytest.raises(UserError, match=words(message)) as caught:
        load(save(tmp_path / "in", files), work)
    assert "\n" not in str(caught.value) and not work.exists()


ADDED = {
    "groups": ({"groups_val": np.arange(8)}, {}, "groups_val.npy must be as long as X_val.npy, which has 9"),
    "float groups": ({"groups_val": np.ones(9)}, {}, "groups_val.npy must be (N,) whole numbers or strings"),
    "names": ({"y_train": np.eye(3)[np.arange(30) % 3]}, {"classes": "a\nb"}, "each of the 3 classes. Got 2"),
    "more names": ({}, {"classes": "a\nb\nc\nd"}, "none of class 3 (d)"),
    "same names": ({}, {"classes": "a\nb\na"}, "classes.txt must be names that all differ. Got ['a']"),
    "empty name": ({}, {"classes": "a\n\nb"}, "classes.txt must be one name a line, none of them empty"),
    "no names": ({}, {"classes": ""}, "classes.txt must be one name a line"),
}


@pytest.mark.parametrize("case", ADDED)
def test_refused_for_what_lies_beside(tmp_path, work, case):
    files, text, message = ADDED[case]
    with pytest.raises(UserError, match=words(message)):
        load(save(tmp_path / "in", arrays() | files, **text), work)
    assert not work.exists()


@pytest.mark.parametrize(
    "shape, n, message",
    [
        ((16, 16, 3), 29, "teacher/X_train.npy must be as long as X_train.npy"),
        ((16, 4, 3), 30, "teacher/X_train.npy must be of images at least as large as"),
        ((16, 16, 1), 30, "and with the channels of, X_train.npy"),
        ((32, 32, 3), 30, "must be of images shaped like those in teacher/X_train.npy"),
    ],
)
def test_teacher_copies_must_fit(tmp_path, work, shape, n, message):
    big = {f"teacher/{k}": v for k, v in arrays((16, 16, 3)).items() if k[0] == "X"}
    big["teacher/X_train"] = np.full((n, *shape), 9, np.uint8)
    with pytest.raises(UserError, match=words(message)):
        load(save(tmp_path / "in", arrays() | big), work)


@pytest.mark.parametrize("name", ["X_train", "y_test", "y_val", "X_val", "teacher/X_test"])
def test_a_missing_file_is_named(tmp_path, work, name):
    big = {f"teacher/{k}": v for k, v in arrays((16, 16, 3)).items() if k[0] == "X"}
    folder = save(tmp_path / "in", arrays() | big)
    (folder / f"{name}.npy").unlink()
    with pytest.raises(
        UserError, match=rf"{name}\.npy must be in the data folder, which holds X_train\.npy, y_tr"
    ):
        load(folder, work)


def test_a_missing_folder(tmp_path, work):
    with pytest.raises(
        UserError, match=r"data must be a folder of \.npy files or one \.npz file.*Nothing is there"
    ):
        load(tmp_path / "nowhere", work)


@pytest.mark.parametrize(
    "setting",
    [
        {"image_size": 7},
        {"image_size": 2000},
        {"image_size": 32.0},
        {"val_fraction": 0.0},
        {"val_fraction": 0.6},
        {"class_names": ("a", "a", "b")},
        {"class_names": ("a", "", "b")},
        {"class_names": ("a", "b\nc", "d")},
    ],
    ids=str,
)
def test_settings_obey_the_rules_of_a_run(tmp_path, work, setting):
    folder = save(tmp_path / "in", arrays())
    with pytest.raises(UserError, match=f"--{next(iter(setting)).replace('_', '-')} must be") as loading:
        load(folder, work, **setting)
    with pytest.raises(UserError) as configuring:
        Config().with_values(setting)
    assert str(loading.value) == str(configuring.value)


def test_a_failed_write_leaves_nothing(tmp_path, work, monkeypatch):
    files = {k: v / 255 if k[0] == "X" else v for k, v in arrays().items()}
    monkeypatch.setattr(
        module, "to_uint8", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(OSError, match="No space left on device"):
        load(save(tmp_path / "in", files), work)
    assert not list(work.iterdir())


def test_progress_counts_the_images_once(tmp_path, work):
    reports = []
    load(save(tmp_path / "in", arrays()), work, progress=lambda *counts: reports.append(counts))
    assert reports[-1] == (51, 51) and reports == sorted(reports)


def test_a_source_that_has_travelled_opens_the_same_data(tmp_path, work):
    folder = save(tmp_path / "in", without_val(arrays((16, 16, 3), counts={"train": 60, "test": 12})))
    source = DataSource(str(folder), ("a", "b", "c"), 8, 0.2, 5)
    reports, parts = [], ("pixels", "teacher_pixels", "labels")
    first = open_source(source, work, lambda *counts: reports.append(counts))
    assert first.origin == source and first.source == str(folder)
    copies = {p: p.stat().st_mtime_ns for p in work.iterdir()}
    again = open_source(pickle.loads(pickle.dumps(source)), work)
    plain = load(folder, work, class_names=("a", "b", "c"), image_size=8, val_fraction=0.2, seed=5)
    assert reports[-1] == (72, 72) and copies == {p: p.stat().st_mtime_ns for p in work.iterdir()}
    for other in (again, plain):
        assert (other.digest, other.notes, other.classes) == (first.digest, first.notes, ("a", "b", "c"))
        for split, own in first.splits.items():
            assert all(np.array_equal(getattr(own, p), getattr(other.splits[split], p)) for p in parts)


def test_the_ground_truth_is_all_but_the_pixels(tmp_path, work):
    files = arrays() | {"groups_test": np.arange(12) // 3}
    truth = load(save(tmp_path / "in", files, classes="a\nb\nc"), work).ground_truth
    assert truth.classes == ("a", "b", "c") and truth.groups.tolist() == [*"000111222333"]
    assert truth.val.tolist() == [0, 1, 2] * 3 and truth.test.tolist() == [0, 1, 2] * 4
    assert load(save(tmp_path / "plain", arrays()), work).ground_truth.groups is None


def test_the_door_imports_neither_tensorflow_nor_sklearn():
    slow = "('tensorflow', 'keras', 'sklearn', 'scipy')"
    code = f"import sys, kdtf.data.load, kdtf.data.views; print([m for m in {slow} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


# Real data


def test_real_chest_ct(shared_data, work):
    loaded = load(shared_data / "chest_ct_32", work)
    assert [len(s.labels) for s in (loaded.train, loaded.val, loaded.test)] == [613, 72, 315]
    assert len(loaded.classes) == 4 and loaded.train.pixels.shape == (613, 32, 32, 3)
    assert np.bincount(loaded.train.labels).tolist() == [195, 115, 148, 155]
    assert not work.exists()


@pytest.mark.parametrize(
    "name, counts, shape",
    [
        ("pneumoniamnist", [4708, 524, 624], (28, 28, 1)),
        ("ham10000_28_subset", [2446, 353, 699], (28, 28, 3)),
        ("cifar10_subset", [2250, 250, 500], (32, 32, 3)),
    ],
)
def test_real_npz(shared_data, work, name, counts, shape):
    loaded = load(shared_data / f"{name}.npz", work)
    assert [len(s.labels) for s in (loaded.train, loaded.val, loaded.test)] == counts
    assert loaded.test.pixels.shape[1:] == shape
