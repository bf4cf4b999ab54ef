"""What was found out about files by reading all of them, kept until they change: digests, ranges of pixels.

A file is taken to be as it was while its size, its inode and its times of change (of the content and of the
inode, in nanoseconds) are: a copy, a restored backup and a `touch` change one of these, and are read again.
What does not show there, as bytes that rot on the disk, is seen with `verify` alone. Knows nothing of stages
or images.
"""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from .files import file_digest, written_aside

NOTE = "digests.json"
SMALL = 1 << 16  # bytes: to read a smaller file costs less than a word about it
AT_REST = 2.0  # seconds since a file was changed: the coarsest times of file systems count in two seconds

SHA256, PIXELS = "sha256", "pixels"
ANSWERS = {  # what is asked of a file: the types of the values of an answer
    SHA256: (str,),  # of its bytes, in hex
    PIXELS: (float, float, str),  # of an array of images: least, greatest, sha256 without the header
}

State = tuple[int, int, int, int]  # size in bytes, mtime and ctime in ns, inode
Known = dict[str, tuple[State, dict[str, list]]]  # {path: (its state, {what was asked: the answer})}


def file_state(path: Path) -> State | None:
    """What tells that a file is still the one it was; None where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # a name in a note that was edited may be none
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


class Digests:
    """Answers about files, remembered in `work/digests.json`; with `verify` nothing remembered is believed.

    A folder that is not there, or cannot be written to, remembers nothing. Two processes that remember at
    once cost one of them the reading of some files, and nothing else.
    """

    def __init__(self, work: Path, *, verify: bool = False):
        self.work, self.verify = work, verify
        self.known: Known = {} if verify else _read(work / NOTE)
        self._new: Known = {}

    def of(self, path: Path) -> str:
        """sha256 of a file's bytes, in hex. Raises `OSError`."""
        return self.recall(path, SHA256, lambda: [file_digest(path)])[0]

    def recall(self, path: Path, question: str, read: Callable[[], list], state: State | None = None) -> list:
        """The answer to a question of `ANSWERS` about a whole file: what `read` returns, or returned once.

        `state` is the file's before it was opened, where that was done earlier: a file that was replaced
        meanwhile is read, and not remembered.
        """
        name, state = self._name(path), state or file_state(path)
        known_state, answers = self.known.get(name, (None, {}))
        if state and known_state == state and question in answers and file_state(path) == state:
            return answers[question]
        answer = read()
        if state and file_state(path) == state:
            self.learn(path, question, answer, state)
        return answer

    def learn(self, path: Path, question: str, answer: list, state: State | None) -> None:
        """Remember what is known of a file that was in a state when it was read, unless it is small."""
        if state is None or state[0] < SMALL:
            return
        for known in (self.known, self._new):
            before, answers = known.get(self._name(path), (None, {}))
            known[self._name(path)] = state, {**(answers if before == state else {}), question: answer}

    def save(self) -> None:
        """Keep what was learnt of files that are still as they were, and have been for a moment.

        A file may change twice within a tick of its file system's clock: then its state tells nothing.
        """
        at_rest = time.time_ns() - AT_REST * 1e9
        self._new = {name: own for name, own in self._new.items() if file_state(self.work / name) == own[0]}
        changed = {name: own for name, own in self._new.items() if max(own[0][1:3]) < at_rest}
        if not changed or not self.work.is_dir():
            return
        kept = {**_read(self.work / NOTE), **changed}
        kept = {name: own for name, own in kept.items() if file_state(self.work / name) == own[0]}
        with suppress(OSError):
            with written_aside(self.work / NOTE) as file:
                file.write((json.dumps(kept) + "\n").encode())
            self._new = {name: own for name, own in self._new.items() if name not in changed}

    def _name(self, path: Path) -> str:
        """A file as the note has it: within the results folder from there, so that this can be moved."""
        whole, root = os.path.abspath(path), os.path.abspath(self.work.parent)
        return os.path.relpath(whole, self.work) if Path(whole).is_relative_to(root) else whole


def _read(note: Path) -> Known:
    """What is remembered; nothing where there is no note, or none that can be read."""
    with suppress(OSError, ValueError, RecursionError):
        if note.is_file():  # a pipe would be waited for
            value = json.loads(note.read_text(encoding="utf-8"))
            items = value.items() if isinstance(value, dict) else ()
            return {name: (tuple(own[0]), own[1]) for name, own in items if _is_known(own)}
    return {}


def _is_known(value: Any) -> bool:
    """Whether a JSON value is a state and answers."""
    if not (isinstance(value, list) and len(value) == 2 and isinstance(value[1], dict)):
        return False
    return _are(value[0], (int,) * 4) and all(
        _are(answer, ANSWERS.get(question, ())) for question, answer in value[1].items()
    )


def _are(values: Any, types: tuple[type, ...]) -> bool:
    """Whether a JSON value is a list of values of these types."""
    return isinstance(values, list) and tuple(map(type, values)) == types
