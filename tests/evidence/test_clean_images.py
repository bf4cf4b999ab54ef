"""Test images without a copy elsewhere: all of them, some, or none at all."""

from types import SimpleNamespace

import numpy as np
import pytest

from kdtf.evidence.evaluate import summary_scores
from kdtf.evidence.frontier import frontier_rows
from kdtf.evidence.tables import TABLES, all_tables, clean_part, file_evidence, subsets
from kdtf.records import FrontierFile, GroundTruth, Predictions

RNG = np.random.default_rng(0)
TRUTH = GroundTruth(("a", "b", "c"), np.arange(30) % 3, np.arange(60) % 3)
NONE, SOME, ALL = np.zeros(60, bool), np.arange(60) >= 6, np.ones(60, bool)


def model(teacher, kind, recipe):
    return Predictions(teacher, kind, recipe, 0, *(RNG.dirichlet([1, 1, 1], n) for n in (30, 60)), 1.0)


MODELS = [
    model("alone", "alone", "keras"),
    model("vgg16", "teacher", "keras"),
    model("vgg16", "distilled", "keras"),
    model("vgg16", "distilled", "int8"),
]


@pytest.mark.parametrize(
    "clean, names, rows", [(NONE, ["all"], None), (SOME, ["all", "clean"], 54), (ALL, ["all"], 60)]
)
def test_the_clean_part_is_told_from_the_whole(clean, names, rows):
    parts = subsets(TRUTH, clean, 0)
    part = clean_part(parts)
    assert [own.name for own in parts] == names and (part and len(part.rows)) == rows


def test_where_no_image_is_clean_every_table_is_there_and_finite():
    tables = all_tables(MODELS, TRUTH, subsets(TRUTH, NONE, 0))
    assert list(tables) == list(TABLES) and all(tables.values())
    assert {row["images"] for row in tables["intervals"]} == {"all"}
    values = [row[end] for row in tables["intervals"] for end in ("value", "low", "high")]
    assert np.isfinite(values).all()


def test_where_no_image_is_clean_a_card_has_no_clean_scores():
    evidence = file_evidence(MODELS[3], TRUTH, subsets(TRUTH, NONE, 0))
    assert (evidence.clean, evidence.clean_images) == ({}, 0) and evidence.test_images == 60


def test_where_no_image_is_clean_the_summary_has_no_clean_scores():
    scores = summary_scores(MODELS[2], TRUTH, NONE)
    assert scores["clean_images"] == 0 and not any(name.startswith("clean_a") for name in scores)


@pytest.mark.parametrize("clean, accuracy", [(NONE, None), (SOME, "part"), (ALL, "whole")])
def test_the_frontier_has_clean_scores_of_clean_images_alone(clean, accuracy):
    """It gave the scores of all images for clean ones where every one has a copy."""
    own = SimpleNamespace(predictions=MODELS[3], facts=SimpleNamespace(bytes=2048))
    file = FrontierFile("cnn3", 8, (own,), 1.0, 1.0)
    (row,) = frontier_rows([file], TRUTH, subsets(TRUTH, clean, 0), 0, timings=False)
    right = MODELS[3].test_probs.argmax(1) == TRUTH.test
    wanted = {None: None, "part": right[6:].mean(), "whole": right.mean()}[accuracy]
    assert row["clean_accuracy"] == (wanted and pytest.approx(wanted, abs=1e-6))
    assert (row["clean_low"] is None) == (row["clean_high"] is None) == (accuracy is None)
    assert row["accuracy"] == pytest.approx(right.mean(), abs=1e-6)
