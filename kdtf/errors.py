"""The one wording of bad input: what, the rule, what came, what to do.

Raises nothing but `UserError`, prints nothing and never exits: `cli` turns a
`UserError` into one line on stderr and exit code 2.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

LONGEST = 1000  # characters of a value in an error


class UserError(Exception):
    """Something the user can put right. Its text is one line, complete in itself."""


class Leakage(UserError):
    """Splits share images or patients, and the user asked to stop then."""


class Drift(UserError):
    """Images or answers of a student changed, and the user asked for an exit code then."""


def require(ok: Any, name: str, rule: str, got: Any, hint: str = "") -> None:
    """Raise `UserError` unless `ok`.

    >>> require(0.5 <= 1, "alpha", "between 0 and 1", 0.5)
    >>> require(False, "alpha", "between 0 and 1", 1.5)
    Traceback (most recent call last):
    kdtf.errors.UserError: alpha must be between 0 and 1. Got 1.5.
    """
    if not ok:
        raise UserError(f"{name} must be {rule}. Got {_shown(got)}." + (f" {hint}" if hint else ""))


def _shown(value: Any) -> str:
    """A value as Python writes it; the beginning of a long one."""
    try:
        text = repr(value)
    except RecursionError:
        return "something nested too deeply to be shown"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def require_known(name: str, value: str, known: Iterable[str]) -> None:
    """Raise `UserError` unless `value` is one of `known`; the message names the nearest."""
    known = list(known)
    near = get_close_matches(str(value), known, n=1, cutoff=0.4)
    hint = f"Did you mean {near[0]!r}?" if near else ""
    require(value in known, name, f"one of {', '.join(known)}", value, hint)
