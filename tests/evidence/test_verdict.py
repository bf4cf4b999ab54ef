"""Whether a file may be shipped: every rule by hand, on both sides of what it asks."""

import numpy as np
import pytest

from kdtf.config import SHIP_RULES, EvidenceConfig
from kdtf.errors import UserError
from kdtf.evidence.bootstrap import proportion_interval
from kdtf.evidence.subgroups import group_scores
from kdtf.evidence.tables import all_tables, subsets
from kdtf.evidence.verdict import NONE_IS_GOOD, RULES, Case, _percent, good_enough, in_words, verdict
from kdtf.records import GroundTruth, Predictions, Subgroups
from kdtf.report.cells import percent

LABELS = np.repeat([0, 1], [60, 40])
VAL = np.repeat([0, 1], [60, 60])
TRUTH = GroundTruth(("well", "ill"), VAL, LABELS)


def model(test_wrong=(0, 0), val_wrong=0, kind="alone", recipe="keras"):
    """Wrong on so many test images of each class, and on the first of val."""
    test, val = LABELS.copy(), VAL.copy()
    for k, count in enumerate(test_wrong):
        own = np.flatnonzero(k == LABELS)[:count]
        test[own] = 1 - test[own]
    val[:val_wrong] = 1 - val[:val_wrong]
    return Predictions("x" if kind == "distilled" else kind, kind, recipe, 0, np.eye(2)[val], np.eye(2)[test])


def rows(file=None, student=None, alone=None, clean=None, **rules):
    file = file or model((3, 2), recipe="int8")
    student = student or model((3, 2))
    clean = np.ones(100, bool) if clean is None else clean
    parts = subsets(TRUTH, clean, 0)
    part = next((p for p in parts if p.clean), parts[0])
    case = Case(file, student, alone or model((3, 2)), TRUTH, part, (1, 4), EvidenceConfig(**rules))
    return {row.rule: row for row in verdict(case)}


def test_a_good_file_meets_every_rule_that_applies():
    met = {rule: row.met for rule, row in rows().items()}
    assert len(met) == len(RULES) == len(SHIP_RULES)
    assert met.pop("Distilling did no harm") is None and met.pop("Good in every group") is None
    assert all(met.values())
    assert good_enough(rows().values())


def test_always_naming_the_largest_class_is_not_good_enough():
    majority = rows(model((0, 40)))["Better than the largest class"]
    assert majority.value == pytest.approx(0.6) and majority.limit == pytest.approx(0.6)
    assert majority.met is False
    assert "always naming well gets 60.0 %, guessing 50.0 %" in majority.found


def test_the_whole_interval_has_to_be_above_the_largest_class():
    barely = rows(model((20, 16)))["Better than the largest class"]  # 64 of 100 against 60
    assert barely.value > barely.limit > barely.low and barely.met is False
    assert rows(model((20, 16)), ship_over_majority=-0.2)["Better than the largest class"].met


def test_copies_do_not_count_and_without_clean_images_the_answer_is_no():
    clean = np.arange(100) >= 50
    row = rows(model((50, 0)), clean=clean)["Better than the largest class"]
    assert (
        row.value == 1 and "50 test images without a copy" in row.found and row.met
    )  # its mistakes are copies
    lost = rows(clean=np.zeros(100, bool))["Better than the largest class"]
    assert lost.met is False and "all with a copy in train or val" in lost.found


@pytest.mark.parametrize("wrong, met", [(20, True), (21, False)])
def test_no_class_may_be_below_the_least_sensitivity(wrong, met):
    row = rows(model((0, wrong)))["Every class is found"]
    assert row.met is met and row.value == pytest.approx(1 - wrong / 40)
    assert "lowest for ill" in row.found and "its 40 images" in row.found
    assert rows(model((0, wrong)), ship_sensitivity=0.4)["Every class is found"].met


def test_a_class_without_an_image_cannot_be_judged():
    row = rows(clean=LABELS == 0)["Every class is found"]
    assert row.met is False and row.found == "no image of ill to judge by"


def test_distilling_may_not_be_worse_than_alone():
    name, distilled = "Distilling did no harm", model((30, 10), kind="distilled")
    harm = rows(student=distilled, alone=model())[name]
    assert harm.met is False and harm.value == pytest.approx(-0.4) and harm.high < 0
    assert rows(student=distilled, alone=model(), ship_distilled_loss=0.5)[name].met
    level = rows(student=model((3, 2), kind="distilled"), alone=model((2, 2)))[name]
    assert level.met  # a point less, and the interval reaches zero


