"""A card says how its own file was made, whatever the settings of the run it is from."""

import json

import pytest
from small_run import QUICK, pictures_of_one_pixel, teachers_of_one_convolution

from kdtf.cli import main

TRIED = [*QUICK, "--teachers", "cnn5", "--baseline", "baseline", "--recipes", "int8"]
TRIED += ["--alphas", "0.1", "0.2", "--temperatures", "4"]


@pytest.fixture(scope="module")
def results(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tried")
    with pictures_of_one_pixel(), teachers_of_one_convolution():
        assert main(["--data", str(tiny), "--results", str(folder), *TRIED]) == 0
    return folder


def card(results, teacher):
    return json.loads((results / f"{teacher}_Student_int8.json").read_text())


def test_it_names_the_alpha_and_temperature_that_the_student_was_distilled_with(results):
    told = card(results, "cnn5")["made_by"]["distillation"]
    assert told["alpha"] in (0.1, 0.2) and told["temperature"] == 4
    chosen = (results / "cnn5_tuning.csv").read_text().splitlines()
    (row,) = [line.split(",") for line in chosen[1:] if line.endswith(",1")]
    assert told["alpha"] == float(row[0]) and told["loss"] == "kd"
    assert "0.5" not in json.dumps(told)  # the setting that was not used


def test_a_student_without_a_teacher_has_no_distillation(results):
    assert card(results, "alone")["made_by"]["distillation"] is None
    assert card(results, "baseline")["made_by"]["distillation"] is None


def test_it_names_the_network_that_is_in_the_file(results):
    networks = {name: card(results, name)["made_by"]["network"] for name in ("alone", "baseline", "cnn5")}
    assert networks == {"alone": "cnn3", "baseline": "baseline", "cnn5": "cnn3"}


def test_it_holds_no_setting_of_other_files(results):
    made = card(results, "alone")["made_by"]
    assert "config" not in made and made["recipe"] == {"calibration": {"images": 200, "seed": 0}}
    assert made["training"]["epochs"] == 2


def test_after_a_rerun_it_tells_the_rule_that_its_thresholds_follow(results, tiny, blank):
    before = card(results, "alone")
    argv = ["--data", str(tiny), "--results", str(results), *TRIED, "--min-sensitivity", "0.5"]
    with teachers_of_one_convolution():
        assert main(argv) == 0
    after = card(results, "alone")
    assert "a sensitivity of 0.5" in after["threshold_rule"]
    assert "Youden" in before["threshold_rule"] and before["made_by"] == after["made_by"]
    assert before["sha256"] == after["sha256"] and before["thresholds"] != after["thresholds"]


def test_it_names_the_packages_that_made_it(results):
    from kdtf.versions import versions

    told = card(results, "cnn5")["made_by"]["versions"]
    assert told.items() <= versions(told).items() and {"keras", "litert-quantizer"} <= told.keys()
