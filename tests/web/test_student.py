"""What the page is told of a student: its card in words, and a model of batch size 1."""

import json
from dataclasses import replace

import numpy as np

from kdtf.predictor import Predictor, open_interpreter
from kdtf.tflite.card import read_card
from kdtf.web.student import facts, fixed_batch, headline, student


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
    assert words["Test images"] == str(card.test_images) and "Without a copy" not in words
    assert words["Prediction sets"] == card.prediction_sets["rule"]
    sets = {"method": "adaptive", "coverage": 0.9, "quantiles": [None] * len(card.classes)}
    assert entry["card"]["sets"] == sets  # val has too few images of every class
    assert set(entry["card"]["usual"]) == {"brightness", "contrast", "colour", "layout"}
    assert words == facts(card) and json.loads(json.dumps(entry)) == entry


def test_scores_without_copies_come_first_where_there_are_copies(finished):
    card = read_card(finished / "alone_Student_int8.json")
    scores = {"accuracy": [0.5, 0.25, 0.75], "auc": [0.6, 0.5, 0.7], "ece": [0.1, 0.0, 0.2]}
    leaky = replace(card, clean=scores, clean_images=9)
    words = facts(leaky)
    assert words["Without a copy"] == "9" and "Without a copy" not in facts(card)
    terms = [term for term in words if " test" in term]
    assert terms == [
        *("Accuracy on the 9 test images without a copy", "Accuracy on all 24 test images"),
        *("AUC on the 9 test images without a copy", "AUC on all 24 test images"),
        "ECE on the 9 test images without a copy, before the temperature",
        "ECE on all 24 test images, before the temperature",
    ]
    assert [words[term] for term in terms[::2]] == [
        f"{value:.3f} (95 % interval {low:.3f} to {high:.3f})" for value, low, high in scores.values()
    ]
    raw = card.test["accuracy"][0]
    clean = "Accuracy 0.500 (95 % interval 0.250 to 0.750) on 9 test images without a copy in train or val"
    assert headline(leaky) == f"{clean}; {raw:.3f} on all 24."
    assert facts(replace(leaky, clean_images=card.test_images)) == facts(card)
    assert headline(card).startswith(f"Accuracy {raw:.3f} (95 % ") and headline(card).endswith(
        "24 test images."
    )


def test_where_every_test_image_has_a_copy_the_accuracy_says_nothing(finished):
    card = read_card(finished / "alone_Student_int8.json")
    copied = replace(card, clean={}, clean_images=0)
    assert headline(copied).endswith(
        "on 24 test images that all have a copy in train or val: it says nothing."
    )
    assert headline(replace(copied, test={})) == "" and "Accuracy on all 24 test images" in facts(copied)


def test_quantiles_stand_in_the_order_of_the_classes_and_older_cards_have_none(colour, bundle):
    sets = student(colour / "rgb_int8.tflite", 1)[1]["card"]["sets"]
    assert sets == {"method": "adaptive", "coverage": 0.95, "quantiles": [None, 0.54, 0.158]}
    assert student(bundle("int8"), 1)[1]["card"]["sets"] is None


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
