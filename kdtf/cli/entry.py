"""The command line: arguments to config, commands, exit codes. The only place that exits.

Exit codes: 0 done, 2 bad input (one line on stderr; with `predict` also where an image could not be
read, after all others), 3 leakage or drift with --strict, 130 and 143 interrupted.
TensorFlow is imported only after the arguments and the data have been found good.
"""

import os
import sys

from ..errors import Drift, Leakage, UserError
from .commands import COMMANDS
from .run import RUN_COMMANDS, run_all
from .streams import silence, standard_streams
from .terminal import one_line, wrapped

INTERRUPTED = "Interrupted. What is finished is kept; the same command goes on from it."
MORE_MEMORY = "Free some, or try smaller images or batches; what is finished stays."
LONGEST = 200  # characters of a path in an error


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if "--status" in argv:
        argv = ["status", *argv]
    with standard_streams():
        return _exit_code(argv)


def _exit_code(argv: list[str]) -> int:
    """Run the command line; what goes wrong becomes a line on stderr and a number."""
    commands = {**RUN_COMMANDS, **COMMANDS}
    name, rest = (argv[0], argv[1:]) if argv and argv[0] in commands else ("", argv)
    try:
        commands.get(name, run_all)(rest)
        sys.stdout.flush()
        return 0
    except (Leakage, Drift) as error:
        return _stopped(f"Stopped: {error}", 3)
    except UserError as error:
        return _stopped(f"Error: {error}")
    except MemoryError:
        return _stopped("Error: Memory must hold the images of a step. It ran out. " + MORE_MEMORY)
    except BrokenPipeError:  # the reader of stdout, `head` say, has seen enough
        silence(sys.stdout)
        return 0
    except OSError as error:
        return _stopped(f"Error: {_refused(error)}")
    except ImportError as error:
        if (error.name or "kdtf").startswith("kdtf"):
            raise
        return _stopped(f"Error: {_not_installed(error)}")
    except KeyboardInterrupt:
        return _stopped(INTERRUPTED, 130)
    except SystemExit as error:  # of --help, or SIGTERM's
        return _stopped(INTERRUPTED, 143) if error.code == 143 else int(error.code or 0)
    except Exception as error:
        code = _signal_behind(error)
        if code is None:
            raise
        return _stopped(INTERRUPTED, code)


def _signal_behind(error: BaseException | None) -> int | None:
    """The exit code of a signal that a library caught and turned into an error of its own; else None.

    TensorFlow has such a bare `except`.
    """
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return 130
        if isinstance(error, SystemExit) and error.code == 143:
            return 143
        error = error.__context__
    return None


def _stopped(text: str, code: int = 2) -> int:
    """Say in one line why the program ends; its exit code."""
    print(wrapped(one_line(text), sys.stderr), file=sys.stderr)
    return code


def _refused(error: OSError) -> str:
    """What the operating system did not do, where nobody nearer to it had a word for it."""
    try:
        os.getcwd()
    except OSError:
        return "The working folder must exist. It was removed: change to another one."
    if error.filename is None:
        return f"The operating system must do what it is asked for. It did not: {error}."
    name = str(error.filename)[:LONGEST]
    return f"A path must be one that can be opened. Got {name!r}: {error.strerror}."


def _not_installed(error: ImportError) -> str:
    package = str(error.name).partition(".")[0]
    hint = "`pip install .` where kdtf lies installs all that it needs."
    return f"The Python package {package} must be installed. It cannot be imported ({error}). {hint}"
