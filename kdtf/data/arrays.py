"""Arrays on disk: `.npy` mapped and written aside, `.npz` unpacked so that it can be mapped too.

Nothing here looks at what the numbers mean, unpickles anything, or holds more than one chunk in memory.
"""

import errno
import hashlib
import os
import shutil
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.format import MAGIC_PREFIX

from ..errors import UserError, require

# What numpy and zipfile raise, between them, on damaged or hostile files.
UNREADABLE = (ValueError, TypeError, OSError, EOFError, OverflowError, SyntaxError, RuntimeError)
UNREADABLE += (tokenize.TokenError, zipfile.BadZipFile, zlib.error)

SPLITS = ("train", "val", "test")
STYLES = {  # the key of each kind of array, by who writes such files
    "MedMNIST": {"X": "{}_images", "y": "{}_labels"},
    "Keras": {"X": "x_{}", "y": "y_{}"},
}


class Named(NamedTuple):
    """An array as it came, and what its owner calls it."""

    name: str
    array: np.ndarray


def map_npy(path: Path, name: str) -> np.ndarray:
    """The array in `path`, mapped and not read. Raises `UserError` about `name` if it is no sound .npy."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        require(isinstance(array, np.ndarray), name, "one array", "an archive of several")
        return array
    except UNREADABLE as error:
        reason = " ".join(str(error).split())
        hint = "Is it cut short, or an array of Python objects? Write it again with np.save."
        raise UserError(f"{name} must be a readable .npy file of numbers. Got: {reason}. {hint}") from error


@contextmanager
def written_aside(path: Path) -> Iterator:
    """A binary file that becomes `path` once it is whole, and nothing if the block fails."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            yield file
        os.replace(part, path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_npy(path: Path, shape: tuple[int, ...], chunks: Iterable[np.ndarray]) -> np.ndarray:
    """Write uint8 `chunks` one after the other as an array of `shape`; returns it mapped, read-only.

    A plain stream, because a disk that fills up kills a process that writes through a map.
    """
    with written_aside(path) as file:
        np.lib.format.write_array_header_2_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for chunk in chunks:
            file.write(np.ascontiguousarray(chunk).data)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _keys(found: list[str], path: Path) -> dict[tuple[str, str], str]:
    """{(kind, split): key} for the first style of which the archive holds train and test."""
    for style in STYLES.values():
        keys = {(kind, split): pattern.format(split) for kind, pattern in style.items() for split in SPLITS}
        if all(key in found for (_, split), key in keys.items() if split != "val"):
            return {at: key for at, key in keys.items() if key in found}
    expected = "train_images, train_labels, test_images, test_labels or x_train, y_train, x_test, y_test"
    got = ", ".join(map(repr, found[:12])) or "no array"  # a name may hold anything
    raise UserError(f"{path.name} must hold {expected} (val is optional). Got {got}.")


@contextmanager
def unpacked(path: Path, work: Path) -> Iterator[dict[tuple[str, str], tuple[str, Path]]]:
    """Unpack the arrays `path` is read for into `work`; yields {(kind, split): (name, file)}.

    The files are named by the archive's sha256, so a second run finds them. If the block fails, those
    written by this call are removed again.
    """
    fresh = []
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        with _opened(path) as archive:
            found = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
            files = {}
            for at, key in _keys(found, path).items():
                target = work / f"{key}_{digest}.npy"
                files[at] = (f"{key} in {path.name}", target)
                if not target.exists():
                    fresh.append(target)
                    _unpack(archive, key, target, path.name)
        yield files
    except BaseException:
        for target in fresh:
            with suppress(OSError):
                target.unlink(missing_ok=True)
        raise


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except UNREADABLE as error:
        rule = "a folder of .npy files or a whole .npz file"
        raise UserError(f"{path.name} must be {rule}. Got: {error}.") from error


def _unpack(archive: zipfile.ZipFile, key: str, target: Path, name: str) -> None:
    """One array of an archive to a file, unless it is none or would fill the disk."""
    size = archive.getinfo(f"{key}.npy").file_size  # no more than that is unpacked
    with written_aside(target) as file:
        free = shutil.disk_usage(target.parent).free
        hint = f"{key} in {name} unpacks to {size:,} bytes."
        require(size < free, "--results", "on a disk with room left", f"{free:,} bytes free", hint)
        try:
            with archive.open(f"{key}.npy") as member:
                start = member.read(len(MAGIC_PREFIX))
                require(start == MAGIC_PREFIX, f"{key} in {name}", "an .npy array", start)
                file.write(start)
                shutil.copyfileobj(member, file, 1 << 20)
        except UNREADABLE as error:
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise  # of the file that is written
            raise UserError(
                f"{key} in {name} must be readable. Got: {error}. Is the file cut short?"
            ) from error
