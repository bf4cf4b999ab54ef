"""The folders under `work/`: what is in a finished one, what is said of it, who works in one that is not.

A part folder is named after its stage and belongs to one process, which holds the lock of its file `running`.
A link to a folder is read as that folder, and where it is in the way it is taken away itself: nothing is
written or removed where it leads.
"""

import errno
import fcntl
import json
import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from .digests import Digests
from .files import PART, Digest, aside, discard, file_digest, flush, is_left, replace_folder
from .leases import SILENT, is_elsewhere, runs_elsewhere, was_touched

CHECKPOINT = "checkpoint"
NOTE = "stage.json"
RUNNING = "running"  # locked while a stage is made; only a process that died leaves it behind
STAGE = re.compile(r"(?P<name>.+)-(?P<key>[0-9a-f]{16})")
EARLIER = "of an earlier kdtf, not used; --fresh removes it"
DAY, YEARS = 24 * 60 * 60, 1e9  # seconds: after which what is begun counts as left; that no stage takes


def read_note(folder: Path) -> dict[str, Any]:
    """What a finished stage says of itself: kind, version, settings, inputs, made_with, seconds, sha256.

    One of an earlier kdtf has fewer parts. Raises `OSError` where there is none, `ValueError` where it is not
    as this program writes it.
    """
    path = folder / NOTE
    if not path.is_file():  # a pipe would be waited for
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply") from None
    if not _is_note(note):
        raise ValueError(f"{path} is no note of a stage")
    return note


def _is_note(note: Any) -> bool:
    """Whether a JSON value has the parts of a note, in their types."""
    if not isinstance(note, dict):
        return False
    seconds = note.get("seconds")
    timed = isinstance(seconds, int | float) and 0 <= seconds < YEARS
    if not (timed and _is_table(note.get("sha256"), str)):
        return False
    return "kind" not in note or (
        isinstance(note["kind"], str)
        and isinstance(note.get("settings"), dict)
        and _is_table(note.get("environment"), str | bool)
        and _is_table(note.get("inputs"), str)
        and _is_table(note.get("made_with"), str)
        and _is_table(note.get("made_of", {}), str | None)
    )


def _is_table(value: Any, kind: Any) -> bool:
    """Whether a JSON value is an object whose values are all of a kind."""
    return isinstance(value, dict) and all(isinstance(own, kind) for own in value.values())


def damaged_files(folder: Path, digest: Digest = file_digest) -> list[str]:
    """The files of a stage's folder that are missing or not what was written, its note among them."""
    try:
        return changed_files(folder, read_note(folder)["sha256"], digest)
    except (OSError, ValueError):
        return [NOTE]


def changed_files(folder: Path, digests: dict[str, str], digest: Digest = file_digest) -> list[str]:
    """Which files of a folder are missing or have another digest than in `digests`."""
    return [n for n, sha in digests.items() if not (folder / n).is_file() or digest(folder / n) != sha]


def list_stages(root: Path, *, verify: bool = False) -> list[dict[str, Any]]:
    """What is under a results folder, the oldest first: `name seconds mebibytes state`.

    `state` is "stands", "damaged: FILE", of an earlier kdtf `EARLIER`, or, of a stage that is not finished,
    "begun" or "being made". With `verify` files are read that did not change by size and times, too.
    """
    rows, digests = [], Digests(root / "work", verify=verify)
    for folder in (root / "work").glob("*"):
        with suppress(FileNotFoundError):  # a run that goes on meanwhile has renamed it
            rows += _timed_row(folder, digests.of)
    digests.save()
    return [row for _, row in sorted(rows, key=lambda pair: pair[0])]


def _timed_row(folder: Path, digest: Digest) -> list[tuple[float, dict[str, Any]]]:
    """When a folder under `work/` was changed, and what is said of it; nothing of one that is no stage.

    Raises `FileNotFoundError` where a run has taken it away meanwhile, or another one stands in its place:
    what was found in two of them is true of neither.
    """
    before = folder.stat()
    row = _row(folder, digest) if folder.is_dir() else None
    if folder.stat().st_ino != before.st_ino:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    return [(before.st_mtime, row)] if row else []


