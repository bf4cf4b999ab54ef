"""Whose image is it? {file: group} by a regular expression over names, or by the user's table."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from ..errors import UserError, require
from ..files import require_file
from .name_search import SECONDS, Endless, groups_of


def by_name(files: Sequence[str], pattern: str) -> dict[str, str]:
    """{file: group} of those that match: group 1 of the pattern, or all of it where it has none.

    Searched in the name without its folders. Raises `UserError` where none matches, and where the search of
    one takes longer than `name_search.SECONDS`.
    """
    names = [PurePosixPath(file).name for file in files]
    try:
        groups = groups_of(pattern, names)
    except Endless as error:
        hint = "A repeat within a repeat, as in (a+)+, is what takes so long."
        rule = f"found or not found in a file name within {SECONDS:g} seconds"
        raise UserError(
            f"--group-regex must be {rule}. Got {pattern!r}, which took longer for {error.name!r}. {hint}"
        ) from None
    group_of = {file: group for file, group in zip(files, groups, strict=True) if group}
    require(group_of, "--group-regex", f"found in file names such as {names[0]!r}", pattern)
    return group_of


def read_table(table: Path) -> dict[str, str]:
    """{path in the source, or bare name: group} from a CSV file with columns file and group.

    Raises `UserError` where it cannot be read or has two groups for a file.
    """
    rows: dict[str, str] = {}
    for file, group in _read_rows(table):
        name = PurePosixPath(file).as_posix()
        require(rows.get(name, group) == group, f"the group of {file!r} in {table.name}", "one", group)
        rows[name] = group
    return rows


def names_any(files: Iterable[str], rows: dict[str, str]) -> bool:
    """Whether a table has a row for any of `files`."""
    return any(file in rows or PurePosixPath(file).name in rows for file in files)


def by_table(files: Sequence[str], rows: dict[str, str], table: str) -> dict[str, str]:
    """{file: group} by the rows of a table of that name.

    Raises `UserError` where it lacks a file, or has it by a bare name that several files have.
    """
    by_bare_name: dict[str, list[str]] = {}
    for file in files:
        by_bare_name.setdefault(PurePosixPath(file).name, []).append(file)
    group_of = {}
    for file in files:
        name = PurePosixPath(file).name
        known = file in rows or name in rows
        require(known, "--groups", "a table with a row for each image", f"none for {file!r}")
        rule = "paths in the source where several files have one name"
        require(file in rows or len(by_bare_name[name]) == 1, f"files in {table}", rule, name)
        group_of[file] = rows.get(file) or rows[name]
    return group_of


def _read_rows(table: Path) -> Iterator[tuple[str, str]]:
    """(file, group) of each line."""
    require_file(table, "--groups")
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames or []
            rule = "a CSV file with the columns file and group"
            require({"file", "group"} <= set(columns), "--groups", rule, list(columns))
            for row in reader:
                where = f"line {reader.line_num} of {table.name}"
                require(row["file"] and row["group"], where, "a file and its group", row["file"] or "")
                yield row["file"], row["group"]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--groups must be a readable CSV file. Got {str(table)!r} ({reason}).") from None
