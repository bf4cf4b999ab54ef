"""`.npy` files mapped and written, `.npz` archives unpacked: by value, and what is refused."""

import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from kdtf.data import arrays
from kdtf.data.arrays import NamedArray, forget, map_npy, unpacked, write_npy
from kdtf.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
KEYS = ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test")


def words(text):
    """The pattern for a message: `text` as it stands, `*` for anything."""
    return re.escape(text).replace(r"\*", ".*")


def archive(path, keys=KEYS, writer=np.savez):
    """An `.npz` whose arrays hold their own place among the keys."""
    writer(path, **{key: np.full(3, i) for i, key in enumerate(keys)})
    return path


@pytest.mark.parametrize(
    "shape, image_shape", [((6, 4, 5), (4, 5, 1)), ((6, 4, 5, 1), (4, 5, 1)), ((6, 4, 5, 3), (4, 5, 3))]
)
def test_images_have_a_height_a_width_and_channels(shape, image_shape):
    source = NamedArray("X_train.npy", np.zeros(shape))
    assert source.image_shape == image_shape
    assert (
        source.with_channels().array.shape == (6, *image_shape) and source.with_channels().name == source.name
    )


# .npy


def test_chunks_become_one_file_that_is_mapped_read_only(tmp_path):
    path = tmp_path / "new" / "a.npy"
    array = write_npy(path, PIXELS.shape, (PIXELS[i : i + 4] for i in range(0, 6, 4)))
    assert isinstance(array, np.memmap) and not array.flags.writeable and np.array_equal(array, PIXELS)
    assert np.array_equal(map_npy(path, "a.npy"), PIXELS) and [p.name for p in path.parent.iterdir()] == [
        "a.npy"
    ]


def test_a_file_whose_chunks_fail_is_not_there_and_the_old_one_stays(tmp_path):
    def failing():
        yield PIXELS[:2]
        raise OSError(28, "No space left on device")

    write_npy(tmp_path / "a.npy", PIXELS.shape, [PIXELS])
    for name in ("a.npy", "b.npy"):
        with pytest.raises(OSError, match="No space left on device"):
            write_npy(tmp_path / name, PIXELS.shape, failing())
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]
    assert np.array_equal(map_npy(tmp_path / "a.npy", "a.npy"), PIXELS)


@pytest.mark.parametrize("size", [0, 5, 60, 128, 300])
def test_a_file_cut_short(tmp_path, size):
    path = tmp_path / "X_train.npy"
    np.save(path, PIXELS)
    path.write_bytes(path.read_bytes()[:size])
    message = r"X_train\.npy must be a readable \.npy file of numbers\. Got: .*cut short"
    with pytest.raises(UserError, match=message):
        map_npy(path, "X_train.npy")


