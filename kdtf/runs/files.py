"""The tasks of a student's files: one `.tflite` a recipe, measured through the real interpreter."""

import json
from typing import Any

import numpy as np

from ..data.pixels import Side, pixels_at, student_shape
from ..models.students import load_student
from ..models.weights import WeightSource
from ..native_log import native_noise
from ..predictor import Predictor
from ..records import Budget, RepresentativeViews, Tuning, WeightsChoice
from ..stage_folders import CHECKPOINT
from ..tflite.budget import longest_cut
from ..tflite.card import runnable_card
from ..tflite.quantize import file_facts, float32_of, quantize, representative_images
from ..tflite.tensors import errors
from ..tflite.tuning import tuned_file
from .data import views_of
from .fitted import write_measured
from .perform import Workspace
from .stages import MODEL, write_cut, write_file
from .student import examples_for

ERROR_IMAGES = 64  # of val, over which the tensors of two files are compared
SOURCE = "source.tflite"


def choose_cut(space: Workspace, name: str, side: int | None, budget: Budget, weights: WeightsChoice) -> None:
    """The block after which a network is cut: as late as the budget of its int8 file allows."""
    data = space.data
    with native_noise(), space.progress.bar(f"{name}: weighing cuts", 1) as advance:
        shape = student_shape(data.train, side)
        cost = longest_cut(name, shape, len(data.classes), budget, WeightSource(weights.source))
        advance(1)
    write_cut(space.folder, cost)


def convert(space: Workspace) -> None:
    """A student as a float32 file: what every quantized one is made of."""
    with native_noise(), space.progress.bar(f"{space.title}: converting", 1) as advance:
        content = float32_of(load_student(space.inputs["student"]))
        (space.folder / SOURCE).write_bytes(content)
        advance(1)


def make_file(
    space: Workspace,
    recipe: str,
    row: dict[str, Any],
    representative: RepresentativeViews | None,
    in_float: str | None,
    side: int | None,
) -> None:
    """The file of a recipe; `in_float` names the output of the operator that stays in float."""
    with native_noise(), space.progress.bar(f"{space.title}.tflite", 1) as advance:
        source = (space.inputs["conversion"] / SOURCE).read_bytes()
        images = _images(space, representative, side)
        _write(space, recipe, source, quantize(source, recipe, images, in_float), [], side)
        advance(1)


def make_tuned_file(
    space: Workspace,
    recipe: str,
    row: dict[str, Any],
    representative: RepresentativeViews | None,
    tuning: Tuning,
    seed: int,
) -> None:
    """The file of a recipe for which the student is fine-tuned first, by the loss it was trained with."""
    student = load_student(space.inputs["student"])
    side = student.input.shape[1:3]
    images = _images(space, representative, side)
    source, history = tuned_file(
        student,
        examples_for(space, side),
        tuning,
        images=images,
        seed=seed,
        title=space.title,
        progress=space.progress,
        checkpoint=space.folder / f"{CHECKPOINT}.npz",
    )
    with native_noise(), space.progress.bar(f"{space.title}.tflite", 1) as advance:
        _write(space, recipe, source, quantize(source, recipe, images), history, side)
        advance(1)


def evaluate(space: Workspace, runs: int) -> None:
    """What a file says of val and test, through the interpreter and the lines that devices use."""
    with native_noise():
        predictor = Predictor(space.inputs["file"] / MODEL)
    val, test = (pixels_at(own, predictor.shape[:2]) for own in (space.data.val, space.data.test))
    write_measured(space.folder, predictor, val, test, runs)


def _images(space: Workspace, representative: RepresentativeViews | None, side: int | None) -> np.ndarray:
    """What sets the ranges of a recipe: training views, black and white; the latter two if it needs none."""
    if representative is None:
        shape = student_shape(space.data.train, side)
        return representative_images(np.zeros((1, 0, *shape), np.uint8), 0, 0)
    views = views_of(space).at_side(side)
    return representative_images(views, representative.images, representative.seed)


def _write(
    space: Workspace,
    recipe: str,
    source: bytes,
    content: bytes,
    history: list[dict[str, Any]],
    side: Side,
) -> None:
    """A `.tflite` with what is known of it, and how far it is from its float `source`."""
    data, folder = space.data, space.folder
    facts = file_facts(content, recipe)
    (folder / MODEL).write_bytes(content)
    card = runnable_card(facts, len(data.classes), student_shape(data.train, side))
    (folder / MODEL).with_suffix(".json").write_text(json.dumps(card))
    images = pixels_at(data.val, side)[:ERROR_IMAGES]
    rows = errors(source, content, images) if content != source else []
    write_file(folder, facts, history, rows)
