"""What the page is told of a student: its card in words, and a model of batch size 1."""

import json
from dataclasses import replace

import numpy as np

from kdtf.predictor import Predictor, open_interpreter
from kdtf.tflite.card import read_card
from kdtf.web.student import facts, fixed_batch, student


def test_a_finished_students_entry_holds_its_card_in_words(finished):
    path = finished / "mobilenet_Student_int8.tflite"
    card = read_card(path.with_suffix(".json"))
    entry = student(path, 3)[1]
    assert entry["file"] == "students/3.tflite" and entry["card"]["limits"] == card.limits != []
    words = entry["card"]["facts"]
    assert words["Training"] == "distilled" and words["Teacher"] == "mobilenet"
    assert words["Recipe"] == f"int8, {card.quantized_tensors} of {card.weight_tensors} quantized"
    assert words["sha256"] == card.sha256 and words["Made by"] == f"kdtf {card.kdtf}"
    accuracy, low, high = card.test["accuracy"]
    assert words["Accuracy on test"] == f"{accuracy:.3f} (95 % interval {low:.3f} to {high:.3f})"
    assert words["Test images"] == str(card.test_images) and "Accuracy on clean test images" not in words
    assert set(entry["card"]["usual"]) == {"brightness", "contrast", "colour", "layout"}
    assert words == facts(card) and json.loads(json.dumps(entry)) == entry


def test_the_accuracy_without_copies_is_told_where_there_are_copies(finished):
    card = read_card(finished / "alone_Student_int8.json")
    leaky = replace(card, clean={"accuracy": [0.5, 0.25, 0.75]}, clean_images=9)
    expected = "0.500 (95 % interval 0.250 to 0.750), 9 images without a copy in train or val"
    assert facts(leaky) == {**facts(card), "Accuracy on clean test images": expected}
    assert facts(replace(leaky, clean_images=card.test_images)) == facts(card)


def test_a_card_that_tells_little_is_told_in_few_words(colour):
    words = student(colour / "rgb_int8.tflite", 1)[1]["card"]["facts"]
    assert set(words) == {"Intended use", "Classes", "Input", "Recipe", "Temperature", "sha256", "Made by"}
    assert words["Classes"] == "a, b, c" and words["Input"] == "32 × 32 px, RGB" and words["Recipe"] == "int8"


def test_a_fixed_batch_changes_no_probability(bundles):
    for path in bundles:
        content = fixed_batch(path.read_bytes())
        fixed = open_interpreter(content, "the copy")
        fixed.allocate_tensors()
        details = fixed.get_input_details()[0]
        assert details["shape_signature"][0] == 1 and path.stat().st_size == len(
            fixed_batch(path.read_bytes())
        )
        pixels = np.random.default_rng(0).integers(0, 256, details["shape"]).astype(details["dtype"])
        fixed.set_tensor(details["index"], pixels)
        fixed.invoke()
        raw = fixed.get_tensor(fixed.get_output_details()[0]["index"])
        assert np.allclose(raw / raw.sum(), Predictor(path)(pixels), atol=1e-6)
