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
from .listing import ELSEWHERE, Listing, list_source
from .settings import PrepareConfig
from .split import cut
from .unlabelled import Files, chosen_files, set_apart

FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Item:
    """One image to come."""

    file: str  # relative to the source
    label: int  # `UNLABELLED` where there is none
    group: str | None
    read: Callable[[], Picture]  # raises `Unusable`


@dataclass(frozen=True)
class Plan:
    """The classes of a source, and of each split its images in the order of the rows to come."""

    classes: tuple[str, ...]
    splits: dict[str, list[Item]]  # train and test, and val and unlabelled where they are
    ignored: dict[str, int] = field(default_factory=dict)  # {reason: number of files left out}


def plan_folder(source: Path, settings: PrepareConfig, progress: Progress) -> Plan:
    """The plan of a folder of images. Raises `UserError`."""
    listing, own = set_apart(source, list_source(source))
    nothing = f"no image in {str(source)!r}. {listing.ignored_note()}".strip()
    require(listing.images, "the source", layouts(), nothing)
    tops = _split_folders(listing.folders)
    if any(split == "test" and FOLDERS[top.casefold()] == "val" for top, split in tops.items()):
        progress.say("There is no test folder: what is held out in val becomes the test.")
    places, folders = _placed(listing, tops)  # {file: (split or None, class folder)}
    names = {folder: _class_name(folder, settings.short_names) for _, folder in folders}
    classes = _classes(source, folders, names, listing.folders)
    for split, folder in folders:
        rule, hint = "a class of train too", _short_hint(folders, settings)
        require(names[folder] in classes, f"class {names[folder]!r} of {split}", rule, "no such folder", hint)
    nothing = f"no image in the folders of classes. {listing.ignored_note()}"
    require(places, "the source", layouts(), nothing)
    others, ignored = chosen_files(own, settings, progress)
    for name in sorted({listing.images[file] for file in places}):
        require_library(name)
    group_of = _groups(places, others, settings, progress)
    order = sorted(places, key=lambda file: (names[places[file][1]], file))
    items = [
        Item(
            file,
            classes.index(names[places[file][1]]),
            group_of.get(file),
            partial(FORMATS[listing.images[file]].read, source / file, settings.window),
        )
        for file in order
    ]
    listing.ignored += ignored
    if note := listing.ignored_note():
        progress.say(note)
    split_of = {file: split for file, (split, _) in places.items()}
    has_splits = None not in split_of.values()
    splits = _own_splits(items, split_of, progress) if has_splits else _cut(items, classes, settings)
    splits |= unlabelled_split(others, group_of, settings)
    return Plan(classes, splits, dict(sorted((+listing.ignored).items())))


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


# Layout


def _split_folders(folders: list[str]) -> dict[str, str]:
    """{top folder: split}, empty where the folders at the top are classes."""
    tops = [folder for folder in folders if "/" not in folder]
    splits = {top: FOLDERS[top.casefold()] for top in tops if top.casefold() in FOLDERS}
    if not {"train", "test"} & set(splits.values()):
        return {}
    twice = [split for split, n in Counter(splits.values()).items() if n > 1]
    require(not twice, "the source", "a folder with one place for each split", sorted(splits))
    if set(splits.values()) == {"train", "val"}:  # Imagewoof's: what is held out is the test
        splits = {top: "test" if split == "val" else split for top, split in splits.items()}
    for split in ("train", "test"):
        hint = "Rename the one that is to be it; val may be missing, and is then split off train in a run."
        require(split in splits.values(), "the source", f"a folder that holds {split}/", tops, hint)
    return splits


Place = tuple[str | None, str]  # a split, None where the source has none, and the folder of a class


def _placed(listing: Listing, splits: dict[str, str]) -> tuple[dict[str, Place], list[Place]]:
    """({file: (split, class folder)}, all (split, class folder)); the split is None where there are none."""
    depth = 2 if splits else 1

    def place(path: str) -> Place | None:
        parts = path.split("/")
        known = not splits or parts[0] in splits
        return (splits.get(parts[0]), parts[depth - 1]) if known and len(parts) >= depth else None

    folders = {where for folder in listing.folders if (where := place(folder))}
    files = {file: where for file in listing.images if file.count("/") >= depth and (where := place(file))}
    listing.ignored[ELSEWHERE] += len(listing.images) - len(files)
    return files, sorted(folders, key=lambda f: (SPLITS.index(f[0]) if f[0] else 0, f[1]))


def _class_name(folder: str, short: bool) -> str:
    name = folder.partition("_")[0] if short else folder
    fits = name and name.strip() == name and name.isprintable()
    require(fits, "a class", "a folder whose name is one line of text", folder, "Rename the folder.")
    return name


def _classes(source: Path, folders: list[Place], names: dict[str, str], below: list[str]) -> tuple[str, ...]:
    classes = sorted({names[folder] for split, folder in folders if split in ("train", None)})
    inner = [folder for folder in below if folder.count("/") == 1]
    hint = f"Did you mean {str(source / below[0])!r}?" if len(inner) > 1 and len(classes) == 1 else ""
    if len(classes) < 2:
        raise UserError(
            f"the source must hold at least 2 classes, as {layouts()}. Got {classes}. {hint}".strip()
        )
    return tuple(classes)


def _short_hint(folders: list[Place], settings: PrepareConfig) -> str:
    short = {split: {f.partition("_")[0] for s, f in folders if s == split} for split in SPLITS}
    helps = not settings.short_names and short["test"] | short["val"] <= short["train"]
    return "--short-names would make them the same." if helps else ""


# Groups and splits


def _groups(
    files: Collection[str], others: Collection[str], settings: PrepareConfig, progress: Progress
) -> dict[str, str]:
    """{file: group} of labelled `files` and unlabelled `others`, without those whose groups are unknown."""
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
        progress.say(f"{counts} do not match --group-regex: each is a group of its own.")
    return group_of


def _own_splits(
    items: list[Item], split_of: dict[str, str | None], progress: Progress
) -> dict[str, list[Item]]:
    """The source's own splits."""
    splits = {split: [item for item in items if split_of[item.file] == split] for split in SPLITS}
    if "val" not in split_of.values():
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
