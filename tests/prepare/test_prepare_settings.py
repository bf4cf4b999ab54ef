"""Settings that are refused before anything is read."""

import pytest

from kdtf.errors import UserError
from kdtf.prepare import PrepareConfig

SETTINGS = {
    "split": [(0.5, 0.5), (0.5, 0.5, 0.5), (1.0, 0.1, -0.1), (0.9, 0.1, 0.0), (float("nan"), 0.1, 0.1)],
    "size": [7, 2000, 32.0],
    "teacher_size": [32, 16, 2000],
    "window": [(40,), (40, 1), (40, -5), (float("nan"), 400), (1, 2, 3)],
    "group_regex": ["person(", "*"],
    "seed": [-1],
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
