"""What kdtf 0.1.0 left is read today, without its `work/`. How it was made: earlier/README.md."""

import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_run import table

from kdtf.cli import main
from kdtf.report.cells import MARK

ARCHIVE = Path(__file__).parent / "earlier" / "results-0.1.0.tar.xz"
STUDENTS = ("alone", "cnn5")


@pytest.fixture
def earlier(tmp_path):
    """The folder of the run: `Results`, and the test images and labels beside it."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    assert not (tmp_path / "Results" / "work").exists()
    return tmp_path


def answer(page):
    """What a page opens with: the file to ship, and numbers with their names."""
    return re.findall(r"Ship [^<]*", page), re.findall(r"<b>([^<]*)</b><span>([^<]*)</span>", page)


def rows(page, section):
    """The texts of the cells of every row of a section's first table."""
    body = re.search(rf'<h2 id="{section}">.*?<tbody>(.*?)</tbody>', page, re.DOTALL)[1]
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in body.split("</tr>")]
    return [[re.sub(r"<[^>]*>", "", cell).strip() for cell in row] for row in cells if row]


def test_report_draws_its_page_again_with_the_scores_that_it_had(earlier, capsys):
    results = earlier / "Results"
    old = (results / "report.html").read_text(encoding="utf-8")
    (results / "report.html").unlink()
    assert main(["report", "--results", str(results)]) == 0 and "report.html" in capsys.readouterr().out
    page = (results / "report.html").read_text(encoding="utf-8")
    assert answer(page)[0] == answer(old)[0]
    summary = table(results, "summary.csv")
    (shipped,) = summary.query("teacher == 'cnn5' and recipe == 'int8'").itertuples()
    assert answer(page)[0] == ["Ship cnn5_Student_int8.tflite: the student distilled from cnn5, recipe int8."]
    facts = {name: value for value, name in answer(page)[1]}
    copies = shipped.test_images - shipped.clean_images
    assert facts[f"accuracy on test, {copies} copies included"] == f"{shipped.accuracy:.3f}"
    assert facts["accuracy without copies"] == f"{shipped.clean_accuracy:.3f}"
    assert "largest class, always named" not in facts and "met</b>" not in page  # it was not judged
    scores = slice(0, 8)  # teacher, model, recipe and scores: other numbers were written in several ways
    models, before = rows(page, "models"), rows(old, "models")
    assert len(models) == len(summary) == 5 and sum(MARK in row[0] for row in models) == 1
    unmarked = [[row[0].replace(MARK, "").strip(), *row[1:]] for row in models]
    assert [row[scores] for row in unmarked] == [row[scores] for row in before]
    assert [row[3].split()[0] for row in models] == [f"{value:.3f}" for value in summary.accuracy]
    for section in ("comparisons", "calibration", "files"):
        assert len(rows(page, section)) >= len(rows(old, section)) > 0, section
    points = table(results, "per_class.csv").query("teacher == 'cnn5' and recipe == 'int8'")
    assert [row[:2] for row in rows(page, "thresholds")] == [
        [name, f"{value:.3f}"] for name, value in zip(points["class"], points.threshold, strict=True)
    ]
    audit = {tuple(row[:3]) for row in rows(old, "audit") if row[0] != "class count"}
    assert {tuple(row[:3]) for row in rows(page, "audit")} == audit
    manifest = json.loads((results / "manifest.json").read_text())
    assert all(text in page for text in manifest["warnings"]) and manifest["data"]["digest"] in page


@pytest.mark.parametrize("student", STUDENTS)
def test_its_students_give_the_classes_that_were_counted(student, earlier, capsys):
    file, out = earlier / "Results" / f"{student}_Student_int8.tflite", earlier / "p.csv"
    images = str(earlier / "X_test.npy")
    assert main(["predict", str(file), images, "--csv", str(out)]) == 0
    predicted, labels = pd.read_csv(out), np.load(earlier / "y_test.npy")
    classes = (earlier / "Results" / "labels.txt").read_text().split()
    counts = table(earlier / "Results", f"{student}_ConfusionTiny.csv").set_index("true")[classes]
    for i, true in enumerate(classes):
        mine = predicted["class"][labels == i].value_counts().reindex(classes, fill_value=0)
        assert mine.tolist() == counts.loc[true].tolist(), true
    capsys.readouterr()
    assert main(["predict", str(file), images]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [line[0] for line in lines if line[0] in classes] == predicted["class"].tolist()


def test_status_tells_that_nothing_of_it_is_a_stage(earlier, capsys):
    results = earlier / "Results"
    assert main(["status", "--results", str(results)]) == 0
    assert capsys.readouterr().out == f"{results}: 0 finished stages, 0 to be made.\n"
    assert not (results / "work").exists()
