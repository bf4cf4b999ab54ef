"""`python -m kdtf`: the command line."""

import signal
import sys


def run() -> int:
    """The command's exit code; SIGTERM ends it as Ctrl-C does, with everything tidied up."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        from kdtf.cli import main

        return main()
    except KeyboardInterrupt:  # while modules were being imported
        return 130


if __name__ == "__main__":
    sys.exit(run())
