"""What lies under a source folder: images in order, folders, and how many files were left out and why.

Opens nothing but files without an ending, for DICOM's magic. Never leaves the source: links that
lead outside, or back into a folder on their own path, are counted and not followed.
"""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UserError
from ..predictor import DICOM, IMAGES, has_magic

HIDDEN = "hidden"
LINK = "links that lead outside or in circles"
OTHER = "of other kinds"
ELSEWHERE = "outside the folders of classes"


@dataclass
class Listing:
    """Paths are relative to the source, their parts joined by `/`."""

    images: dict[str, bool] = field(default_factory=dict)  # {file: is it DICOM?}, sorted
    folders: list[str] = field(default_factory=list)  # sorted; hidden ones are left out
    ignored: Counter = field(default_factory=Counter)  # {reason: number of files}

    def ignored_note(self) -> str:
        """One sentence, or nothing where no file was left out."""
        parts = ", ".join(f"{n} {reason}" for reason, n in sorted((+self.ignored).items()))
        return f"Files left out: {sum(self.ignored.values())} ({parts})." if parts else ""


def listed(source: Path) -> Listing:
    """Walk `source`, a folder. Raises `UserError` where it cannot be read."""
    root, found = source.resolve(), Listing()
    waiting = [("", root, (root,), False)]  # (relative path, folder, real folders on the way, hidden)
    try:
        while waiting:
            at, folder, trail, hidden = waiting.pop()
            with os.scandir(folder) as entries:
                for entry in entries:
                    inner = _see(entry, at, trail, hidden, found)
                    waiting += [inner] if inner else []
    except OSError as error:
        raise UserError(f"the source must be readable. Got {str(source)!r} ({error.strerror}).") from None
    found.images = dict(sorted(found.images.items()))
    found.folders.sort()
    return found


def _see(entry: os.DirEntry, at: str, trail: tuple[Path, ...], hidden: bool, found: Listing) -> tuple | None:
    """Enter a file into `found`; returns what is to be walked next where `entry` is a folder."""
    name, path = f"{at}{entry.name}", Path(entry.path)
    hidden = hidden or entry.name.startswith(".") or entry.name == "__MACOSX"
    if entry.is_symlink() and not _may_follow(_real(path), trail):
        found.ignored[LINK] += 1
    elif entry.is_dir():
        found.folders += [] if hidden else [name]
        return f"{name}/", path, (*trail, _real(path)), hidden
    elif hidden:
        found.ignored[HIDDEN] += 1
    elif (dicom := _is_dicom(path)) is None or not entry.is_file():  # a pipe never ends
        found.ignored[OTHER] += 1
    else:
        found.images[name] = dicom
    return None


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # resolve() raises at a link to itself


def _may_follow(real: Path, trail: tuple[Path, ...]) -> bool:
    circle = any(real == folder or real in folder.parents for folder in trail)
    return real.exists() and real.is_relative_to(trail[0]) and not circle


def _is_dicom(path: Path) -> bool | None:
    """None where the file is no image by its name. A number is no ending: DICOM files are called 1.2.840.7"""
    ending = path.suffix.lower()
    if ending in DICOM or ending in IMAGES:
        return ending in DICOM
    bare = not ending or ending[1:].isdigit()
    return True if bare and path.is_file() and has_magic(path) else None
