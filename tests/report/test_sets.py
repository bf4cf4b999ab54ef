"""Prediction sets on the page: the chosen file's, clean images first, and where the promise does not hold."""

import json
import re

import pandas as pd
import pytest

from kdtf.report.answer import chosen_file
from kdtf.report.frames import read_tables
from kdtf.report.page import render
from kdtf.report.sets import set_section


@pytest.fixture
def tables(results):
    """The tables of a run of which val has 8 images of each class."""
    return read_tables(results, [path.name for path in results.iterdir()])


@pytest.fixture
def chosen(tables, results):
    return chosen_file(tables, json.loads((results / "manifest.json").read_text()))


def test_the_sets_of_the_chosen_file_stand_first_on_clean_images(results):
    own = re.search(r'<h2 id="sets">.*?<h2 ', render(results), re.DOTALL).group()
    clean, whole, every = own.split('<div class="scroll"')[1:]
    rows = pd.read_csv(results / "sets.csv")
    rows = rows[(rows.teacher == "vgg16") & (rows.recipe == "int8") & (rows.seed == 0)]
    for part, images in ((clean, "clean"), (whole, "all")):
        assert part.count("<tr") == 1 + 4
        for row in rows[rows.images == images].itertuples():
            cells = re.findall(r">([^<]*)</td>", re.search(rf">{row[8]}</td>.*?</tr>", part).group())
            assert cells[:3] == [row[8], str(row.val_images), str(row.test_images)]
            assert cells[3] == f"1.00 ({row.coverage_low:.2f} to 1.00)" and row.coverage == 1
            assert cells[5:] == ["3.00", "0", "0", "0", str(row.test_images)]
    assert every.count("<tr") == 1 + 9 * 2 * 4 and own.count("<img") == 1
    assert own.index("without a copy in train or val</h3>") < own.index("on all test images</h3>")


def test_a_val_that_is_too_small_for_the_promise_is_told_class_by_class(tables, chosen):
    text, _, notes = set_section(tables, chosen)
    assert "at least 90 % have their class in their set" in text
    takes = "that count, and a coverage of 90 % takes 9"
    assert notes == [
        f"Val has 8 images of {name} {takes}: {name} is in every prediction set, and a set of it alone says "
        "nothing."
        for name in ("well", "ill", "worse")
    ]


def test_a_promise_that_test_does_not_bear_out_is_told_of_the_chosen_file_alone(tables, chosen):
    rows = tables["sets"].assign(val_images=20, likely_low=0.7).astype({"coverage": float})
    rows.loc[rows["class"] == "ill", "coverage"] = 0.4
    own = (rows.teacher == "vgg16") & (rows.recipe == "int8") & (rows.seed == 0)
    rows.loc[own & (rows.images == "all"), "coverage"] = 0.9
    (note,) = set_section({"sets": rows}, chosen)[2]
    assert "the promise out for ill: 40 % of its" in note
    rows.loc[own, "coverage"] = 0.7
    assert set_section({"sets": rows}, chosen)[2] == []


def test_a_run_of_before_there_were_sets_has_no_such_section(tables, chosen):
    assert set_section({name: own for name, own in tables.items() if name != "sets"}, chosen) == ("", [], [])
