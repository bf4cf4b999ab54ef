"""`predict` with --dicom-sr and --by-study: answers by slice and by study, and structured reports."""

import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError, require, require_known
from ..extras import require_extras
from ..files import disk_errors, written_aside
from ..native_log import native_noise
from ..words import plural
from .bundles import bundle_errors, say_limits
from .drift import recorder_of, require_logged
from .streams import new_terminal
from .terminal import one_line, wrapped

if TYPE_CHECKING:
    from ..dicom.study import Group
    from ..predictor import Predictor
    from .terminal import Terminal

OF_SLICES = (
    "Not validated on studies: no class is named. Thresholds and prediction sets are of single images. Look "
    "at the slice beside a class: it is the one in which that class is likeliest."
)


def run_studies(arguments: Namespace) -> None:
    """Print a line a slice and a line a study, and write a report each where asked to.

    Raises `UserError`, at the end also where a file could not be read.
    """
    from ..dicom.slices import slices
    from ..dicom.study import BY_STUDY, groups
    from ..predictor import Predictor, printed

    out = Path(arguments.dicom_sr) if "dicom_sr" in arguments else None
    rule = arguments.by_study if "by_study" in arguments else None
    require("csv" not in arguments, "--csv", "given without --dicom-sr and --by-study", "both")
    if rule is not None:
        require_known("--by-study", rule, BY_STUDY)
    require_extras("--dicom-sr" if out else "--by-study", "pydicom", *(["highdicom"] if out else []))
    with bundle_errors():
        with native_noise():
            predictor = Predictor(arguments.bundle, arguments.threads)
        answers = list(slices(predictor, arguments.images))
    terminal, recorder = new_terminal(), recorder_of(arguments, predictor)
    if recorder:
        for _ in recorder(own.row for own in answers):
            pass
    require(answers, "IMAGE", "a DICOM file, or a folder that holds any", " ".join(arguments.images))
    reported = groups(predictor, answers, rule)
    for row, text in printed((own.row for own in answers), predictor.classes):
        terminal.say(text) if row.error else print(text)
    for number, group in enumerate(reported, 1):
        for line in _lines(group, rule, number, predictor.classes):
            print(line)
    if rule and reported:
        print(wrapped(OF_SLICES, sys.stdout))
    if any(group.slices for group in reported):
        say_limits(predictor, terminal)
    failed = _write(reported, out, Path(arguments.bundle).name, predictor, rule, terminal) if out else 0
    require_logged(recorder)
    if failed:
        raise UserError(f"{failed} of the reports could not be made: see above.")
    unread = sum(bool(own.row.error) and own.is_slice for own in answers)
    if unread:
        raise UserError(f"{unread} of the images could not be read: see above.")


def _lines(group: "Group", rule: str | None, number: int, classes: tuple[str, ...]) -> Iterator[str]:
    """What is said of a group; its UIDs are not printed, since they lead to the patient."""
    from ..predictor import place_of

    kind, gaps = "Study" if rule else "Series", f" ({group.gaps})" * bool(group.gaps)
    count = len(group.slices)
    of = f"{count} {plural(count, 'slice')}"
    doubts = f" {', '.join(group.doubts)}." * bool(group.doubts)
    verdict = group.verdict
    if verdict is None:
        yield f"{kind} {number}: {of if count else 'nothing to say'}{gaps}.{doubts}"
        return
    yield f"{kind} {number}, {rule} of {of}{gaps}:{doubts}"
    side = max(len(one_line(name)) for name in ("class", *classes))
    yield f"  {'class':<{side}}  {rule:>5}  named by  likeliest in"
    for k in (-verdict.probs).argsort(kind="stable"):
        own = group.slices[verdict.largest[k]].row
        place = f"{place_of(own)}, {own.probs[k]:.3f}"
        yield f"  {one_line(classes[k]):<{side}}  {verdict.probs[k]:.3f}  {verdict.named[k]:>8}  {place}"


def _write(
    reported: list["Group"],
    out: Path,
    name: str,
    predictor: "Predictor",
    rule: str | None,
    terminal: "Terminal",
) -> int:
    """A report a group, each named by its own identifier; returns how many could not be made, each told."""
    from ..dicom.structured_report import Student, report

    student, read = Student(name, predictor.card), [group for group in reported if group.slices]
    failed = 0
    with disk_errors(out, "--dicom-sr", ""):
        for group in read:
            try:
                document = report(group, student, rule)
            except UserError as error:
                terminal.say(one_line(f"No report: {error}"))
                failed += 1
                continue
            with written_aside(out / f"{document.SOPInstanceUID}.dcm") as file:
                document.save_as(file)
    written = len(read) - failed
    if written:
        print(f"Written: {written} structured {plural(written, 'report')} in {one_line(str(out))}.")
    return failed
