"""The checks by value: the index by hand, distances and p values against SciPy, p by simulation."""

import numpy as np
import pytest
from scipy.stats import chi2_contingency, fisher_exact, ks_2samp

from kdtf.data.typical import percentiles
from kdtf.drift.comparison import binned, ks_distance, ks_p, mix_p, stability_index
from kdtf.drift.expectation import Reference

RNG = np.random.default_rng(0)


def reference(values):
    return Reference(np.array(percentiles(np.asarray(values)).split(), float), len(values))


def test_the_index_by_hand():
    """p = 10.5/31 and 20.5/31, q = 30.5/61 of both, half an image more in each bin; less 1/30 + 1/60."""
    p, q = np.array([10.5, 20.5]) / 31, np.array([30.5, 30.5]) / 61
    raw, beyond = stability_index(np.array([10.0, 20.0]), np.array([30.0, 30.0]))
    assert raw == pytest.approx((q[0] - p[0]) * np.log(q[0] / p[0]) + (q[1] - p[1]) * np.log(q[1] / p[1]))
    assert raw == pytest.approx(0.107911, abs=1e-6) and beyond == pytest.approx(raw - 1 / 30 - 1 / 60)
    assert stability_index(np.array([5.0, 0.0]), np.array([7.0, 0.0])) == (0, 0)  # one bin that has any


@pytest.mark.parametrize("n", [30, 100, 1000])
def test_the_index_beyond_chance_is_none_of_unchanged_images_whatever_the_window(n):
    train = reference(RNG.normal(60, 10, 613))
    pairs = [stability_index(*binned(train, RNG.normal(60, 10, n)), train.images) for _ in range(200)]
    raw, beyond = np.mean(pairs, axis=0)
    assert raw == pytest.approx(9 * (1 / n + 1 / 613), rel=0.35) and beyond < 0.4 * raw + 0.01


def test_bins_are_between_the_deciles():
    theirs, ours = binned(reference(np.arange(1000)), np.array([-5, 0, 99, 100, 950, 2000]))
    assert np.allclose(theirs, 100) and ours.tolist() == [3, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    theirs, ours = binned(reference(np.zeros(300)), np.array([0.0, 0.0, 1.0]))
    assert theirs.tolist() == [300, 0] and ours.tolist() == [2, 1]


@pytest.mark.parametrize("n, m", [(72, 50), (72, 20), (16, 100), (101, 101)])
def test_distance_and_p_are_scipys_where_all_values_are_known(n, m):
    for shift in (0.0, 0.5):
        theirs, ours = RNG.normal(size=n).round(2), RNG.normal(shift, size=m).round(2)
        found = ks_distance(reference(theirs), ours)
        expected = ks_2samp(theirs, ours, method="exact")
        assert found.largest == pytest.approx(expected.statistic, abs=1e-12)
        assert ks_p(found.largest, n, m) == pytest.approx(expected.pvalue, abs=1e-9)


@pytest.mark.parametrize("draw", [RNG.normal, RNG.exponential, lambda size: RNG.integers(0, 3, size) * 1.0])
def test_of_a_value_at_every_percent_the_distance_is_at_most_a_percent_less(draw):
    for _ in range(20):
        theirs, ours = draw(size=2000).round(2), draw(size=80).round(2)
        expected, found = ks_2samp(theirs, ours).statistic, ks_distance(reference(theirs), ours).largest
        assert expected - 0.0101 <= found <= expected + 1e-12


def test_equal_images_are_at_no_distance():
    found = ks_distance(reference(np.zeros(613)), np.zeros(50))
    assert found == (0, 0) and ks_p(found.largest, 613, 50) == 1
    assert ks_distance(reference(np.zeros(613)), np.full(50, 3.0)) == (1, 0)
    assert ks_distance(reference(np.full(50, 3.0)), np.zeros(20)) == (0, 1)
    assert ks_p(1.0, 613, 50) == pytest.approx(0, abs=1e-12)


def test_p_of_large_samples_is_continued():
    """Above the limit of the exact count the distribution of one sample takes over, without a step."""
    exact, beyond = ks_p(0.03, 4000, 4999), ks_p(0.03, 4000, 5001)
    assert exact == pytest.approx(beyond, rel=0.03) and 0.01 < exact < 0.1


def test_p_of_the_distance_keeps_its_promise():
    """Of unchanged images one window in 20 has p at most 0.05, whatever the distribution."""
    p = []
    for _ in range(400):
        theirs, ours = RNG.exponential(size=72).round(2), RNG.exponential(size=60).round(2)
        p.append(ks_p(ks_distance(reference(theirs), ours).largest, 72, 60))
    assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.075 and 0.35 < np.median(p) < 0.65


def test_p_of_the_mix_is_chi_squares_or_that_of_drawn_tables():
    theirs, ours = np.array([40, 60, 100]), np.array([30, 20, 50])
    expected = chi2_contingency([theirs, ours], correction=False).pvalue
    assert mix_p(theirs, ours, RNG) == pytest.approx(expected)
    for rare in ([3, 9], [0, 12]):
        exact = fisher_exact([[20, 4], rare]).pvalue
        assert mix_p(np.array([20, 4]), np.array(rare), RNG) == pytest.approx(exact, rel=0.2, abs=1e-4)
    assert mix_p(np.array([5, 0, 0]), np.array([9, 0, 0]), RNG) == 1
