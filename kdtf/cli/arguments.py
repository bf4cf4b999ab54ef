"""Sections of settings as command-line arguments: the flags, their help lines and types."""

import argparse
import typing
from dataclasses import fields

from ..config import flag
from ..errors import UserError


class Parser(argparse.ArgumentParser):
    """Raises where argparse would print its usage and exit."""

    def error(self, message):
        raise UserError(f"{message}. See --help.")


def new_parser(command: str, usage: str, description: str) -> Parser:
    return Parser(
        prog=f"main.py {command}".strip(),
        usage=usage,
        description=description,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=34, width=110),
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )


def add_section(made: Parser, defaults) -> None:
    """The flags of a section of settings."""
    group = made.add_argument_group(type(defaults).__doc__.splitlines()[0])
    for f in fields(defaults):
        _add(group, f, getattr(defaults, f.name))


def _add(group, f, default) -> None:
    text = f.metadata["help"].replace("%", "%%")
    if isinstance(default, bool):
        group.add_argument(
            flag(f.name), action=argparse.BooleanOptionalAction, help=f"{text} [{_on(default)}]"
        )
        return
    if isinstance(default, tuple):
        kind, more, shown = typing.get_args(f.type)[0], {"nargs": "+"}, " ".join(map(str, default)) or None
    else:
        # the type of an optional setting is in its annotation, "int | None" say
        kind = next(k for k in (int, float, str) if k.__name__ in getattr(f.type, "__name__", str(f.type)))
        more, shown = {}, default
    shown = "" if shown is None else f" [{shown}]"
    group.add_argument(flag(f.name), type=kind, metavar=f.metadata["metavar"], help=text + shown, **more)


def _on(value: bool) -> str:
    return "on" if value else "off"
