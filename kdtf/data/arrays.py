"""Arrays on disk: `.npy` mapped and written aside, `.npz` unpacked so that it can be mapped too.

Nothing here looks at what the numbers mean, unpickles anything, or holds more than one chunk in memory.
"""

import errno
import mmap
import shutil
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.format import MAGIC_PREFIX
from numpy.typing import DTypeLike

from ..errors import UserError, require
from ..files import Digest, file_digest, written_aside
from .dataset import SPLITS, UNLABELLED_SPLIT

# What numpy and zipfile raise, between them, on damaged or hostile files.
UNREADABLE = (
    *(ValueError, TypeError, OSError, EOFError, OverflowError, SyntaxError, RuntimeError),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)

# The name of each kind of array in a folder, and its key in an archive, by who writes such archives.
FILE_NAMES = {"X": "X_{}.npy", "y": "y_{}.npy", "groups": "groups_{}.npy", "teacher": "teacher/X_{}.npy"}
ARCHIVE_KEYS = {
    "MedMNIST": {"X": "{}_images", "y": "{}_labels"},
    "Keras": {"X": "x_{}", "y": "y_{}"},
}


class NamedArray(NamedTuple):
    """An array as it came, and what its owner calls it."""

    name: str
    array: np.ndarray

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the images, C being 1 where the array has no such axis."""
        return (*self.array.shape[1:], 1)[:3]

    def with_channels(self) -> "NamedArray":
        """The same images shaped (N, H, W, C)."""
        return NamedArray(self.name, self.array[..., None] if self.array.ndim == 3 else self.array)


At = tuple[str, str]  # (kind, split), kind a key of FILE_NAMES
Arrays = dict[At, NamedArray]
Files = dict[At, tuple[str, Path]]  # what the owner of an array calls it, and the .npy file it is in


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


def write_npy_header(file: Any, shape: tuple[int, ...], dtype: DTypeLike = np.uint8) -> None:
    """The beginning of a .npy file: an array of `shape` in C order, whose bytes are written after it."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(file, header)


def write_npy(path: Path, shape: tuple[int, ...], chunks: Iterable[np.ndarray]) -> np.ndarray:
    """Write uint8 `chunks` one after the other as an array of `shape`; returns it mapped, read-only.

    A plain stream, because a disk that fills up kills a process that writes through a map.
    """
    with written_aside(path) as file:
        write_npy_header(file, shape)
        for chunk in chunks:
            file.write(np.ascontiguousarray(chunk).data)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def forget(array: object) -> None:
    """Give the pages of a mapped array back that were read of it; of anything else there are none.

    They stay in the kernel's cache for who reads them again, and count no longer as this process's memory.
    """
    if isinstance(array, np.memmap) and array.mode == "r":  # what is written to a copy would be lost
        mapped, advice = getattr(array, "_mmap", None), getattr(mmap, "MADV_DONTNEED", None)
        if mapped is not None and advice is not None:
            mapped.madvise(advice)


@contextmanager
def removed_on_failure() -> Iterator[list[Path]]:
    """A list for the files that the block writes: they are removed again if it fails."""
    written: list[Path] = []
    try:
        yield written
    except BaseException:
        for file in written:
            with suppress(OSError):
                file.unlink(missing_ok=True)
        raise


@contextmanager
def unpacked(path: Path, work: Path, digest: Digest = file_digest) -> Iterator[Files]:
    """Unpack the arrays `path` is read for into `work`; yields {(kind, split): (name, file)}.

    The files are named by the archive's sha256, so a second run finds them. If the block fails, those
    written by this call are removed again. Raises `UserError` for what is no such archive.
    """
    with removed_on_failure() as written:
        sha = digest(path)[:16]
        with _opened(path) as archive:
            members = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
            files: Files = {}
            for at, key in _archive_keys(members, path).items():
                target = work / f"{key}_{sha}.npy"
                files[at] = (f"{key} in {path.name}", target)
                if not target.exists():
                    written.append(target)
                    _unpack(archive, key, target, path.name)
        yield files


def _archive_keys(members: list[str], path: Path) -> dict[At, str]:
    """{(kind, split): key} of the first style of which the archive has train and test among `members`."""
    for style in ARCHIVE_KEYS.values():
        keys = {
            (kind, split): pattern.format(split)
            for kind, pattern in style.items()
            for split in (*SPLITS, UNLABELLED_SPLIT)
        }
        if all(key in members for (_, split), key in keys.items() if split in ("train", "test")):
            return {at: key for at, key in keys.items() if key in members}
    expected = "train_images, train_labels, test_images, test_labels or x_train, y_train, x_test, y_test"
    names = ", ".join(map(repr, members[:12])) or "no array"  # a name may hold anything
    raise UserError(f"{path.name} must hold {expected} (val is optional). Got {names}.")


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


class KeptRows:
    """Rows (n, D) that are written block by block to a file without a name, which is mapped when it is whole.

    So that what is kept of each image takes no memory that the kernel could not have back. The file is in
    `folder`, by default where temporary files are, and goes with the array. Raises `OSError` where the disk
    is full: a plain stream, since that kills a process that writes through a map.
    """

    def __init__(self, width: int, dtype: type, folder: Path | None = None):
        self.width, self.dtype, self.rows = width, np.dtype(dtype), 0
        with ExitStack() as stack:
            self.file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
            stack.pop_all()  # `mapped` closes it

    def append(self, block: np.ndarray) -> None:
        """Write more rows."""
        self.file.write(np.ascontiguousarray(block, self.dtype).data)
        self.rows += len(block)

    def mapped(self) -> np.ndarray:
        """All rows (N, D), read-only."""
        with self.file as file:
            file.flush()
            if not self.rows:
                return np.zeros((0, self.width), self.dtype)
            return np.memmap(file, self.dtype, "r", shape=(self.rows, self.width))
