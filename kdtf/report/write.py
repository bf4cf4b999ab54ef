"""The report of a subject: all its tables and pictures, written into the results folder.

The files that a report speaks of (`.tflite`, `.h5`, `.keras` and their cards) are not written here.
"""

from ..evidence.tables import TABLES as EVIDENCE
from ..store import Store
from . import gallery, tables
from .figures import png
from .subjects import AuditSubject, FileSubject, RunSubject, StudentSubject, Subject, TeacherSubject


def write_teacher_report(subject: TeacherSubject, store: Store) -> None:
    """Everything about a teacher, beside the students of its seed."""
    _write(subject, store)


def write_student_report(subject: StudentSubject, store: Store) -> None:
    """Everything about a student and its `.tflite` files."""
    _write(subject, store)
    for file in subject.files:
        _write(FileSubject(subject.study, file), store)


def write_run_report(subject: RunSubject, store: Store) -> list[dict]:
    """The tables and pictures over all models, and the class names; returns the rows of `summary.csv`."""
    _write(subject, store)
    for name, table in EVIDENCE.items():
        store.write_csv(table.file, subject.evidence[name], table.columns)
    store.write("labels.txt", "".join(f"{name}\n" for name in subject.study.truth.classes))
    return subject.summary


def write_audit_report(subject: AuditSubject, store: Store) -> None:
    """What is wrong with the data: tables, and contact sheets of the worst pairs of copies."""
    _write(subject, store)


def _write(subject: Subject, store: Store) -> None:
    """Every table and picture of a subject. One that it does not have is removed: it is of an earlier run."""
    for table in tables.TABLES:
        if isinstance(subject, table.subjects):
            name, rows = table.file.format(**subject.names), table.rows(subject)
            if rows is None:
                store.path(name).unlink(missing_ok=True)
            else:
                store.write_csv(name, rows, table.columns)
    for picture in gallery.GALLERY:
        if isinstance(subject, picture.subjects):
            name, record = picture.file.format(**subject.names), picture.compute(subject)
            if record is None:
                store.path(name).unlink(missing_ok=True)
            else:
                figure = picture.draw(record, synthetic=subject.synthetic)
                store.write(name, png(figure))
