"""A class that is missing from test, or from its clean part: one definition of macro scores in all tables."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from kdtf.evidence.metrics import classification_report
from kdtf.evidence.tables import CLASS_COLUMNS, all_tables, file_evidence, subsets
from kdtf.report import gallery, write
from kdtf.report.cells import Cell, interval_cell, interval_text
from kdtf.report.frames import classes as class_frame
from kdtf.report.frames import frontier as frontier_frame
from kdtf.report.page import render
from kdtf.report.subjects import RunSubject
from kdtf.store import Store

MACRO = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}


def expected(probs, labels):
    """Macro scores over the classes that occur in the labels, by scikit-learn."""
    present, named = np.unique(labels), probs.argmax(axis=1)
    settings = {"labels": present, "average": "macro", "zero_division": 0}
    return {name: metric(labels, named, **settings) for name, metric in MACRO.items()}


@pytest.fixture(params=["test", "clean"])
def study(request, subjects):
    """Class 2 is missing from all of test, or from the images without a copy."""
    own = subjects.run.study
    labels, clean = own.truth.test, np.arange(60) >= 6
    if request.param == "test":
        labels = labels % 2
    else:
        clean = clean & (labels != 2)
    truth = own.truth._replace(test=labels)
    return replace(own, truth=truth, subsets=subsets(truth, clean, 0))


def test_macro_scores_are_over_the_classes_that_occur_in_every_table(study, subjects):
    file = subjects.alone.files[1]
    probs, labels, clean = file.predictions.test_probs, study.truth.test, study.subsets[1].rows
    row = study.row(file)  # of summary.csv, runs.csv, TinyEvalRes_Quant.csv and *_models.csv
    rows = all_tables([file.predictions._replace(recipe="keras")], study.truth, study.subsets)["intervals"]
    intervals = {(line["images"], line["metric"]): line["value"] for line in rows}
    card = file_evidence(file.predictions, study.truth, study.subsets)
    report = {line["class"]: line for line in classification_report(probs, labels, study.truth.classes)}
    for name, value in expected(probs, labels).items():
        assert row[name] == pytest.approx(value), name
        assert intervals["all", name] == pytest.approx(value, abs=1e-6)
        assert card.test[name][0] == pytest.approx(value, abs=1e-6)
        assert report["macro avg"]["f1-score" if name == "f1" else name] == pytest.approx(value)
    for name, value in expected(probs[clean], labels[clean]).items():
        assert row[f"clean_{name}"] == pytest.approx(value), name
        assert intervals["clean", name] == pytest.approx(value, abs=1e-6)
        assert card.clean[name][0] == pytest.approx(value, abs=1e-6)


def test_areas_are_undefined_where_a_class_is_missing(study, subjects):
    row = study.row(subjects.distilled.files[1])
    missing_everywhere = len(np.unique(study.truth.test)) == 2
    assert (row["auc"] is None) == missing_everywhere and row["clean_auc"] is None


def test_the_page_leaves_undefined_values_empty():
    """They were "nan (nan to nan)"."""
    assert interval_text(np.nan, np.nan, np.nan, ".2f") is None
    assert interval_text(0.5, np.nan, np.nan, ".2f") == "0.50"
    assert interval_text(0.5, 0.25, 0.75, ".2f") == "0.50 (0.25 to 0.75)"
    row = pd.Series({"value": 0.5, "low": 0.25, "high": 1.0})
    assert interval_cell(row) == Cell("0.500 (0.250 to 1.000)", 0.5) and interval_cell(row * np.nan) is None


def test_a_class_without_test_images_has_empty_cells_on_the_page(subjects):
    study = subjects.run.study
    truth = study.truth._replace(test=study.truth.test % 2)
    models = [subjects.alone.predictions]
    rows = all_tables(models, truth, subsets(truth, np.ones(60, bool), 0))["classes"]
    chosen = pd.Series({"teacher": "alone", "model": "alone", "recipe": "int8", "seed": 0})
    frame = class_frame({"classes": pd.DataFrame(rows)}, chosen).set_index("class")
    assert pd.isna(frame.loc["worse", "sensitivity"]) and frame.loc["well", "sensitivity"].startswith("0.")
    texts = [cell for cell in frame.to_numpy().ravel() if isinstance(cell, str)]
    assert texts and not any("nan" in text for text in texts)


def test_where_every_test_image_is_a_copy_no_clean_score_is_told(subjects):
    """`summary.csv` gave all images for clean ones."""
    own = subjects.run.study
    study = replace(own, subsets=subsets(own.truth, np.zeros(60, bool), 0))
    run = replace(subjects.run, study=study)
    for row in run.summary:
        assert row["clean_images"] == 0 and row["test_images"] == 60
        assert {row[name] for name in row if name.startswith("clean_") and name != "clean_images"} == {None}
    frame = frontier_frame({"frontier": pd.DataFrame(run.frontier_rows)})
    assert "on test" in frame and "without copies" not in frame


def test_of_many_classes_there_are_no_ranking_curves(subjects, monkeypatch):
    assert gallery._ranking(subjects.teacher)
    monkeypatch.setattr(gallery, "MOST_RANKED", 2)
    assert gallery._ranking(subjects.teacher) is None


def test_a_val_of_one_class_leaves_a_table_of_classes_with_its_columns(subjects, tmp_path, monkeypatch):
    """`load` refuses such data; a data set made by hand may have it. The page could not be drawn."""
    monkeypatch.setattr(gallery, "GALLERY", ())
    own, store = subjects.run.study, Store(tmp_path)
    study = replace(own, truth=own.truth._replace(val=np.zeros_like(own.truth.val)))
    models = [model for model in subjects.run.models if model.predictions.recipe in ("keras", "int8")]
    write.write_run_report(RunSubject(study, tuple(models)), store)
    assert (tmp_path / "per_class.csv").read_text() == ",".join(CLASS_COLUMNS) + "\n"
    write.write_audit_report(subjects.audit, store)
    facts = {"name": "x", "digest": "d", "synthetic": False, "images": {"val": 24, "test": 60}}
    manifest = {"config": {"run": {"seed": 0}}, "versions": {}, "warnings": [], "data": facts}
    store.write_json("manifest.json", {**manifest, "outputs": store.outputs})
    assert "Ship " in render(tmp_path)


def test_the_columns_of_the_table_of_classes_are_those_of_its_rows(subjects):
    study = subjects.run.study
    rows = all_tables([subjects.alone.predictions], study.truth, study.subsets)["classes"]
    assert [tuple(row) for row in rows] == [CLASS_COLUMNS] * 3
