"""The model card: the `.json` beside a `.tflite`. Its one type, built in one place and read in one.

A card says how *this* file was made and what this file scored. `predictor` reads the same JSON by itself,
because it stands alone.
"""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from .. import __version__
from ..errors import UserError
from ..evidence.calibration import never_uncertain
from ..evidence.conformal import rule_limits
from ..predictor import TEMPERATURES
from ..records import DataSheet, FileEvidence, FileFacts, FileResult, Rule
from ..words import plural
from .recipes import RECIPES

FORMAT = 2  # 1: cards that held the settings of a whole run instead of those of the file
RECIPE_FIELDS = {"representative": "calibration"}  # settings that cards call otherwise, as users do
INTENDED_USE = "Research only. Not a medical device; not for diagnosis."
T = TypeVar("T")


@dataclass(frozen=True)
class Input:
    """The input of a student: size in px, channels, type, scale and zero point; pixels are 0..255.

    `prepared` is how `kdtf prepare` made the training images, where it did.
    """

    height: int
    width: int
    channels: int
    dtype: str
    scale: float
    zero_point: int
    range: list[int] = field(default_factory=lambda: [0, 255])
    prepared: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Making:
    """How a file was made: its teacher, network, loss, training, recipe, data and packages.

    `weights` says where the student's began, `teacher_weights` where its teacher's, `labelled_by` what
    computed that one's labels: Keras, LiteRT or both; `distillation` is None for a student trained without a
    teacher; `recipe` holds the representative views of the file, as `calibration`, and its fine-tuning.
    """

    teacher: str
    model: str
    network: str | None = None
    weights: str | None = None
    teacher_weights: str | None = None
    labelled_by: str | None = None
    data_digest: str | None = None
    student_key: str | None = None
    seed: int | None = None
    distillation: dict[str, Any] | None = None
    training: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Card:
    """All that one has to know to run a student, and to judge it.

    `test` and `clean` are {metric: [value, low, high]} on all test images, and on those without a copy in
    train or val, empty where every one has a copy; `training_images` {statistic: [low, median, high]}.
    `prediction_sets` is a `SetRule`, and how often sets hold on `test` as {class: [value, low, high]}; it is
    empty on cards of before there were sets. `answer_limits` are those of the
    `limits` that stand beside every answer.
    `reference` and `answers` are what images and answers of a device are compared with, by split;
    `subgroups` test scores by group, where a run was asked for them.
    """

    format: int
    kdtf: str
    classes: list[str]
    input: Input
    output: str
    output_tensor: dict[str, Any]
    recipe: str
    scheme: str
    weights: str
    activations: str
    quantized_tensors: int
    weight_tensors: int
    bytes: int
    gzip_bytes: int
    sparsity: float
    sha256: str
    synthetic_data: bool
    made_by: Making
    intended_use: str
    temperature: float
    thresholds: dict[str, float]
    threshold_rule: str
    prediction_sets: dict[str, Any]
    test: dict[str, list[float]]
    test_images: int
    clean: dict[str, list[float]]
    clean_images: int
    training_images: dict[str, list[float]]
    training_layout: str
    images: dict[str, int]
    limits: list[str]
    answers: dict[str, dict[str, Any]]
    reference: dict[str, dict[str, Any]]
    subgroups: list[dict[str, Any]] = field(default_factory=list)
    answer_limits: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The card as JSON values; numbers that are not known (NaN) are null, which browsers read too."""
        return _known_numbers(asdict(self))

    @classmethod
    def from_json(cls, value: Any) -> "Card":
        """The inverse of `to_json`; what a card of format 1 lacks is empty, what it has beside is left out.

        Raises `ValueError` for what is no card.
        """
        try:
            values = _table("it", value)
            making = _record(Making, _table("made_by", values.get("made_by", {})), _MAKING_DEFAULTS)
            pixels = _record(Input, _table("input", values.get("input")), _INPUT_DEFAULTS)
            card = _record(cls, {**values, "made_by": making, "input": pixels}, _DEFAULTS)
        except TypeError as error:
            raise ValueError(f"no model card: {error}") from None
        least, most = TEMPERATURES
        if not (isinstance(card.temperature, float | int) and least <= card.temperature <= most):
            raise ValueError(f"its temperature is {card.temperature!r}, not between {least:g} and {most:g}")
        return card


# what a card may lack that an earlier version wrote or a person edited: enough is left to run the student
_INPUT_DEFAULTS: dict[str, Any] = {"dtype": "", "scale": 0.0, "zero_point": 0}
_MAKING_DEFAULTS: dict[str, Any] = {"teacher": "", "model": ""}
_DEFAULTS: dict[str, Any] = {
    **{name: "" for name in ("kdtf", "recipe", "scheme", "weights", "activations", "threshold_rule")},
    **{name: 0 for name in ("quantized_tensors", "weight_tensors", "bytes", "gzip_bytes")},
    **{name: {} for name in ("output_tensor", "thresholds", "test", "clean", "training_images", "images")},
    **{name: {} for name in ("prediction_sets", "answers", "reference")},
    **{name: 0 for name in ("test_images", "clean_images")},
    "format": 1,
    "output": "probabilities",
    "sparsity": 0.0,
    "synthetic_data": False,
    "intended_use": INTENDED_USE,
    "temperature": 1.0,
    "training_layout": "",
    "limits": [],
}


def _table(name: str, value: Any) -> dict[str, Any]:
    """A JSON object. Raises `TypeError` for any other value."""
    if not isinstance(value, dict):
        raise TypeError(f"{name} is {value!r:.60}")
    return value


def _record(kind: type[T], values: dict[str, Any], defaults: dict[str, Any]) -> T:
    """A record of those of some JSON values that are its fields.

    Raises `TypeError` where one is missing or of another type than the field.
    """
    types = get_type_hints(kind)
    fields = {**defaults, **{name: values[name] for name in types if name in values}}
    for name, value in fields.items():
        if not _is_of(types[name], value):
            raise TypeError(f"{name} is {value!r:.60}")
    return kind(**fields)


def _is_of(kind: Any, value: Any) -> bool:
    """Is a JSON value of a field's type; null is a number that is not known."""
    outer, inner = get_origin(kind), get_args(kind)
    if outer is UnionType:
        return any(_is_of(one, value) for one in inner)
    if outer is list:
        return isinstance(value, list) and all(_is_of(inner[0], own) for own in value)
    if outer is dict:
        return isinstance(value, dict) and all(_is_of(inner[1], own) for own in value.values())
    if kind is float:
        return value is None or type(value) in (int, float)
    return kind is Any or type(value) is kind