@pytest.mark.parametrize("lost, met", [(1, True), (2, False)])
def test_a_file_may_lose_a_point_on_val_against_its_network(lost, met):
    row = rows(model((3, 2), val_wrong=lost, recipe="int8"))[
        "As good as in float"
    ]  # of 120: 0.8 and 1.7 points
    assert row.met is met
    assert rows(model((3, 2), val_wrong=2, recipe="int8"), ship_file_loss=0.02)["As good as in float"].met


def test_val_has_to_be_large_enough_to_choose_by():
    assert rows(ship_val_images=121)["Val is large enough"].met is False
    row = rows(ship_val_images=120)["Val is large enough"]
    assert row.met and row.found == "120 images"


@pytest.mark.parametrize("wrong, met", [(10, True), (11, False)])
def test_no_large_group_may_be_below_the_floor(wrong, met):
    """Of 20 images of site b half or less are right; site c, of 19 that are all wrong, is too small."""
    member = np.repeat([0, 1, 2], [61, 20, 19])
    truth = TRUTH._replace(subgroups=(Subgroups("site", ("a", "b", "c"), member),))
    test = LABELS.copy()
    for at, count in ((61, wrong), (81, 19)):
        test[at : at + count] = 1 - test[at : at + count]
    file = Predictions("alone", "alone", "int8", 0, np.eye(2)[VAL], np.eye(2)[test])
    part = subsets(truth, np.ones(100, bool), 0)[0]
    groups = group_scores(file, truth, part)
    case = Case(file, model(), model(), truth, part, (1, 4), EvidenceConfig(), groups)
    row = next(row for row in verdict(case) if row.rule == "Good in every group")
    assert row.met is met and row.value == pytest.approx(1 - wrong / 20) and row.limit == 0.5
    assert row.low < row.value < row.high
    assert row.asked.startswith("Of every group of at least 20 images at least 50.0 %")
    assert row.found.startswith(f"lowest of 2, site = b: {100 - 5 * wrong}.0 % of its 20 images (95 %")
    assert verdict(case._replace(rules=EvidenceConfig(ship_group_accuracy=0.45)))[-1].met
    told = "; 1 group not judged" if len(groups) > 2 else ""
    assert row.found.endswith(f"){told}")
    assert verdict(case._replace(groups=groups[2:]))[-1][2:4] == ("no group has 20 images", None)
    assert rows()["Good in every group"].found == "no groups are known (subgroups_test.csv)"


def test_percents_are_those_of_the_tables():
    """273 of 400 are 0.6825: 0.682 in the tables, and 68.3 % as float32."""
    assert _percent(np.float32(0.6825)) == "68.2 %" == f"{percent(0.6825)} %"


def test_the_sentence_names_the_rules_that_are_broken():
    broken = list(rows(ship_val_images=121).values())
    assert not good_enough(broken)
    assert in_words(broken, "x.tflite") == f"{NONE_IS_GOOD} Of x.tflite: Val is large enough: 120 images."
    assert (
        in_words(list(rows().values()), "x.tflite") == "x.tflite meets all that is asked of a file to ship."
    )


@pytest.mark.parametrize(
    "name, value",
    [
        ("ship_sensitivity", 1.5),
        ("ship_group_accuracy", -0.1),
        ("ship_val_images", -1),
        ("ship_file_loss", -0.1),
    ],
)
def test_what_no_file_could_meet_is_refused(name, value):
    with pytest.raises(UserError, match="--ship-"):
        EvidenceConfig(**{name: value})


def test_classes_by_the_class_named_are_the_confusion_matrix_in_parts():
    """57 of 60 well ones are called well, 38 of 40 ill ones ill; by hand."""
    table = all_tables([model((3, 2))], TRUTH, subsets(TRUTH, np.ones(100, bool), 0))["top_classes"]
    well = next(row for row in table if row["class"] == "well")
    assert [well[name] for name in ("class_images", "named_images", "right_images", "of")] == [
        60,
        59,
        57,
        100,
    ]
    parts = {"sensitivity": 57 / 60, "specificity": 38 / 40, "ppv": 57 / 59, "npv": 38 / 41}
    assert {name: well[name] for name in parts} == pytest.approx(parts)
    assert all(well[f"{name}_low"] < value < well[f"{name}_high"] for name, value in parts.items())


def test_seven_of_seven_are_not_surely_all():
    """Wilson's interval of 7 of 7 is 0.646 to 1; of two patients it is wider."""
    draws = np.full(2001, 7.0)
    assert proportion_interval(draws, draws, 100) == pytest.approx((1, 0.6457, 1), abs=1e-4)
    assert proportion_interval(draws, draws, 2).low < 0.4
    assert np.isnan(proportion_interval(0 * draws, 0 * draws, 100).value)
