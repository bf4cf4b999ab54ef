"""The longest cut that keeps to a budget, by the weight of the very file."""

import pytest

from kdtf.errors import UserError
from kdtf.models.weights import WeightSource
from kdtf.records import Budget
from kdtf.tflite.budget import cost_of_cut, longest_cut

NONE, SHAPE = WeightSource("none"), (32, 32, 1)


@pytest.fixture(scope="module")
def costs():
    return {block: cost_of_cut("mobilenet", block, SHAPE, 3, NONE) for block in (3, 4)}


def test_costs_grow_with_the_blocks(costs):
    assert costs[3].kib < costs[4].kib and costs[3].kmacs < costs[4].kmacs
    assert costs[3].name == "cut:mobilenet:3" and costs[3].arena_kib > 0


@pytest.mark.parametrize("what", ["kib", "kmacs"])
def test_the_longest_that_fits_is_found(costs, what):
    limits = {"kib": 1000.0, what: getattr(costs[3], what)}
    assert longest_cut("mobilenet", SHAPE, 3, Budget(**limits), NONE).name == "cut:mobilenet:3"


def test_a_budget_that_nothing_fits_is_told_with_what_it_takes():
    with pytest.raises(UserError, match=r"--budget-kib and its like must be enough for cut:mobilenet:1 \("):
        longest_cut("mobilenet", SHAPE, 3, Budget(1.0), NONE)
