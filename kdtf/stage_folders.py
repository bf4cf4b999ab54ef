"""The folders under `work/`: what is in a finished one, what is said of it, who works in one that is not.

A part folder is named after its stage and belongs to one process, which holds the lock of its file `running`.
"""

import fcntl
import json
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from .files import PART, aside, file_digest

CHECKPOINT = "checkpoint"
NOTE = "stage.json"
RUNNING = "running"  # locked while a stage is made; only a process that died leaves it behind
STAGE = re.compile(r"(?P<name>.+)-(?P<key>[0-9a-f]{16})")
EARLIER = "of an earlier kdtf, not used; --fresh removes it"


def read_note(folder: Path) -> dict[str, Any]:
    """What a finished stage says of itself: kind, version, settings, inputs, made_with, seconds, sha256."""
    return json.loads((folder / NOTE).read_text())


def damaged_files(folder: Path) -> list[str]:
    """The files of a stage's folder that are missing or not what was written, its note among them."""
    try:
        note = read_note(folder)
        whole = isinstance(note["seconds"], int | float)
        if "kind" in note:  # of an earlier kdtf it has fewer parts
            whole = whole and isinstance(note["made_with"], dict) and isinstance(note["environment"], dict)
        return changed_files(folder, note["sha256"]) if whole else [NOTE]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return [NOTE]


def changed_files(folder: Path, digests: dict[str, str]) -> list[str]:
    """Which files of a folder are missing or have another digest than in `digests`."""
    return [n for n, sha in digests.items() if not (folder / n).is_file() or file_digest(folder / n) != sha]


def list_stages(root: Path) -> list[dict[str, Any]]:
    """What is under a results folder, the oldest first: `name seconds mebibytes state`.

    `state` is "stands", "damaged: FILE", of an earlier kdtf `EARLIER`, or, of a stage that is not finished,
    "begun" or "being made".
    """
    rows = []
    for folder in (root / "work").glob("*"):
        with suppress(FileNotFoundError):  # a run that goes on meanwhile has renamed it
            row = _row(folder) if folder.is_dir() else None
            rows += [(folder.stat().st_mtime, row)] if row else []
    return [row for _, row in sorted(rows, key=lambda pair: pair[0])]


def _row(folder: Path) -> dict[str, Any] | None:
    """What is said of a folder under `work/`; None of one that is no stage."""
    if folder.name.startswith("."):
        name = stage_of_part(folder)
        return _unfinished_row(folder, name) if name else None
    if not STAGE.fullmatch(folder.name):
        return None
    damaged = damaged_files(folder)
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
    return descriptor


def in_work(part: Path) -> bool:
    """Whether a process that lives makes a stage in this folder."""
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
            shutil.rmtree(item) if item.is_dir() else item.unlink()
