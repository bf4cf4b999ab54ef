"""Files and folders that appear whole or not at all, the words for what a disk refuses, digests.

Everything is written aside under a name that no other process chooses, and renamed when it is complete:
a reader never meets half a file, and two writers never one another's.
"""

import errno
import hashlib
import os
import re
import shutil
import socket
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .errors import UserError, require

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
    errno.EISDIR: "free of folders that bear the name of a file",
    errno.ENOENT: "in a folder that exists",  # the working folder was removed, or the results folder in a run
    errno.ELOOP: "a path whose links lead somewhere",
    errno.ENAMETOOLONG: "a shorter path",
    errno.EIO: "on a disk that works",
}
GOES_ON = "What is finished there stays valid; the same command goes on from it."
PART = ".part"  # ends the name of what is not complete; the name begins with a dot
ASIDE = re.compile(rf"\..+\.(?P<host>\w{{1,24}})-(?P<pid>\d+)-[0-9a-f]{{8}}{re.escape(PART)}")
Digest = Callable[[Path], str]  # a file's sha256 in hex: read now, or remembered
STREAMS = {  # what is read without an end, or never begins
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@contextmanager
def disk_errors(place: str | Path, name: str = "--results", hint: str = GOES_ON) -> Iterator[None]:
    """Turn what a disk refuses into `UserError`: `place` is what is written to, `name` its flag.

    A file elsewhere was to be read: it is named itself.
    """
    try:
        yield
    except OSError as error:
        file, rule = error.filename, REASONS.get(error.errno or 0)
        if isinstance(file, str | bytes | os.PathLike) and not _concerns(os.fsdecode(file), place):
            rule = FULL if rule == FULL else "readable"
            raise UserError(f"{os.fsdecode(file)} must be {rule}. It is not ({error.strerror}).") from None
        if rule is None:
            raise
        inner = error.filename2 or file  # of a rename the name that was to be given
        named = inner in (None, str(place)) or ASIDE.fullmatch(Path(str(inner)).name)
        reason = error.strerror if named else f"{error.strerror}: {inner}"
        raise UserError(f"{name} must be {rule}. Got {str(place)!r} ({reason}). {hint}".rstrip()) from None


def _concerns(file: str, place: str | Path) -> bool:
    """Whether a file is `place`, in it, above it, or what is to become it."""
    for whole in (os.path.abspath, os.path.realpath):
        try:
            path, target = Path(whole(file)), Path(whole(place))
        except OSError:  # the working folder is gone
            path, target = Path(file), Path(place)
        beside = path.parent == target.parent and target.name in path.name and path.suffix == PART
        if path.is_relative_to(target) or target.is_relative_to(path) or beside:
            return True
    return False


def require_file(path: str | Path, name: str) -> None:
    """Raise `UserError` where `path` is a pipe or a device: reading it may wait for ever, or never end.

    Says nothing of what is not there or cannot be asked for: who reads it does.
    """
    try:
        kind = STREAMS.get(stat.S_IFMT(os.stat(path).st_mode))
    except (OSError, ValueError):
        return
    hint = f"It is {kind}: write what it gives to a file."
    require(kind is None, name, "a file that ends", str(path), hint)


def make_room(folder: Path, size: int) -> None:
    """Raise `OSError` where `size` bytes do not fit: HDF5 ends the process where a disk fills under it."""
    if shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk: what a power cut would leave."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that cannot do it for folders
            raise
    finally:
        os.close(descriptor)


def host_name() -> str:
    """The name of this machine, as names of parts have it."""
    return "".join(c if c.isalnum() else "_" for c in socket.gethostname())[:24] or "_"


def aside(path: Path) -> Path:
    """A name beside `path` that is nobody else's: it tells the host and the process, and holds a UUID."""
    return path.with_name(f".{path.name}.{host_name()}-{os.getpid()}-{uuid.uuid4().hex[:8]}{PART}")


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
        flush(path.parent)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def is_left(path: Path, seconds: float) -> bool:
    """Whether something written aside is nobody's any more.

    Its process was one of this host and is no more; of another host's processes nothing is known, and what
    they have not touched for so many seconds counts as left.
    """
    match = ASIDE.fullmatch(path.name)
    if match is None:
        return False
    if match["host"] == host_name():
        return not _lives(int(match["pid"]))
    with suppress(FileNotFoundError):
        return time.time() - path.lstat().st_mtime > seconds
    return False


def _lives(pid: int) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def discard(path: Path) -> None:
    """Remove a file, a folder with all that is in it, or a link: what a link leads to stays.

    Raises `OSError`, but not where it is gone already.
    """
    with suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


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
    with suppress(OSError):
        discard(old)
