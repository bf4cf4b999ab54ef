"""Settings that are refused before anything is read."""

import pytest

from kdtf.errors import UserError
from kdtf.prepare import PrepareConfig

SETTINGS = {
    "split": [(0.5, 0.5), (0.5, 0.5, 0.5), (1.0, 0.1, -0.1), (0.9, 0.1, 0.0), (float("nan"), 0.1, 0.1)],
    "size": [7, 2000, 32.0],
    "teacher_size": [32, 16, 2000],
    "window": [(40,), (40, 1), (40, -5), (float("nan"), 400), (1, 2, 3)],
    "group_regex": ["person(", "*", "a{99999999999999999999}", "(" * 3000 + ")" * 3000],
    "layout": ["", "SPLIT", "CLASS/CLASS", "CLASS/", "class/GROUP", "GROUP/CLASS/GROUP", "images"],
    "seed": [-1, 2**32],
    "workers": [0],
    "out": [""],
}


@pytest.mark.parametrize("name, value", [(name, value) for name in SETTINGS for value in SETTINGS[name]])
def test_settings_that_are_refused(name, value):
    with pytest.raises(UserError, match=f"--{name.replace('_', '-')} must be"):
        PrepareConfig(**{name: value})


def test_groups_come_one_way():
    with pytest.raises(UserError, match="--groups must be given without --group-regex"):
        PrepareConfig(groups="a.csv", group_regex="x")
    for other in ({"groups": "a.csv"}, {"group_regex": "x"}):
        with pytest.raises(UserError, match="--layout must be without GROUP where --groups or --group-regex"):
            PrepareConfig(layout="CLASS/GROUP", **other)


def test_a_layout_in_small_letters_is_told_how_to_write_it():
    with pytest.raises(UserError, match=r"Got 'class/GROUP'\. Write CLASS in capitals\."):
        PrepareConfig(layout="class/GROUP")
