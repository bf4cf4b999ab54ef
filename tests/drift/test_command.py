"""`predict --log` and `drift` as a user meets them: lines, table, page, exit codes."""

import functools
import json
import re

import numpy as np
import pandas as pd
import pytest

from kdtf.cli.entry import main
from kdtf.data.typical import layout, reference, typical
from kdtf.drift.log import CURRENT
from kdtf.evidence.calibration import answers_of_val
from kdtf.predictor import Predictor
from kdtf.tflite.card import Card

CLASSES = ["=1+1", "b\x1b[31m", "c"]


def pictures(count, seed, gain=1.0):
    """(N, 16, 16, 3): noise of any brightness."""
    rng = np.random.default_rng(seed)
    pixels = rng.uniform(40, 120, (count, 1, 1, 1)) * rng.uniform(0.5, 1.5, (count, 16, 16, 3))
    return np.clip(gain * pixels, 0, 255).astype(np.uint8)


SPLITS = {"train": pictures(300, 0), "val": pictures(150, 1), "test": pictures(40, 2)}


@functools.cache
def numbers():
    """What a card says of these images."""
    stored, unexplained = layout(SPLITS["train"], SPLITS["val"])
    known = {**typical(SPLITS["train"]), "layout": unexplained}
    images = reference(SPLITS, known, stored)
    return {"training_images": known, "training_layout": stored, "reference": images}


@pytest.fixture
def student(bundle, tmp_path):
    """A bundle whose card knows what its train, val and test are like."""
    predictor, answers = Predictor(bundle(classes=CLASSES)), {}
    for name in ("val", "test"):
        named = predictor(SPLITS[name]).argmax(axis=1)
        answers[name] = {"classes": np.bincount(named, minlength=3).tolist(), "uncertain": 0}
    for name, pixels in (("same", pictures(80, 3)), ("bright", pictures(80, 4, gain=1.5))):
        np.save(tmp_path / f"{name}.npy", pixels)
    return bundle(classes=CLASSES, answers=answers, **numbers())


def predict(student, name, *more):
    folder = student.parent
    return main(["predict", str(student), str(folder / f"{name}.npy"), "--log", str(folder / "log"), *more])


def drift(student, *more):
    folder = student.parent
    return main(["drift", str(folder / "log"), "--bundle", str(student), "--out", str(folder / "out"), *more])


def test_unchanged_images_are_no_drift(student, capfd):
    assert predict(student, "same") == 0
    lines = (student.parent / "log" / CURRENT).read_text().splitlines()
    rows = list(Predictor(student).rows(student.parent / "same.npy"))
    logged = [json.loads(line) for line in lines]
    assert [own["class"] for own in logged] == [row.label for row in rows] and len(rows) == 80
    for name in ("brightness", "contrast", "colour", "layout"):
        assert np.allclose(
            [own["statistics"][name] for own in logged], [r.statistics[name] for r in rows], rtol=1e-5
        )
    assert not any("file" in own or "npy" in json.dumps(own) for own in logged)
    capfd.readouterr()
    assert drift(student, "--strict") == 0
    assert capfd.readouterr().out.splitlines()[0] == "No drift seen."
    page = (student.parent / "out/drift.html").read_text()
    assert "<strong>No drift seen.</strong>" in page and page.count("data:image/png;base64,") == 2
    fetched = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(own.startswith("data:image/png;base64,") for own in fetched) and "url(" not in page


def test_brighter_images_are_told_on_screen_in_the_table_and_on_the_page(student, capfd):
    assert predict(student, "same", "--log-paths") == 0 and predict(student, "bright") == 0
    capfd.readouterr()
    assert drift(student, "--every", "80") == 0
    said = capfd.readouterr().out
    assert said.startswith("The images changed: brighter, ") and "\x1b" not in said
    table = said[said.index("window   ") :].splitlines()[:3]
    assert [line.split()[-7] for line in table] == ["bright", "-", "up"]
    assert all(len(line) == 80 for line in table)
    rows = pd.read_csv(student.parent / "out/drift.csv")
    row = rows[(rows.check == "brightness") & rows.window.str.startswith("#2")].iloc[0]
    assert (row.state, row.direction) == ("changed", "up")
    assert row.observed / row.expected == pytest.approx(1.5, rel=0.2)
    assert "<strong>The images changed: brighter" in (student.parent / "out/drift.html").read_text()
    assert drift(student, "--every", "80", "--strict") == 3
    assert capfd.readouterr().err == "Stopped: something changed, and --strict asks for exit code 3 then.\n"


