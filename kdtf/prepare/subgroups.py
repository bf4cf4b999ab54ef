"""Which groups the images to come are in, by a table or by DICOM tags: subgroups_{split}.csv of the arrays.

Only what is asked for. Unlabelled images have no scores, and so no groups.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..data.dataset import SPLITS
from ..data.subgroups import check_columns, check_groups, counts_in_words, group_of, subgroups_of
from ..errors import UserError, require
from ..files import require_file
from ..predictor import text_of
from ..progress import Progress
from ..records import UNKNOWN
from .plan import Plan
from .settings import PrepareConfig
from .tags import FORMAT, read_tags

FILE = "file"  # the column that names the image


class Columns(NamedTuple):
    """What is known of images: the columns, and {file: its group of each}."""

    names: list[str]
    groups: dict[str, tuple[str, ...]]

    def beside(self, other: "Columns") -> "Columns":
        """Both, one after the other; of the same files."""
        groups = {file: own + other.groups[file] for file, own in self.groups.items()}
        return Columns([*self.names, *other.names], groups)


def with_subgroups(plan: Plan, source: Path, settings: PrepareConfig, progress: Progress) -> Plan:
    """The plan of a folder with the groups that are asked for; says how many images are in each.

    Raises `UserError` for a table that cannot be used, or for groups that `data` would refuse.
    """
    files = [item.file for split in SPLITS for item in plan.splits.get(split, ())]
    columns = Columns([], dict.fromkeys(files, ()))
    if settings.subgroups is not None:
        columns = columns.beside(_by_table(files, Path(settings.subgroups), progress))
    if settings.subgroup_tags:
        columns = columns.beside(_by_tags(files, source, settings.subgroup_tags, progress))
    if not columns.names:
        return plan
    check_columns(columns.names, "--subgroups and --subgroup-tags")
    table = {name: [own[k] for own in columns.groups.values()] for k, name in enumerate(columns.names)}
    for name, groups in table.items():
        check_groups(groups, repr(name))
    for own in subgroups_of({"all": table})["all"]:
        progress.say(f"Groups by {own.column}: {counts_in_words(own)}.")
    splits = {
        split: [replace(item, subgroups=columns.groups.get(item.file, ())) for item in items]
        for split, items in plan.splits.items()
    }
    return replace(plan, splits=splits, columns=tuple(columns.names))


def _by_tags(files: Sequence[str], source: Path, tags: tuple[str, ...], progress: Progress) -> Columns:
    """By what the headers of DICOM files say; all others are unknown."""
    with progress.bar("reading headers", len(files)) as advance:
        tags_of = {}
        for i, file in enumerate(files, start=1):
            tags_of[file] = read_tags(source / file, tags)
            advance(i)
    others = sum(groups is None for groups in tags_of.values())
    rule = f"given where the source has {FORMAT} files"
    require(others < len(files), "--subgroup-tags", rule, " ".join(tags))
    if others:
        progress.warn(f"{others} of {len(files)} images are no {FORMAT} files: their groups are {UNKNOWN}.")
    nothing = (UNKNOWN,) * len(tags)
    return Columns(list(tags), {file: groups or nothing for file, groups in tags_of.items()})


def _by_table(files: Sequence[str], table: Path, progress: Progress) -> Columns:
    """By a table with a row for each image, whom it names by its path in the source or by its bare name."""
    columns, rows = _read_table(table)
    bare = Counter(PurePosixPath(file).name for file in files)
    nothing, groups = (UNKNOWN,) * len(columns), {}
    for file in files:
        name = PurePosixPath(file).name
        rule = "paths in the source where several files have one name"
        require(file in rows or name not in rows or bare[name] == 1, f"files in {table.name}", rule, name)
        groups[file] = rows.get(file) or rows.get(name) or nothing
    absent = [file for file in files if file not in rows and PurePosixPath(file).name not in rows]
    rule = "a table with rows for images of the source"
    require(len(absent) < len(files), "--subgroups", rule, f"none for {files[0]!r} nor any other")
    if absent:
        count = f"{len(absent)} of {len(files)} images, {absent[0]!r} among them,"
        progress.warn(f"{count} are not in {table.name}: their groups are {UNKNOWN}.")
    return Columns(columns, groups)


def _read_table(table: Path) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """(columns, {path in the source, or bare name: groups}) of a CSV file with a column `FILE` and others."""
    require_file(table, "--subgroups")
    rows: dict[str, tuple[str, ...]] = {}
    try:
        with open(table, encoding="utf-8-sig", newline="") as text:
            lines = csv.reader(text, strict=True)
            columns = check_columns(next(lines, []), table.name)
            rule = f"a CSV file with a column {FILE} and others"
            require(FILE in columns and len(columns) > 1, "--subgroups", rule, columns)
            at = columns.index(FILE)
            for row in filter(None, lines):
                where = f"line {lines.line_num} of {table.name}"
                require(len(row) == len(columns), where, f"of {len(columns)} cells", len(row))
                name = PurePosixPath(text_of(row.pop(at)).strip()).as_posix()
                groups = tuple(map(group_of, row))
                rule = "one row, or rows that say the same"
                require(rows.get(name, groups) == groups, f"{name!r} in {table.name}", rule, groups)
                rows[name] = groups
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--subgroups must be a readable CSV file. Got {str(table)!r} ({reason}).") from None
    return [column for column in columns if column != FILE], rows
