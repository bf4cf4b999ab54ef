"""Classes may be called anything: what tables say of them comes back as it was written."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from markupsafe import escape

from kdtf.evidence.metrics import class_keys, classification_report, confusion
from kdtf.report import gallery, write
from kdtf.report.csv_files import NAMES, read_csv
from kdtf.report.page import render
from kdtf.report.subjects import AuditSubject, RunSubject
from kdtf.report.tables import confusion_rows
from kdtf.store import Store

HARD_NAMES = [
    ("false", "true", "None"),
    ("NA", "null", "01"),
    ("accuracy", "macro avg", "weighted avg"),
    ("recipe", "class true", "name"),
    ("=1+1", "-1", "@SUM(A1)"),
    ("'=1", "''+1", "'tis"),
    ("\x1b[31mred", "\ttab", "🫁"),
]


@pytest.fixture(scope="module", params=HARD_NAMES, ids=repr)
def classes(request):
    return request.param


@pytest.fixture(scope="module")
def folder(classes, subjects, tmp_path_factory):
    """The results folder of a small run whose classes have other names."""
    study = subjects.run.study
    few = [own._replace(draws=own.draws._replace(times=own.draws.times[:20])) for own in study.subsets]
    study = replace(study, truth=study.truth._replace(classes=classes), subsets=few)
    store, audit = Store(tmp_path_factory.mktemp("names")), subjects.audit
    rows = [{**audit.audit.rows[0], "name": name} for name in classes]
    data = replace(audit.data, classes=classes)
    names = {"teacher": ("alone", "vgg16"), "recipe": ("keras", "int8"), "seed": (0,)}
    models = [
        own
        for own in subjects.run.models
        if all(getattr(own.predictions, name) in values for name, values in names.items())
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gallery, "GALLERY", ())  # tables alone
        write.write_audit_report(AuditSubject(data, replace(audit.audit, rows=rows)), store)
        write.write_teacher_report(replace(subjects.teacher, study=study), store)
        write.write_student_report(replace(subjects.distilled, study=study), store)
        write.write_run_report(RunSubject(study, tuple(models)), store)
    manifest = {"config": {"run": {"seed": 0}}, "versions": {}, "warnings": [], "outputs": store.outputs}
    facts = {"name": "x", "digest": "d", "synthetic": False, "images": {"val": 24, "test": 60}}
    store.write_json("manifest.json", {**manifest, "data": facts})
    return store.root


def test_every_class_has_its_row_under_its_own_name(classes, folder):
    table = read_csv(folder / "per_class.csv")
    assert table["class"].tolist() == list(classes) * (len(table) // 3)
    assert read_csv(folder / "audit.csv")["name"].tolist() == list(classes)
    assert set(read_csv(folder / "audit_pairs.csv")["class"]) <= set(classes)
    predictions = read_csv(folder / "vgg16_predictions.csv")
    assert set(predictions.true) == set(classes) and list(predictions)[4:] == [
        f"p {name}" for name in classes
    ]
    assert predictions.true.tolist() == [classes[i % 3] for i in range(60)]


def test_the_columns_of_a_confusion_matrix_are_all_there(classes, folder, subjects):
    probs, labels = subjects.distilled.predictions.test_probs, subjects.run.study.truth.test
    table = read_csv(folder / "vgg16_student_Confusion.csv")
    assert list(table) == ["true", *class_keys(classes, NAMES)] and table.true.tolist() == list(classes)
    assert table.iloc[:, 1:].to_numpy().tolist() == confusion(probs, labels).tolist()
    files = read_csv(folder / "vgg16_ConfusionTiny.csv")
    assert list(files) == ["recipe", "true", *class_keys(classes, NAMES)]
    assert files.recipe.tolist() == [recipe for recipe in ("float32", "int8", "int8-qat") for _ in classes]


def test_a_class_is_not_taken_for_an_average(classes, folder, subjects):
    table = read_csv(folder / "vgg16_student_classification_report.csv").set_index("class")
    assert len(set(table.index)) == len(table) == 6
    rows = classification_report(
        subjects.distilled.predictions.test_probs, subjects.run.study.truth.test, ("x", "y", "z")
    )
    assert table.loc["macro avg", "recall"] == pytest.approx(rows[4]["recall"], abs=1e-6)
    assert table.loc["accuracy", "f1-score"] == pytest.approx(rows[3]["f1-score"], abs=1e-6)


def test_the_page_names_every_class(classes, folder):
    page = render(folder)
    for name in classes:
        assert f">{escape(name)}</td>" in page


def test_no_name_is_a_formula_to_a_spreadsheet(classes, folder):
    """Read as plain text, as spreadsheets read it."""
    bare = {name.lstrip("'") for name in classes}
    for path in folder.glob("*.csv"):
        cells = pd.read_csv(path, dtype=str, keep_default_na=False, header=None).to_numpy().ravel().tolist()
        names = [cell for cell in cells if cell.lstrip("'") in bare]
        assert not any(name.startswith(("=", "+", "-", "@", "\t")) for name in names), path.name


def test_names_that_are_not_taken_stay_and_else_all_classes_are_told_apart():
    assert class_keys(("a", "b"), ("true",)) == ["a", "b"]
    assert class_keys(("a", "true"), ("true",)) == ["class a", "class true"]
    assert confusion_rows(np.eye(2), ("true", "false")) == [
        {"true": "true", "class true": 1, "class false": 0},
        {"true": "false", "class true": 0, "class false": 1},
    ]


def test_numbers_and_empty_cells_are_read_as_before(results):
    for path in results.glob("*.csv"):
        ours, theirs = read_csv(path), pd.read_csv(path)
        for column in ours:
            if column not in NAMES:
                pd.testing.assert_series_equal(ours[column], theirs[column])
    summary = read_csv(results / "summary.csv")
    assert summary.alpha.isna().any() and summary.teacher_weights.isna().any()
