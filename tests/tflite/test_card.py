"""The model card: how this one file was made, read back as it was written, and what is no card refused."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from small_students import CLASSES, IMAGES, SHAPE, VIEWS, shipped

from kdtf import __version__
from kdtf.errors import UserError
from kdtf.predictor import Predictor
from kdtf.records import (
    DataSheet,
    FileEvidence,
    FileResult,
    Predictions,
    RepresentativeViews,
    Rule,
    SetRule,
    StudentResult,
    Training,
    Tuning,
)
from kdtf.tasks import plain
from kdtf.tflite.card import FORMAT, Card, build_card, read_card, runnable_card
from kdtf.tflite.quantize import convert, file_facts

RULE = Rule(0.1, 4.0, "kd")
TRAINING = Training(30, 32, 1e-3, "Adam", "CosineDecay", 0.05, 0.0)
SHEET = DataSheet(
    classes=CLASSES,
    digest="a4806d959a4a4623",
    shape=SHAPE,
    synthetic=True,
    prepared={"side": 57, "keep_aspect": True, "window": [300.0, 600.0]},
    training_images={"brightness": [46.7, 62.25, 81.7]},
    training_layout="",
    images={"train": 100, "val": 20, "test": 40},
    limits=["It was trained on a synthetic phantom and says nothing about patients."],
)
EVIDENCE = FileEvidence(
    temperature=1.7,
    thresholds={"a": 0.4, "b": 0.5, "c": 0.9},
    threshold_rule="Each class against the rest on val, of the largest Youden index.",
    prediction_sets=SetRule(
        "adaptive", 0.9, dict.fromkeys("abc", 0.3), dict.fromkeys("abc", 10), "As it is.", by_patient=True
    ),
    test={"accuracy": [0.9, 0.8, 0.95], "auc": [0.97, 0.9, 0.99]},
    test_images=40,
    clean={"accuracy": [0.75, 0.6, 0.85]},
    clean_images=28,
)
FORMAT_1 = {
    "format": 1,
    "kdtf": "0.1.0",
    "classes": ["normal", "pneumonia"],
    "input": {"height": 28, "width": 32, "channels": 1, "dtype": "uint8", "scale": 1.0, "zero_point": 0}
    | {"range": [0, 255]},
    "output": "probabilities",
    "output_tensor": {"dtype": "uint8", "scale": 0.00390625, "zero_point": 0},
    "recipe": "int8",
    "scheme": "wi8_ai8",
    "weights": "int8",
    "activations": "int8",
    "quantized_tensors": 10,
    "weight_tensors": 10,
    "bytes": 636928,
    "gzip_bytes": 617110,
    "sparsity": 0.005374,
    "sha256": "11d5fa6813df66344147bd91a39c8b26d1eb6cbe41d05911a7de68971aaeaf20",
    "synthetic_data": False,
    "made_by": {
        "teacher": "cnn5",
        "model": "distilled",
        "teacher_weights": "random weights, none are published",
        "data_digest": "a4806d959a4a4623",
        "student_key": "8abb23fcf78127dd",
        "seed": 0,
        "config": {"student": {"student": "cnn3"}, "distil": {"alpha": 0.5, "temperature": 2.0}},
        "versions": {"tensorflow": "2.21.0", "keras": "3.15.1"},
    },
    "intended_use": "Research only. Not a medical device; not for diagnosis.",
    "temperature": 2.0,
    "thresholds": {"normal": 0.48, "pneumonia": 0.26},
    "threshold_rule": "Each class against the rest on val, of the largest Youden index.",
    "test": {"accuracy": [0.7775, 0.7187, 0.8333]},
    "test_images": 400,
    "training_images": {"brightness": [46.69, 62.25, 81.71]},
    "training_layout": "",
    "images": {"train": 1000, "val": 200, "test": 400},
    "limits": ["Temperature and thresholds were chosen on 200 images."],
}


@pytest.fixture(scope="module")
def content():
    return convert(shipped("baseline"), "int8", IMAGES)


@pytest.fixture(scope="module")
def file(content):
    """A finished int8 file of a distilled student."""
    probs = np.full((2, 3), 1 / 3)
    student = StudentResult(
        predictions=Predictions("vgg16", "distilled", "keras", 7, probs, probs),
        key="8abb23fcf78127dd",
        folder=Path("unread"),
        network="baseline",
        weights="random weights",
        rule=RULE,
        teacher_weights="ImageNet weights from Keras",
        training=asdict(TRAINING),
        versions={"tensorflow": "2.21.0", "keras": "3.15.1"},
        parameters=1,
        size_kib=1.0,
        train_seconds=1.0,
        history=[],
    )
    return FileResult(
        predictions=student.predictions._replace(recipe="int8"),
        key="0123456789abcdef",
        folder=Path("unread"),
        student=student,
        facts=file_facts(content, "int8"),
        made_with=plain({"representative": RepresentativeViews(200, 5)}),
        versions={"tensorflow": "2.21.0", "litert-quantizer": "0.11.0"},
        history=[],
        errors=[],
    )


@pytest.fixture(scope="module")
def card(file):
    return build_card(file, SHEET, EVIDENCE)


def test_it_tells_how_this_file_was_made(card):
    making = card.made_by
    assert (making.teacher, making.model, making.network, making.seed) == (
        "vgg16",
        "distilled",
        "baseline",
        7,
    )
    assert making.distillation == {"alpha": 0.1, "temperature": 4.0, "loss": "kd", "options": {}}
    assert making.training["epochs"] == 30 and making.training["batch_size"] == 32
    assert making.recipe == {"calibration": {"images": 200, "seed": 5}}
    versions = {"tensorflow": "2.21.0", "keras": "3.15.1", "litert-quantizer": "0.11.0"}
    assert making.versions == versions
    assert making.teacher_weights == "ImageNet weights from Keras"
    assert (making.data_digest, making.student_key) == ("a4806d959a4a4623", "8abb23fcf78127dd")
    assert (card.format, card.kdtf) == (FORMAT, __version__) and FORMAT == 2


def test_it_tells_what_is_in_the_file(card, content):
    assert (card.bytes, card.recipe, card.scheme) == (len(content), "int8", "wi8_ai8")
    assert (card.weights, card.activations) == ("int8", "int8")
    assert card.quantized_tensors == card.weight_tensors > 0
    pixels = card.input
    assert (pixels.height, pixels.width, pixels.channels, pixels.range) == (32, 32, 1, [0, 255])
    assert (pixels.dtype, pixels.scale, pixels.zero_point) == ("uint8", 1.0, 0)
    assert pixels.prepared == SHEET.prepared and card.output_tensor["dtype"] == "uint8"


def test_it_repeats_the_evidence_and_the_data_sheet(card):
    evidence = asdict(EVIDENCE)
    del evidence["set_limits"]  # among the limits
    evidence["prediction_sets"]["test"] = evidence.pop("set_coverage")
    assert {name: getattr(card, name) for name in evidence} == evidence
    assert card.classes == list(CLASSES) and card.synthetic_data is True
    assert card.training_images == SHEET.training_images and card.images == SHEET.images
    assert card.limits[0] == SHEET.limits[0] and "not for diagnosis" in card.intended_use


def test_a_student_alone_has_no_distillation_and_a_loss_tells_its_options(file):
    alone = replace(file, student=replace(file.student, rule=None, teacher_weights=None))
    assert build_card(alone, SHEET, EVIDENCE).made_by.distillation is None
    rule = Rule(0.3, 1.0, "toy", (("scale", 4.0),))
    own = replace(file, student=replace(file.student, rule=rule))
    expected = {"alpha": 0.3, "temperature": 1.0, "loss": "toy", "options": {"scale": 4.0}}
    assert build_card(own, SHEET, EVIDENCE).made_by.distillation == expected


def test_fine_tuning_is_told(file):
    tuning = Tuning("prune", 20, 3e-4, 32, RULE, sparsity=0.5)
    tuned = replace(file, made_with=plain({"representative": RepresentativeViews(200, 5), "tuning": tuning}))
    recipe = build_card(tuned, SHEET, EVIDENCE).to_json()["made_by"]["recipe"]
    assert recipe["tuning"]["method"] == "prune" and recipe["tuning"]["sparsity"] == 0.5
    assert recipe["tuning"]["rule"]["alpha"] == 0.1


def test_copies_in_test_are_told_with_the_score_without_them(file):
    limits = build_card(file, SHEET, EVIDENCE).limits
    assert limits[-1] == (
        "12 of the 40 test images have an exact or near copy in train or val: the accuracy is 0.900 on all "
        "of them and 0.750 on the 28 others."
    )
    assert limits[:-1] == SHEET.limits


def test_a_class_whose_sets_do_not_keep_their_promise_on_test_is_told(file):
    evidence = replace(EVIDENCE, set_limits=["Test does not bear the promise out for a."])
    assert build_card(file, SHEET, evidence).limits[-1] == evidence.set_limits[0]


def test_a_class_that_val_has_too_few_images_of_is_told(file):
    rule = replace(
        EVIDENCE.prediction_sets, val_images={"a": 9, "b": 8, "c": 30}, quantiles={"a": 0.3, "c": 0.2}
    )
    limits = build_card(file, SHEET, replace(EVIDENCE, prediction_sets=rule)).limits
    told = (
        "Val has 8 images of b that count, and a coverage of 90 % takes 9: b is in every prediction set, "
        "and a set of it alone says nothing."
    )
    assert limits[-1] == told and limits[:-1] == build_card(file, SHEET, EVIDENCE).limits


def test_what_bears_on_answers_stands_among_the_limits_and_by_itself(file):
    rule = replace(
        EVIDENCE.prediction_sets, method="adaptive", quantiles={"a": 0.9999, "b": 0.8, "c": 0.9999}
    )
    coverage = {"a": [0.5, 0.4, 0.6]}
    evidence = replace(
        EVIDENCE, prediction_sets=rule, set_limits=["Test is against it."], set_coverage=coverage
    )
    card = build_card(file, SHEET, evidence)
    only = (
        "A prediction set has a or c only where it is the likeliest class: that alone covers at least 90 % "
        "of its val images."
    )
    assert card.answer_limits == [only, "Test is against it."] == card.limits[-2:]
    assert card.prediction_sets["test"] == coverage
    threshold = replace(evidence, prediction_sets=replace(rule, method="threshold"))
    assert build_card(file, SHEET, threshold).answer_limits == ["Test is against it."]


def test_a_threshold_that_no_image_can_be_below_is_told(file):
    evidence = replace(EVIDENCE, thresholds={"a": 1 / 3, "b": 0.34, "c": 0.2})
    told = [own for own in build_card(file, SHEET, evidence).limits if "is uncertain only" in own]
    assert told == [
        f"An image that is named {name} is uncertain only where another class is as likely: the threshold of "
        f"{name}, {cut}, is not above 1/3, which the likeliest class always reaches."
        for name, cut in (("a", "0.333"), ("c", "0.200"))
    ]


def test_without_copies_nothing_is_said_of_them(file):
    evidence = replace(EVIDENCE, clean=EVIDENCE.test, clean_images=40)
    card = build_card(file, SHEET, evidence)
    assert card.limits == SHEET.limits and card.clean == card.test


def test_where_every_test_image_is_a_copy_it_says_so(file):
    evidence = replace(EVIDENCE, clean={}, clean_images=0)
    card = build_card(file, SHEET, evidence)
    assert card.limits[-1] == (
        "All 40 test images have an exact or near copy in train or val: there is no score without copies."
    )
    assert (card.clean, card.clean_images) == ({}, 0)


def test_it_comes_back_from_json_as_it_was(card, tmp_path):
    text = json.dumps(card.to_json(), allow_nan=False)
    assert Card.from_json(json.loads(text)) == card
    (tmp_path / "s.json").write_text(text, encoding="utf-8")
    assert read_card(tmp_path / "s.json") == card


def test_what_is_not_known_is_null(file):
    nan = float("nan")
    evidence = replace(EVIDENCE, test={"accuracy": [0.9, nan, float("inf")]})
    value = build_card(file, SHEET, evidence).to_json()
    assert value["test"] == {"accuracy": [0.9, None, None]}
    assert Card.from_json(json.loads(json.dumps(value, allow_nan=False))).test == value["test"]


def test_the_predictor_runs_the_file_by_its_card(card, content, tmp_path):
    (tmp_path / "s.tflite").write_bytes(content)
    (tmp_path / "s.json").write_text(json.dumps(card.to_json()))
    predictor = Predictor(tmp_path / "s.tflite")
    assert predictor.classes == CLASSES and predictor(VIEWS[0]).shape == (20, 3)


def test_the_least_that_runs_is_a_card_too(content):
    least = runnable_card(file_facts(content, "int8"), 3, SHAPE)
    card = Card.from_json(least)
    assert card.classes == ["class 0", "class 1", "class 2"] and card.recipe == ""
    assert (card.input.height, card.input.width, card.input.channels) == SHAPE
    assert card.temperature == 1.0 and card.thresholds == {} and card.limits == []


def test_a_card_of_format_1_is_read_without_the_settings_of_its_run():
    card = Card.from_json(FORMAT_1)
    value = card.to_json()
    assert card.format == 1 and "config" not in value["made_by"]
    assert (card.made_by.teacher, card.made_by.model, card.made_by.seed) == ("cnn5", "distilled", 0)
    assert card.made_by.network is None and card.made_by.distillation is None
    assert card.made_by.versions == FORMAT_1["made_by"]["versions"]
    assert (card.clean, card.clean_images) == ({}, 0)
    assert card.input.prepared == {} and card.input.width == 32 and card.prediction_sets == {}
    for name in FORMAT_1.keys() - {"made_by", "input"}:
        assert value[name] == FORMAT_1[name], name
    assert Card.from_json(value) == card


def changed(**changes):
    return {**FORMAT_1, **changes}


MALFORMED = {
    "a list": [1],
    "nothing": None,
    "a number": 3,
    "no classes": {name: value for name, value in FORMAT_1.items() if name != "classes"},
    "no digest": {name: value for name, value in FORMAT_1.items() if name != "sha256"},
    "no input": {name: value for name, value in FORMAT_1.items() if name != "input"},
    "an input that is a list": changed(input=[28, 32, 1]),
    "an input without a width": changed(input={"height": 28, "channels": 1}),
    "a height in words": changed(input={**FORMAT_1["input"], "height": "28"}),
    "classes that are a number": changed(classes=3),
    "a class that is a number": changed(classes=["a", 3]),
    "a making that is a list": changed(made_by=["cnn5"]),
    "a seed in words": changed(made_by={"seed": "0"}),
    "a recipe that is nothing": changed(recipe=None),
    "a temperature in words": changed(temperature="warm"),
    "thresholds that are a list": changed(thresholds=[0.5, 0.5]),
    "a score that is no interval": changed(test={"accuracy": 0.9}),
    "limits that are a sentence": changed(limits="It knows nothing."),
    "yes for a number": changed(bytes=True),
}


@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_card_is_refused_in_one_line(value, tmp_path):
    with pytest.raises(ValueError, match=r"^no model card: "):
        Card.from_json(value)
    path = tmp_path / "s.json"
    path.write_text(json.dumps(value))
    with pytest.raises(UserError, match=r"s\.json must be a card as kdtf wrote it\. It is not: ") as caught:
        read_card(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < len(str(path)) + 220


@pytest.mark.parametrize("text", ["", "{", "\xff", "[" * 100_000, None])
def test_what_is_no_json_is_refused_in_one_line(text, tmp_path):
    path = tmp_path / "s.json"
    if text is not None:
        path.write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"s\.json must be a card as kdtf wrote it\. It is not: ") as caught:
        read_card(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [1e-300, 0, -1, 1e5, None])
def test_a_card_of_a_temperature_that_makes_no_probabilities_is_no_card(value):
    with pytest.raises(ValueError, match=r"its temperature is .*, not between 0\.001 and 1000"):
        Card.from_json({**FORMAT_1, "temperature": value})
