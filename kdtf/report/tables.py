"""The CSV tables of a report, one row of `TABLES` each: file name, subject, rows. Writes nothing.

Scores come from `evidence`, whose own tables are listed there.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.copies import Pair
from ..data.dataset import Dataset
from ..data.traces import Traces
from ..evidence.choose import worst_error
from ..evidence.metrics import METRICS, class_keys, classification_report, confusion
from ..records import KERAS, Agreement, TensorError
from .csv_files import NAMES
from .figures import MODELS
from .subjects import AuditSubject, FileSubject, RunSubject, StudentSubject, TeacherSubject

MODEL_COLUMNS = {
    **{name: METRICS[name].heading for name in ("loss", "accuracy", "auc", "f1", "precision", "recall")},
    "parameters": "Parameters",
    "train_seconds": "Training, s",
}
ERROR_COLUMNS = ("recipe", *TensorError._fields, "worst")
AGREEMENT_COLUMNS = ("teacher", *Agreement._fields)
AUDIT_COLUMNS = ("check", "split", "other", "name", "count", "of", "value")
PAIR_COLUMNS = (
    "kind", "split", "index", "class", "other", "other_index", "other_class", "correlation", "conflict",
    "source", "row", "file", "other_source", "other_row", "other_file",
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A CSV file of every subject of the types `subjects`.

    `file` is its name, with `names` of the subject in braces; `rows` gives its records, or None where the
    subject has no such table. `columns` are named where there may be no row.
    """

    file: str
    subjects: tuple[type, ...]
    rows: Callable[[Any], Iterable[dict] | None]
    columns: tuple[str, ...] | None = None


def confusion_rows(counts: np.ndarray, classes: Sequence[str]) -> list[dict]:
    """A confusion matrix (K, K) as a row for each true class; columns are called as in `class_keys`."""
    columns = class_keys(classes, NAMES)
    return [
        {"true": true, **dict(zip(columns, map(int, row), strict=True))}
        for true, row in zip(classes, counts, strict=True)
    ]


def prediction_rows(
    probs: np.ndarray, labels: np.ndarray, classes: Sequence[str], index: Iterable[int] | None = None
) -> list[dict]:
    """Probabilities (N, K) beside the true labels (N,); `index` is what the rows are called, 0 to N - 1."""
    return [
        {
            "index": i,
            "true": classes[label],
            "predicted": classes[p.argmax()],
            "correct": int(p.argmax() == label),
            **{f"p {c}": float(v) for c, v in zip(classes, p, strict=True)},
        }
        for i, p, label in zip(range(len(probs)) if index is None else index, probs, labels, strict=True)
    ]


def quantization_error_rows(subject: StudentSubject) -> list[dict]:
    """How far every layer of every file is from float; `worst` marks one of each file."""
    rows: list[dict] = []
    for file in subject.files:
        worst = worst_error(file.errors) if file.errors else None
        recipe = file.predictions.recipe
        rows += [{"recipe": recipe, **e._asdict(), "worst": int(e is worst)} for e in file.errors]
    return rows


def _teacher_history(subject: TeacherSubject) -> list[dict] | None:
    return _with_origin(subject.teacher.history, subject.teacher.weights) or None


def _distilled_history(subject: StudentSubject) -> list[dict] | None:
    student = subject.student
    return _with_origin(student.history, student.teacher_weights) if student.rule else None


def _alone_history(subject: StudentSubject) -> list[dict] | None:
    return None if subject.student.rule else _with_origin(subject.student.history, None)


def _with_origin(history: list[dict], teacher_weights: str | None) -> list[dict]:
    return [{**row, "teacher_weights": teacher_weights} for row in history]


def _models(subject: TeacherSubject) -> list[dict]:
    """The scores of a teacher and of the students beside it."""
    rows = [subject.study.row(result) for result in subject.models.values()]
    return [
        {"Model": MODELS[row["model"]].label, **{name: row[k] for k, name in MODEL_COLUMNS.items()}}
        for row in rows
    ]


