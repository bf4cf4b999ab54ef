"""The commands that read the settings of a run: the run itself, audit, status, report."""

from pathlib import Path

from ..errors import UserError
from ..runs.session import Leakage, audit_run, run_config
from .arguments import read_config
from .terminal import Terminal, print_summary

__all__ = ["RUN_COMMANDS", "Leakage", "run_all"]


def run_all(argv: list[str]) -> None:
    """The whole pipeline."""
    config, demo = read_config(argv, RUN_COMMANDS)
    result = run_config(config, Terminal(), demo=demo)
    synthetic = result.synthetic
    print_summary(result.summary, Path(config.run.results), synthetic)


def run_audit(argv: list[str]) -> None:
    """`audit`: the audit of the data alone."""
    config, demo = read_config(argv, RUN_COMMANDS)
    audit_run(config, Terminal(), demo=demo)
    tables = "audit.csv, audit_pairs.csv and pictures of the worst pairs"
    print(f"The audit is in {Path(config.run.results)}: {tables}.")


def run_status(argv: list[str]) -> None:
    """`status`: what is finished or begun in a results folder, and whether it still stands."""
    from ..store import list_stages

    root = Path(read_config(argv, RUN_COMMANDS)[0].run.results)
    rows = list_stages(root)
    for row in rows:
        took = "" if row["seconds"] is None else f"{row['seconds']:9.1f} s"
        print(f"{row['name']:<48} {took:>11} {row['mebibytes']:9.1f} MiB  {row['state']}")
    finished = sum(row["state"] == "stands" for row in rows)
    print(f"{root}: {finished} finished stages, {len(rows) - finished} to be made.")


def run_report(argv: list[str]) -> None:
    """`report`: report.html again from a finished results folder, without TensorFlow."""
    from ..report.page import render
    from ..store import Store

    folder = Path(read_config(argv, RUN_COMMANDS)[0].run.results)
    try:
        page = render(folder)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, OSError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"--results must hold the tables of a finished run as it wrote them. {str(folder)!r} does not: "
            f"{reason}. The run's own command makes them again."
        ) from None
    print(f"Written: {Store(folder).write('report.html', page)}")


RUN_COMMANDS = {"audit": run_audit, "report": run_report, "status": run_status}
