"""Refuses a source whose folders may mean something else than the layout takes them for.

A wrong guess trains a model of the wrong classes without a word. So the names of classes, and of the folders
with images below them, must not look like splits, masks or more classes, unless `--layout` says what they
are. Folders of patients and series below a class are as they should be. `folder_names` has the words.
"""

import shlex
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from ..errors import UserError
from .folder_names import (
    has_number,
    is_masks,
    is_part,
    is_patient,
    is_pictures,
    is_subject,
    mask_ending,
    split_of,
    tells_of_masks,
    without_split,
)
from .layout import ANY, CLASS, GROUP, SPLIT, Layout, few

MOST_CLASSES_BELOW = 10  # numbered folders that are the same everywhere: more are patients counted from 1
DIGITS = "0123456789"
NAMED = 3  # folders that a message names
CLASSES = "the folders of classes must be of one class each"
BELOW = "folders below those of classes must be of patients or series"


@dataclass(frozen=True)
class Below:
    """A folder with images somewhere below that of a class."""

    path: str  # in the source
    level: int  # 0 directly below the folder of the class, or below the last level of the layout

    @property
    def parent(self) -> str:
        """The folder it lies in."""
        return self.path.rpartition("/")[0]

    @property
    def name(self) -> str:
        """Its own name."""
        return self.path.rpartition("/")[2]


def check_classes(classes: Collection[str], layout: Layout) -> None:
    """Raise `UserError` where the names of the folders of classes look like splits or masks."""
    as_classes = f"--layout {layout} says that they are classes."
    _refuse(CLASSES, _masks_among(classes), "images and their masks", as_classes)
    _refuse(CLASSES, [name for name in classes if split_of(name)], "splits", as_classes)
    for test, kind in ((is_part, "parts of one set of images"), (is_patient, "patients or series")):
        _refuse(CLASSES, list(classes) if all(map(test, classes)) else [], kind, as_classes)
    parts = {name: without_split(name) for name in classes}
    rests = Counter(rest for rest, split in parts.values() if split)
    mixed = [name for name, (rest, split) in parts.items() if split and rests[rest] > 1]
    if len({parts[name][1] for name in mixed}) > 1:
        rest, split = parts[mixed[0]]
        hint = f"Put them into folders of their splits, such as {split}/{rest}; {as_classes}"
        _refuse(CLASSES, mixed, "one class in several splits", hint)


def _masks_among(classes: Collection[str]) -> list[str]:
    """Folders of masks and their images among the classes; `mask` without images may be one of faces."""
    pictures = [name for name in classes if is_pictures(name)]
    masks = [name for name in classes if (tells_of_masks if pictures else is_masks)(name)]
    of_faces = not pictures and {name.casefold() for name in masks} == {"mask"}
    return [*pictures, *masks] if masks and not of_faces else []


def check_beside(inner: dict[str, set[str]], classes: Collection[str]) -> None:
    """Raise `UserError` where a folder beside those of splits has the folders of classes in it.

    `inner` has, for each folder beside them, the folders in it.
    """
    alike = [name for name, folders in inner.items() if len(folders & set(classes)) > 1]
    hint = f"Name it after its split, or leave it out: --ignore {shlex.join(alike)}."
    _refuse("folders beside those of splits must hold none of the classes", alike, "splits", hint)


def check_files(files: Iterable[str], layout: Layout) -> None:
    """Raise `UserError` where files are named as the masks of others in their folder are."""
    if layout.is_open:
        return
    file_of = {file.rpartition(".")[0]: file for file in files}
    endings = {stem: ending for stem in file_of if (ending := mask_ending(stem))}
    masks = [stem for stem, ending in endings.items() if stem.removesuffix(ending) in file_of]
    patterns = sorted({f"*{endings[stem].rstrip(DIGITS)}*" for stem in masks})
    hint = f"--ignore {shlex.join(patterns)} leaves them out; --layout {layout}/{ANY} reads them as images."
    _refuse("images must not be the masks of others", [file_of[stem] for stem in masks], "masks", hint)