def is_running(root: Path) -> bool:
    """Whether a run, or another command that writes, holds the lock of a results folder."""
    try:
        folder = os.open(root / "work", os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(folder, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        pass
    finally:
        os.close(folder)
    return bool(runs_elsewhere(root / "work"))


def _row(folder: Path, digest: Digest) -> dict[str, Any] | None:
    """What is said of a folder under `work/`; None of one that is no stage."""
    if folder.name.startswith("."):
        name = stage_of_part(folder)
        return _unfinished_row(folder, name) if name else None
    if not STAGE.fullmatch(folder.name):
        return None
    damaged = damaged_files(folder, digest)
    note = {} if NOTE in damaged else read_note(folder)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20
    state = f"damaged: {damaged[0]}" if damaged else "stands" if "kind" in note else EARLIER
    return {"name": folder.name, "seconds": note.get("seconds"), "mebibytes": size, "state": state}


def _unfinished_row(folder: Path, name: str) -> dict[str, Any]:
    """What is said of a folder in which a stage is made, or was."""
    checkpoints = [file for file in folder.iterdir() if file.name.startswith(CHECKPOINT)]
    size = sum(file.stat().st_size for file in checkpoints) / 2**20
    state = "begun, goes on from its checkpoint" if checkpoints else "begun, starts over"
    if in_work(folder):
        state = "being made"
    return {"name": name, "seconds": None, "mebibytes": size, "state": state}


def stage_of_part(folder: Path) -> str | None:
    """NAME-KEY of a folder in which that stage is, or was, being made."""
    match = re.match(rf"\.({STAGE.pattern})(\..*)?{re.escape(PART)}$", folder.name)
    return match and match[1]


def is_ours(folder: Path) -> bool:
    """Whether a folder under `work/` is a stage of this program, finished or begun, and no process is in it.

    A finished one bears a note, a begun one its name. Neither is a link.
    """
    if folder.is_symlink() or not folder.is_dir():
        return False
    if stage_of_part(folder):
        return not in_work(folder)
    with suppress(OSError, ValueError):
        return bool(STAGE.fullmatch(folder.name) and read_note(folder))
    return False


def remove_leftovers(folder: Path) -> None:
    """Take away what processes that are no more left half written in a folder.

    A checkpoint stays, because its stage goes on from it; so does for a day the sign that a stage was cut
    off, which is told when it is made again.
    """
    for item in folder.glob(f".*{PART}"):
        with suppress(OSError):  # somebody else was quicker, or it is not ours to remove
            if is_left(item, DAY) and not _is_of_use(item):
                discard(item)


def _is_of_use(part: Path) -> bool:
    """Whether a stage goes on in this folder, or will."""
    if part.is_symlink() or not part.is_dir():
        return False
    if any(part.glob(f"{CHECKPOINT}*")):
        return True
    return (part / RUNNING).exists() and (in_work(part) or time.time() - part.stat().st_mtime < DAY)


def locked(path: Path, *, create: bool) -> int | None:
    """A descriptor that holds the lock of a file, or None where another process does or there is none."""
    flags = os.O_RDWR | os.O_CREAT if create else os.O_RDONLY  # to ask is allowed on a read-only disk
    try:
        descriptor = os.open(path, flags, 0o644)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:  # a file system without locks: the name of a part tells its process
        if not is_left(path.parent, SILENT):
            os.close(descriptor)
            return None
    return descriptor


def in_work(part: Path) -> bool:
    """Whether a process that lives makes a stage in this folder; of another machine, one that touches it."""
    if is_elsewhere(part):
        return was_touched(part / RUNNING)
    lock = locked(part / RUNNING, create=False)
    if lock is None:
        return (part / RUNNING).exists()
    os.close(lock)
    return False


def new_part(part: Path) -> int:
    """Make a folder to make a stage in, locked before it bears its name; the descriptor of the lock."""
    hidden = aside(part)
    hidden.mkdir()
    try:
        lock = os.open(hidden / RUNNING, os.O_RDWR | os.O_CREAT, 0o644)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        os.replace(hidden, part)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    return lock


def clear(folder: Path, keep: tuple[str, ...]) -> None:
    """Remove what is in a folder, but for names that begin with one of `keep`."""
    for item in list(folder.iterdir()):
        if not item.name.startswith(keep):
            discard(item)


def publish(part: Path, final: Path) -> None:
    """Rename the folder of a whole stage to its place; where a sound one stands, that is kept.

    Raises `OSError`.
    """
    try:
        os.replace(part, final)
    except OSError:
        if not final.is_dir():
            raise
        if damaged_files(final):
            replace_folder(part, final)
        else:
            discard(part)
    flush(final.parent)


def goes_with_the_last_try(item: Path, part: Path) -> bool:
    """Whether something in a part folder is no part of the finished stage."""
    return item.parent == part and item.name.startswith((CHECKPOINT, RUNNING))


def clear_last_try(folder: Path) -> None:
    """Remove from a finished stage what its making needed; who was killed before this left it there."""
    for item in folder.iterdir():
        if goes_with_the_last_try(item, folder):
            item.unlink(missing_ok=True)
