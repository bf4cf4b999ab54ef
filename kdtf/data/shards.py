"""Arrays that come in several files, or in a zarr store: put together as one `.npy` that can be mapped.

`X_train-00000-of-00064.npy`, `X_train-00001-of-00064.npy`, ... or the folder `X_train.zarr` stand for
`X_train.npy`, and likewise for every other array of a data folder. A copy is named by the digest of what it
was made of, so that a second run finds it. No more than one chunk is in memory.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError, require
from ..extras import require_extras
from ..files import Digest, file_digest, written_aside
from ..predictor import UNREADABLE
from .arrays import FILE_NAMES, Files, map_npy, removed_on_failure, write_npy_header
from .dataset import SPLITS, UNLABELLED_SPLIT

CHUNK_BYTES = 16 << 20
SHARD = re.compile(r"(?P<stem>.+)-(?P<index>\d{1,9})-of-(?P<count>\d{1,9})\.npy")
PLAIN = "uifUb"  # kinds of numbers, and text: anything else may hold objects
ZARR_NOTES = (".zarray", "zarr.json")

Read = Callable[[int, int], np.ndarray]  # rows from, to -> the array


@contextmanager
def gathered(folder: Path, work: Path, digest: Digest = file_digest) -> Iterator[Files]:
    """Yields {(kind, split): (what it is called, the copy in `work`)} of the arrays that are no plain file.

    If the block fails, the copies written by this call are removed again. Raises `UserError` where a shard
    is missing, shards do not fit together, one array is there in two forms, or zarr is not installed.
    """
    with removed_on_failure() as written:
        files: Files = {}
        for kind, pattern in FILE_NAMES.items():
            for split in (*SPLITS, UNLABELLED_SPLIT):
                own = _gather(folder / pattern.format(split), f"{kind}_{split}", work, digest, written)
                if own:
                    files[kind, split] = own
        yield files


def _gather(
    plain: Path, stem: str, work: Path, digest: Digest, written: list[Path]
) -> tuple[str, Path] | None:
    """The array that stands for the file `plain`, if there is one."""
    shards, store = _shards(plain), plain.with_suffix(".zarr")
    forms = [path.name for path in (plain, *shards[:1], store) if path.exists()]
    require(len(forms) < 2, plain.name, "given in one form", forms)
    if shards:
        digests = [digest(shard) for shard in shards]
        name, opened = f"{plain.name} of {len(shards)} shards", partial(_open_shards, shards)
    elif store.is_dir():
        digests = [f"{file.relative_to(store)} {digest(file)}" for file in _files(store)]
        name, opened = store.name, partial(_open_zarr, store)
    else:
        return None
    copy = work / f"{stem}_{hashlib.sha256(json.dumps(digests).encode()).hexdigest()[:16]}.npy"
    if not copy.exists():
        written.append(copy)
        _write(copy, *opened())
    return name, copy


def _write(copy: Path, shape: tuple[int, ...], dtype: np.dtype, read: Read) -> None:
    rows = max(1, CHUNK_BYTES // max(1, int(np.prod(shape[1:])) * dtype.itemsize))
    with written_aside(copy) as file:
        write_npy_header(file, shape, dtype)
        for start in range(0, shape[0], rows):
            file.write(np.ascontiguousarray(read(start, start + rows)).tobytes())


def _shards(plain: Path) -> list[Path]:
    """The shards of an array in their order. Raises `UserError` where one is missing or too many."""
    parts = {}
    for path in plain.parent.glob("*-of-*.npy"):
        match = SHARD.fullmatch(path.name)
        if match and match["stem"] == plain.stem and path.is_file():
            parts[path] = int(match["index"]), int(match["count"])
    if not parts:
        return []
    counts = {count for _, count in parts.values()}
    require(len(counts) == 1, f"the shards of {plain.name}", "of one number of shards", sorted(counts))
    ordered, count = sorted(parts, key=lambda path: parts[path]), counts.pop()
    indices = [parts[path][0] for path in ordered]
    rule = f"numbered from 0 to {count - 1}, each once"
    require(indices == list(range(count)), f"the shards of {plain.name}", rule, indices[:12])
    return ordered


def _open_shards(shards: list[Path]) -> tuple[tuple[int, ...], np.dtype, Read]:
    """(shape, dtype, a function that reads rows) of shards as one array."""
    arrays = [map_npy(path, path.name) for path in shards]
    first = arrays[0]
    for path, array in zip(shards, arrays, strict=True):
        require(array.ndim > 0, path.name, "an array with rows", array.shape)
        got, expected = (array.dtype.str, *array.shape[1:]), (first.dtype.str, *first.shape[1:])
        require(got == expected, path.name, f"of the type and shape of {shards[0].name}, {expected}", got)
    counts = [len(array) for array in arrays]
    ends = np.cumsum(counts)
    starts = ends - counts

    def read(start: int, stop: int) -> np.ndarray:
        touched = [i for i in range(len(arrays)) if starts[i] < stop and ends[i] > start]
        return np.concatenate([arrays[i][max(0, start - starts[i]) : stop - starts[i]] for i in touched])

    return (int(ends[-1]), *first.shape[1:]), first.dtype, read


def _files(store: Path) -> list[Path]:
    return sorted(path for path in store.rglob("*") if path.is_file())


def _open_zarr(store: Path) -> tuple[tuple[int, ...], np.dtype, Read]:
    """(shape, dtype, a function that reads rows) of a zarr array (https://zarr-specs.readthedocs.io).

    Nothing is unpickled: a codec by that name is refused before anything is decoded.
    """
    require_extras(store.name, "zarr")
    import zarr

    notes = [note.read_text("utf-8", "replace") for note in map(store.joinpath, ZARR_NOTES) if note.is_file()]
    pickled = any("pickle" in note.lower() for note in notes)
    require(not pickled, store.name, "a zarr array of plain numbers", "one that holds pickled objects")
    array = _told(store.name, lambda: zarr.open_array(store, mode="r"))
    dtype = np.dtype(array.dtype)
    require(dtype.kind in PLAIN, store.name, "a zarr array of plain numbers", str(dtype))
    require(len(array.shape) > 0, store.name, "an array with rows", array.shape)

    def read(start: int, stop: int) -> np.ndarray:
        return np.asarray(_told(store.name, lambda: array[start:stop]), dtype)

    return tuple(array.shape), dtype, read


def _told(name: str, call: Callable[[], Any]) -> Any:
    """What `call` returns. Raises `UserError` where zarr cannot read its store."""
    try:
        return call()
    except UNREADABLE as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{name} must be a readable zarr array. Got: {reason}.") from error
