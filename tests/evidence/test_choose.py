import numpy as np
import pandas as pd
import pytest

from kdtf.evidence.bootstrap import Interval
from kdtf.evidence.choose import (
    MOST_LOST,
    Outlook,
    best_on_val,
    best_teacher,
    file_to_ship,
    lost_by_int8,
    memorised,
    memory_in_words,
    outlook,
    outlook_by_folds,
    val_accuracy,
    val_order,
    worst_error,
)
from kdtf.records import GroundTruth, Predictions, TensorError


def test_accuracy_on_val_goes_before_loss():
    assert val_order(0.9, 5.0) > val_order(0.8, 0.1)
    assert val_order(0.9, 0.1) > val_order(0.9, 0.2)
    assert not val_order(0.9, 0.1) > val_order(0.9, 0.1)  # no better: the earlier epoch stays


@pytest.mark.parametrize(
    "scores, best",
    [
        ([(0.5, 1.0)], 0),
        ([(0.5, 0.1), (0.6, 9.0), (0.4, 0.0)], 1),
        ([(0.6, 0.3), (0.6, 0.2), (0.6, 0.25)], 1),  # tied accuracy: the lower loss
        ([(0.1, 0.1), (0.6, 0.2), (0.6, 0.2)], 1),  # tied in both: the first
    ],
)
def test_the_best_candidate_on_val(scores, best):
    assert best_on_val(scores) == best


def test_val_accuracy_by_hand():
    probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    model = Predictions("alone", "alone", "keras", 0, probs, probs[:1])
    assert val_accuracy(model, GroundTruth(("a", "b"), np.array([0, 1, 1]), np.array([1]))) == 2 / 3


def row(name, recipe, val_accuracy, size_kib):
    return {"teacher": name, "recipe": recipe, "val_accuracy": val_accuracy, "size_kib": size_kib}


@pytest.mark.parametrize(
    "rows, shipped",
    [
        ([row("a", "keras", 1.0, 1), row("b", "int8", 0.7, 600), row("c", "int4", 0.8, 900)], "c"),
        ([row("a", "int8", 0.8, 600), row("b", "int4", 0.8, 300), row("c", "float32", 0.8, 900)], "b"),
        ([row("a", "int4", 0.7, 1), row("b", "int8", 0.8, 600), row("c", "int8", 0.8, 600)], "b"),
        # equal to six digits, as they are read back from summary.csv: the smaller, then the first
        ([row("a", "int8", 0.80000001, 600), row("b", "int8", 0.8, 300)], "b"),
        ([row("a", "int8", 0.8, 2419.754), row("b", "int8", 0.8, 2419.752)], "a"),
    ],
)
def test_the_file_to_ship(rows, shipped):
    assert file_to_ship(rows)["teacher"] == shipped


def test_the_file_to_ship_is_the_one_a_sort_of_the_table_puts_first():
    rng = np.random.default_rng(0)
    for _ in range(200):
        rows = [
            row(str(i), rng.choice(["keras", "int8", "float32"]), rng.integers(3, 5) / 5, rng.integers(1, 3))
            for i in range(rng.integers(2, 40))
        ]
        rows.append(row("last", "int8", 0.6, 1))
        files = pd.DataFrame(rows).query("recipe != 'keras'")
        first = files.sort_values(["val_accuracy", "size_kib"], ascending=[False, True]).iloc[0]
        assert file_to_ship(rows)["teacher"] == first.teacher


def test_without_a_file_there_is_none_to_ship():
    with pytest.raises(ValueError):
        file_to_ship([row("a", "keras", 1.0, 1)])


def on_val(name, right):
    """A model that is right on the first `right` of 20 val images, of class 0 all of them."""
    probs = np.eye(2)[(np.arange(20) >= right).astype(int)]
    return Predictions(name, "teacher", "keras", 0, probs, probs)


def test_the_best_teacher_is_the_first_of_the_best_on_val():
    truth = GroundTruth(("a", "b"), np.zeros(20, int), np.zeros(20, int))
    assert best_teacher([on_val("a", 12), on_val("b", 15), on_val("c", 15)], truth) == 1


def test_what_to_expect_is_the_paired_difference_on_val():
    """5 of 20 images apart: the standard error of the difference is sqrt(0.25 * 0.75 / 20) = 9.7 points."""
    truth = GroundTruth(("a", "b"), np.zeros(20, int), np.zeros(20, int))
    better = outlook(on_val("vgg16", 15), on_val("alone", 10), truth, 0)
    assert better.teacher == "vgg16" and better.difference.value == pytest.approx(0.25)
    assert better.difference.low == pytest.approx(0.05, abs=0.03) and not better.harms
    assert better.difference.high == pytest.approx(0.45, abs=0.05)
    worse = outlook(on_val("vgg16", 10), on_val("alone", 15), truth, 0)
    assert worse.difference == pytest.approx([-v for v in better.difference[:1]] + list(worse.difference[1:]))
    assert worse.harms and outlook(on_val("a", 10), on_val("b", 10), truth, 0).difference == (0, 0, 0)


