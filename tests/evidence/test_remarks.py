import numpy as np
import pytest

from kdtf.evidence.remarks import at_bound, few_without_copies, points_still_rising, ranked, too_short


def history(accuracies, losses=None):
    losses = losses or [1.0 - a for a in accuracies]
    return [{"val_accuracy": a, "val_loss": x} for a, x in zip(accuracies, losses, strict=True)]


def test_a_training_that_still_rises_was_too_short():
    rising = history([0.1 * i for i in range(10)])  # fifths of two epochs: means 0.65 and 0.85
    assert points_still_rising(rising) == pytest.approx(20)
    assert "rose by 20.0 points" in too_short("the student", rising, "--epochs")


@pytest.mark.parametrize(
    "rows",
    [
        history([0.5] * 10),
        history(
            [0.1 * i for i in range(10)], [0.1 * i for i in range(10)]
        ),  # right by luck: its loss rises too
        history([0.5] * 8 + [0.515] * 2, list(range(10, 0, -1))),  # a point and a half
        history([0.1, 0.9]),
        [],
    ],
)
def test_a_training_that_has_settled_is_not_told(rows):
    assert points_still_rising(rows) == 0 and too_short("x", rows, "--epochs") is None


@pytest.mark.parametrize(
    "temperature, told", [(0.05, True), (20.0, True), (0.06, False), (1.0, False), (19.0, False)]
)
def test_a_temperature_at_an_end_of_its_search_is_no_measurement(temperature, told):
    assert (at_bound("the file", temperature) is not None) == told


def test_leaks_go_first_then_the_file_and_details_last():
    warnings = ["int8 of another file loses.", "No network.", "47 copies."]
    remarks = ranked(warnings, ["47 copies."], ["Too short."], ["int8 of another file loses."])
    assert remarks.first == ["47 copies.", "Too short.", "No network."]
    assert remarks.later == ["int8 of another file loses."]


def test_classes_of_which_copies_leave_few_images_are_named():
    labels = np.repeat([0, 1, 2, 3], [50, 30, 30, 5])
    clean = np.ones(115, bool)
    classes = ("well", "ill", "worse", "rare")
    assert few_without_copies(classes, labels, clean) is None  # a rare class alone is no matter of copies
    clean[:43], clean[50:60] = False, False  # of the 50 well ones 7 are left, of the ill ones 20
    assert few_without_copies(classes, labels, clean) == (
        "Of the 62 test images without a copy 7 well are left: scores without copies that are means over "
        "classes, macro AUC too, hang on these few."
    )
    clean[:50], clean[50:61] = False, False  # none of one class, 19 of another
    assert "54 test images without a copy 19 ill are left" in few_without_copies(classes, labels, clean)
