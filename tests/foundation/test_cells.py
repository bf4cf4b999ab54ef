"""Cells of CSV files: no text is a formula to a spreadsheet, and every text comes back."""

import csv
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdtf.predictor import BundleError, Predictor, Row, cell, read_bundle, saved, text_of
from kdtf.report.csv_files import read_csv
from kdtf.store import Store

BEGINS_FORMULAS = "=+-@\t\r\n＝＋－＠"


@pytest.mark.parametrize(
    "text, written",
    [
        ("=HYPERLINK(A1)", "'=HYPERLINK(A1)"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("＝1", "'＝1"),
        ("'=1", "''=1"),
        ("''-1", "'''-1"),
        ("'tis", "'tis"),
        ("well", "well"),
        ("1=1", "1=1"),
        ("", ""),
    ],
)
def test_formulas_are_quoted_and_nothing_else(text, written):
    assert cell(text) == written and text_of(written) == text


@pytest.mark.parametrize("value", [-1, -0.5, None, True, np.float64(-2)])
def test_what_is_no_text_stays(value):
    assert cell(value) is value and text_of(value) is value


@given(st.text(alphabet=st.sampled_from("'=+-@a1 \t＝"), max_size=6) | st.text())
def test_every_text_comes_back_and_begins_no_formula(text):
    assert text_of(cell(text)) == text
    assert not cell(text).startswith(tuple(BEGINS_FORMULAS))


def test_a_table_comes_back_with_its_columns_and_its_empty_cells(tmp_path):
    rows = [{"=a": "-x", "class": "NA", "n": -1.5}, {"=a": None, "class": "true", "n": None}]
    path = Store(tmp_path).write_csv("t.csv", rows)
    assert path.read_text() == "'=a,class,n\n'-x,NA,-1.5\n,true,\n"
    table = read_csv(path)
    assert list(table) == ["=a", "class", "n"] and table["class"].tolist() == ["NA", "true"]
    assert table["=a"][0] == "-x" and pd.isna(table["=a"][1])
    assert table.n[0] == -1.5 and np.isnan(table.n[1])


def test_columns_of_a_table_without_rows_are_quoted_too(tmp_path):
    path = Store(tmp_path).write_csv("t.csv", [], ("=a", "b"))
    assert path.read_text() == "'=a,b\n" and list(read_csv(path)) == ["=a", "b"]


def test_predictions_are_written_as_cells(tmp_path):
    classes = ("=cmd|' /C calc'!A0", "NA")
    probs = np.array([0.75, 0.25])
    rows = [Row(f"{start}scan.png", 0, classes[0], 0.75, False, "", "", probs) for start in "=-+@a"]
    assert list(saved(rows, classes, tmp_path / "out.csv")) == rows
    text = (tmp_path / "out.csv").read_text()
    for line in list(csv.DictReader(io.StringIO(text)))[:-1]:
        assert line["file"].startswith("'") and line["class"] == f"'{classes[0]}"
    table = read_csv(tmp_path / "out.csv")
    assert table.file.tolist() == [row.file for row in rows]
    assert table["class"].tolist() == [classes[0]] * 5
    assert table[[f"p {name}" for name in classes]].to_numpy().tolist() == [[0.75, 0.25]] * 5


@pytest.mark.parametrize("value", [1e-300, 9e-4, 1001, 1e300])
def test_a_card_of_a_temperature_that_makes_no_probabilities_is_refused(bundle, value):
    """1e-300 is 0 in float32, and all probabilities were nan."""
    with pytest.raises(BundleError, match=r"s\.json must have a temperature between 0\.001 and 1000\. Got"):
        read_bundle(bundle(temperature=value))


@pytest.mark.parametrize("value", [0.001, 0.05, 20, 1000.0])
def test_the_temperatures_of_a_card_give_probabilities(bundle, value):
    probs = Predictor(bundle(temperature=value)).calibrated(np.array([[0.5, 0.4, 0.1]], np.float32))
    assert np.isfinite(probs).all() and probs.sum() == pytest.approx(1)
