"""Which image goes where: a source folder becomes classes and, for each split, images in order.

Reads no pixel. Everything that is wrong with the folder as such is said here, before a file is written.
"""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from ..data.dataset import SPLITS, UNLABELLED, UNLABELLED_SPLIT
from ..errors import UserError, require
from ..progress import Progress
from . import groups
from .formats import FORMATS, layouts, require_library
from .images import Picture
from .layout import Place
from .listing import list_source, without_ignored
from .places import Places, check_meaning, placed, warn_of_patients
from .settings import PrepareConfig
from .split import cut
from .unlabelled import Files, chosen_files, set_apart


@dataclass(frozen=True)
class Item:
    """One image to come."""

    file: str  # relative to the source
    label: int  # `UNLABELLED` where there is none
    group: str | None
    read: Callable[[], Picture]  # raises `Unusable`
    subgroups: tuple[str, ...] = ()  # its group of every column of the plan


@dataclass(frozen=True)
class Plan:
    """The classes of a source, and of each split its images in the order of the rows to come."""

    classes: tuple[str, ...]
    splits: dict[str, list[Item]]  # train and test, and val and unlabelled where they are
    layout: str  # how the source was read: its levels of folders, or "an .npz file"
    folders: dict[str, str] = field(default_factory=dict)  # {split: its folder}, where the source has some
    ignored: dict[str, int] = field(default_factory=dict)  # {reason: number of files left out}
    columns: tuple[str, ...] = ()  # by which scores are to be told apart


def plan_folder(source: Path, settings: PrepareConfig, progress: Progress) -> Plan:
    """The plan of a folder of images. Raises `UserError`."""
    listing = without_ignored(list_source(source), settings.ignore)
    listing, own = set_apart(source, listing)
    nothing = f"no image in {str(source)!r}. {listing.ignored_note()}".strip()
    require(listing.images, "the source", layouts(), nothing)
    places = placed(listing, settings.layout, progress)
    names = {place.folder: _class_name(place.folder, settings.short_names) for place in places.class_folders}
    classes = _classes(source, places, names, listing.folders)
    check_meaning(places, listing, settings.layout is not None, progress)
    for split, folder, _ in places.class_folders:
        rule, hint = "a class of train too", _short_hint(places.class_folders, settings)
        require(names[folder] in classes, f"class {names[folder]!r} of {split}", rule, "no such folder", hint)
    nothing = f"no image in the folders of classes. {listing.ignored_note()}"
    require(places.of_file, "the source", layouts(), nothing)
    others, ignored = chosen_files(own, settings, progress)
    for name in sorted({listing.images[file] for file in places.of_file}):
        require_library(name)
    group_of = _groups(places.of_file, others, settings, progress)
    if not group_of:
        warn_of_patients(places, progress)
    order = sorted(places.of_file, key=lambda file: (names[places.of_file[file].folder], file))
    items = [
        Item(
            file,
            classes.index(names[places.of_file[file].folder]),
            group_of.get(file),
            partial(FORMATS[listing.images[file]].read, source / file, settings.window),
        )
        for file in order
    ]
    listing.ignored += ignored
    if note := listing.ignored_note():
        progress.say(note)
    splits = _own_splits(items, places, progress) if places.splits else _cut(items, classes, settings)
    splits |= unlabelled_split(others, group_of, settings)
    folder_of = {split: folder for folder, split in places.splits.items()}
    folders = {split: folder_of[split] for split in SPLITS if split in folder_of}
    return Plan(classes, splits, str(places.layout), folders, dict(sorted((+listing.ignored).items())))


def unlabelled_split(
    files: Files, group_of: dict[str, str], settings: PrepareConfig
) -> dict[str, list[Item]]:
    """{"unlabelled": images in the order of their names}, or {} where there are none. Raises `UserError`."""
    for name in sorted({name for _, name in files.values()}):
        require_library(name)
    items = [
        Item(file, UNLABELLED, group_of.get(file), partial(FORMATS[name].read, path, settings.window))
        for file, (path, name) in sorted(files.items())
    ]
    return {UNLABELLED_SPLIT: items} if items else {}


