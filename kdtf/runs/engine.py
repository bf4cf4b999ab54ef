"""A whole run: facts, plan, tasks one after the other, reports. Reads top to bottom: start here.

Every step that costs time is a stage kept in the results folder; the same command again goes on from those
that stand.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Config
from ..data.audit import Audit
from ..data.dataset import Dataset
from ..data.provenance import prepared
from ..evidence import choose
from ..models.weights import NOT_DOWNLOADED, OFFLINE
from ..progress import Progress
from ..records import FileResult, Rule, StudentResult, TeacherResult
from ..report.subjects import AuditSubject, data_name
from ..report.write import write_audit_report
from ..stage_folders import read_note
from ..store import Store
from ..versions import versions
from .close import Closing, int8_loss, tuning_rows
from .data import read_audit
from .kinds import PACKAGES
from .perform import perform
from .plan import audit_task, known, plan
from .records import Facts, Group, Plan, StudentTasks
from .results import read_files, read_student
from .stages import read_cut, read_origin

if TYPE_CHECKING:
    import pandas

EARLIER_STAGES = "work/ holds stages of an earlier kdtf, which are not used: --fresh removes them."
OTHER_VERSIONS = (
    "Warning: Finished stages were made with {}; what depends on that is made again. --accept-versions goes "
    "on from them."
)


@dataclass(frozen=True)
class RunResult:
    """A finished run: its folder, all models of all seeds, the rows of `summary.csv`, the file to ship.

    `ship` is the row of the `.tflite` chosen on val; `tables()` reads every CSV file of the folder.
    """

    folder: Path
    synthetic: bool
    models: tuple[TeacherResult | StudentResult | FileResult, ...]
    summary: list[dict[str, Any]]
    ship: dict[str, Any]
    warnings: tuple[str, ...]

    def tables(self) -> "dict[str, pandas.DataFrame]":
        """{name: table} of the CSV files in the results folder."""
        import pandas as pd

        return {path.stem: pd.read_csv(path) for path in sorted(self.folder.glob("*.csv"))}


def data_facts(data: Dataset, installed: Mapping[str, str]) -> Facts:
    """What is known before anything is done."""
    return Facts(
        data.digest,
        data_name(data.source, data.synthetic),
        tuple(data.classes),
        installed,
        (),
        synthetic=data.synthetic,
        prepared=prepared(Path(data.source)),
    )


def audit_data(data: Dataset, store: Store, progress: Progress, packages: Mapping[str, str]) -> Audit:
    """The audit of the data with its tables and pictures; what it found is said. Raises `UserError`.

    `packages` are the versions that stages are to be of: `chosen_versions`.
    """
    task = audit_task(data_facts(data, packages))
    audit = read_audit(perform(task, store, data, progress).path, data)
    write_audit_report(AuditSubject(data, audit), store)
    for sentence in audit.verdict:
        (progress.warn if audit.findings else progress.say)(sentence)
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
    from .check import loss_options, teachers_of, weight_digests

    facts = replace(
        data_facts(data, packages),
        loss_options=loss_options(config),
        teachers=teachers_of(config),
        weight_files=weight_digests(config),
    )
    closing = Closing(config, data, audit, store, progress)
    finished: set[str] = set()
    while True:
        current = plan(config, facts)
        task = next((task for task in current.tasks() if task.folder not in finished), None)
        if task is None:
            models, rows = tuple(closing.results()), closing.rows
            ship, warnings = choose.file_to_ship(rows), tuple(progress.warnings)
            return RunResult(store.root, data.synthetic, models, rows, ship, warnings)
        if task.kind.endswith("-report"):
            closing.report(current, task)
        else:
            perform(task, store, data, progress, accept_versions=config.run.accept_versions)
        if task.kind == "cut":
            cost = read_cut(store.work / task.folder)
            progress.say(f"The student is {cost.name}: {cost.kib:.1f} KiB in int8.")
        if task.kind == "origin" and read_origin(store.work / task.folder).weights == NOT_DOWNLOADED:
            progress.warn(OFFLINE)
        finished.add(task.folder)
        facts = learned(config, facts, current, finished, store, data)


def learned(
    config: Config, facts: Facts, current: Plan, finished: set[str], store: Store, data: Dataset
) -> Facts:
    """The facts with what finished tasks found out: origins, rules chosen on val, layers that int8 hurts."""
    origins, rules, layers = dict(facts.origins), dict(facts.rules), dict(facts.lossy_layers)
    cuts = {
        name: read_cut(store.work / task.folder).name
        for name, task in current.cuts.items()
        if task.folder in finished
    }
    for group in current.groups:
        for teacher in group.teachers:
            if (group.name, teacher.seed) not in origins and teacher.origin.folder in finished:
                origins[group.name, teacher.seed] = read_origin(store.work / teacher.origin.folder)
        if group.candidates and group.name not in rules and _all_finished(group, finished):
            rules[group.name] = _best_rule(group, store, data)
        for student in group.students:
            at = (group.name, student.seed)
            if config.quantize.mixed and at not in layers and _measured(student, finished):
                layers[at] = _lossy_layer(student, store, data)
    return replace(facts, origins=origins, rules=rules, cuts=cuts, lossy_layers=layers)


def _all_finished(group: Group, finished: set[str]) -> bool:
    return all(own.evaluation.folder in finished for own in group.candidates)


def _best_rule(group: Group, store: Store, data: Dataset) -> Rule:
    """Of the rules tried on the teacher's seed, the best on val."""
    rows = tuning_rows(group, store, data)
    best = choose.best_on_val([(row["val_accuracy"], row["val_loss"]) for row in rows])
    return known(group.candidates[best].rule)


def _measured(student: StudentTasks, finished: set[str]) -> bool:
    """Whether a student and its int8 file, if it has one, have been evaluated."""
    evaluations = [student.evaluation, *(student.files[r][1] for r in ("int8",) if r in student.files)]
    return all(task.folder in finished for task in evaluations)


def _lossy_layer(student: StudentTasks, store: Store, data: Dataset) -> str | None:
    """The tensor to keep in float, where int8 lost more than it may on val."""
    result = read_student(student, store, None)
    int8 = replace(student, files={r: student.files[r] for r in ("int8",) if r in student.files})
    files = read_files(int8, result, store)
    return choose.worst_error(files["int8"].errors).tensor if int8_loss(result, files, data) else None


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
    for path in sorted(store.work.glob("*/stage.json"), key=lambda path: path.stat().st_mtime):
        try:
            note = read_note(path.parent)
        except (OSError, ValueError):
            continue
        notes.append(note if isinstance(note, dict) else {})
    return notes
