"""The longest cut that keeps to a budget, by the weight of the very file, and what the files of cuts are."""

from functools import cache

import numpy as np
import pytest

from kdtf.errors import UserError
from kdtf.models.cuts import CUTTABLE, build_cut
from kdtf.models.students import exported
from kdtf.models.weights import WeightSource
from kdtf.predictor import open_interpreter
from kdtf.records import Budget
from kdtf.tflite import budget
from kdtf.tflite.bench import micro_arena
from kdtf.tflite.budget import longest_cut
from kdtf.tflite.quantize import convert, representative_images
from kdtf.tflite.tensors import plain_interpreter

NONE, SHAPE = WeightSource("none"), (32, 32, 1)


@pytest.fixture(scope="module", autouse=True)
def weighed_once():
    """Every test looks among the same cuts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget, "cost_of_cut", cache(budget.cost_of_cut))
        yield


@pytest.fixture(scope="module")
def costs(weighed_once):
    return {block: budget.cost_of_cut(f"cut:mobilenet:{block}", SHAPE, 3, NONE) for block in (3, 4)}


def test_costs_grow_with_the_blocks(costs):
    assert costs[3].kib < costs[4].kib and costs[3].kmacs < costs[4].kmacs
    assert costs[3].name == "cut:mobilenet:3" and costs[3].arena_kib > 0


@pytest.mark.parametrize("what", ["kib", "kmacs"])
def test_the_longest_that_fits_is_found(costs, what):
    limits = {"kib": 1000.0, what: getattr(costs[3], what)}
    assert longest_cut("cut:mobilenet", SHAPE, 3, Budget(**limits), NONE).name == "cut:mobilenet:3"


def test_of_thinner_blocks_more_fit(costs):
    thin = budget.cost_of_cut("cut:mobilenet:4:0.5", SHAPE, 3, NONE)
    assert thin.kib < 0.9 * costs[4].kib and thin.kmacs < costs[4].kmacs
    assert longest_cut("cut:mobilenet::0.5", SHAPE, 3, Budget(thin.kib), NONE).name == thin.name


@pytest.mark.parametrize("what", ["kib", "kmacs", "arena_kib"])
def test_a_budget_that_nothing_fits_is_told_with_what_it_takes(what):
    setting = f"--budget-{what.replace('_', '-')}"
    with pytest.raises(UserError, match=rf"{setting} must be enough for cut:mobilenet:1 \(.* Got 0\.5\."):
        longest_cut("cut:mobilenet", SHAPE, 3, Budget(**{"kib": 1000.0, what: 0.5}), NONE)


@pytest.fixture(scope="module", params=CUTTABLE)
def int8_file(request):
    """Four blocks of a network in int8."""
    settings = {"momentum": 0.9, "dropout": 0.0, "seed": 0, "source": NONE, "images": None}
    student, _, _ = build_cut(f"cut:{request.param}:4", SHAPE, 3, **settings)
    noise = np.random.default_rng(0).integers(0, 256, (1, 8, *SHAPE), dtype=np.uint8)
    return convert(exported(student), "int8", representative_images(noise, 8, 0))


def test_a_cut_is_wholly_int8(int8_file):
    interpreter = plain_interpreter(int8_file)
    interpreter.allocate_tensors()
    types = {np.dtype(tensor["dtype"]).name for tensor in interpreter.get_tensor_details()}
    assert types <= {"int8", "uint8", "int32"}


def test_xnnpack_takes_a_cut_in_one_piece(int8_file):
    """A kernel that it lacks, as that of hard-swish, would leave several."""
    interpreter = open_interpreter(int8_file, "cut")
    interpreter.allocate_tensors()
    assert [op["op_name"] for op in interpreter._get_ops_details()].count("DELEGATE") == 1


def test_microcontrollers_take_a_cut(int8_file):
    pytest.importorskip("tflite_micro", reason="no tflite-micro")
    arena, reason = micro_arena(int8_file)
    assert reason == "" and arena > 0
