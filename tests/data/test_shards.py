"""Arrays in shards and in zarr stores are the plain ones, byte for byte."""

import json
import shutil
import sys

import numpy as np
import pytest

from kdtf.data import shards
from kdtf.data.load import load
from kdtf.errors import UserError

COUNTS = {"train": 30, "val": 9, "test": 12, "unlabelled": 7}
ARRAYS = [*(f"X_{split}" for split in COUNTS), "y_train", "y_val", "y_test"]


@pytest.fixture
def plain(tmp_path):
    """A folder of plain arrays, with groups and a larger copy for the teacher."""
    folder, rng = tmp_path / "in", np.random.default_rng(0)
    (folder / "teacher").mkdir(parents=True)
    for split, count in COUNTS.items():
        np.save(folder / f"X_{split}.npy", rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8))
        np.save(
            folder / "teacher" / f"X_{split}.npy", rng.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
        )
        np.save(folder / f"groups_{split}.npy", np.array([f"{split}{i}" for i in range(count)]))
        if split != "unlabelled":
            np.save(folder / f"y_{split}.npy", np.arange(count) % 3)
    return folder


def split_up(file, count=3):
    """The shards of a plain file, which goes."""
    for i, part in enumerate(np.array_split(np.load(file), count)):
        np.save(file.with_name(f"{file.stem}-{i:05d}-of-{count:05d}.npy"), part)
    file.unlink()


def as_store(file, **settings):
    zarr = pytest.importorskip("zarr", reason="the extra zarr is not installed")
    array = np.load(file)
    zarr.save_array(file.with_suffix(".zarr"), array, **settings)
    file.unlink()


def same(first, second):
    for split in ("train", "val", "test", "unlabelled"):
        ours, theirs = getattr(first, split), getattr(second, split)
        for name in ("pixels", "teacher_pixels", "labels", "groups"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name)), (split, name)


@pytest.mark.parametrize("bytes_each", [shards.CHUNK_BYTES, 500])
def test_shards_are_one_array(plain, tmp_path, monkeypatch, bytes_each):
    monkeypatch.setattr(shards, "CHUNK_BYTES", bytes_each)  # a chunk may span shards, a shard chunks
    expected = load(plain, tmp_path / "work")
    for name in (*ARRAYS, "groups_train", "teacher/X_train", "teacher/X_unlabelled"):
        split_up(plain / f"{name}.npy")
    got = load(plain, tmp_path / "work")
    same(got, expected)
    assert got.digest == expected.digest and got.unlabelled_digest == expected.unlabelled_digest


@pytest.mark.parametrize("settings", [{}, {"zarr_format": 2}], ids=["3", "2"])
def test_a_zarr_store_is_one_array(plain, tmp_path, settings):
    expected = load(plain, tmp_path / "work")
    for name in ("X_train", "y_train", "X_unlabelled", "teacher/X_test"):
        as_store(plain / f"{name}.npy", **settings)
    got = load(plain, tmp_path / "work")
    same(got, expected)
    assert got.digest == expected.digest


def test_a_second_load_finds_the_copies(plain, tmp_path):
    split_up(plain / "X_train.npy")
    load(plain, tmp_path / "work")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").iterdir()}
    load(plain, tmp_path / "work")
    assert before and {path: path.stat().st_mtime_ns for path in (tmp_path / "work").iterdir()} == before


def renamed(folder, old, new):
    (folder / old).rename(folder / new)


REFUSED = {
    "one missing": (
        lambda f: (f / "X_train-00001-of-00003.npy").unlink(),
        "the shards of X_train.npy must be numbered from 0 to 2, each once",
    ),
    "two numbers": (
        lambda f: renamed(f, "X_train-00001-of-00003.npy", "X_train-00001-of-00004.npy"),
        "the shards of X_train.npy must be of one number of shards",
    ),
    "twice": (
        lambda f: shutil.copy(f / "X_train-00001-of-00003.npy", f / "X_train-1-of-3.npy"),
        "each once. Got [0, 1, 1, 2]",
    ),
    "beside the plain one": (
        lambda f: shutil.copy(f / "X_val.npy", f / "X_train.npy"),
        "X_train.npy must be given in one form",
    ),
    "another shape": (
        lambda f: np.save(f / "X_train-00002-of-00003.npy", np.zeros((10, 8, 9, 3), np.uint8)),
        "X_train-00002-of-00003.npy must be of the type and shape of X_train-00000-of-00003.npy",
    ),
    "another type": (
        lambda f: np.save(f / "X_train-00002-of-00003.npy", np.zeros((10, 8, 8, 3), np.uint16)),
        "must be of the type and shape of",
    ),
    "cut short": (
        lambda f: (f / "X_train-00001-of-00003.npy").write_bytes(b"\x93NUMPY"),
        "X_train-00001-of-00003.npy must be a readable .npy file of numbers",
    ),
    "labels too few": (
        lambda f: np.save(f / "y_train.npy", np.arange(29) % 3),
        "must be as long as X_train.npy of 3 shards",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_nothing_written(plain, tmp_path, case):
    harm, message = REFUSED[case]
    split_up(plain / "X_train.npy")
    harm(plain)
    with pytest.raises(UserError) as raised:
        load(plain, tmp_path / "work")
    assert message in str(raised.value)
    assert not list((tmp_path / "work").glob("*"))


def test_a_store_that_would_be_unpickled_is_refused(plain, tmp_path):
    as_store(plain / "X_train.npy", zarr_format=2)
    note = plain / "X_train.zarr" / ".zarray"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"filters": [{"id": "pickle", "protocol": 5}]}))
    with pytest.raises(UserError, match=r"^X_train\.zarr must be a zarr array of plain numbers.*pickled"):
        load(plain, tmp_path / "work")


def test_chunks_without_rows_are_told(plain, tmp_path):
    """zarr divides by them. Found by `benchmarks/fuzz.py zarr`."""
    as_store(plain / "X_train.npy", zarr_format=2)
    note = plain / "X_train.zarr" / ".zarray"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"chunks": [0, 4, 4]}))
    with pytest.raises(UserError, match=r"^X_train\.zarr must be a readable zarr array\. Got: "):
        load(plain, tmp_path / "work")


@pytest.mark.parametrize("harm", ["{", "{}", ""], ids=["cut", "empty", "nothing"])
def test_a_store_that_is_none_is_told(plain, tmp_path, harm):
    as_store(plain / "X_train.npy")
    (plain / "X_train.zarr" / "zarr.json").write_text(harm)
    with pytest.raises(UserError, match=r"^X_train\.zarr must be a readable zarr array\. Got: "):
        load(plain, tmp_path / "work")


def test_a_chunk_that_cannot_be_decoded_is_told(plain, tmp_path):
    as_store(plain / "X_train.npy")
    for chunk in (plain / "X_train.zarr" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"no chunk")
    with pytest.raises(UserError, match=r"^X_train\.zarr must be a readable zarr array\. Got: "):
        load(plain, tmp_path / "work")
    assert not list((tmp_path / "work").glob("*"))


def test_without_zarr_the_extra_is_named(plain, tmp_path, monkeypatch):
    as_store(plain / "X_train.npy")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(UserError, match=r"The Python package zarr must be installed for X_train\.zarr\."):
        load(plain, tmp_path / "work")
