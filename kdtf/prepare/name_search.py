"""Searches names for a regular expression, in a process of its own that can be stopped.

Python's `re` may take years over a name of 40 letters, holds the interpreter meanwhile, and knows no limit.
As a program this file reads JSON, [pattern, names], and writes a line of JSON for each name. It imports
nothing of kdtf, so that it starts in a few hundredths of a second. `groups_of` calls it.
"""

import faulthandler
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence

SECONDS = 5.0  # a name
REARMED = 0.25  # of that time may have passed when a name gets no limit of its own


class Endless(Exception):
    """A pattern that did not come to an end."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def groups_of(pattern: str, names: Sequence[str], seconds: float = SECONDS) -> list[str | None]:
    """For each name the first group of the pattern found in it, or all that is found where it has none.

    None where nothing is found. Raises `Endless` about the name that took more than `seconds`.
    """
    argv = [sys.executable, "-I", "-S", __file__, str(seconds)]
    text = json.dumps([pattern, list(names)])
    done = subprocess.run(argv, input=text, capture_output=True, text=True, encoding="ascii", check=False)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    if "Traceback" in done.stderr:
        raise RuntimeError(done.stderr.splitlines()[-1])
    if len(found) < len(names):
        raise Endless(names[len(found)])
    return found


def search(pattern: str, names: Sequence[str], seconds: float) -> None:
    """Write what is found in each name to stdout as soon as it is known; ends the process at the limit."""
    regex, armed = re.compile(pattern), float("-inf")
    with open(os.devnull, "w") as nowhere:
        for name in names:
            if (now := time.monotonic()) > armed + REARMED * seconds:
                faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
                armed = now
            match = regex.search(name)
            group = match and match[1 if regex.groups else 0]
            sys.stdout.write(json.dumps(group) + "\n")
            sys.stdout.flush()
        faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    given_pattern, given_names = json.loads(sys.stdin.read())
    search(given_pattern, given_names, float(sys.argv[1]))
