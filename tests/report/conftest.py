"""A small run of records that no network made, and its results folder."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from small_run import made_once

from kdtf.config import EvidenceConfig
from kdtf.data.audit import Audit
from kdtf.data.copies import Pair
from kdtf.data.dataset import Dataset, Split
from kdtf.evidence.bootstrap import draw
from kdtf.evidence.tables import Subset, subsets
from kdtf.records import (
    KERAS,
    Agreement,
    Attention,
    FileFacts,
    FileResult,
    FrontierFile,
    GroundTruth,
    Predictions,
    Rule,
    StudentResult,
    Subgroups,
    TeacherResult,
    TensorError,
)
from kdtf.report import subjects as records
from kdtf.report import write
from kdtf.store import Store

CLASSES = ("well", "ill", "worse")
# rules that every file meets
ANYTHING_GOES = EvidenceConfig(
    ship_over_majority=-1,
    ship_sensitivity=0,
    ship_distilled_loss=0.9,
    ship_file_loss=1,
    ship_val_images=0,
    ship_group_accuracy=0,
)
RNG = np.random.default_rng(0)
ERRORS = [
    TensorError("0 CONV_2D", "conv", True, 0.99, 40.0, 0.1, 50.0),
    TensorError("1 MAX_POOL_2D", "pool", False, 0.9, 10.0, 0.2, None),
    TensorError("2 FULLY_CONNECTED", "dense", True, 0.95, 20.0, 0.3, 45.0),
]


def split(count: int) -> Split:
    small = RNG.integers(0, 256, (count, 8, 8, 1), np.uint8)
    sex = Subgroups(
        "sex", ("F", "M", "unknown"), np.repeat([0, 1, 2], [count // 2, count - count // 2 - 4, 4])
    )
    large = small.repeat(2, axis=1).repeat(2, axis=2)
    return Split(small, np.arange(count) % 3, None, large, subgroups=(sex,))


DATA = Dataset(split(30), split(24), split(60), CLASSES, "digest", (), False, "/somewhere/chest")


def probabilities(labels: np.ndarray, right: float) -> np.ndarray:
    """Of a model that is right on about a part `right` of the images."""
    top = np.where(RNG.random(len(labels)) < right, labels, (labels + 1) % 3)
    return (0.6 * np.eye(3)[top] + 0.4 * RNG.dirichlet(np.ones(3), len(labels))).astype(np.float32)


def predictions(teacher: str, model: str, recipe: str, seed: int, right: float) -> Predictions:
    val, test = probabilities(DATA.val.labels, right), probabilities(DATA.test.labels, right)
    return Predictions(teacher, model, recipe, seed, val, test, 1.5)


def history(phases: tuple[str, ...]) -> list[dict]:
    row = {"accuracy": 0.5, "loss": 1.0, "cross_entropy": 1.0}
    row |= {f"val_{name}": value for name, value in row.items()}
    return [{"epoch": i + 1, "phase": phase, **row} for i, phase in enumerate(phases)]


def student(teacher: str, model: str, seed: int) -> tuple[StudentResult, tuple[FileResult, ...]]:
    rule = Rule(0.25, 3.0, "kd") if model == "distilled" else None
    origin = "ImageNet" if rule else None
    float_probs = predictions(teacher, model, KERAS, seed, 0.8 if rule else 0.6)
    rows = history(("student",) * 3)
    agreement = (Agreement("train", 30, 0.9, 0.8, 0.7),) if rule and seed == 0 else ()
    facts = (rule, origin, {}, {}, 1000, 60.0, 7.5, rows, agreement)
    own = StudentResult(float_probs, "k", Path(), "cnn3", "random weights", *facts)
    files = []
    for recipe in ("float32", "int8", "int8-qat"):
        probs = predictions(teacher, model, recipe, seed, 0.7)
        facts = FileFacts(recipe, "sha", 2048 * (1 + (recipe == "float32")), 1024, 0.5, 3, 9, {}, {})
        tuning = history(("fine-tuning",)) if recipe == "int8-qat" else []
        errors = [] if recipe == "float32" else ERRORS
        files.append(FileResult(probs, "k", Path(), own, facts, {}, {}, tuning, errors))
    return own, tuple(files)


def teacher(name: str) -> TeacherResult:
    rows = history(("head", "head", "whole network"))
    probs = predictions(name, "teacher", KERAS, 0, 0.9)
    return TeacherResult(probs, "k", "ImageNet", True, 20000, 900.0, 99.5, rows)


PAIRS = [
    Pair("exact", ("train", 3), ("test", 3), 1.0, False),
    Pair("exact", ("val", 0), ("val", 4), 1.0, True),
]
FINDING = {"check": "exact copies across splits", "split": "test", "other": "train", "name": ""}
COUNTS = [
    {"check": "class count", "split": name, "other": "", "name": c, "count": n // 3, "of": n, "value": 1 / 3}
    for name, n in (("train", 30), ("val", 24), ("test", 60))
    for c in CLASSES
]
AUDIT = Audit([{**FINDING, "count": 1, "of": 60, "value": None}, *COUNTS], PAIRS, {}, [])


def frontier_file(students: list[tuple[StudentResult, tuple[FileResult, ...]]]) -> FrontierFile:
    """The int8 files of a student from every seed."""
    return FrontierFile("cnn3", 8, tuple(files[1] for _, files in students), 12.5, 30.0)


def parts_of(truth: GroundTruth, clean: np.ndarray) -> list[Subset]:
    """The parts of test with a tenth of the draws: 25 models and more take seconds with all of them."""
    rng = np.random.default_rng(0)
    return [
        part._replace(draws=draw(len(part.rows), rng=rng, draws=200)) for part in subsets(truth, clean, 0)
    ]


class Subjects(NamedTuple):
    """A run of one teacher, two seeds and a baseline, on data of which some images have copies."""

    audit: records.AuditSubject
    alone: records.StudentSubject
    baseline: records.StudentSubject
    teacher: records.TeacherSubject
    distilled: records.StudentSubject
    run: records.RunSubject


@pytest.fixture(scope="session")
def subjects() -> Subjects:
    truth = DATA.ground_truth
    parts = parts_of(truth, np.arange(60) >= 6)
    images = DATA.test.teacher_pixels
    study = records.Study("chest", False, truth, images, parts, 0, None, True, ANYTHING_GOES)
    students = {
        (name, model): [student(name, model, seed) for seed in (0, 1)]
        for name, model in (("alone", "alone"), ("baseline", "baseline"), ("vgg16", "distilled"))
    }
    first = {name: pairs[0] for (name, _), pairs in students.items()}
    heat = {kind: RNG.random((2, 4, 4), np.float32) for kind in ("teacher", "distilled", "alone")}
    attention = Attention(np.array([7, 8]), heat)
    vgg16 = teacher("vgg16")
    beside = [first[name][0] for name in ("alone", "vgg16", "baseline")]
    ordered = [model for pairs in students.values() for own, files in pairs for model in (own, *files)]
    ordered.insert(16, vgg16)
    return Subjects(
        records.AuditSubject(DATA, AUDIT),
        *(records.StudentSubject(study, *first[name]) for name in ("alone", "baseline")),
        records.TeacherSubject(study, vgg16, *beside, attention),
        records.StudentSubject(study, *first["vgg16"]),
        records.RunSubject(study, tuple(ordered), tuple(map(frontier_file, students.values()))),
    )


def written(subjects: Subjects, store: Store) -> None:
    """Every report of the run."""
    write.write_audit_report(subjects.audit, store)
    write.write_teacher_report(subjects.teacher, store)
    for own in (subjects.alone, subjects.baseline, subjects.distilled):
        write.write_student_report(own, store)
    write.write_run_report(subjects.run, store)


def make_results(subjects: Subjects, folder: Path) -> None:
    """All tables and pictures, and a manifest."""
    store = Store(folder)
    written(subjects, store)
    config = {"run": {"seed": 0}, "data": {"data": "/somewhere/chest"}, "student": {"epochs": 3}}
    ship = {"teacher": "vgg16", "model": "distilled", "recipe": "int8", "seed": 0}
    data = {"name": "chest", "digest": "digest", "synthetic": False}
    data["images"] = {"train": 30, "val": 24, "test": 60}
    manifest = {"config": config, "data": data, "versions": {"numpy": "2"}, "warnings": ["Mind this."]}
    store.write_json("manifest.json", {**manifest, "ship": ship, "outputs": dict(store.outputs)})


@pytest.fixture(scope="session")
def results(subjects, tmp_path_factory) -> Path:
    """The results folder, its page not yet drawn, which no test may change."""
    return made_once(tmp_path_factory, "records", lambda folder: make_results(subjects, folder))
