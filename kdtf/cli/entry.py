"""The command line: arguments to config, commands, exit codes. The only place that exits.

Exit codes: 0 done, 2 bad input (one line on stderr; with `predict` also where an image could not be
read, after all others), 3 leakage with --strict, 130 and 143 interrupted.
TensorFlow is imported only after the arguments and the data have been found good.
"""

import errno
import os
import sys

from ..errors import Leakage, UserError
from .commands import COMMANDS
from .run import RUN_COMMANDS, run_all
from .terminal import one_line

INTERRUPTED = "Interrupted. What is finished is kept; the same command goes on from it."
UNOPENABLE = (errno.ENAMETOOLONG, errno.EACCES)  # where even to ask whether a file is there fails
MORE_MEMORY = "Free some, or try smaller images or batches; what is finished stays."


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if "--status" in argv:
        argv = ["status", *argv]
    commands = {**RUN_COMMANDS, **COMMANDS}
    name, rest = (argv[0], argv[1:]) if argv and argv[0] in commands else ("", argv)
    try:
        commands.get(name, run_all)(rest)
        return 0
    except Leakage as error:
        print(f"Stopped: {one_line(str(error))}", file=sys.stderr)
        return 3
    except UserError as error:
        print(f"Error: {one_line(str(error))}", file=sys.stderr)
        return 2
    except MemoryError:
        print("Error: Memory must hold the images of a step. It ran out. " + MORE_MEMORY, file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of stdout, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in UNOPENABLE:
            raise
        name = one_line(str(error.filename))[:200]
        print(
            f"Error: A path must be one that can be opened. Got {name!r}: {error.strerror}.", file=sys.stderr
        )
        return 2
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130
    except SystemExit as error:  # of --help, or SIGTERM's
        if error.code == 143:
            print(INTERRUPTED, file=sys.stderr)
        return int(error.code or 0)
