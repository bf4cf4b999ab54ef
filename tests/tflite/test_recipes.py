"""The recipes: names that decode, and a new one that is a row."""

import numpy as np
import pytest
from small_students import IMAGES, SHAPE, VIEWS, shipped, write_bundle

from kdtf.distill.inference import inference_of
from kdtf.predictor import Predictor
from kdtf.tflite.quantize import convert
from kdtf.tflite.recipes import RECIPES, Recipe, recipes_of_run
from kdtf.tflite.tensors import constants_of, is_learned, plain_interpreter


def test_the_names_of_recipes_decode():
    schemes = {name: row.scheme for name, row in RECIPES.items() if row.selectable}
    assert schemes["float32"] == "wfp32_afp32" and schemes["float16"] == "wfp16_afp32"
    assert schemes["dynamic"] == "wi8_afp32" and schemes["int4"] == "wi4_afp32"
    assert schemes["int16x8"] == "wi8_ai16" and schemes["int8"] == schemes["int8-qat"] == "wi8_ai8"


def test_every_recipe_has_a_marker_of_its_own():
    assert len({row.mark for row in RECIPES.values()}) == len(RECIPES)


def test_compression_adds_its_files_and_nothing_comes_twice():
    assert recipes_of_run(("float32", "int8"), ()) == ["float32", "int8"]
    recipes = recipes_of_run(("int8", "int8-prune", "int8"), ("prune", "cluster"))
    assert recipes == ["int8", "int8-prune", "int8-cluster"]
    assert set(recipes) <= set(RECIPES)


@pytest.mark.parametrize(
    "row, scheme, largest",
    [
        (Recipe("int8", "int8", pixels="int8"), "wi8_ai8", 127),
        (Recipe("int4", "int8", pixels="uint8"), "wi4_ai8", 8),
    ],
)
def test_a_toy_recipe_is_a_row_and_its_file_what_the_row_says(monkeypatch, tmp_path, row, scheme, largest):
    monkeypatch.setitem(RECIPES, "toy", row)
    student = shipped("baseline")
    content = convert(student, "toy", IMAGES)
    path, facts = write_bundle(tmp_path, content, "toy")
    assert (facts.recipe, row.scheme, row.static_range) == ("toy", scheme, True)
    assert facts.pixels["dtype"] == facts.probs["dtype"] == row.pixels
    assert facts.quantized_tensors == facts.weight_tensors
    assert _largest_weight(content) <= largest
    pixels = VIEWS.reshape(-1, *SHAPE)
    probs = Predictor(path)(pixels)
    assert np.abs(probs - inference_of(student)(pixels)).max() < 0.05


def _largest_weight(content):
    """Of the kernels as they are stored."""
    interpreter = plain_interpreter(content)
    interpreter.allocate_tensors()
    kernels = [i for i, d in constants_of(interpreter).items() if is_learned(d) and len(d["shape"]) > 1]
    return max(np.abs(interpreter.get_tensor(i).astype(int)).max() for i in kernels)