# Classes


def _class_name(folder: str, short: bool) -> str:
    name = folder.partition("_")[0] if short else folder
    fits = name and name.strip() == name and name.isprintable()
    require(fits, "a class", "a folder whose name is one line of text", folder, "Rename the folder.")
    return name


def _classes(source: Path, places: Places, names: dict[str, str], below: list[str]) -> tuple[str, ...]:
    own = [place.folder for place in places.class_folders if place.split in ("train", None)]
    classes = sorted({names[folder] for folder in own})
    inner = [folder for folder in below if folder.count("/") == 1]
    hint = f"Did you mean {str(source / below[0])!r}?" if len(inner) > 1 and len(classes) == 1 else ""
    if len(classes) < 2:
        raise UserError(
            f"the source must hold at least 2 classes, as {layouts()}. Got {classes}. {hint}".strip()
        )
    return tuple(classes)


def _short_hint(folders: list[Place], settings: PrepareConfig) -> str:
    short = {split: {p.folder.partition("_")[0] for p in folders if p.split == split} for split in SPLITS}
    helps = not settings.short_names and short["test"] | short["val"] <= short["train"]
    return "--short-names would make them the same." if helps else ""


# Groups and splits


def _groups(
    files: dict[str, Place], others: Collection[str], settings: PrepareConfig, progress: Progress
) -> dict[str, str]:
    """{file: group} of labelled `files` and unlabelled `others`, without those whose groups are unknown."""
    by_folder = {file: place.group for file, place in files.items() if place.group is not None}
    if by_folder:
        if others:
            progress.warn("No unlabelled image is in a folder of a group: their groups are unknown.")
        return by_folder
    if settings.groups is not None:
        table = Path(settings.groups)
        rows = groups.read_table(table)
        covered = groups.names_any(others, rows)
        if others and not covered:
            progress.warn("No unlabelled image is in the table of --groups: their groups are unknown.")
        return groups.by_table([*files, *(others if covered else ())], rows, table.name)
    if settings.group_regex is None:
        return {}
    matched = groups.by_name([*files, *others], settings.group_regex)
    group_of: dict[str, str] = {}
    for what, own in (("labelled", files), ("unlabelled", others)):  # one pattern need not fit both
        if own and not any(file in matched for file in own):
            progress.warn(f"No {what} image matches --group-regex: their groups are unknown.")
            continue
        group_of |= {file: matched.get(file, file) for file in own}  # a path, which no name can be
    unmatched = sum(file not in matched for file in group_of)
    if unmatched:
        counts = f"{unmatched} of {len(group_of)} files"
        progress.warn(
            f"{counts} do not match --group-regex: their patients are unknown, each counts as one of its own."
        )
    return group_of


def _own_splits(items: list[Item], places: Places, progress: Progress) -> dict[str, list[Item]]:
    """The source's own splits."""
    splits = {split: [i for i in items if places.of_file[i.file].split == split] for split in SPLITS}
    if not splits["val"]:
        del splits["val"]
        progress.say("The source has no val: a run splits it off train.")
    counts = Counter(group for own in splits.values() for group in {item.group for item in own} - {None})
    shared = sum(n > 1 for n in counts.values())
    if shared:
        progress.warn(f"{shared} groups are in more than one split of the source, which was kept as it came.")
    return splits


def _cut(items: list[Item], classes: tuple[str, ...], settings: PrepareConfig) -> dict[str, list[Item]]:
    labels = np.array([item.label for item in items])
    known = items[0].group is not None
    rows = cut(
        labels,
        np.array([item.group for item in items]) if known else None,
        settings.split,
        settings.seed,
        classes,
    )
    return {split: [items[i] for i in rows[split]] for split in SPLITS}
