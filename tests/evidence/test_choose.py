import numpy as np
import pandas as pd
import pytest

from kdtf.evidence.choose import (
    MOST_LOST,
    best_on_val,
    file_to_ship,
    lost_by_int8,
    teacher_helps,
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


@pytest.mark.parametrize("teacher, alone, helps", [(0.8, 0.7, True), (0.7, 0.7, False), (0.6, 0.7, False)])
def test_a_teacher_helps_only_where_it_is_better_than_the_student_alone(teacher, alone, helps):
    assert teacher_helps(teacher, alone) is helps


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