def spoil(student, **changes):
    """Change the card of a student."""
    path = student.with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


OLD = "must be a student whose .json has reference and answers"
HALF = {"images": 3, "quantiles": {"brightness": "1 2"}}
BAD = {
    "an older card": ({"reference": {}, "answers": {}}, "Got 'no reference and no answers'"),
    "half a card": ({"answers": {}}, "Got 'no answers'"),
    "other answers": ({"answers": {"val": {"classes": [1, 2, 3], "uncertain": 0}}}, "damaged: answers that"),
    "other values": ({"reference": {"train": HALF}}, "damaged: 2 values of brightness of 3 images"),
    "words": ({"reference": {"train": {**HALF, "quantiles": {"brightness": "1 x 3"}}}}, "damaged: could not"),
    "nan": ({"reference": {"train": {**HALF, "quantiles": {"brightness": "1 nan 3"}}}}, "damaged: values of"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_card_that_expects_nothing_is_refused_in_one_line(student, capfd, case):
    changes, words = BAD[case]
    spoil(student, **changes)
    (student.parent / "log").mkdir()
    assert drift(student) == 2
    error = capfd.readouterr().err
    assert error.startswith("Error: ") and OLD in error and words in error and error.count("\n") == 1
    assert not (student.parent / "out").exists()


WRONG = {
    "a small window": (["--every", "19"], "--every must be at least 20. Got 19."),
    "two kinds of windows": (["--every", "30", "--by", "week"], "--by must be given without --every."),
    "an unknown period": (["--by", "weeks"], "Did you mean 'week'?"),
    "no log": ([], "DIR must be a folder that predict --log wrote."),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_arguments_are_one_line(student, capfd, case):
    argv, words = WRONG[case]
    assert drift(student, *argv) == 2
    error = capfd.readouterr().err
    assert words in error and error.count("\n") == 1


@pytest.mark.parametrize("csv", [False, True])
def test_what_cannot_be_logged_is_told_and_no_prediction_is_lost(student, capfd, csv):
    (student.parent / "log").write_text("a file where the folder should be")
    out = student.parent / "said.csv"
    assert predict(student, "same", *(["--csv", str(out)] if csv else [])) == 2
    printed = capfd.readouterr()
    assert len(pd.read_csv(out) if csv else printed.out.splitlines()[1:]) == 80
    error = printed.err.splitlines()[-1]
    assert error.startswith("Error: --log must be a folder. Got ")
    assert error.endswith("80 of 80 answers could not be logged.")


def test_paths_without_a_log_are_refused(student, capfd):
    assert main(["predict", str(student), str(student.parent / "same.npy"), "--log-paths"]) == 2
    assert capfd.readouterr().err == "Error: --log-paths must be given with --log. Got 'no --log'.\n"


def test_a_card_of_a_run_expects_what_its_file_says_of_val_and_test(finished, tiny):
    """What the stages counted is what the predictor says of the same images."""
    path = finished / "alone_Student_int8.tflite"
    card = Card.from_json(json.loads(path.with_suffix(".json").read_text()))
    for split, images in (("val", 16), ("test", 24)):
        rows = list(Predictor(path).rows(tiny / f"X_{split}.npy"))
        named = [sum(row.label == name for row in rows) for name in card.classes]
        unlike = sum("unlike" in row.warning for row in rows)
        uncertain = sum(row.uncertain for row in rows)
        if split == "val":  # the thresholds of an image are then those that the others choose
            probs = np.stack([row.probs for row in rows])
            uncertain = answers_of_val(probs, np.load(tiny / "y_val.npy"))["uncertain"]
        assert card.answers[split] == {"classes": named, "uncertain": uncertain}
        assert (card.reference[split]["images"], card.reference[split]["unlike"]) == (images, unlike)
    rows = list(Predictor(path).rows(tiny / "X_val.npy"))
    for name, text in card.reference["val"]["quantiles"].items():
        values = sorted(row.statistics[name] for row in rows)
        assert np.allclose(list(map(float, text.split())), values, atol=0.011)