def _known_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _known_numbers(own) for name, own in value.items()}
    if isinstance(value, list | tuple):
        return [_known_numbers(own) for own in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def build_card(file: FileResult, sheet: DataSheet, evidence: FileEvidence) -> Card:
    """The card of a finished file: its bytes in numbers, how it was made, its scores, its data."""
    facts, row = file.facts, RECIPES[file.facts.recipe]
    height, width, channels = sheet.shape
    scores = asdict(evidence)
    of_answers = [
        *never_uncertain(evidence.thresholds, len(sheet.classes)),
        *rule_limits(evidence.prediction_sets),
        *scores.pop("set_limits"),
    ]
    scores["prediction_sets"]["test"] = scores.pop("set_coverage")
    return Card(
        format=FORMAT,
        kdtf=__version__,
        classes=list(sheet.classes),
        input=Input(height, width, channels, **facts.pixels, prepared=sheet.prepared),
        output="probabilities",
        output_tensor=facts.probs,
        recipe=facts.recipe,
        scheme=row.scheme,
        weights=row.weights,
        activations=row.activations,
        quantized_tensors=facts.quantized_tensors,
        weight_tensors=facts.weight_tensors,
        bytes=facts.bytes,
        gzip_bytes=facts.gzip_bytes,
        sparsity=facts.sparsity,
        sha256=facts.sha256,
        synthetic_data=sheet.synthetic,
        made_by=_making(file, sheet),
        intended_use=INTENDED_USE,
        **scores,
        training_images=sheet.training_images,
        training_layout=sheet.training_layout,
        images=sheet.images,
        limits=[*sheet.limits, *_copies(evidence), *of_answers],
        answer_limits=of_answers,
        reference=sheet.reference,
    )


def _making(file: FileResult, sheet: DataSheet) -> Making:
    student = file.student
    return Making(
        teacher=student.predictions.teacher,
        model=student.predictions.model,
        network=student.network,
        weights=student.weights,
        teacher_weights=student.teacher_weights,
        labelled_by=student.labelled_by,
        data_digest=sheet.digest,
        student_key=student.key,
        seed=student.predictions.seed,
        distillation=_distillation(student.rule),
        training=student.training,
        recipe={RECIPE_FIELDS.get(name, name): value for name, value in file.made_with.items()},
        versions={**student.versions, **file.versions},
    )


def runnable_card(facts: FileFacts, classes: int, shape: tuple[int, int, int]) -> dict[str, Any]:
    """The least that `Predictor` must know to run a file that has no card yet: sizes, types, digest."""
    return {
        "sha256": facts.sha256,
        "classes": [f"class {k}" for k in range(classes)],
        "input": {**dict(zip(("height", "width", "channels"), shape, strict=True)), **facts.pixels},
        "output_tensor": facts.probs,
    }


def _distillation(rule: Rule | None) -> dict[str, Any] | None:
    if rule is None:
        return None
    return {
        "alpha": rule.alpha,
        "temperature": rule.temperature,
        "loss": rule.loss,
        "options": dict(rule.options),
    }


def _copies(evidence: FileEvidence) -> list[str]:
    """The leak that the raw score hides, where there is one."""
    copies, others = evidence.test_images - evidence.clean_images, evidence.clean_images
    if not copies:
        return []
    if not others:
        images = "The one test image has" if copies == 1 else f"All {copies} test images have"
        return [f"{images} an exact or near copy in train or val: there is no score without copies."]
    accuracy, clean = evidence.test["accuracy"][0], evidence.clean["accuracy"][0]
    return [
        f"{copies} of the {evidence.test_images} test images {plural(copies, 'has', 'have')} an exact or "
        f"near copy in train or val: the accuracy is {accuracy:.3f} on all of them and {clean:.3f} on the "
        f"{others} {plural(others, 'other')}."
    ]


def read_card(path: Path) -> Card:
    """The card in a `.json` file. Raises `UserError` where it is none."""
    try:
        return Card.from_json(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{path} must be a card as kdtf wrote it. It is not: {reason}.") from None
