"""What a run says that its user could do better, before it does it."""

import numpy as np
import pytest

from kdtf.config import Config
from kdtf.data.audit import SHORTCUT, Audit
from kdtf.data.dataset import Dataset, Split
from kdtf.runs.engine import size_advice, tone_advice


def audited(probe: float) -> Audit:
    """An audit whose shortcut probe has this balanced accuracy between two classes."""
    return Audit([{"check": "shortcut probe", "value": probe, "of": 0.5}], [], {}, ["found"])


@pytest.mark.parametrize(
    "probe, brightness, contrast, told",
    [
        (0.5 + SHORTCUT + 0.01, 0.1, 0.1, "at most 10%: more of both (--brightness 0.4 --contrast 0.4)"),
        (0.9, 0.5, 0.2, "at most 20%"),
        (0.9, 0.4, 0.4, None),
        (0.5 + SHORTCUT, 0.1, 0.1, None),
    ],
)
def test_views_that_leave_a_shortcut_are_told(probe, brightness, contrast, told):
    advice = tone_advice(
        Config().with_values({"brightness": brightness, "contrast": contrast}), audited(probe)
    )
    assert advice is None if told is None else told in advice


@pytest.mark.parametrize("side, size, told", [(28, None, True), (28, 96, False), (128, None, False)])
def test_teachers_that_could_use_more_pixels_are_told(side, size, told):
    split = Split(
        np.zeros((2, 28, 28, 1), np.uint8), np.arange(2), None, np.zeros((2, side, side, 1), np.uint8)
    )
    data = Dataset(split, split, split, ("a", "b"), "digest", ())
    advice = size_advice(Config().with_values({"teacher_size": size}), data)
    assert (advice is not None) == told
    assert not told or ("Teachers see 28 px" in advice and "--teacher-size 96" in advice)
