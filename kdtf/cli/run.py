"""The commands that read the settings of a run: the run itself, audit, status, report.

`runs` is imported once the arguments have been found good: it takes half a second.
"""

import sys
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

from ..config import DataConfig
from ..errors import UserError
from ..files import require_file
from ..words import plural
from .arguments import Parser, read_config, run_parser
from .commands import COMMANDS
from .streams import new_terminal
from .terminal import print_summary, wrapped

AUDIT_SETTINGS = (
    *("preset", "config", *(f.name for f in fields(DataConfig))),
    *("results", "seed", "accept_versions", "verify"),
)
RUNNING = "A run is writing into {}: it makes report.html itself when it is finished. Nothing was written."
# what tables and a manifest that were edited or cut short raise, between them
UNREADABLE = (
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError, OSError, RecursionError),
)


def run_all(argv: list[str]) -> None:
    """The whole pipeline."""
    usage = f"[{' | '.join([*RUN_COMMANDS, *COMMANDS])}] [settings]"
    config = read_config(argv, run_parser(usage=usage))
    terminal = new_terminal()
    with terminal.working():
        from ..runs.session import run_config

        result = run_config(config, terminal)
    from ..evidence.verdict import in_words
    from ..report.gallery import tflite_name

    verdict = in_words(result.verdict, tflite_name(result.ship["teacher"], result.ship["recipe"]))
    print_summary(result.summary, verdict, Path(config.run.results), synthetic=result.synthetic)


def run_audit(argv: list[str]) -> None:
    """`audit`: the audit of the data alone."""
    description = "Look the data over for copies, leaks, shared patients and shortcuts, and stop there."
    parser = run_parser("audit", "[settings]", description, AUDIT_SETTINGS)
    config = read_config(argv, parser)
    terminal = new_terminal()
    with terminal.working():
        from ..runs.session import audit_run

        audit_run(config, terminal)
    tables = "audit.csv, audit_pairs.csv and pictures of the worst pairs"
    print(f"The audit is in {Path(config.run.results)}: {tables}.")


def run_status(argv: list[str]) -> None:
    """`status`: what is finished or begun in a results folder, and whether it still stands."""
    from ..stage_folders import EARLIER, list_stages

    description = "List the finished stages of a results folder, and those that were begun."
    parser = run_parser("status", "[--results DIR] [--verify]", description, ("results", "verify"))
    settings = read_config(argv, parser).run
    root = Path(settings.results)
    rows = list_stages(root, verify=settings.verify)
    for row in rows:
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.1f} s"
        line = f"{seconds:>9} {row['mebibytes']:7.1f} MiB  {row['name']} {row['state']}"
        print(wrapped(line, sys.stdout, " " * 23))
    states = [row["state"] for row in rows]
    finished, earlier = states.count("stands"), states.count(EARLIER)
    unused = f", {earlier} of an earlier kdtf" if earlier else ""
    stages = f"{finished} finished {plural(finished, 'stage')}"
    print(f"{root}: {stages}, {len(rows) - finished - earlier} to be made{unused}.")


def run_report(argv: list[str]) -> None:
    """`report`: report.html again from a finished results folder, without TensorFlow."""
    from ..stage_folders import is_running
    from ..store import Store

    description = "Make report.html again from the tables and pictures of a finished run."
    folder = _results_folder(argv, run_parser("report", "[--results DIR]", description, ("results",)))
    _require_files(folder)
    page = ""
    if not is_running(folder):
        try:
            page = _page(folder)
        except UserError:
            if not is_running(folder):
                raise
    if not page or is_running(folder):  # its tables may be of two runs, and its own page the older one
        print(RUNNING.format(folder))
        return
    print(f"Written: {Store(folder).write('report.html', page)}")


def _page(folder: Path) -> str:
    """The page of a results folder. Raises `UserError` where its tables are not those of a finished run."""
    from ..report.page import render

    try:
        with new_terminal().working():
            return render(folder)
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"--results must hold the tables of a finished run as it wrote them. {str(folder)!r} does not: "
            f"{reason}. The run's own command makes them again."
        ) from None


def _require_files(folder: Path) -> None:
    """Raise `UserError` where something in a results folder is no file that ends."""
    with suppress(OSError):  # no folder, or none that can be read: `render` says so
        for file in sorted(folder.iterdir()):
            require_file(file, f"--results: {file.name}")


def _results_folder(argv: list[str], parser: Parser) -> Path:
    return Path(read_config(argv, parser).run.results)


RUN_COMMANDS = {"audit": run_audit, "report": run_report, "status": run_status}