@pytest.mark.parametrize(
    "difference, words, harms",
    [
        (
            (0.021, -0.014, 0.056),
            "2.1 points above the student alone (interval -1.4 to +5.6): that val cannot tell whether it "
            "helps.",
            False,
        ),
        (
            (0.083, 0.03, 0.13),
            "8.3 points above the student alone (interval +3.0 to +13.0): it is clearly better, which "
            "gave over half of students AUC, few of them accuracy.",
            False,
        ),
        (
            (-0.167, -0.333, -0.021),
            "16.7 points below the student alone (interval -33.3 to -2.1): it is worse, which seldom "
            "gave a student accuracy, and harmed some.",
            True,
        ),
        (
            (0.0, 0.0, 0.0),
            "level with the student alone (interval +0.0 to +0.0): that val cannot tell whether it helps.",
            False,
        ),
    ],
)
def test_what_to_expect_of_a_teacher_in_words(difference, words, harms):
    expected = Outlook("vgg16", Interval(*difference))
    assert expected.in_words == f"On val the teacher vgg16 is {words}" and expected.harms is harms
    by_folds = expected._replace(folds=5).in_words
    where = "In 5 folds of train and val, learned from 60% of their images, the teacher vgg16 is "
    assert by_folds == where + words.replace("val cannot", "they cannot")


def in_folds(*counts, size=40):
    """What teacher and student alone have right in folds of so many images, by the numbers of right ones."""
    return [tuple(np.arange(size) < right for right in pair) for pair in counts]


def test_what_to_expect_by_folds_is_the_mean_over_them():
    """Gains of 5, 10, 0, 5 and 5 points: s 3.54, times sqrt(1/5 + 1/3), times the 2.776 of four degrees."""
    expected = outlook_by_folds("vgg16", in_folds((32, 30), (30, 26), (30, 30), (24, 22), (22, 20)), seed=0)
    assert expected.difference.value == pytest.approx(0.05) and expected.folds == 5
    half = 2.7764 * 0.035355 * (1 / 5 + 1 / 3) ** 0.5
    assert expected.difference.high - 0.05 == pytest.approx(half, abs=1e-4)
    assert 0.05 - expected.difference.low == pytest.approx(half, abs=1e-4)


def test_equal_gains_of_all_folds_are_no_certainty():
    """Of 120 images 6 are apart: by bootstrap the gain of 5 points reaches from 2 to 9."""
    low, high = outlook_by_folds("vgg16", in_folds((22, 20), (22, 20), (22, 20)), seed=0).difference[1:]
    assert low == pytest.approx(0.015, abs=0.01) and high == pytest.approx(0.09, abs=0.015)


@pytest.mark.parametrize(
    "on_train, on_val, known",
    [
        (0.98, 0.95, True),
        (0.98, 0.951, False),
        (0.979, 0.5, False),
        (1.0, 0.97, True),
        (1.0, 0.98, False),
        (49 / 50, 57 / 60, True),  # both borders, as they come out of a division
        (0.998, 0.9, True),
    ],
)
def test_a_teacher_has_memorised_what_it_knows_much_better_than_val(on_train, on_val, known):
    assert memorised(on_train, on_val) is known
    assert (memory_in_words("vgg16", on_train, on_val, unlabelled=False) is not None) is known


def test_a_memory_is_told_with_advice_where_there_is_any():
    words = (
        "The teacher vgg16 is right on 0.998 of its training images and on 0.900 of val: its labels repeat "
    )
    assert memory_in_words("vgg16", 0.998, 0.9, unlabelled=True) == words + "yours."
    advised = memory_in_words("vgg16", 0.998, 0.9, unlabelled=False)
    assert advised == words + "yours; add unlabelled images (--unlabelled)."


def test_what_int8_may_lose():
    assert MOST_LOST == 0.01
    assert lost_by_int8(0.9, 0.85) == pytest.approx(0.05)
    assert lost_by_int8(0.509, 0.5) == 0  # not a point
    assert lost_by_int8(0.9, 0.9) == lost_by_int8(0.8, 0.9) == 0


def test_the_worst_error_is_the_first_of_the_furthest_operators_with_weights():
    rows = [
        TensorError("0 CONV_2D", "a", True, 0.9, 40.0, 0.1, 50.0),
        TensorError("1 MAX_POOL_2D", "b", False, 0.9, 10.0, 0.1, None),
        TensorError("2 CONV_2D", "c", True, 0.9, 30.0, 0.1, 50.0),
        TensorError("3 FULLY_CONNECTED", "d", True, 0.9, 30.0, 0.1, 50.0),
    ]
    assert worst_error(rows) is rows[2]
    with pytest.raises(ValueError, match="empty"):
        worst_error(rows[1:2])
