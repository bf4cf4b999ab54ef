"""A unit of work as a value: what is to be made, from which settings and of which other tasks.

A task can be pickled, compared and carried to another process; it holds no array, no file and no open
thing. Its key hashes everything that decides its result, so that a finished stage is found by it, and one
that was made in another way is not. What performs a task is in `runs`.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Task:
    """`kind` names the function that performs it; `settings` are that function's arguments.

    No other setting reaches the function, only the finished stages of its `inputs` and, where `data` is their
    digest, the images. So a setting that is not in the key cannot change a result.
    """

    kind: str  # a row of `runs.kinds.KINDS`
    name: str  # what its stage is called: vgg16-student-seed3
    settings: Mapping[str, Any] = field(default_factory=dict)  # JSON values and frozen records of them
    inputs: Mapping[str, "Task"] = field(default_factory=dict)  # by the part they play
    data: str = ""  # digest of the images it reads, "" where it reads none
    fold: int | None = None  # of the folds among its inputs: what is held out of train and val, as its test
    version: int = 1  # of the code that performs it
    environment: Mapping[str, Any] = field(default_factory=dict)  # packages, and whether deterministic

    @cached_property
    def key(self) -> str:
        """16 hex digits over all that decides the result; the name is no part of it."""
        inputs = {role: task.key for role, task in self.inputs.items()}
        parts = [self.kind, self.version, dict(self.environment), plain(self.settings), inputs, self.data]
        parts += [] if self.fold is None else [self.fold]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def folder(self) -> str:
        """What its finished stage is called under `work/`."""
        return f"{self.name}-{self.key}"

    def note(self) -> dict[str, Any]:
        """What its stage says of how it was made, in JSON values."""
        return {
            "kind": self.kind,
            "version": self.version,
            "environment": dict(self.environment),
            "settings": plain(self.settings),
            "inputs": {role: task.folder for role, task in self.inputs.items()},
            "data": self.data,
            **({} if self.fold is None else {"fold": self.fold}),
        }

    def upstream(self) -> Iterator["Task"]:
        """Its inputs, theirs, and so on; those that come first before those that need them."""
        for task in self.inputs.values():
            yield from task.upstream()
            yield task


def plain(value: Any) -> Any:
    """Settings as JSON values: records as their fields, tuples as lists. Raises `TypeError` for others.

    A field with the metadata `{"key": False}` is left out: it decides no result.
    """
    if is_dataclass(value) and not isinstance(value, type):
        own = [f.name for f in fields(value) if f.metadata.get("key", True)]
        return {name: plain(getattr(value, name)) for name in own}
    if isinstance(value, Mapping):
        return {str(name): plain(own) for name, own in value.items()}
    if isinstance(value, list | tuple):
        return [plain(own) for own in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"A task's settings must be JSON values and records of them. Got {type(value).__name__}.")
