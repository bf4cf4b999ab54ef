"""Where a gain comes from, by values worked out by hand: 40 test images of one class, 10 of val."""

import warnings

import numpy as np
import pytest

from kdtf.evidence.bootstrap import draw, paired_difference
from kdtf.evidence.gains import contrasts, gain_rows, source_of, teacher_in_words
from kdtf.evidence.tables import all_tables, subsets
from kdtf.records import GroundTruth, Predictions

TRUTH = GroundTruth(("a", "b"), np.zeros(10, int), np.zeros(40, int))
ROWS = np.arange(40)
DRAWS = draw(40, rng=np.random.default_rng(0))
COLUMNS = ["teacher", "question", "images", "seeds", "gain", "low", "high", "interval_over", "p", "verdict"]
T_1, T_2 = 12.7062, 4.302653  # Student's t, 97.5 %, one and two degrees of freedom, by the table


def model(teacher, kind, seed, right, val_right=5):
    """Right on the first `right` test images and on `val_right` of val."""
    val, test = (np.eye(2)[(np.arange(n) >= k).astype(int)] for n, k in ((10, val_right), (40, right)))
    return Predictions(teacher, kind, "keras", seed, val, test)


def parts(clean):
    """All test images and the clean ones, with a tenth of the draws: what is compared shares them."""
    rng = np.random.default_rng(0)
    return [
        part._replace(draws=draw(len(part.rows), rng=rng, draws=200)) for part in subsets(TRUTH, clean, 0)
    ]


def students(teacher, rights, kind="distilled"):
    return [model(teacher, kind, seed, right) for seed, right in enumerate(rights)]


def rows_of(models):
    rows = list(gain_rows(models, TRUTH, "all", ROWS, DRAWS))
    assert all(list(row) == COLUMNS for row in rows)
    return {(row["question"], row["teacher"]): row for row in rows}


RUN = [
    *students("alone", (20, 22, 24), "alone"),
    model("vgg16", "teacher", 0, 30, val_right=7),
    *students("vgg16", (24, 24, 30)),
    *students("vgg16-unlabelled", (28, 26, 30)),
    model("resnet", "teacher", 0, 30, val_right=8),
    *students("resnet", (22, 26, 24)),
    *students("resnet-unlabelled", (26, 24, 34)),
    model("ensemble", "teacher", 0, 30, val_right=9),
    *students("ensemble", (26, 26, 30)),
    *students("ensemble-unlabelled", (28, 28, 30)),
]


def test_every_question_has_its_rows_in_order():
    assert [(c.question, c.teacher, c.other) for c in contrasts(RUN, TRUTH)] == [
        ("distilled against alone", "vgg16", "alone"),
        ("distilled against alone", "resnet", "alone"),
        ("distilled against alone", "ensemble", "alone"),
        ("with unlabelled images against alone", "vgg16-unlabelled", "alone"),
        ("with unlabelled images against alone", "resnet-unlabelled", "alone"),
        ("with unlabelled images against alone", "ensemble-unlabelled", "alone"),
        ("with unlabelled images against without", "vgg16-unlabelled", "vgg16"),
        ("with unlabelled images against without", "resnet-unlabelled", "resnet"),
        ("with unlabelled images against without", "ensemble-unlabelled", "ensemble"),
        # resnet is the best single one on val, whatever its students did on test
        ("ensemble against the best single teacher", "ensemble", "resnet"),
        ("ensemble against the best single teacher", "ensemble-unlabelled", "resnet-unlabelled"),
    ]


@pytest.mark.parametrize(
    "question, teacher, gains, words",
    [
        ("distilled against alone", "vgg16", (4, 2, 6), "distilling from vgg16 against training alone"),
        (
            "with unlabelled images against alone",
            "vgg16-unlabelled",
            (8, 4, 6),
            "distilling from vgg16 with unlabelled images against training alone",
        ),
        (
            "with unlabelled images against without",
            "vgg16-unlabelled",
            (4, 2, 0),
            "distilling from vgg16 with unlabelled images against without them",
        ),
        (
            "ensemble against the best single teacher",
            "ensemble",
            (4, 0, 6),
            "distilling from the ensemble against resnet, the best single teacher on val",
        ),
        (
            "ensemble against the best single teacher",
            "ensemble-unlabelled",
            (2, 4, -4),
            "distilling from the ensemble against resnet, the best single teacher on val, both with "
            "unlabelled images",
        ),
    ],
)
def test_gains_over_seeds_by_hand(question, teacher, gains, words):
    row = rows_of(RUN)[question, teacher]
    mean, half = np.mean(gains) / 40, T_2 * np.std(gains, ddof=1) / 40 / np.sqrt(3)
    assert (row["gain"], row["low"], row["high"]) == pytest.approx((mean, mean - half, mean + half), rel=1e-5)
    assert (row["seeds"], row["interval_over"]) == (3, "seeds") and (row["p"] < 0.05) == (mean - half > 0)
    finding = "a gain" if mean - half > 0 else "no evidence of a difference"
    assert row["verdict"].startswith(
        f"Over 3 seeds {words}: {finding} ({100 * mean:+.1f} points on average, "
    )


