"""`predict` with --dicom-sr and --by-study: answers by slice and by study, and structured reports."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError, require, require_known
from ..extras import require_extras
from ..files import disk_errors, written_aside
from ..native_log import native_noise
from ..words import plural
from .bundles import bundle_errors
from .drift import recorder_of, require_logged
from .streams import new_terminal
from .terminal import one_line

if TYPE_CHECKING:
    from ..dicom.study import Group
    from ..predictor import Predictor


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
    recorder = recorder_of(arguments, predictor)
    if recorder:
        for _ in recorder(own.row for own in answers):
            pass
    require(answers, "IMAGE", "a DICOM file, or a folder that holds any", " ".join(arguments.images))
    terminal, reported = new_terminal(), groups(predictor, answers, rule)
    for row, text in printed((own.row for own in answers), predictor.classes):
        terminal.say(text) if row.error else print(text)
    for number, group in enumerate(reported, 1):
        print(_in_words(group, rule, number))
    if out and reported:
        with disk_errors(out, "--dicom-sr", ""):
            _write(reported, out, Path(arguments.bundle).name, predictor, rule)
        print(
            f"Written: {len(reported)} structured {plural(len(reported), 'report')} in {one_line(str(out))}."
        )
    require_logged(recorder)
    unread = sum(bool(own.row.error) for own in answers)
    if unread:
        raise UserError(f"{unread} of the images could not be read: see above.")


def _in_words(group: "Group", rule: str | None, number: int) -> str:
    """What is said of a group; its UIDs are not printed, since they lead to the patient."""
    count = f"{len(group.slices)} {plural(len(group.slices), 'slice')}"
    if group.verdict is None:
        return f"Series {number}: {count}."
    unsure = ", uncertain" if group.verdict.uncertain else ""
    label, probability = one_line(group.verdict.label), group.verdict.probability
    return f"Study {number}, {rule} of {count}: {label}, {probability:.3f}{unsure}."


def _write(reported: list["Group"], out: Path, name: str, predictor: "Predictor", rule: str | None) -> None:
    """A report a group, each named by its own identifier."""
    from ..dicom.structured_report import Student, report

    student = Student(name, predictor.card)
    for group in reported:
        document = report(group, student, rule)
        with written_aside(out / f"{document.SOPInstanceUID}.dcm") as file:
            document.save_as(file)