@pytest.mark.parametrize("shape", [(10**12, 4, 4), (10**30, 4, 4), (-3, 4, 4)])
def test_a_header_that_promises_too_much_allocates_nothing(tmp_path, shape):
    with open(tmp_path / "a.npy", "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(file, header)
    with pytest.raises(UserError, match=r"a\.npy must be a readable"):
        map_npy(tmp_path / "a.npy", "a.npy")


def test_objects_and_archives_are_no_array(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}, []], object))
    with pytest.raises(UserError, match="array of Python objects"):
        map_npy(tmp_path / "objects.npy", "objects.npy")
    archive(tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(UserError, match=r"a\.npy must be one array\. Got 'an archive of several'"):
        map_npy(tmp_path / "a.npy", "a.npy")


# .npz


@pytest.mark.parametrize("writer", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("style", arrays.ARCHIVE_KEYS)
def test_the_arrays_of_both_styles_are_unpacked_once(tmp_path, style, writer):
    patterns = arrays.ARCHIVE_KEYS[style]
    keys = [patterns[kind].format(split) for split in ("train", "test") for kind in "Xy"]
    path, work = archive(tmp_path / "a.npz", ["more", *keys], writer), tmp_path / "work"
    with unpacked(path, work) as files:
        names = {at: name for at, (name, _) in files.items()}
        values = {at: int(map_npy(file, name)[0]) for at, (name, file) in files.items()}
    assert values == {("X", "train"): 1, ("y", "train"): 2, ("X", "test"): 3, ("y", "test"): 4}
    assert names["X", "test"] == f"{patterns['X'].format('test')} in a.npz"
    before = {p: p.stat().st_mtime_ns for p in work.iterdir()}
    with unpacked(path, work):
        pass
    assert len(before) == 4 and before == {p: p.stat().st_mtime_ns for p in work.iterdir()}


def test_another_archive_is_unpacked_beside_the_first(tmp_path):
    with unpacked(archive(tmp_path / "a.npz"), tmp_path / "work"):
        pass
    with unpacked(archive(tmp_path / "a.npz", KEYS[::-1]), tmp_path / "work") as files:
        assert int(map_npy(files["X", "train"][1], "x")[0]) == 5
    assert len(list((tmp_path / "work").iterdir())) == 12


def test_what_a_failed_block_unpacked_is_removed_and_what_was_there_stays(tmp_path):
    work = tmp_path / "work"
    with unpacked(archive(tmp_path / "a.npz"), work):
        pass
    before = sorted(work.iterdir())
    for path in (tmp_path / "a.npz", archive(tmp_path / "b.npz", KEYS[::-1])):
        with pytest.raises(KeyError), unpacked(path, work):
            raise KeyError
    assert sorted(work.iterdir()) == before


def harmed(path):
    raw = bytearray(archive(path).read_bytes())
    raw[raw.index(b"\x93NUMPY") + 130] ^= 255  # inside the first array
    path.write_bytes(raw)


def text(path):
    with zipfile.ZipFile(path, "w") as file:
        for key in KEYS:
            file.writestr(f"{key}.npy", "plain text")


REFUSED = {
    "keys": (
        lambda p: archive(p, ("images", "labels")),
        "a.npz must hold train_images* or x_train* (val is optional). Got 'images', 'labels'.",
    ),
    "no test": (
        lambda p: archive(p, KEYS[:4]),
        "a.npz must hold train_images*Got 'x_train', 'y_train', 'x_v",
    ),
    "empty": (lambda p: archive(p, ()), "a.npz must hold * Got no array."),
    "no zip": (
        lambda p: p.write_bytes(b"no zip"),
        "a.npz must be a folder of .npy files or a whole .npz file",
    ),
    "cut short": (
        lambda p: p.write_bytes(archive(p).read_bytes()[:-30]),
        "a.npz must be a folder of .npy files or a whole .npz file. Got: File is not a zip file",
    ),
    "harmed": (harmed, "x_train in a.npz must be readable. Got: Bad CRC-32 * Is the file cut short?"),
    "text": (text, "x_train in a.npz must be an .npy array. Got b'plain '."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_archives_that_are_refused_leave_nothing(tmp_path, case):
    make, message = REFUSED[case]
    make(tmp_path / "a.npz")
    work = tmp_path / "work"
    with pytest.raises(UserError, match=words(message)), unpacked(tmp_path / "a.npz", work):
        pass
    assert not work.exists() or not list(work.iterdir())


def test_an_array_that_would_fill_the_disk_is_not_unpacked(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr(arrays.shutil, "disk_usage", lambda folder: usage)
    message = (
        "--results must be on a disk with room left. Got '100 bytes free'. x_train in a.npz unpacks to 152"
    )
    with (
        pytest.raises(UserError, match=words(message)),
        unpacked(archive(tmp_path / "a.npz"), tmp_path / "work"),
    ):
        pass
    assert not list((tmp_path / "work").iterdir())


def test_pages_that_were_read_of_a_mapped_array_are_given_back(tmp_path):
    values = np.arange(1 << 20, dtype=np.int64)
    np.save(tmp_path / "x.npy", values)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")

    def resident():
        return int(re.search(r"Pss_File: +(\d+)", Path("/proc/self/smaps_rollup").read_text())[1])

    before = resident()
    total = mapped[::2].sum()
    read = resident()
    forget(mapped)
    assert read - before > 7000 and resident() - before < 1000  # KiB
    assert mapped[::2].sum() == total
    copy = np.load(tmp_path / "x.npy", mmap_mode="c")
    copy[0] = 7
    for own in (copy, values):
        forget(own)  # what was written to it would be lost: nothing is done
    assert copy[0] == 7
