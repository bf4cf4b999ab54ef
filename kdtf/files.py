"""Files and folders that appear whole or not at all, the words for what a disk refuses, digests.

Everything is written aside under a name that no other process chooses, and renamed when it is complete:
a reader never meets half a file, and two writers never one another's.
"""

import errno
import hashlib
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .errors import UserError

FULL, CLOSED, OCCUPIED = "on a disk with room left", "writable", "a folder"
REASONS = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: FULL,
    errno.EACCES: CLOSED,
    errno.EPERM: CLOSED,
    errno.EROFS: CLOSED,
    errno.ENOTDIR: OCCUPIED,
    errno.EEXIST: OCCUPIED,
}
GOES_ON = "What is finished there stays valid; the same command goes on from it."
PART = ".part"  # ends the name of what is not complete; the name begins with a dot


@contextmanager
def disk_errors(folder: str | Path, name: str = "--results", hint: str = GOES_ON) -> Iterator[None]:
    """Turn a full disk or a folder without permission into `UserError`; `name` is the folder's flag."""
    try:
        yield
    except OSError as error:
        rule = REASONS.get(error.errno or 0)
        if rule is None:
            raise
        raise UserError(f"{name} must be {rule}. Got {str(folder)!r} ({error.strerror}). {hint}") from None


def make_room(folder: Path, size: int) -> None:
    """Raise `OSError` where `size` bytes do not fit: HDF5 ends the process where a disk fills under it."""
    if shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def aside(path: Path) -> Path:
    """A name beside `path` that is nobody else's: it tells the host and the process, and holds a UUID."""
    host = "".join(c if c.isalnum() else "_" for c in socket.gethostname())[:24]
    return path.with_name(f".{path.name}.{host}-{os.getpid()}-{uuid.uuid4().hex[:8]}{PART}")


@contextmanager
def written_aside(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that becomes `path` once it is whole and on the disk, and nothing if the block fails."""
    path = Path(path)
    part = aside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def replace_folder(complete: Path, target: Path) -> None:
    """Put the folder `complete` where `target` is; what was there is removed only then.

    Where that fails, `target` is as it was. Raises `OSError`.
    """
    old = aside(target)
    if target.exists():
        os.replace(target, old)
    try:
        os.replace(complete, target)
    except BaseException:  # a signal too
        if old.exists():
            os.replace(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)
