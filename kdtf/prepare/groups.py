"""Whose image is it? {file: group} by a regular expression over names, or by the user's table."""

import csv
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from ..errors import UserError, require


def by_name(files: Iterable[str], pattern: str) -> tuple[dict[str, str], int]:
    """({file: group}, files that do not match): group 1 of the pattern, or all of it where it has none.

    Searched in the name without its folders. A file that does not match is a group of its own, called by
    its path, which no name can be. Raises `UserError` where none matches.
    """
    regex, group_of, unmatched = re.compile(pattern), {}, 0
    for file in files:
        match = regex.search(PurePosixPath(file).name)
        group = match and match[1 if regex.groups else 0]
        unmatched += not group
        group_of[file] = group or file
    example = PurePosixPath(next(iter(group_of))).name
    rule = f"found in file names such as {example!r}"
    require(unmatched < len(group_of), "--group-regex", rule, pattern)
    return group_of, unmatched


def by_table(files: Iterable[str], table: Path) -> dict[str, str]:
    """{file: group} from a CSV file with columns file (path in the source, or bare name) and group.

    Raises `UserError` where it cannot be read, lacks a file, names one twice, or by a bare name of several.
    """
    rows: dict[str, str] = {}
    for file, group in _read_rows(table):
        name = PurePosixPath(file).as_posix()
        require(rows.get(name, group) == group, f"the group of {file!r} in {table.name}", "one", group)
        rows[name] = group
    files = list(files)
    by_bare_name: dict[str, list[str]] = {}
    for file in files:
        by_bare_name.setdefault(PurePosixPath(file).name, []).append(file)
    group_of = {}
    for file in files:
        name = PurePosixPath(file).name
        known = file in rows or name in rows
        require(known, "--groups", "a table with a row for each image", f"none for {file!r}")
        rule = "paths in the source where several files have one name"
        require(file in rows or len(by_bare_name[name]) == 1, f"files in {table.name}", rule, name)
        group_of[file] = rows.get(file) or rows[name]
    return group_of


def _read_rows(table: Path) -> Iterator[tuple[str, str]]:
    """(file, group) of each line."""
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
