"""A whole run: facts, plan, tasks in its order, reports. Reads top to bottom: start here.

Every step that costs time is a stage kept in the results folder; the same command again goes on from those
that stand.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Config
from ..data.audit import Audit
from ..data.dataset import Dataset
from ..data.provenance import prepared
from ..data.subgroups import absent_from_train
from ..evidence.verdict import Requirement
from ..files import Digest, file_digest
from ..models.weights import NOT_DOWNLOADED, OFFLINE
from ..progress import Progress
from ..records import FileResult, StudentResult, TeacherResult
from ..report.subjects import AuditSubject, data_name
from ..report.write import write_audit_report
from ..stage_folders import read_note
from ..store import Store
from ..versions import versions
from .check import loss_options, teachers_of, weight_digests
from .close import Closing
from .data import read_audit
from .hands import hands_of
from .jobs import Hands
from .kinds import PACKAGES
from .outcomes import learned
from .perform import perform
from .plan import audit_task, plan
from .records import Candidate, Facts
from .stages import read_cut, read_origin
from .tracking import event_files, tracked

if TYPE_CHECKING:
    import pandas

EARLIER_STAGES = "work/ holds stages of an earlier kdtf, which are not used: --fresh removes them."
ENOUGH_FOR_TEACHERS = 96  # px; ImageNet's weights were trained at 224
SMALL_TEACHERS = (
    "Teachers see {side} px, and their pretrained weights were trained at 224: they could use larger images "
    "(prepare with --teacher-size 128), or at least enlarged ones (--teacher-size {enough})."
)
ENOUGH_OF_TONES = 0.4  # of brightness and contrast: measured, docs/results.md
FEW_TONES = (
    "Views vary brightness and contrast by at most {least:.0%}: more of both (--brightness {enough} "
    "--contrast {enough}) makes these a poorer guide to the class."
)
OTHER_VERSIONS = (
    "Warning: Finished stages were made with {}; what depends on that is made again. --accept-versions goes "
    "on from them."
)


@dataclass(frozen=True)
class RunResult:
    """A finished run: its folder, all models of all seeds, the rows of `summary.csv`, the file to ship.

    `ship` is the row of the `.tflite` chosen on val, `verdict` what it must meet and whether it does, and
    `tables()` reads every CSV file of the folder.
    """

    folder: Path
    synthetic: bool
    models: tuple[TeacherResult | StudentResult | FileResult, ...]
    summary: list[dict[str, Any]]
    ship: dict[str, Any]
    verdict: tuple[Requirement, ...]
    warnings: tuple[str, ...]

    def tables(self) -> "dict[str, pandas.DataFrame]":
        """{name: table} of the CSV files in the results folder."""
        from ..report.csv_files import read_csv

        return {path.stem: read_csv(path) for path in sorted(self.folder.glob("*.csv"))}


def data_facts(data: Dataset, installed: Mapping[str, str], digest: Digest = file_digest) -> Facts:
    """What is known before anything is done; `digest` is how files are read."""
    return Facts(
        data.digest,
        data_name(data.source, data.synthetic),
        tuple(data.classes),
        installed,
        (),
        synthetic=data.synthetic,
        unlabelled=data.unlabelled_digest,
        subgroups=data.subgroups_digest,
        prepared=prepared(Path(data.source), digest),
    )


def audit_data(data: Dataset, store: Store, progress: Progress, packages: Mapping[str, str]) -> Audit:
    """The audit of the data with its tables and pictures; what it found is said. Raises `UserError`.

    `packages` are the versions that stages are to be of: `chosen_versions`.
    """
    task = audit_task(data_facts(data, packages, store.digests.of))
    audit = read_audit(perform(task, store, data, progress).path, data)
    write_audit_report(AuditSubject(data, audit), store)
    for sentence in audit.verdict:
        (progress.warn if audit.findings else progress.say)(sentence)
    for sentence in absent_from_train(data.train.subgroups, data.test.subgroups):
        progress.warn(sentence)  # not in the audit: its stage decides trainings, and groups do not
    return audit


def run_tasks(
    config: Config,
    data: Dataset,
    audit: Audit,
    store: Store,
    progress: Progress,
    packages: Mapping[str, str],
) -> RunResult:
    """The whole run on audited data, by settings that were checked. Raises `UserError`."""
    facts = replace(
        data_facts(data, packages, store.digests.of),
        loss_options=loss_options(config),
        teachers=teachers_of(config),
        weight_files=weight_digests(config, store.digests.of),
        all_left_out=not len(audit.unlabelled_rows),
        train_images=len(data.train.labels),
        unlabelled_images=len(audit.unlabelled_rows),
    )
    closing = Closing(config, data, audit, store, progress)
    if advice := tone_advice(config, audit):
        progress.say(advice)
    progress.say(closing.budget)
    with tracked(config, progress) as log_results, event_files(config.run.log_dir, progress):
        with hands_of(config, facts, store, data, progress) as hands:
            models = _perform_all(config, data, closing, facts, hands)
        log_results(closing.rows, store)
    verdict, warnings = tuple(closing.verdict), tuple(progress.warnings)
    return RunResult(store.root, data.synthetic, models, closing.rows, closing.ship, verdict, warnings)


def _perform_all(
    config: Config, data: Dataset, closing: Closing, facts: Facts, hands: Hands
) -> tuple[TeacherResult | StudentResult | FileResult, ...]:
    """Every task of a run, in the order of its plan; what they made, of all models of all seeds."""
    store, progress = closing.store, closing.progress
    finished: set[str] = set()
    advice = size_advice(config, data)
    while True:
        current = plan(config, facts)
        closing.expect(current, finished)
        task = next((task for task in current.tasks() if task.folder not in finished), None)
        if task is None:
            return tuple(closing.results())
        if task.kind.endswith("-report"):
            with progress.stage(task.name, hands.place(facts, task, finished)):
                closing.report(current, task)
        else:
            hands.perform(facts, task, finished)
        if task.kind == "cut":
            cost = read_cut(store.work / task.folder)
            cut = Candidate(cost.name, task.settings["side"])
            progress.say(f"The budget allows {cut.in_words}: {cost.kib:.1f} KiB in int8.")
        if task.kind == "origin":
            origin = read_origin(store.work / task.folder)
            if origin.weights == NOT_DOWNLOADED:
                progress.warn(OFFLINE)
            if origin.pretrained and advice:
                progress.say(advice)
                advice = None
        finished.add(task.folder)
        before = len(facts.asked)
        facts = learned(config, facts, current, finished, store, data)
        if asked := facts.asked[before:]:
            progress.say(asked_in_words(asked, before, config))


def asked_in_words(asked: Sequence[Candidate], before: int, config: Config) -> str:
    """What is tried next of a grid with --trials, and how many trials that makes."""
    trials = len(asked) + before
    names = ", ".join(own.in_words for own in asked)
    return f"To try next, which makes {trials} of at most {config.student.trials} trials: {names}."


def size_advice(config: Config, data: Dataset) -> str | None:
    """What to do where pretrained teachers see less than they could use; None where they do not."""
    side = max(data.train.teacher_pixels.shape[1:3])
    if max(side, config.teacher.teacher_size or 0) >= ENOUGH_FOR_TEACHERS:
        return None
    return SMALL_TEACHERS.format(side=side, enough=ENOUGH_FOR_TEACHERS)


def tone_advice(config: Config, audit: Audit) -> str | None:
    """What to do where brightness and contrast tell the classes and views hardly vary them; else None."""
    least = min(config.views.brightness, config.views.contrast)
    if not audit.shortcut or least >= ENOUGH_OF_TONES:
        return None
    return FEW_TONES.format(least=least, enough=ENOUGH_OF_TONES)


def chosen_versions(config: Config, store: Store, progress: Progress) -> dict[str, str]:
    """The packages that stages are to be of: those installed, or with --accept-versions those of the stages.

    Says so where the newest stages were made with others.
    """
    installed = versions(PACKAGES)
    newest: dict[str, str] = {}
    notes = _stage_notes(store)
    if any("kind" not in note for note in notes):
        progress.say(EARLIER_STAGES)
    for note in notes:
        newest |= note.get("environment", {})
    others = {p: version for p, version in newest.items() if p in installed and version != installed[p]}
    if config.run.accept_versions:
        return {**installed, **others}
    if others:
        changes = ", ".join(f"{name} {v} (here {installed[name]})" for name, v in sorted(others.items()))
        progress.say(OTHER_VERSIONS.format(changes))
    return installed


def _stage_notes(store: Store) -> list[dict[str, Any]]:
    """The notes of all finished stages that can be read, the oldest first."""
    notes = []
    for path in store.work.glob("*/stage.json"):
        with suppress(OSError, ValueError):  # no note of ours: such a stage is found damaged
            notes.append((path.stat().st_mtime, read_note(path.parent)))
    return [note for _, note in sorted(notes, key=lambda pair: pair[0])]
