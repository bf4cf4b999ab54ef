"""Distil chest CT and X-ray classifiers: `python main.py --help`."""

import signal
import sys


def run() -> int:
    """The command's exit code; SIGTERM ends it as Ctrl-C does, with everything tidied up."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        from kdtf.cli.entry import main

        return main()
    except KeyboardInterrupt:  # while modules were being imported
        return 130


if __name__ == "__main__":
    sys.exit(run())
