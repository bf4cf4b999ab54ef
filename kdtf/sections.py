"""What a section of settings is: a frozen record of fields with a help line and a rule, checked at birth."""

import math
import sys
import types
import typing
from dataclasses import Field, field, fields
from typing import Any, ClassVar

from .errors import require


def option(default: Any, help: str, metavar: str | None = None, *, key: bool = True) -> Any:
    """A field with its help line: the flag is the field's name with dashes.

    Without `key` it decides no result, and is in the key of no stage that has its whole section.
    """
    return field(default=default, metadata={"help": help, "metavar": metavar, "key": key})


def _fits(value: Any, kind: Any) -> bool:
    """Does `value` have the type a field declares? An int may stand for a float, a bool for neither."""
    if isinstance(kind, types.UnionType):
        return any(_fits(value, k) for k in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(v, typing.get_args(kind)[0]) for v in value)
    if kind is float:
        large = isinstance(value, int) and abs(value) > sys.float_info.max
        return isinstance(value, int | float) and not isinstance(value, bool) and not large
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _as_declared(value: Any, kind: Any) -> Any:
    """A value that fits, in the type a field declares: 2 and 2.0 are one setting, and so one stage's key."""
    if isinstance(kind, types.UnionType):
        kind = next(k for k in typing.get_args(kind) if _fits(value, k))
    if typing.get_origin(kind) is tuple:
        return tuple(_as_declared(v, typing.get_args(kind)[0]) for v in value)
    return float(value) if kind is float else value


def _is_bounded(value: Any) -> bool:
    """Is a number finite, and small enough for TensorFlow's integers where it is whole?"""
    if isinstance(value, tuple):
        return all(map(_is_bounded, value))
    if isinstance(value, int):
        return abs(value) < 2**63
    return not isinstance(value, float) or math.isfinite(value)


class Section:
    """Shared checks of the sections below."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]  # every section is a dataclass

    def __post_init__(self) -> None:
        kinds = typing.get_type_hints(type(self))
        for f in fields(self):
            value, kind = getattr(self, f.name), kinds[f.name]
            value = tuple(value) if isinstance(value, list) else value
            require(_fits(value, kind), flag(f.name), f"of type {_type_name(kind)}", value)
            texts = [
                text for text in (value if isinstance(value, tuple) else (value,)) if isinstance(text, str)
            ]
            require("\0" not in "".join(texts), flag(f.name), "text without characters of value 0", value)
            object.__setattr__(self, f.name, _as_declared(value, kind))
        self.check()
        for f in fields(self):
            value = getattr(self, f.name)
            require(_is_bounded(value), flag(f.name), "finite and, if it is whole, below 2^63", value)

    def check(self) -> None:
        """Overridden where a value, not only a type, can be wrong."""

    def _positive(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            require(value is None or value > 0, flag(name), "positive", value)

    def _at_least(self, least: float, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            require(value >= least, flag(name), f"at least {least}", value)

    def _different(self, *names: str) -> None:
        for name in names:
            values = getattr(self, name)
            require(len(set(values)) == len(values), flag(name), "values that all differ", list(values))

    def _seed(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            require(value is None or value >= 0, flag(name), "at least 0", value)
            require(value is None or value < 2**32, flag(name), f"at most {2**32 - 1}", value)

    def _fraction(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            require(0 <= value <= 1, flag(name), "between 0 and 1", value)


def _type_name(kind: Any) -> str:
    if isinstance(kind, types.UnionType):
        return " or ".join(_type_name(k) for k in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return f"list of {_type_name(typing.get_args(kind)[0])}"
    return "nothing" if kind is types.NoneType else kind.__name__


def flag(name: str) -> str:
    """The command-line flag of a field."""
    return "--" + name.replace("_", "-")


def section_dict(section: Section) -> dict[str, Any]:
    """A section as plain JSON values."""
    values = {f.name: getattr(section, f.name) for f in fields(section)}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
