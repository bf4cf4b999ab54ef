"""Groups of images by sex, age band, site, scanner or what else their owner knows: a table beside the arrays.

Scores are told apart by them. They decide no training: no key of a stage has them but those of reports.
A table has a column for each kind of group and a row for each image, in the order of the array.
"""

import csv
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from ..errors import UserError, require
from ..files import require_file
from ..predictor import text_of
from ..records import UNKNOWN, Subgroups
from ..words import plural

SUBGROUPS = "subgroups_{}.csv"  # of a data folder; beside NAME.npz it is NAME_subgroups_{}.csv
MOST_COLUMNS, MOST_GROUPS, LONGEST = 20, 50, 60  # characters of a name
NAMED = 8  # groups in a sentence
BLANK = 100  # lines that may follow the last row
BANDS = "Ages and other numbers go into bands; what names a patient or an image is no group."

Table = dict[str, list[str]]  # {column: the group of every image}


def files_beside(source: Path, splits: Iterable[str]) -> dict[str, Path]:
    """{split: where its table would lie} of a data folder or an .npz file."""
    if source.suffix.lower() == ".npz":
        return {split: source.with_name(f"{source.stem}_{SUBGROUPS.format(split)}") for split in splits}
    return {split: source / SUBGROUPS.format(split) for split in splits}


def read_tables(files: Mapping[str, Path], images: Mapping[str, int]) -> dict[str, Table]:
    """{split: its table}, of those of `files` that are there; `images` has the length of every split.

    Raises `UserError` for what is no such table, and where splits have not the same columns.
    """
    present = {split: file for split, file in files.items() if split in images and os.path.lexists(file)}
    tables = {split: _read_table(file, images[split]) for split, file in present.items()}
    first = next(iter(tables), "")
    for split, table in tables.items():
        rule = f"those of {present[first].name}, {list(tables[first])}"
        require(table.keys() == tables[first].keys(), f"columns of {present[split].name}", rule, list(table))
    return tables


def _read_table(file: Path, images: int) -> Table:
    name = file.name
    require_file(file, name)
    try:
        with open(file, encoding="utf-8-sig", newline="") as text:
            lines = csv.reader(text, strict=True)
            columns = check_columns(next(lines, []), name)
            rows = [row or [""] for row in islice(lines, images + BLANK)]  # so one column has an empty cell
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{name} must be a readable CSV file in UTF-8. Got: {reason}.") from None
    while len(rows) > images and rows[-1] == [""]:
        rows.pop()
    count = f"more than {images}" if len(rows) > images else len(rows)
    require(len(rows) == images, name, f"a header and a row for each of the {images} images", count)
    wrong = next((i for i, row in enumerate(rows) if len(row) != len(columns)), None)
    row = "" if wrong is None else f"{len(rows[wrong])} in row {wrong}"
    require(wrong is None, f"cells in a row of {name}", f"{len(columns)}, one for each column", row)
    table = {column: [group_of(row[k]) for row in rows] for k, column in enumerate(columns)}
    for column, groups in table.items():
        check_groups(groups, f"{column!r} in {name}")
    return table


def check_columns(columns: Sequence[str], name: str) -> list[str]:
    """The names of the columns of a table that errors call `name`. Raises `UserError`."""
    columns = [text_of(column).strip() for column in columns]
    require(columns, name, "a table with a header", "nothing")
    count = len(columns)
    require(count <= MOST_COLUMNS, f"columns of {name}", f"at most {MOST_COLUMNS}", count)
    empty = "a name for each column, none of them empty"
    require(all(columns), f"the header of {name}", empty, columns, "pandas: to_csv(..., index=False).")
    twice = sorted({column for column in columns if columns.count(column) > 1})
    require(not twice, f"columns of {name}", "names that all differ", twice)
    odd = next((column for column in columns if not _is_name(column)), None)
    rule = f"printable text of at most {LONGEST} characters without ; or tabs"
    require(odd is None, f"a column of {name}", rule, odd, "Cells are set apart by commas.")
    return columns


def check_groups(groups: Collection[str], name: str) -> None:
    """Raise `UserError` where the groups in a column that errors call `name` are no groups."""
    names = set(groups)
    require(len(names) <= MOST_GROUPS, f"groups of {name}", f"at most {MOST_GROUPS}", len(names), BANDS)
    odd = next(
        (group for group in sorted(names) if not (group.isprintable() and len(group) <= LONGEST)), None
    )
    rule = f"printable text of at most {LONGEST} characters"
    require(odd is None, f"a group of {name}", rule, odd)


def group_of(cell: str) -> str:
    """The group that a cell names; an empty one is unknown."""
    return text_of(cell).strip() or UNKNOWN


def _is_name(column: str) -> bool:
    return column.isprintable() and len(column) <= LONGEST and ";" not in column


def subgroups_of(tables: Mapping[str, Table]) -> dict[str, tuple[Subgroups, ...]]:
    """{split: its columns}, a column's groups named in one order for all splits, the unknown last."""
    names = {
        column: sorted({g for table in tables.values() for g in table[column]}, key=_order)
        for column in next(iter(tables.values()), {})
    }
    return {
        split: tuple(
            Subgroups(column, tuple(own), np.array([own.index(group) for group in table[column]], np.int64))
            for column, own in names.items()
        )
        for split, table in tables.items()
    }


def _order(group: str) -> tuple[bool, str]:
    return group == UNKNOWN, group


def subgroup_notes(subgroups: Mapping[str, Sequence[Subgroups]]) -> list[str]:
    """What is said of the tables of all splits: the groups of test in numbers, or that test has none."""
    if subgroups and "test" not in subgroups:
        return [f"No {SUBGROUPS.format('test')}: no score is told apart by group."]
    return [
        f"Scores are told apart by {own.column}: {counts_in_words(own)}." for own in subgroups.get("test", ())
    ]


def counts_in_words(own: Subgroups) -> str:
    """The images of each group of a column, of the largest ones where there are many."""
    pairs = sorted(((n, name) for n, name in zip(own.counts, own.groups, strict=True) if n), key=_size)
    more = f" and {len(pairs) - NAMED} more groups" if len(pairs) > NAMED else ""
    return ", ".join(f"{group} {count}" for count, group in pairs[:NAMED]) + more


def _size(pair: tuple[int, str]) -> int:
    return -pair[0]


def absent_from_train(train: Sequence[Subgroups], test: Sequence[Subgroups]) -> list[str]:
    """A sentence for each column of which test has groups that no training image is in."""
    sentences = []
    for seen, own in zip(train, test, strict=False):  # the same columns, or none
        absent = sorted({*np.unique(own.member).tolist()} - {*np.unique(seen.member).tolist()})
        names = [own.groups[k] for k in absent if own.groups[k] != UNKNOWN]
        if names:
            groups = f"{plural(len(names), 'the group', 'the groups')} {', '.join(map(repr, names))}"
            sentences.append(
                f"No training image is in {groups} of {own.column!r}, which test has: no model has seen any."
            )
    return sentences