def check_below(files: Iterable[str], layout: Layout, classes: Collection[str]) -> None:
    """Raise `UserError` where folders of `files` below `classes` look like splits, masks or classes."""
    if layout.is_open:
        return
    depth = len(layout.levels)
    folders = {
        Below("/".join(parts[: i + 1]), i - depth)
        for file in files
        for parts in [file.split("/")[:-1]]
        for i in range(depth, len(parts))
    }
    below = sorted(folders, key=lambda folder: (folder.level, folder.path))
    merged = f"--layout {layout}/{ANY} reads all that is in the folder of a class as that class."
    masks = [folder for folder in below if tells_of_masks(folder.name)]
    ignored = shlex.join(sorted({folder.name for folder in masks}))
    _refuse(BELOW, _paths(masks), "masks", f"--ignore {ignored} leaves them out; {merged}")
    splits = [folder for folder in below if split_of(folder.name)]
    inner = "" if SPLIT in layout.parts else f"{_inner(splits, layout, SPLIT)} takes them for splits; "
    _refuse(BELOW, _paths(splits), "splits", inner + merged)
    suspects = _classes_below(below, classes)
    inner = f"{_inner(suspects, layout, CLASS)} takes them for the classes; "
    hint = f"{inner}{merged} {GROUP} in place of {ANY} says that each such folder is one patient."
    _refuse(BELOW, _paths(suspects), "classes", hint)


def _classes_below(below: Sequence[Below], classes: Collection[str]) -> list[Below]:
    """Those of the folders `below` that may be classes themselves."""
    own = {name.casefold() for name in classes}
    children: dict[tuple[int, str], list[Below]] = defaultdict(list)
    for folder in below:
        children[folder.level, folder.parent].append(folder)
    suspects: list[Below] = []
    for (_, parent), siblings in children.items():
        above = parent.casefold().split("/")
        repeated = [f for f in siblings if f.name.casefold() in own and f.name.casefold() not in above]
        words = [f for f in siblings if not has_number(f.name) and not is_pictures(f.name)]
        suspects += repeated or (siblings if len(siblings) > 1 and 2 * len(words) >= len(siblings) else [])
    return suspects or _numbered_classes(children, classes)


def _numbered_classes(children: dict[tuple[int, str], list[Below]], classes: Collection[str]) -> list[Below]:
    """Folders such as 0 and 1, or grade1 and grade2, where all folders of a level hold the same few."""
    for level in sorted({level for level, _ in children}):
        siblings = [own for (at, _), own in children.items() if at == level]
        kinds = {frozenset(folder.name.casefold() for folder in own) for own in siblings}
        names = next(iter(kinds))
        few_and_same = len(kinds) == 1 and len(siblings) > 1 and 1 < len(names) <= MOST_CLASSES_BELOW
        if not few_and_same or any(map(is_subject, names)):
            continue
        plain = all(name.isdigit() for name in names)  # 1, 2, 3 may be patients: 0 is none
        if not plain or "0" in names or all(map(has_number, classes)):
            return [folder for own in siblings for folder in own]
    return []


def _inner(folders: Sequence[Below], layout: Layout, word: str) -> str:
    """The layout by which the first of `folders` is what `word` says."""
    deeper = [*[ANY] * folders[0].level, word] if folders else []
    above = [ANY if part == word else part for part in layout.levels]
    return f"--layout {'/'.join([*above, *deeper])}"


def _paths(folders: Sequence[Below]) -> list[str]:
    return [folder.path for folder in folders]


def _refuse(rule: str, seen: Sequence[str], kind: str, hint: str) -> None:
    """Raise `UserError` about the folders `seen`, if there are any."""
    if seen:
        raise UserError(f"{rule}. Got {few(seen, NAMED)}, which may be {kind}. {hint}")
