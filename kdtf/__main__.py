"""`python -m kdtf`: the command line."""

import signal
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

AGAIN_AFTER = 0.02  # seconds


def run() -> int:
    """The command's exit code; SIGTERM ends it as Ctrl-C does, with everything tidied up."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.unraisablehook = not_lost
    try:
        from kdtf.cli import main

        return main()
    except KeyboardInterrupt:  # while modules were being imported
        return 130


def not_lost(unraisable: "UnraisableHookArgs") -> None:
    """Send a signal again whose exception Python drops, because it came in a callback of a weak reference."""
    error = unraisable.exc_value
    if isinstance(error, KeyboardInterrupt):
        number = signal.SIGINT
    elif isinstance(error, SystemExit) and error.code == 128 + signal.SIGTERM:
        number = signal.SIGTERM
    else:
        sys.__unraisablehook__(unraisable)
        return
    threading.Timer(AGAIN_AFTER, signal.raise_signal, (number,)).start()  # here it would be dropped again


if __name__ == "__main__":
    sys.exit(run())
