"""Finished stages read back as the records that tables, cards and reports are made of."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..evidence.metrics import is_right
from ..records import KERAS, FileResult, StudentResult, TeacherResult
from ..stage_folders import read_note
from ..store import Store
from ..tasks import Task, plain
from .agreement import read_agreement
from .fitted import Fitted, read_fitted, read_predictions
from .planner import known
from .records import JOINED, FoldTasks, StudentTasks, TeacherTasks
from .stages import FOLDS, read_file, read_labeller, read_origin


def read_teacher(tasks: TeacherTasks, store: Store) -> TeacherResult:
    """A finished teacher, or the mean of several."""
    if tasks.members:
        return _read_ensemble(tasks, store)
    origin = read_origin(_folder(known(tasks.origin), store))
    fitted = read_fitted(_folder(tasks.training[-1], store)) if tasks.training else Fitted(None, None, [])
    evaluation = _folder(known(tasks.evaluation), store)
    return TeacherResult(
        predictions=read_predictions(evaluation, tasks.name, "teacher", KERAS, tasks.seed),
        key=known(tasks.labels).key,
        weights=origin.weights,
        pretrained=origin.pretrained,
        parameters=fitted.parameters,
        size_kib=fitted.size_kib,
        train_seconds=sum(_seconds(task, store) for task in tasks.training),
        history=fitted.history,
    )


def _read_ensemble(tasks: TeacherTasks, store: Store) -> TeacherResult:
    members = [read_teacher(own, store) for own in tasks.members]
    names = dict.fromkeys(f"{own.predictions.teacher} ({own.weights})" for own in members)
    evaluation = _folder(known(tasks.evaluation), store)
    return TeacherResult(
        predictions=read_predictions(evaluation, tasks.name, "teacher", KERAS, tasks.seed),
        key=known(tasks.labels).key,
        weights=f"the mean of {len(members)}: {', '.join(names)}",
        pretrained=all(own.pretrained for own in members),
        parameters=sum(own.parameters or 0 for own in members),
        size_kib=sum(own.size_kib or 0 for own in members),
        train_seconds=sum(own.train_seconds for own in members),
        history=[],
    )


def read_student(tasks: StudentTasks, store: Store, teacher_weights: str | None) -> StudentResult:
    """A finished student; `teacher_weights` says where its teacher's came from."""
    folder = _folder(tasks.student, store)
    fitted = read_fitted(folder)
    evaluation = _folder(tasks.evaluation, store)
    return StudentResult(
        predictions=read_predictions(evaluation, tasks.teacher, tasks.model, KERAS, tasks.seed),
        key=tasks.student.key,
        folder=folder,
        network=tasks.student.settings["network"].name,
        weights=read_origin(folder).weights,
        rule=tasks.rule,
        teacher_weights=teacher_weights,
        labelled_by=" and ".join(sorted(set(_labellers(tasks.student, store)))) or None,
        training=asdict(tasks.student.settings["training"]),
        versions=_versions(tasks.student, store),
        parameters=known(fitted.parameters),
        size_kib=known(fitted.size_kib),
        train_seconds=_seconds(tasks.student, store),
        history=fitted.history,
        agreement=read_agreement(_folder(tasks.agreement, store)) if tasks.agreement else (),
    )


def read_files(tasks: StudentTasks, student: StudentResult, store: Store) -> dict[str, FileResult]:
    """{recipe: finished file} of a student, as far as its evaluations are there."""
    results = {}
    for recipe, (file, evaluation) in tasks.files.items():
        folder = _folder(file, store)
        facts, history, errors = read_file(folder)
        measured = _folder(evaluation, store)
        results[recipe] = FileResult(
            predictions=read_predictions(measured, tasks.teacher, tasks.model, recipe, tasks.seed),
            key=file.key,
            folder=folder,
            student=student,
            facts=facts,
            made_with=_recipe_settings(file),
            versions=_versions(file, store),
            history=history,
            errors=errors,
        )
    return results


def right_in_folds(
    assignment: Task, folds: Sequence[FoldTasks], store: Store, labels: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """What a teacher and the student alone have right in each fold, (n,) bool each.

    The `assignment` says which images are in which; `labels` (N,) are those of train, then val.
    """

    def right(task: Task, own: np.ndarray) -> np.ndarray:
        return is_right(read_predictions(_folder(task, store), "", "", KERAS, 0).test_probs, own)

    fold_of = np.load(_folder(assignment, store) / FOLDS)
    answers = []
    for k, fold in enumerate(folds):
        teacher, alone = fold.evaluations
        answers.append((right(teacher, labels[fold_of == k]), right(alone, labels[fold_of == k])))
    return answers


def _labellers(task: Task, store: Store) -> Iterator[str]:
    """What computed the labels that a student, or the mean of several teachers, is made of."""
    for own in task.inputs.values():
        if own.kind in ("ensemble-labels", JOINED):
            yield from _labellers(own, store)
        if own.kind in ("labels", "unlabelled-labels"):
            yield read_labeller(_folder(own.inputs.get("features", own), store))


def _folder(task: Task, store: Store) -> Path:
    return store.work / task.folder


def _seconds(task: Task, store: Store) -> float:
    return read_note(_folder(task, store))["seconds"]


def _versions(task: Task, store: Store) -> dict[str, str]:
    """Of the packages that made a stage: what its note says."""
    return read_note(_folder(task, store))["made_with"]


def _recipe_settings(file: Task) -> dict[str, Any]:
    """What a file was made with beside its recipe's row: those of its settings that it has."""
    settings = plain({k: v for k, v in file.settings.items() if k not in ("recipe", "row", "seed")})
    return {name: value for name, value in settings.items() if value is not None}
