"""What lies under a source folder: images in order, folders, and how many files were left out and why.

Opens nothing but files without an ending, for the first bytes of a format. Never leaves the source: links
that lead outside, or back into a folder on their own path, are counted and not followed. A pipe or a device
is no image, whatever its name.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError, require
from .formats import format_of

HIDDEN = "hidden"
LINK = "links that lead outside or in circles"
OTHER = "of other kinds"
ELSEWHERE = "outside the folders of classes"
IGNORED = "named by --ignore"


@dataclass
class Listing:
    """Paths are relative to the source, their parts joined by `/`."""

    images: dict[str, str] = field(default_factory=dict)  # {file: row of FORMATS}, sorted
    folders: list[str] = field(default_factory=list)  # sorted; hidden ones are left out
    ignored: Counter = field(default_factory=Counter)  # {reason: number of files}

    def ignored_note(self) -> str:
        """One sentence, or nothing where no file was left out."""
        parts = ", ".join(f"{n} {reason}" for reason, n in sorted((+self.ignored).items()))
        return f"Files left out: {sum(self.ignored.values())} ({parts})." if parts else ""


class _Folder(NamedTuple):
    """A folder still to be walked."""

    prefix: str  # of the relative paths of what is in it
    path: Path
    trail: tuple[Path, ...]  # the real folders on the way, the source first
    hidden: bool


def list_source(source: Path, name: str = "the source") -> Listing:
    """Walk `source`, a folder that errors call `name`. Raises `UserError` where one in it cannot be read."""
    root, listing = source.resolve(), Listing()
    waiting = [_Folder("", root, (root,), False)]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder.path) as entries:
                for entry in entries:
                    inner = _enter(entry, folder, listing)
                    waiting += [inner] if inner else []
        except OSError as error:
            where = str(source / folder.prefix)
            raise UserError(f"{name} must be readable. Got {where!r} ({error.strerror}).") from None
    listing.images = dict(sorted(listing.images.items()))
    listing.folders.sort()
    return listing


def without_ignored(listing: Listing, ignored: Sequence[str]) -> Listing:
    """The listing without the folders and images that `ignored` names, in any case.

    By name, by path in the source, or by a pattern of either with * and ?. Raises `UserError` where one of
    them is nothing in the source.
    """
    left_out: set[str] = set()
    for name in ignored:
        own = {path for path in (*listing.folders, *listing.images) if _is_named(path, name.strip("/"))}
        rule = "names of folders or images in the source, or patterns of them"
        require(own, "--ignore", rule, name, "" if own else _nearest(name, listing))
        left_out |= own

    def stays(path: str) -> bool:
        parts = path.split("/")
        return not any("/".join(parts[: i + 1]) in left_out for i in range(len(parts)))

    images = {file: name for file, name in listing.images.items() if stays(file)}
    counts = listing.ignored + Counter({IGNORED: len(listing.images) - len(images)})
    return replace(listing, images=images, folders=list(filter(stays, listing.folders)), ignored=counts)


def _nearest(name: str, listing: Listing) -> str:
    near = get_close_matches(name, {path.rpartition("/")[2] for path in listing.folders}, n=1)
    return f"Did you mean {near[0]!r}?" if near else ""


def _is_named(path: str, name: str) -> bool:
    own, key = path.casefold(), name.casefold()
    return any(part == key or fnmatchcase(part, key) for part in (own, own.rpartition("/")[2]))


def _enter(entry: os.DirEntry, folder: _Folder, listing: Listing) -> _Folder | None:
    """Enter a file into `listing`; returns what is to be walked next where `entry` is a folder."""
    name, path = f"{folder.prefix}{entry.name}", Path(entry.path)
    hidden = folder.hidden or entry.name.startswith(".") or entry.name == "__MACOSX"
    if entry.is_symlink() and not _may_follow(_real(path), folder.trail):
        listing.ignored[LINK] += 1
    elif entry.is_dir():
        listing.folders += [] if hidden else [name]
        return _Folder(f"{name}/", path, (*folder.trail, _real(path)), hidden)
    elif hidden:
        listing.ignored[HIDDEN] += 1
    elif (format_name := format_of(path)) is None or not entry.is_file():
        listing.ignored[OTHER] += 1
    else:
        listing.images[name] = format_name
    return None


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # resolve() raises at a link to itself


def _may_follow(real: Path, trail: tuple[Path, ...]) -> bool:
    circle = any(real == folder or real in folder.parents for folder in trail)
    return real.exists() and real.is_relative_to(trail[0]) and not circle
