"""Settings that cannot work are refused before anything is done, and what only looks odd is read."""

import math

import pytest

from kdtf.config import MOST_VIEWS, Config
from kdtf.errors import LONGEST, UserError, require
from kdtf.runs.check import check_names
from kdtf.sections import flag
from kdtf.settings_file import read_toml

SEED, DIFFER, NUL = "at most 4294967295", "values that all differ", "text without characters of value 0"


@pytest.mark.parametrize(
    "values, rule, got",
    [
        ({"seed": 2**32}, SEED, "4294967296."),
        ({"calibration_seed": 2**32}, SEED, "4294967296."),
        ({"views": 1_000_000}, "at most 10000", "1000000. A student sees one an epoch."),
        ({"alphas": (0.5, 0.25, 0.5)}, DIFFER, "[0.5, 0.25, 0.5]."),
        ({"temperatures": (2, 2.0)}, DIFFER, "[2.0, 2.0]."),
        ({"results": "a\0b"}, NUL, r"'a\x00b'."),
        ({"teachers": ("a\0",)}, NUL, r"('a\x00',)."),
        ({"class_names": ("a\udcff", "b")}, "text in UTF-8", r"('a\udcff', 'b')."),
        ({"temperature": math.inf}, "finite and, if it is whole, below 2^63", "inf."),
    ],
)
def test_a_value_that_cannot_work_is_told(values, rule, got):
    with pytest.raises(UserError) as told:
        Config().with_values(values)
    assert str(told.value) == f"{flag(next(iter(values)))} must be {rule}. Got {got}"


def test_the_ends_of_a_range_are_in_it():
    values = {"seed": 2**32 - 1, "calibration_seed": 2**32 - 1, "views": MOST_VIEWS, "alphas": (0.0, 1.0)}
    config = Config().with_values(values)
    assert (config.run.seed, config.quantize.calibration_seed) == (4294967295, 4294967295)
    assert (config.views.views, config.distil.alphas) == (10_000, (0.0, 1.0))


def test_all_seeds_of_a_run_are_seeds():
    settings = Config().with_values(
        {"teachers": ("vgg16",), "weights": "none", "seed": 2**32 - 2, "seeds": 2}
    )
    check_names(settings)
    with pytest.raises(
        UserError, match=r"^--seed must be at most 4294967293 with --seeds 3\. Got 4294967294\."
    ):
        check_names(settings.with_values({"seeds": 3}))


def test_settings_may_begin_with_the_mark_of_an_editor(tmp_path):
    (tmp_path / "c.toml").write_text("[run]\nseed = 3\n", encoding="utf-8-sig")
    assert read_toml(tmp_path / "c.toml") == {"run": {"seed": 3}}


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 3000 + "]" * 3000,
        "a = " + "{a = " * 3000 + "1" + "}" * 3000,
        "[" + ".".join(["data"] * 3000) + "]",
        "[views]\nviews = " + "[" * 200 + "]" * 200,
    ],
    ids=["lists", "tables", "a dotted name", "a value"],
)
def test_settings_that_are_nested_deeply_are_told(tmp_path, text):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(UserError, match="must be") as told:
        Config.from_dict(read_toml(tmp_path / "c.toml"))
    assert "\n" not in str(told.value) and len(str(told.value)) < 2000


def test_an_error_shows_the_beginning_of_a_long_value():
    with pytest.raises(UserError) as told:
        require(False, "name", "short", "n" * 10**6)
    assert str(told.value) == f"name must be short. Got '{'n' * (LONGEST - 1)}...."