def _classification_report(subject: TeacherSubject | StudentSubject) -> list[dict]:
    truth = subject.study.truth
    return classification_report(subject.predictions.test_probs, truth.test, truth.classes)


def _confusion(subject: TeacherSubject | StudentSubject) -> list[dict]:
    truth = subject.study.truth
    return confusion_rows(confusion(subject.predictions.test_probs, truth.test), truth.classes)


def _file_confusions(subject: StudentSubject) -> list[dict]:
    truth = subject.study.truth
    return [
        {"recipe": file.predictions.recipe, **row}
        for file in subject.files
        for row in confusion_rows(confusion(file.predictions.test_probs, truth.test), truth.classes)
    ]


def _predictions(subject: StudentSubject) -> list[dict]:
    truth = subject.study.truth
    return prediction_rows(subject.predictions.test_probs, truth.test, truth.classes)


def _files(subject: RunSubject) -> list[dict]:
    rows = [row for row in subject.summary if row["recipe"] != KERAS]
    return [{c: value for c, value in row.items() if c != "train_seconds"} for row in rows]


def _pairs(subject: AuditSubject) -> list[dict]:
    traces = Traces(subject.data)
    return [_pair_row(pair, subject.data, traces) for pair in subject.audit.pairs]


def _pair_row(pair: Pair, data: Dataset, traces: Traces) -> dict:
    ends = [(split, i, data.class_name(split, i)) for split, i in (pair.first, pair.second)]
    places = (*traces.of(*pair.first), *traces.of(*pair.second))
    cells = (pair.kind, *ends[0], *ends[1], pair.correlation, int(pair.conflict), *places)
    return dict(zip(PAIR_COLUMNS, cells, strict=True))


MODEL = (TeacherSubject, StudentSubject)
TABLES: tuple[Table, ...] = (
    Table("{teacher}_teachermodel.csv", (TeacherSubject,), _teacher_history),
    Table("{teacher}_tuning.csv", (TeacherSubject,), lambda subject: subject.tuning or None),
    Table("{teacher}_models.csv", (TeacherSubject,), _models),
    Table("{teacher}_Distiller_history.csv", (StudentSubject,), _distilled_history),
    Table("{teacher}_student_history.csv", (StudentSubject,), _alone_history),
    Table("{model}_classification_report.csv", MODEL, _classification_report),
    Table("{model}_Confusion.csv", MODEL, _confusion),
    Table("{teacher}_predictions.csv", (StudentSubject,), _predictions),
    Table("{teacher}_quantization_error.csv", (StudentSubject,), quantization_error_rows, ERROR_COLUMNS),
    Table("{teacher}_ConfusionTiny.csv", (StudentSubject,), _file_confusions),
    Table("{teacher}_{recipe}_history.csv", (FileSubject,), lambda subject: subject.file.history or None),
    Table("runs.csv", (RunSubject,), lambda subject: subject.rows),
    Table("summary.csv", (RunSubject,), lambda subject: subject.summary),
    Table("TinyEvalRes_Quant.csv", (RunSubject,), _files),
    Table("agreement.csv", (RunSubject,), lambda subject: subject.agreement, AGREEMENT_COLUMNS),
    Table("verdict.csv", (RunSubject,), lambda subject: [row._asdict() for row in subject.verdict]),
    Table("subgroups.csv", (RunSubject,), lambda subject: subject.group_rows),
    Table("subgroup_gaps.csv", (RunSubject,), lambda subject: subject.gap_rows),
    Table("frontier.csv", (RunSubject,), lambda subject: subject.frontier_rows),
    Table("audit.csv", (AuditSubject,), lambda subject: subject.audit.rows, AUDIT_COLUMNS),
    Table("audit_pairs.csv", (AuditSubject,), _pairs, PAIR_COLUMNS),
)