def test_two_seeds_by_hand():
    """Gains of 4 and 12 of 40 images: mean 0.2, standard error 0.1."""
    row = rows_of([*students("alone", (20, 20), "alone"), *students("vgg16", (24, 32))])[
        "distilled against alone", "vgg16"
    ]
    assert (row["gain"], row["low"], row["high"]) == pytest.approx(
        (0.2, 0.2 - T_1 / 10, 0.2 + T_1 / 10), abs=1e-5
    )


def test_gains_that_are_equal_up_to_rounding_are_judged_over_test_images():
    """12 - 25 and 14 - 27 of 40 images: -0.325 twice, but for the last bit. SciPy would warn."""
    alone, distilled = students("alone", (25, 27), "alone"), students("vgg16", (12, 14))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = rows_of([*alone, *distilled])["distilled against alone", "vgg16"]
    assert row["p"] is None and row["interval_over"] == "test images" and row["seeds"] == 2
    ours, theirs = (np.mean([m.test_probs[:, 0] for m in models], axis=0) for models in (distilled, alone))
    assert (row["gain"], row["low"], row["high"]) == paired_difference(DRAWS, theirs, ours)
    assert row["gain"] == pytest.approx(-0.325) and row["low"] < -0.4 and -0.25 < row["high"] < 0
    assert "a loss (-32.5 points on average" in row["verdict"]


def test_of_one_seed_the_gains_are_the_comparisons_of_test_images():
    one = [m for m in RUN if m.seed == 0]
    study = all_tables(one, TRUTH, parts(ROWS >= 6))
    compared = {
        (row["teacher"], row["images"]): row
        for row in study["comparisons"]
        if row["question"] == "distilled against alone"
    }
    gains = [row for row in study["gains"] if row["question"].endswith("against alone")]
    assert len(gains) == len(compared) == 12
    for row in gains:
        other = compared[row["teacher"], row["images"]]
        assert [row[name] for name in ("gain", "low", "high", "p")] == [
            other[name] for name in ("difference", "low", "high", "holm_p")
        ]
        assert row["seeds"] == 1 and row["interval_over"] == "test images"
        finding = other["verdict"].split(": ", 1)[1]
        words = teacher_in_words(row["teacher"])
        assert row["verdict"] == f"With one seed, distilling from {words} against training alone: {finding}"


def test_of_one_seed_p_is_corrected_within_what_is_asked():
    """Three students are compared with those without unlabelled images: 2 ** -7 by McNemar, times 3."""
    one = [m for m in RUN if m.seed == 0 and m.teacher != "vgg16-unlabelled"]
    one.append(model("vgg16-unlabelled", "distilled", 0, 32))  # 8 images more than vgg16, none less
    row = rows_of(one)["with unlabelled images against without", "vgg16-unlabelled"]
    assert row["p"] == pytest.approx(3 * 2.0**-7)
    assert row["verdict"].startswith(
        "With one seed, distilling from vgg16 with unlabelled images against without"
    )
    assert "gain of 20.0 points" in row["verdict"]


def test_seeds_csv_has_the_same_gains():
    study = all_tables(RUN, TRUTH, parts(ROWS >= 6))
    gains = {
        (row["teacher"], row["images"]): row for row in study["gains"] if row["question"].endswith("alone")
    }
    own = [row for row in study["seeds"] if "gain" in row]
    assert len(own) == len(gains) == 12
    for row in own:
        other = gains[row["teacher"], row["images"]]
        assert [row[k] for k in ("gain", "gain_low", "gain_high", "gain_p", "verdict")] == [
            other[k] for k in ("gain", "low", "high", "p", "verdict")
        ]


def test_without_unlabelled_images_and_ensembles_there_is_one_question():
    one = [m for m in RUN if m.teacher in ("alone", "vgg16")]
    assert [c.question for c in contrasts(one, TRUTH)] == ["distilled against alone"]
    assert contrasts([m for m in RUN if m.model != "distilled"], TRUTH) == []


@pytest.mark.parametrize(
    "name, source, words",
    [
        ("vgg16", "vgg16", "vgg16"),
        ("vgg16-unlabelled", "vgg16", "vgg16 with unlabelled images"),
        ("ensemble", "ensemble", "the ensemble"),
        ("ensemble-unlabelled", "ensemble", "the ensemble with unlabelled images"),
        ("alone", "alone", "alone"),
    ],
)
def test_names_become_words(name, source, words):
    assert source_of(name) == source and teacher_in_words(name) == words


def test_the_verdicts_of_comparisons_name_students_in_words():
    file = RUN[7]._replace(recipe="int8")
    assert file.teacher == "vgg16-unlabelled"
    rows = all_tables([*RUN, file], TRUTH, parts(ROWS >= 0))["comparisons"]
    verdicts = [row["verdict"].split(":")[0] for row in rows if row["teacher"] == "vgg16-unlabelled"]
    assert verdicts == [
        *["vgg16 with unlabelled images, distilled against alone"] * 3,
        "vgg16 with unlabelled images, int8, .tflite against float",
    ]
