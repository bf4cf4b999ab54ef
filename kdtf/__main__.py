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
    threading.Timer(AGAIN_AFTER, _interrupt, (number,)).start()  # here it would be dropped again


def _interrupt(number: int) -> None:
    """Send a signal to the main thread, which may be waiting for something."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:  # Windows
        signal.raise_signal(number)


if __name__ == "__main__":
    sys.exit(run())
