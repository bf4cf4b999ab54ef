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

OF_SLICES = "Thresholds and prediction sets are of single images: no study is called certain or uncertain."
MAX = (
    " By max no class is named: a slice that shows nothing would outvote those that show something. Look at "
    "the slice that is named beside a class."
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
    say_limits(predictor, terminal)
    require(answers, "IMAGE", "a DICOM file, or a folder that holds any", " ".join(arguments.images))
    reported = groups(predictor, answers, rule)
    for row, text in printed((own.row for own in answers), predictor.classes):
        terminal.say(text) if row.error else print(text)
    for number, group in enumerate(reported, 1):
        for line in _lines(group, rule, number, predictor.classes):
            print(line)
    if rule and reported:
        print(wrapped(OF_SLICES + MAX * (rule == "max"), sys.stdout))
    read = [group for group in reported if group.slices]
    if out and read:
        with disk_errors(out, "--dicom-sr", ""):
            _write(read, out, Path(arguments.bundle).name, predictor, rule)
        print(f"Written: {len(read)} structured {plural(len(read), 'report')} in {one_line(str(out))}.")
    require_logged(recorder)
    unread = sum(bool(own.row.error) for own in answers)
    if unread:
        raise UserError(f"{unread} of the images could not be read: see above.")


def _lines(group: "Group", rule: str | None, number: int, classes: tuple[str, ...]) -> Iterator[str]:
    """What is said of a group; its UIDs are not printed, since they lead to the patient."""
    from ..predictor import place_of

    kind, gaps = "Study" if rule else "Series", f" ({group.gaps})" * bool(group.gaps)
    count = f"{len(group.slices)} {plural(len(group.slices), 'slice')}"
    verdict = group.verdict
    if verdict is None:
        yield f"{kind} {number}: {count if group.slices else 'nothing to say'}{gaps}."
    elif verdict.label is not None:
        said = f"{one_line(verdict.label)}, {verdict.probs.max():.3f}"
        yield f"{kind} {number}, {rule} of {count}: {said}{gaps}."
    else:
        yield f"{kind} {number}, {rule} of {count}{gaps}:"
        side = max(len(one_line(name)) for name in classes)
        for k in (-verdict.probs).argsort(kind="stable"):
            place = place_of(group.slices[verdict.largest[k]].row)
            yield f"  {verdict.probs[k]:.3f}  {one_line(classes[k]):<{side}}  {place}"


def _write(reported: list["Group"], out: Path, name: str, predictor: "Predictor", rule: str | None) -> None:
    """A report a group, each named by its own identifier."""
    from ..dicom.structured_report import Student, report

    student = Student(name, predictor.card)
    for group in reported:
        document = report(group, student, rule)
        with written_aside(out / f"{document.SOPInstanceUID}.dcm") as file:
            document.save_as(file)
