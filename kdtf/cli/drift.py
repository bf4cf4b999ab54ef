"""The command `drift`: a log of predictions against the card, on screen, as a table and as a page.

Also what `predict --log` needs to write one.
"""

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import Drift, require, require_known
from ..files import disk_errors, written_aside
from ..words import plural
from .arguments import Parser, new_parser
from .bundles import bundle_errors, require_bundle
from .terminal import one_line, wrapped

if TYPE_CHECKING:
    from ..drift.expectation import Expectation
    from ..drift.log import PredictionLog, Recorder
    from ..drift.reading import Log
    from ..drift.verdict import JudgedWindow, Verdict
    from ..drift.windows import Window
    from ..predictor import Predictor

WINDOW = 18  # columns of the name of a window
COLUMNS = (  # of the other columns of the table on screen, and their widths: 80 in all
    *(("images", 7), ("bright", 8), ("contrast", 9), ("colour", 8), ("layout", 8)),
    *(("unlike", 7), ("classes", 8), ("unsure", 7)),
)
LEGEND = (
    "up, down, other: changed (other: values are spread otherwise). In brackets: unusual taken alone. "
    "A dash: as expected."
)


def run_drift(argv: list[str]) -> None:
    """`drift DIR --bundle FILE.tflite`: have the images, or the answers, changed since training?

    Raises `UserError`, and with --strict `Drift` where they have.
    """
    import numpy as np

    from ..drift.expectation import expectation
    from ..drift.reading import read_log
    from ..drift.verdict import judged
    from ..predictor import read_bundle
    from ..tflite.card import read_card

    arguments = _parser().parse_args(argv)
    by, every = getattr(arguments, "by", None), getattr(arguments, "every", None)
    _check(by, every)
    require_bundle(arguments.bundle, "--bundle")
    bundle = Path(arguments.bundle)
    with bundle_errors():
        _, known = read_bundle(bundle)
    expected = expectation(read_card(bundle.with_suffix(".json")), arguments.bundle)
    log = read_log(Path(arguments.log), known["sha256"], expected.classes)
    verdict = judged(_windows(log, by, every), log, expected, np.random.default_rng(0))
    student = {"file": bundle.name, "sha256": known["sha256"], "made by kdtf": str(known.get("kdtf", ""))}
    out = Path(arguments.out)
    with disk_errors(out, "--out", ""):
        _write(verdict, log, expected, student, out)
    _print(verdict, log, out)
    if arguments.strict and verdict.drift:
        raise Drift("something changed, and --strict asks for exit code 3 then.")


def recorder_of(arguments: Namespace, predictor: "Predictor") -> "Recorder | None":
    """What logs the rows of a command that was given --log and --log-paths; None without --log."""
    from ..drift.log import PredictionLog, Recorder

    if "log" not in arguments:
        return None
    model, classes = predictor.card["sha256"], predictor.classes
    return Recorder(PredictionLog(Path(arguments.log), model, classes, arguments.log_paths))


def log_of(folder: str, bundle: str) -> "PredictionLog":
    """The log of a bundle in a folder, which can be written to. Raises `UserError` and `BundleError`."""
    from ..drift.log import PredictionLog
    from ..predictor import read_bundle

    _, card = read_bundle(bundle)
    log = PredictionLog(Path(folder), card["sha256"], tuple(card["classes"]))
    with disk_errors(folder, "--log", ""):
        log.open_folder()
    return log


def require_logged(recorder: "Recorder | None") -> None:
    """Raise `UserError` where rows were not logged. They have been printed, or saved, by then."""
    if recorder is None or recorder.error is None:
        return
    hint = f"{recorder.lost} of {recorder.rows} {plural(recorder.rows, 'answer')} could not be logged."
    with disk_errors(recorder.log.folder, "--log", hint):
        raise recorder.error


def _parser() -> Parser:
    from ..drift.windows import LEAST, PERIODS

    description = (
        "Compare what predict --log and serve --log wrote with the card of the student: have the images, or "
        "the answers, changed since training? Writes drift.csv and drift.html."
    )
    parser = new_parser("drift", "DIR --bundle FILE.tflite [settings]", description)
    parser.add_argument("log", metavar="DIR", help="the folder of the log")
    text = "the student that was logged; its .json is beside it"
    parser.add_argument("--bundle", metavar="FILE.tflite", required=True, help=text)
    text = f"windows by time in UTC: {', '.join(PERIODS)} [week]"
    parser.add_argument("--by", metavar="PERIOD", help=text)
    text = f"windows of so many images instead, at least {LEAST}"
    parser.add_argument("--every", metavar="N", type=int, help=text)
    parser.add_argument("--out", metavar="DIR", help="folder for the table and the page [.]", default=".")
    text = "end with exit code 3 where something changed"
    parser.add_argument("--strict", action="store_true", help=text, default=False)
    return parser


def _check(by: str | None, every: int | None) -> None:
    from ..drift.windows import LEAST, PERIODS

    require(by is None or every is None, "--by", "given without --every", by, "Choose one of the two.")
    if by is not None:
        require_known("--by", by, PERIODS)
    if every is not None:
        require(LEAST <= every < 1 << 53, "--every", f"at least {LEAST}", every)


def _windows(log: "Log", by: str | None, every: int | None) -> "list[Window]":
    from ..drift.windows import by_number, by_period

    if every:
        return by_number(log.times, every, log.unread)
    return by_period(log.times, by or "week", log.unread)


def _write(
    verdict: "Verdict", log: "Log", expected: "Expectation", student: dict[str, str], out: Path
) -> None:
    from ..drift.page import render
    from ..drift.table import drift_csv

    contents = {
        "drift.csv": drift_csv(verdict),
        "drift.html": render(verdict, log, expected, student).encode(),
    }
    for name, content in contents.items():
        with written_aside(out / name) as file:
            file.write(content)


def _print(verdict: "Verdict", log: "Log", out: Path) -> None:
    """The answer first, then a line a window, at most 80 columns wide."""
    for text in (verdict.headline, *verdict.sentences, *log.remarks):
        print(wrapped(one_line(text), sys.stdout))
    print("\n" + "window".ljust(WINDOW) + "".join(f"{name:>{side}}" for name, side in COLUMNS))
    for own in verdict.windows:
        print(_line(own))
    for text in (LEGEND, *verdict.limits):
        print(wrapped(text, sys.stdout))
    print(wrapped(f"Written: {one_line(str(out / 'drift.html'))} and drift.csv.", sys.stdout))


def _line(own: "JudgedWindow") -> str:
    from ..drift.table import sign

    cells = [f"{own.window.images:,}", *(sign(one) for one in own.checks)]
    if not own.checks:
        text = f"{own.window.unread:,} could not be read" if own.window.unread else own.state
        cells.append(text.rjust(sum(side for _, side in COLUMNS[1:])))
    return own.window.name.ljust(WINDOW) + "".join(
        f"{cell:>{side}}" for cell, (_, side) in zip(cells, COLUMNS, strict=False)
    )
