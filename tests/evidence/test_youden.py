"""Thresholds of the largest Youden index, by exact counts: of equal ones the lowest."""

from fractions import Fraction

import numpy as np
import pytest

from kdtf.evidence.calibration import threshold, threshold_rule


def lowest_best(values, positive):
    """By fractions, over all values as thresholds."""

    def index(cut):
        called = values >= cut
        return Fraction(int((called & positive).sum()), int(positive.sum())) - Fraction(
            int((called & ~positive).sum()), int((~positive).sum())
        )

    cuts = sorted({float(value) for value in values})
    best = max(reversed(cuts), key=lambda cut: (index(cut), -cut))
    return best if index(best) > 0 else 1.0


@pytest.mark.parametrize("seed", range(40))
def test_the_threshold_is_the_lowest_of_the_best_by_exact_counts(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(4, 40))
    positive = rng.permutation(np.arange(count) % int(rng.integers(2, 4)) == 0)
    values = np.round(rng.random(count) * 0.9 + 0.1 * positive, int(rng.integers(1, 3)))
    assert threshold(values, positive) == lowest_best(values, positive)


def test_rounding_does_not_choose_between_two_equal_indices():
    """2 of 5 and 1 of 10 are called at 0.9, 3 of 5 and 3 of 10 at 0.5: an index of 3/10 both times."""
    assert 2 / 5 - 1 / 10 > 3 / 5 - 3 / 10  # as floats
    values = np.repeat([0.9, 0.5, 0.1, 0.9, 0.5, 0.1], [2, 1, 2, 1, 2, 7])
    positive = np.repeat([True, False], [5, 10])
    assert threshold(values, positive) == 0.5


@pytest.mark.parametrize("values", [[0.5, 0.25, 0.25, 0.5], [0.1, 0.2, 0.8, 0.9], [0.3] * 4])
def test_where_nothing_tells_a_class_every_answer_is_uncertain(values):
    assert threshold(np.array(values), np.array([True, True, False, False])) == 1.0


def test_a_wanted_sensitivity_still_takes_the_highest_threshold():
    values, positive = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])
    assert threshold(values, positive, 0.5) == 0.9 and threshold(values, positive, 1.0) == 0.7


def test_the_rule_says_which_of_equal_thresholds_is_taken():
    assert threshold_rule() == "of the largest Youden index, the lowest where several have it"
