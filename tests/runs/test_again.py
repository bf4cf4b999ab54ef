"""The same command again: what stands is used, what a setting changes is made anew, and nothing else."""

import json
import shutil

import pytest
from small_run import QUICK, stages

from kdtf.cli import main
from kdtf.files import file_digest

RECIPES = ("float32", "float16", "dynamic", "int8")


def digests(results):
    return {p.name: file_digest(p) for p in results.iterdir() if p.is_file() and p.name != "manifest.json"}


def test_the_same_command_again_redoes_nothing_and_changes_nothing(finished, tiny):
    before, written = digests(finished), stages(finished)
    assert main(["--data", str(tiny), "--results", str(finished), *QUICK]) == 0
    assert digests(finished) == before and stages(finished) == written


OF_MOBILENET = {f"mobilenet-{recipe}" for recipe in RECIPES}
CHANGES = {  # a flag and what depends on it; scores and reports follow
    ("--temperature", "3"): {"mobilenet-student", "mobilenet-conversion", "mobilenet-gradcam"} | OF_MOBILENET,
    ("--calibration-images", "9"): {"alone-int8", "mobilenet-int8"},
    # the audit and the cards name the classes, and Grad-CAM shows images that the audit found clean
    ("--class-names", "a", "b", "c", "d"): {"audit", "datasheet", "mobilenet-gradcam"},
}
UNSCORED = {"audit", "datasheet", "mobilenet-gradcam", "mobilenet-conversion"}


@pytest.mark.parametrize("flag", CHANGES, ids=lambda flag: flag[0])
def test_a_changed_setting_redoes_what_depends_on_it_and_nothing_else(flag, finished, tiny, tmp_path):
    shutil.copytree(finished, tmp_path / "r")
    assert main(["--data", str(tiny), "--results", str(tmp_path / "r"), *QUICK, *flag]) == 0
    keys = [
        {
            name: stage["key"]
            for name, stage in json.loads((folder / "manifest.json").read_text())["stages"].items()
        }
        for folder in (finished, tmp_path / "r")
    ]
    assert keys[0].keys() == keys[1].keys()
    redone = {name for name in keys[0] if keys[0][name] != keys[1][name]}
    made = CHANGES[flag]
    scored = {f"{name}-evaluation" for name in made - UNSCORED}
    reports = {f"{name.partition('-')[0]}-report" for name in made - {"audit", "datasheet"}} | {
        "closing-report"
    }
    if flag[0] == "--class-names":
        reports |= {"alone-report"}
        card = json.loads((tmp_path / "r" / "alone_Student_int8.json").read_text())
        assert card["classes"] == list(card["thresholds"]) == list("abcd")
        assert (tmp_path / "r" / "labels.txt").read_text() == "a\nb\nc\nd\n"
    assert redone == made | scored | reports
