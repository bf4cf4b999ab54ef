"""What people read: the report of a student, of a teacher, of the whole run; cards, manifest, page."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..config import Config
from ..data.audit import CLEAN, Audit
from ..data.dataset import Dataset
from ..evidence import choose
from ..evidence.calibration import temperature
from ..evidence.gains import teacher_in_words
from ..evidence.metrics import score
from ..evidence.remarks import Remarks, at_bound, few_without_copies, ranked, too_short
from ..evidence.subgroups import card_rows, group_scores
from ..evidence.tables import file_evidence, subsets
from ..evidence.verdict import good_enough
from ..progress import Progress
from ..records import DataSheet, FileEvidence, FileResult, StudentResult, TeacherResult
from ..report.gallery import student_in_words
from ..report.page import render
from ..report.subjects import RunSubject, StudentSubject, Study, TeacherSubject, data_name
from ..report.write import write_run_report, write_student_report, write_teacher_report
from ..stage_folders import read_note
from ..store import Store
from ..tasks import Task
from ..tflite.card import build_card
from ..versions import versions
from ..words import plural
from .data import read_datasheet
from .fitted import MEASURED
from .frontier import frontier_files
from .kinds import PACKAGES
from .planner import known
from .records import Group, Plan, StudentTasks
from .results import read_files, read_student, read_teacher, right_in_folds
from .stages import MODEL, read_attention

Files = dict[str, FileResult]
ASK_FOLDS = "--folds 5 compares teachers with the student alone on all of train and val, before distilling."


class Closing:
    """The results of one run as they come in, and what is written of them.

    Results are kept by group, so that a report is made of the same records as the tables of the run.
    """

    def __init__(self, config: Config, data: Dataset, audit: Audit, store: Store, progress: Progress):
        self.config, self.data, self.store, self.progress = config, data, store, progress
        truth = data.ground_truth._replace(val_met=audit.has_copy["val"] | data.val_of_train_patients)
        clean = ~audit.has_copy["test"]
        seed = config.run.seed
        self.study = Study(
            data_name=data_name(data.source, data.synthetic),
            synthetic=data.synthetic,
            truth=truth,
            images=data.test.teacher_pixels,
            subsets=subsets(truth, clean, seed),
            seed=seed,
            min_sensitivity=config.evidence.min_sensitivity,
            timings=not config.run.deterministic,
            rules=config.evidence,
        )
        self.leaks = tuple(text for text in audit.verdict if text != CLEAN)
        if few := few_without_copies(data.classes, truth.test, clean):
            progress.warn(few)
        self.details: list[str] = []  # warnings of models that nobody may ship
        self.used = len(audit.unlabelled_rows) if config.distil.unlabelled_share else 0
        self.budget = _budget(config, data, self.used)
        self.has_copies = bool(audit.has_copy["test"].any())
        self.outlooks: dict[str, choose.Outlook] = {}  # of every teacher
        self.folds_advised = bool(config.evidence.folds)
        self.reports: dict[str, Path] = {}  # their stages
        self.teachers: dict[str, list[TeacherResult]] = {}
        self.students: dict[str, list[tuple[StudentResult, Files]]] = {}

    def expect(self, plan: Plan, finished: set[str]) -> None:
        """Say of every teacher, once it and the student alone are evaluated, what distilling may do."""
        groups = plan.groups or next(iter(plan.frontier.values()), ())  # of the first candidate
        if not groups:
            return
        alone = groups[0].students[0]
        for group in groups:
            if not group.teachers or group.name in self.outlooks:
                continue
            folds = plan.folds.get(group.name, ())
            own = (alone.evaluation, group.teachers[0].evaluation)
            needed = [task for fold in folds for task in fold.evaluations] if folds else own
            if not all(task and task.folder in finished for task in needed):
                continue
            outlook = self._outlook_by_folds(group.name, plan) if folds else self._outlook(group, alone)
            self.outlooks[group.name] = outlook
            (self._warn_of_detail if outlook.harms else self.progress.say)(outlook.in_words)
            if not (folds or self.folds_advised or outlook.difference.excludes_zero):
                self.folds_advised = True
                self.progress.say(ASK_FOLDS)

    def _outlook(self, group: Group, alone: StudentTasks) -> choose.Outlook:
        """A teacher of the run beside its student alone, on val."""
        teacher = read_teacher(group.teachers[0], self.store).predictions
        student = read_student(alone, self.store, None).predictions
        return choose.outlook(teacher, student, self.study.truth, self.study.seed)

    def _outlook_by_folds(self, name: str, plan: Plan) -> choose.Outlook:
        """A teacher and a student alone that were trained without a fold, on that, fold by fold."""
        labels = np.concatenate([self.data.train.labels, self.data.val.labels])
        right = right_in_folds(known(plan.assignment), plan.folds[name], self.store, labels)
        return choose.outlook_by_folds(name, right, self.study.seed)

    def report(self, plan: Plan, task: Task) -> None:
        """Write the report that a task asks for, unless it stands as it was written."""
        group = next((group for group in plan.groups if group.report is task), None)
        if group is None:
            self._report_run(plan, task)
            return
        self._read(group)
        sheet = read_datasheet(self.store.work / plan.datasheet.folder)
        if group.teachers:
            self._report_teacher(group, task, sheet)
            self._warn_of_memory(group, unlabelled=plan.unlabelled is not None)
        else:
            student, files = self.students[group.name][0]
            self._written(task, lambda: self._student_files(student, files, sheet))

    def _read(self, group: Group) -> None:
        """The finished models of a group, and what their reader must be warned of."""
        teachers = [read_teacher(tasks, self.store) for tasks in group.teachers]
        self.teachers[group.name] = teachers
        sources = self.teachers[group.source] if group.source else teachers
        students = []
        for i, tasks in enumerate(group.students):
            weights = sources[i % len(sources)].weights if sources else None
            student = read_student(tasks, self.store, weights)
            files = read_files(tasks, student, self.store)
            self._warn_of_int8(student, files)
            students.append((student, files))
        self.students[group.name] = students

    def _warn_of_int8(self, student: StudentResult, files: Files) -> None:
        """Say that int8 lost accuracy on val, and which tensor is furthest off."""
        lost = int8_loss(student, files, self.data)
        if not lost:
            return
        worst = choose.worst_error(files["int8"].errors)
        advice = "--mixed makes a file with that layer in float."
        if "int8-mixed" in files:
            left = 100 * (self._val_accuracy(student) - self._val_accuracy(files["int8-mixed"]))
            advice = f"With that layer in float, int8-mixed loses {left:.1f}."
        name = student.predictions
        self._warn_of_detail(
            f"{teacher_in_words(name.teacher)}, seed {name.seed}: int8 loses {100 * lost:.1f} points on val. "
            f"Furthest off is the output of {worst.layer} ({worst.snr_db:.0f} dB). {advice}"
        )

    def _warn_of_detail(self, text: str) -> None:
        """A warning that misleads nobody who has not read it first: the verdict says what matters of it."""
        self.progress.warn(text)
        self.details.append(text)

    def _val_accuracy(self, result: TeacherResult | StudentResult | FileResult) -> float:
        return choose.val_accuracy(result.predictions, self.study.truth)

    def _report_teacher(self, group: Group, task: Task, sheet: DataSheet) -> None:
        teacher, students = self.teachers[group.name][0], self.students[group.name]
        distilled, files = students[0] if students else (None, {})
        alone = self.students["alone"][0][0]
        baseline = self.students["baseline"][0][0] if "baseline" in self.students else None
        subject = TeacherSubject(
            self.study,
            teacher,
            alone,
            distilled,
            baseline,
            read_attention(self.store.work / group.attention.folder) if group.attention else None,
            tuple(tuning_rows(group, self.store, self.data)),
        )

        def write() -> None:
            write_teacher_report(subject, self.store)
            if distilled:
                self._student_files(distilled, files, sheet)

        self._written(task, write)

    def _warn_of_memory(self, group: Group, *, unlabelled: bool) -> None:
        """Say that a teacher has memorised its training images."""
        on_val = self._val_accuracy(self.teachers[group.name][0])
        for student, _ in self.students[group.name][:1]:
            on_train = known(student.agreement[0].teacher_right)
            warning = choose.memory_in_words(group.name, on_train, on_val, unlabelled=unlabelled)
            if warning:
                self._warn_of_detail(warning)

    def _student_files(self, student: StudentResult, files: Files, sheet: DataSheet) -> None:
        """Everything about one student: tables, pictures, the network itself, its files with their cards."""
        store, name = self.store, student.predictions.teacher
        write_student_report(StudentSubject(self.study, student, tuple(files.values())), store)
        for suffix in ("h5", "keras"):
            store.write(f"{name}_Student.{suffix}", (student.folder / f"student.{suffix}").read_bytes())
        for recipe, file in files.items():
            card = build_card(file, sheet, self._evidence(file)).to_json()
            # one straight after the other: who reads them meanwhile waits for the second for a moment
            store.write(f"{name}_Student_{recipe}.tflite", (file.folder / MODEL).read_bytes())
            store.write_json(f"{name}_Student_{recipe}.json", card)

    def _evidence(self, file: FileResult) -> FileEvidence:
        """What val and test say of a file; without any copy elsewhere all test images are clean."""
        study = self.study
        evidence = file_evidence(
            file.predictions, study.truth, study.subsets, study.min_sensitivity, study.rules
        )
        if self.config.evidence.card_subgroups:
            scores = group_scores(file.predictions, study.truth, study.part)
            evidence = replace(evidence, subgroups=card_rows(scores))
        if self.has_copies:
            return evidence
        return replace(evidence, clean=evidence.test, clean_images=evidence.test_images)

    def results(self) -> list[TeacherResult | StudentResult | FileResult]:
        """Every finished model of every seed, in the order of the tables."""
        ordered: list[TeacherResult | StudentResult | FileResult] = []
        for name, students in self.students.items():
            ordered += self.teachers[name]
            for student, files in students:
                ordered += [student, *files.values()]
        return ordered

    def _report_run(self, plan: Plan, task: Task) -> None:
        """The tables over all models, the manifest and the page."""
        files = tuple(file for _, file in frontier_files(plan.frontier, self.store))
        subject = RunSubject(self.study, tuple(self.results()), files)
        self._written(task, lambda: write_run_report(subject, self.store))
        self.rows = subject.summary
        self.ship, self.verdict = subject.chosen, subject.verdict
        self.good_enough = good_enough(self.verdict)
        remarks = self._remarks(subject)
        self._write_manifest(plan, subject, remarks)
        self.store.write("report.html", render(self.store.root))

    def _remarks(self, subject: RunSubject) -> Remarks:
        """The warnings of the run and what there is to say of its models, by rank."""
        file = subject.chosen_file
        student, t = file.student, temperature(file.predictions.val_probs, self.study.truth.val)
        of_file = [
            at_bound("the chosen file", t),
            too_short("the chosen student", student.history, "--epochs"),
        ]
        others = [
            too_short(f"the teacher {name}", teacher.history, "epochs")
            for name, teachers in self.teachers.items()
            for teacher in teachers[:1]
        ]
        others += [
            too_short(student_in_words(name).replace("The", "the", 1), students[0][0].history, "--epochs")
            for name, students in self.students.items()
            if students and students[0][0] is not student
        ]
        details = [*self.details, *filter(None, others)]
        return ranked(self.progress.warnings, self.leaks, [*filter(None, of_file)], details)

    def _write_manifest(self, plan: Plan, subject: RunSubject, remarks: Remarks) -> None:
        """`manifest.json`: settings, data, versions, warnings, the student to ship, stages, outputs."""
        data, store = self.data, self.store
        notes = self._stage_notes(plan.tasks())
        store.outputs.pop("manifest.json", None)
        weights = {
            row["teacher"]: row["teacher_weights"] for row in subject.summary if row["model"] == "teacher"
        }
        students = [own for own in subject.models if isinstance(own, StudentResult)]
        labelled_by = {own.predictions.teacher: own.labelled_by for own in students if own.labelled_by}
        store.write_json(
            "manifest.json",
            {
                "config": self.config.to_dict(),
                "data": {
                    "source": str(data.source),
                    "name": self.study.data_name,
                    "digest": data.digest,
                    "synthetic": data.synthetic,
                    "classes": list(data.classes),
                    "images": {name: len(split.labels) for name, split in data.splits.items()},
                    "units": "images" if data.test.groups is None else "patients",
                    "unlabelled": {"digest": data.unlabelled_digest, "images": self.used},
                    "notes": list(data.notes),
                },
                "teacher_weights": weights,
                "labelled_by": labelled_by,
                "versions": package_versions(notes.values()),
                "budget": self.budget,
                "expectations": [outlook.in_words for outlook in self.outlooks.values()],
                "warnings": self.progress.warnings,
                "remarks": remarks._asdict(),
                "ship": {name: self.ship[name] for name in ("teacher", "model", "recipe", "seed")},
                "good_enough": self.good_enough,
                "stages": notes,
                "outputs": dict(sorted(store.outputs.items())),
            },
        )

    def _stage_notes(self, tasks: Iterable[Task]) -> dict[str, dict[str, Any]]:
        """{stage: key and note} of the finished ones among some tasks, read from the stages themselves."""
        folders = {task.name: self.store.work / task.folder for task in tasks} | self.reports
        finished = {name: folder for name, folder in folders.items() if folder.is_dir()}
        return {name: {"key": folder.name[-16:], **read_note(folder)} for name, folder in finished.items()}

    def _written(self, task: Task, make: Callable[[], object]) -> None:
        """Write a report unless it stands; it depends on what was measured, times included."""
        reads = [
            self.store.work / needed.folder / MEASURED
            for needed in task.inputs.values()
            if needed.kind.endswith("-evaluation")
        ]
        self.reports[task.name] = self.store.written(task, make, reads).path


def package_versions(notes: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """{package: the version that made the finished stages}, of their notes; where it made none that is here.

    Where --accept-versions went on from stages of other versions, it is each with the number of stages that
    it made; which these are is said by `made_with` of each.
    """
    makers: dict[str, Counter[str]] = {package: Counter() for package in PACKAGES}
    for note in notes:
        for package, version in note.get("made_with", {}).items():
            makers.setdefault(package, Counter())[version] += 1
    installed, told = versions(PACKAGES), {}
    for package, counts in makers.items():
        several = [f"{v} ({n} {plural(n, 'stage')})" for v, n in sorted(counts.items())]
        told[package] = " and ".join(several if len(counts) > 1 else counts or [installed[package]])
    return told


def _budget(config: Config, data: Dataset, unlabelled: int) -> str:
    """What every student of a run is trained on, in words."""
    epochs, images = config.student.epochs, len(data.train.labels)
    steps = epochs * math.ceil(images / config.student.batch_size)
    more = ", with unlabelled images or without" if unlabelled else ""
    seen = f"Every student sees {epochs * images:,} images in {steps:,} {plural(steps, 'step')}"
    return f"{seen}, with a teacher or without{more}."


def int8_loss(student: StudentResult, files: Files, data: Dataset) -> float:
    """Val accuracy that the int8 file of a student lost, where that is worth a word; else 0."""
    if "int8" not in files:
        return 0.0
    truth = data.ground_truth
    ours, theirs = (choose.val_accuracy(r.predictions, truth) for r in (student, files["int8"]))
    return choose.lost_by_int8(ours, theirs)


def tuning_rows(group: Group, store: Store, data: Dataset) -> list[dict[str, Any]]:
    """Every rule that was tried for a teacher with its scores on val, and which one was chosen."""
    rows: list[dict[str, Any]] = []
    for tasks in group.candidates:
        rule, student = known(tasks.rule), read_student(tasks, store, None)
        scores = score(student.predictions.val_probs, data.val.labels)
        rows.append(
            {
                "alpha": rule.alpha,
                "temperature": rule.temperature,
                "val_accuracy": scores["accuracy"],
                "val_loss": scores["loss"],
            }
        )
    best = choose.best_on_val([(row["val_accuracy"], row["val_loss"]) for row in rows]) if rows else None
    return [{**row, "chosen": int(i == best)} for i, row in enumerate(rows)]
