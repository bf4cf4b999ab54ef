"""Scores by group in the report: tables, what the page says first, the picture, a run without any."""

import re
from dataclasses import replace

import pandas as pd
import pytest

from kdtf.evidence.bootstrap import Interval
from kdtf.evidence.metrics import METRICS
from kdtf.report import subgroups
from kdtf.report.page import render
from kdtf.report.tables import TABLES


@pytest.fixture(scope="module")
def section(results):
    return re.search(r'<h2 id="subgroups">.*?<h2 ', render(results), re.DOTALL).group()


def test_the_tables_are_of_the_chosen_file_on_all_and_on_clean_images(subjects, results):
    rows = pd.read_csv(results / "subgroups.csv")
    file = subjects.run.chosen_file.predictions
    assert (rows[["teacher", "model", "recipe", "seed"]] == list(file.name.values())).all(axis=None)
    sizes = rows[rows.metric == "accuracy"].set_index(["images", "group"]).group_images
    assert sizes["all"].to_dict() == {"F": 30, "M": 26, "unknown": 4}
    assert sizes["clean"].to_dict() == {"F": 24, "M": 26, "unknown": 4}
    right = file.test_probs.argmax(1) == subjects.run.study.truth.test
    values = rows[(rows.metric == "accuracy") & (rows.images == "clean")].set_index("group").value
    assert values["F"] == pytest.approx(right[6:30].mean(), abs=1e-6)
    assert set(rows.metric) == {*METRICS, "sensitivity"}
    gaps = pd.read_csv(results / "subgroup_gaps.csv")
    assert gaps[["images", "column", "metric"]].values.tolist()[0] == ["all", "sex", "accuracy"]


def test_the_page_answers_first_and_shows_clean_images_before_all(section, results):
    gaps = pd.read_csv(results / "subgroup_gaps.csv")
    (verdict,) = gaps[(gaps.images == "clean") & (gaps.metric == "accuracy")].verdict
    clean, whole = (f"<h3>By group {name}" for name in ("on the test images without", "on all test"))
    assert section.index(verdict) < section.index(clean) < section.index(whole)
    row = re.search(r"<tr>(?:(?!</tr>).)*>unknown</td>.*?</tr>", section, re.DOTALL).group()
    assert ">no</td>" in row and ">4</td>" in row
    assert section.count("<img") == 1 and "less than" not in verdict


def test_the_picture_has_a_row_a_group_and_hollow_marks_for_those_that_are_not_judged(subjects):
    record = subgroups.subgroups_record(subjects.run, "x")
    left, right = subgroups.draw_subgroups(record).axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["F (24)", "M (26)", "unknown (4)"]
    hollow = [line.get_markerfacecolor() == "white" for line in left.lines if line.get_marker() == "o"]
    assert hollow == [False, False, True]
    assert left.get_xlim()[1] == right.get_xlim()[1] and len(record.classes) == 3
    ends = Interval(1.0, 0.6, 1 - 1e-16)  # what rounding makes of "all are right"
    scores = [own._replace(metrics={**own.metrics, "accuracy": ends}) for own in record.scores]
    assert subgroups.draw_subgroups(record._replace(scores=scores))
    many = record._replace(classes={})
    assert len(subgroups.draw_subgroups(many).axes) == 1


def test_without_groups_there_is_no_table_no_picture_and_no_section(subjects, results):
    study = subjects.run.study
    run = replace(subjects.run, study=replace(study, truth=study.truth._replace(subgroups=())))
    rows = {table.file: table.rows(run) for table in TABLES if table.file.startswith("subgroup")}
    assert rows == {"subgroups.csv": None, "subgroup_gaps.csv": None}
    assert subgroups.subgroups_record(run, "x") is None
    assert subgroups.subgroup_tables({}) == subgroups.subgroup_findings({}) == []
