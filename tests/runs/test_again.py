"""The same command again: what stands is used, what a setting changes is made anew, and nothing else."""

import json

import pytest
from small_run import SMALL, stages

from kdtf.cli import main
from kdtf.files import file_digest

RECIPES = ("float32", "float16", "dynamic", "int8")


def digests(results):
    return {p.name: file_digest(p) for p in results.iterdir() if p.is_file() and p.name != "manifest.json"}


def keys(results):
    """{stage: its key} by the manifest of a run."""
    stages = json.loads((results / "manifest.json").read_text())["stages"]
    return {name: stage["key"] for name, stage in stages.items()}


def test_the_same_command_again_redoes_nothing_and_changes_nothing(small, tiny):
    before, written = digests(small), stages(small)
    assert main(["--data", str(tiny), "--results", str(small), *SMALL]) == 0
    assert digests(small) == before and stages(small) == written


OF_CNN5 = {f"cnn5-{recipe}" for recipe in RECIPES}
CHANGES = {  # a flag and what depends on it; scores and reports follow
    ("--temperature", "3"): OF_CNN5 | {"cnn5-student", "cnn5-gradcam", "cnn5-agreement", "cnn5-conversion"},
    ("--calibration-images", "9"): {"alone-int8", "cnn5-int8"},
    # the audit and the cards name the classes, and Grad-CAM shows images that the audit found clean
    ("--class-names", "a", "b", "c", "d"): {"audit", "datasheet", "cnn5-gradcam"},
}
UNSCORED = {"audit", "datasheet", "cnn5-gradcam", "cnn5-agreement", "cnn5-conversion"}


@pytest.mark.parametrize("flag", CHANGES, ids=lambda flag: flag[0])
def test_a_changed_setting_redoes_what_depends_on_it_and_nothing_else(flag, small, tiny, blank):
    before = keys(small)
    assert main(["--data", str(tiny), "--results", str(small), *SMALL, *flag]) == 0
    after = keys(small)
    assert before.keys() == after.keys()
    redone = {name for name in before if before[name] != after[name]}
    made = CHANGES[flag]
    scored = {f"{name}-evaluation" for name in made - UNSCORED}
    reports = {f"{name.partition('-')[0]}-report" for name in made - {"audit", "datasheet"}} | {
        "closing-report"
    }
    if flag[0] == "--class-names":
        reports |= {"alone-report"}
        card = json.loads((small / "alone_Student_int8.json").read_text())
        assert card["classes"] == list(card["thresholds"]) == list("abcd")
        assert (small / "labels.txt").read_text() == "a\nb\nc\nd\n"
    assert redone == made | scored | reports
