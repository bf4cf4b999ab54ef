"""Who works in a folder that several machines share: what they write aside tells their host, and is touched.

Locks of files die with their process and are what tells on one machine. Between machines they cannot be
relied on: NFS may keep them to each. There a file that its owner has not touched for long counts as left.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import require
from .files import ASIDE, PART, aside, discard, host_name

BEAT, SILENT = 60.0, 600.0  # seconds between two touches, and after which the owner counts as gone
RUN = "run"  # in the name of what the process of a run keeps in work/
HINT = "Wait for the other run, or choose another folder."


@contextmanager
def touched(descriptor: int) -> Iterator[None]:
    """In this block an open file is touched now and then, whatever it is called by now."""
    over = threading.Event()

    def touch() -> None:
        while not over.wait(BEAT):
            with suppress(OSError):
                os.utime(descriptor)

    thread = threading.Thread(target=touch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def is_elsewhere(path: Path) -> bool:
    """Whether something written aside is of a process of another machine."""
    match = ASIDE.fullmatch(path.name)
    return match is not None and match["host"] != host_name()


def was_touched(path: Path) -> bool:
    """Whether a file is there and its owner has touched it of late."""
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime < SILENT
    return False


def runs_elsewhere(work: Path) -> list[str]:
    """The other machines with a run that works in a folder."""
    leases = [own for own in work.glob(f".{RUN}.*{PART}") if is_elsewhere(own) and was_touched(own)]
    return sorted(match["host"] for own in leases if (match := ASIDE.fullmatch(own.name)))


@contextmanager
def leased(work: Path, results: Path) -> Iterator[None]:
    """In this block runs on other machines are told that this one works here. Raises `UserError`.

    Both write their sign first and then look: of two at once at least one sees the other.
    """
    sign = aside(work / RUN)
    descriptor = os.open(sign, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    try:
        hosts = runs_elsewhere(work)
        named = f"{str(results)!r}, in use on {', '.join(hosts)}" if hosts else ""
        require(not hosts, "--results", "a folder that no other run is using", named, HINT)
        with touched(descriptor):
            yield
    finally:
        os.close(descriptor)
        discard(sign)
