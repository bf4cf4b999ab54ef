"""Several networks and sides in one run: compared on val, then the run goes on with the smallest good one."""

import json

import numpy as np
import pytest
from small_run import SMALL, pictures_of_one_pixel, table, teachers_of_one_convolution

from kdtf.cli import main
from kdtf.data.load import load
from kdtf.data.pixels import resize
from kdtf.predictor import Predictor
from kdtf.progress import Progress
from kdtf.runs.data import describe, read_datasheet
from kdtf.runs.perform import Workspace

COMMAND = [*SMALL, "--recipes", "int8", "--students", "cnn3", "baseline", "--sides", "12", "16"]


@pytest.fixture(scope="module")
def results(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    with pictures_of_one_pixel(), teachers_of_one_convolution():
        assert main(["--data", str(tiny), "--results", str(folder), *COMMAND]) == 0
    return folder


def test_every_file_of_every_candidate_is_compared(results):
    rows = table(results, "frontier.csv")
    compared = {(r.network, r.side, r.model) for r in rows.itertuples()}
    assert compared == {
        (network, side, model)
        for network in ("cnn3", "baseline")
        for side in (12, 16)
        for model in ("alone", "distilled")
    }
    small, large = (rows[(rows.network == "cnn3") & (rows.side == side)].iloc[0] for side in (12, 16))
    assert small.kmacs < large.kmacs and small.arena_kib < large.arena_kib
    assert list(rows.kib) == sorted(rows.kib)


def test_the_run_is_about_the_one_that_was_chosen(results):
    (chosen,) = (row for row in table(results, "frontier.csv").itertuples() if row.chosen)
    ship = json.loads((results / "manifest.json").read_text())["ship"]
    assert (ship["teacher"], ship["model"], ship["recipe"]) == (chosen.teacher, chosen.model, "int8")
    card = json.loads((results / f"{ship['teacher']}_Student_int8.json").read_text())
    assert card["made_by"]["network"] == chosen.network
    assert card["input"]["height"] == card["input"]["width"] == chosen.side
    summary = table(results, "summary.csv")
    row = summary[(summary.teacher == chosen.teacher) & (summary.recipe == "int8")].iloc[0]
    assert row.accuracy == pytest.approx(chosen.accuracy, abs=1e-5)
    assert row.val_accuracy == pytest.approx(chosen.val_accuracy, abs=1e-5)


def test_a_file_of_another_side_answers_as_it_was_tested(results, tiny):
    """Test images of the teacher's size come down to the side of the file as in the run."""
    (chosen,) = (row for row in table(results, "frontier.csv").itertuples() if row.chosen)
    predict = Predictor(results / f"{chosen.teacher}_Student_int8.tflite")
    assert predict.shape == (chosen.side, chosen.side, 1)
    pixels = resize(np.load(tiny / "teacher" / "X_test.npy"), chosen.side)
    right = predict(pixels).argmax(1) == np.load(tiny / "y_test.npy").ravel()
    assert right.mean() == pytest.approx(chosen.accuracy, abs=1e-5)


@pytest.mark.parametrize(
    "more, message",
    [
        (["--sides", "16", "900"], "--sides must be at most the images' 64 px. Got 900."),
        (["--students", "cnn3", "mobilenetv2", "--sides", "64", "16"],
         "image side must be at least 32 px for mobilenetv2. Got 16."),
    ],
)  # fmt: skip
def test_a_side_that_cannot_be_is_refused_before_anything_is_trained(more, message, tiny, tmp_path, capsys):
    assert main(["--data", str(tiny), "--results", str(tmp_path), *SMALL, *more]) == 2
    assert message in capsys.readouterr().err
    assert not list((tmp_path / "work").glob("*-student-*"))


@pytest.mark.parametrize("side, reduced_from", [(None, 32), (32, 32), (16, 64), (48, 64)])
def test_a_card_says_how_a_device_comes_to_the_pixels_that_were_trained_on(
    side, reduced_from, tiny, tmp_path
):
    """Of an original image: first to the larger copy's side, where the student's pixels are made of that."""
    data = load(tiny, tmp_path)
    space = Workspace(tmp_path, {}, data, Progress(), "")
    describe(space, list(data.classes), False, {"side": 32, "keep_aspect": False, "window": []}, side)
    sheet = read_datasheet(tmp_path)
    assert sheet.prepared["side"] == reduced_from and sheet.shape == (side or 32, side or 32, 1)
