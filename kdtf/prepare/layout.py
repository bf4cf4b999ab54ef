"""What each level of folders in a source is: a split, a class, a patient, or of no meaning.

`--layout` says it; without it the names of the folders at the top do. Decides nothing of what lies below the
folders it names: `layout_check` does.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import UserError, require
from .folder_names import split_of

SPLIT, CLASS, GROUP, ANY = WORDS = ("SPLIT", "CLASS", "GROUP", "ANY")


class Place(NamedTuple):
    """Where an image belongs by the folders it is in."""

    split: str | None  # None where the source has no splits
    folder: str  # of its class
    group: str | None  # None where no level of folders is one of groups


@dataclass(frozen=True)
class Layout:
    """The levels of folders from the top of a source: `SPLIT/CLASS`, `CLASS/images` or `GROUP/CLASS` say.

    A part is one of `WORDS`, or the name of a folder, in any case, that alone is read there. What is deeper
    belongs to the folder above; after a last part `ANY` it may also be less deep.
    """

    parts: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> "Layout":
        """The layout that `--layout` names. Raises `UserError`."""
        parts = tuple(text.split("/"))
        rule = "levels of folders joined by /, each of them SPLIT, CLASS, GROUP, ANY or the name of a folder"
        hint = "CLASS must be there once, SPLIT and GROUP at most once."
        shouted = [part.upper() for part in parts if part.upper() in WORDS and part not in WORDS]
        if shouted:
            hint = f"Write {', '.join(shouted)} in capitals."
        counts = Counter(parts)
        once = counts[CLASS] == 1 and counts[SPLIT] <= 1 and counts[GROUP] <= 1
        require(once and all(parts) and not shouted, "--layout", rule, text, hint)
        return cls(parts)

    def __str__(self) -> str:
        return "/".join(self.parts)

    @property
    def levels(self) -> tuple[str, ...]:
        """The parts that a folder must be there for."""
        return self.parts[:-1] if self.is_open else self.parts

    @property
    def is_open(self) -> bool:
        """May anything lie below the levels?"""
        return self.parts[-1] == ANY

    def place(self, folders: Sequence[str], splits: dict[str, str]) -> Place | None:
        """Where an image in `folders`, the source's first, belongs; `splits` has the split of each folder.

        None where it is in no class.
        """
        return self._read(folders, splits, len(self.levels))

    def class_place(self, folders: Sequence[str], splits: dict[str, str]) -> Place | None:
        """What the folder at the end of `folders` is where it is that of a class in its split, else None."""
        level = 1 + max(i for i, part in enumerate(self.levels) if part in (SPLIT, CLASS))
        return self._read(folders, splits, level) if len(folders) == level else None

    def names_at(self, word: str, folders: Collection[str]) -> list[str]:
        """The names of those of `folders`, paths in the source, that lie where `word` is; sorted."""
        level = self.levels.index(word)
        paths = [folder.split("/") for folder in folders if folder.count("/") == level]
        return sorted({path[level] for path in paths if self._fits(path[:level])})

    def _read(self, folders: Sequence[str], splits: dict[str, str], levels: int) -> Place | None:
        if len(folders) < levels or not self._fits(folders[:levels]):
            return None
        name_at = dict(zip(self.levels[:levels], folders, strict=False))
        split = splits.get(name_at[SPLIT]) if SPLIT in name_at else None
        return None if SPLIT in name_at and not split else Place(split, name_at[CLASS], name_at.get(GROUP))

    def _fits(self, folders: Sequence[str]) -> bool:
        """Are the folders that the layout names those it names?"""
        pairs = zip(self.levels, folders, strict=False)
        return all(part in WORDS or part.casefold() == folder.casefold() for part, folder in pairs)


def inferred(tops: Sequence[str]) -> Layout:
    """The layout of a source whose folders at the top are `tops`, by their names."""
    return Layout((SPLIT, CLASS) if any(map(split_of, tops)) else (CLASS,))


def resolve_splits(names: Sequence[str]) -> dict[str, str]:
    """{folder: split} of those of `names` that are splits: train and test, and val where it is there.

    Where there is no test but a val, that is the test (Imagewoof). Raises `UserError`.
    """
    splits = {name: split for name in names if (split := split_of(name))}
    twice = [split for split, n in Counter(splits.values()).items() if n > 1]
    hint = "Leave one out with --ignore, or rename it."
    require(not twice, "the source", "a folder with one place for each split", sorted(splits), hint)
    if set(splits.values()) == {"train", "val"}:
        splits = {name: "test" if split == "val" else split for name, split in splits.items()}
    for split in ("train", "test"):
        if split not in splits.values():
            raise UserError(
                f"the source must be a folder that holds {split}/. Got {few(names)}. Rename the one that is "
                "to be it; val may be missing, and is then split off train in a run. --layout CLASS says "
                f"that they are classes.{_single(splits)}"
            )
    return splits


def _single(splits: dict[str, str]) -> str:
    if set(splits.values()) != {"train"}:
        return ""
    return f" Where {next(iter(splits))} is all there is, give it as the SOURCE: it is then split."


def few(names: Sequence[str], most: int = 8) -> str:
    """The first of many names, for messages."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
