"""Several networks and sides in one run: compared on val, then the run goes on with the smallest good one."""

import json

import numpy as np
import pytest
from small_run import SMALL, pictures_of_one_pixel, table

from kdtf.cli import main
from kdtf.data.pixels import resize
from kdtf.predictor import Predictor

COMMAND = [*SMALL, "--recipes", "int8", "--students", "cnn3", "baseline", "--sides", "12", "16"]


@pytest.fixture(scope="module")
def results(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    with pictures_of_one_pixel():
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


def test_more_than_the_images_hold_is_refused(tiny, tmp_path, capsys):
    argv = ["--data", str(tiny), "--results", str(tmp_path), *SMALL, "--sides", "16", "900"]
    assert main(argv) == 2
    assert "--sides must be at most the images' " in capsys.readouterr().err
