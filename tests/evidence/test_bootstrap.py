import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from kdtf.evidence import bootstrap
from kdtf.evidence.bootstrap import (
    Draws,
    Interval,
    compare,
    draw,
    drawn_scores,
    gain_in_words,
    holm,
    in_words,
    interval,
)
from kdtf.evidence.metrics import scores


def draws(count=120, draws=50, **more):
    return draw(count, rng=np.random.default_rng(1), draws=draws, **more)


def test_draws_take_as_many_as_there_are_and_row_zero_is_the_sample():
    weights, units = draws()
    assert units == 120
    assert weights.shape == (51, 120) and (weights[0] == 1).all() and (weights.sum(1) == 120).all()
    assert weights[1:].std() == pytest.approx(1, abs=0.05)  # multiplicities are nearly Poisson(1)


@pytest.mark.parametrize("groups", [None, np.arange(120) // 3])
def test_draws_and_what_is_computed_of_them_do_not_depend_on_the_size_of_a_block(groups, monkeypatch):
    values, whole = np.random.default_rng(2).normal(size=120), draws(groups=groups)
    mean = whole.compute(lambda weights: weights @ values)
    monkeypatch.setattr(bootstrap, "BLOCK_BYTES", 0)
    parts = draws(groups=groups)
    assert [len(weights) for weights in parts.blocks()] == [16, 16, 16, 3]
    assert np.array_equal(whole.times, parts.times) and whole.times.dtype == np.uint8
    assert parts.compute(lambda weights: weights @ values) == pytest.approx(mean, rel=1e-12)
    probs, labels = np.random.default_rng(0).dirichlet([1, 1, 1], 120), np.arange(120) % 3
    blocks, weights = drawn_scores(parts, probs, labels), whole.times.astype(float)
    for metric, expected in scores(weights, probs, labels).items():
        assert blocks[metric] == pytest.approx(expected, rel=1e-6), metric


def test_weights_in_use_at_once_are_few_however_many_images():
    """A block of 100,000 images is no larger than one of 5,000; all draws are bytes."""
    sizes = {n: next(Draws(np.ones((2001, n), np.uint8), n).blocks()).nbytes for n in (5_000, 100_000)}
    assert max(sizes.values()) <= 32 * 2**20


def test_draws_by_group_take_whole_groups():
    groups = np.repeat(["p", "q", "r", "s"], [50, 40, 20, 10])
    weights, units = draws(groups=groups)
    assert units == 4
    for name in "pqrs":
        assert (weights[:, groups == name] == weights[:, groups == name][:, :1]).all()
    assert (weights[1:, [0, 50, 90, 110]].sum(1) == 4).all()


def test_an_interval_of_draws_that_are_all_undefined_has_no_ends():
    ends = interval(np.array([0.5, np.nan, np.nan]), 10)
    assert ends.value == 0.5 and np.isnan(ends.low) and np.isnan(ends.high)


def test_mcnemar_is_the_binomial_test_of_the_images_they_disagree_on():
    a = np.eye(2)[[0] * 12 + [1] * 3 + [0] * 20]
    b = np.eye(2)[[1] * 12 + [0] * 3 + [0] * 20]
    comparison = compare(draws(35), a, b, np.zeros(35, int))
    assert (comparison.only_a, comparison.only_b) == (12, 3)
    assert comparison.p == pytest.approx(stats.binomtest(3, 15).pvalue)
    assert comparison.difference.value == pytest.approx(-9 / 35, abs=1e-6)


def test_a_model_against_itself_shows_nothing():
    probs, labels = np.random.default_rng(0).dirichlet([1, 1, 1], 120), np.arange(120) % 3
    comparison = compare(draws(), probs, probs, labels)
    assert comparison.difference == (0, 0, 0) and comparison.p == 1
    assert in_words("x", comparison.difference, comparison.p).startswith("x: no evidence of a difference")


def test_holm_by_hand():
    """Sorted 0.01, 0.02, 0.04 times 3, 2, 1, never falling: 0.03, 0.04, 0.04."""
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([]) == []


def test_holm_is_that_of_statsmodels():
    rng = np.random.default_rng(0)
    for count in (1, 2, 7, 60):
        p = rng.choice(rng.random(count) ** 3, count)  # some are equal
        assert holm(p) == multipletests(p, method="holm")[1].tolist()


@pytest.mark.parametrize(
    "difference, p, text",
    [
        (Interval(0.021, 0.004, 0.038), 0.01, "x: gain of 2.1 points (interval +0.4 to +3.8"),
        (Interval(-0.03, -0.05, -0.01), 0.01, "x: loss of 3.0 points (interval -5.0 to -1.0"),
        (Interval(0.021, -0.004, 0.04), 0.01, "x: no evidence of a difference (+2.1 points"),
        (Interval(0.021, 0.004, 0.04), 0.2, "x: no evidence of a difference"),
    ],
)
def test_verdicts(difference, p, text):
    assert in_words("x", difference, p).startswith(text)


@pytest.mark.parametrize(
    "gain, words",
    [
        (Interval(0.02, 0.01, 0.03), "a gain (+2.0 points on average, +1.0 to +3.0)."),
        (Interval(-0.02, -0.03, -0.01), "a loss (-2.0 points on average, -3.0 to -1.0)."),
        (Interval(0.02, -0.01, 0.05), "no evidence of a difference (+2.0 points on average, -1.0 to +5.0)."),
        (Interval(0.0, 0.0, 0.0), "no evidence of a difference (+0.0 points on average, +0.0 to +0.0)."),
    ],
)
def test_what_distilling_gained_over_seeds_is_said_in_words(gain, words):
    sentence = gain_in_words("distilling from vgg16 against training alone", gain, 3)
    assert sentence == f"Over 3 seeds distilling from vgg16 against training alone: {words}"


@pytest.mark.parametrize("grouped", [False, True])
def test_the_interval_covers_the_truth_95_times_in_100(grouped):
    """1,000 simulated test sets, 80 % right, one set of draws; with groups, two images a patient, alike."""
    rng = np.random.default_rng(5)
    images, groups = (400, np.repeat(np.arange(200), 2)) if grouped else (200, None)
    sample = draw(images, rng=rng, groups=groups)
    right = np.repeat(rng.random((200, 1000)) < 0.8, images // 200, axis=0).astype("float32")  # (N, sets)
    accuracies = sample.compute(lambda w: w @ right / w.sum(axis=1, keepdims=True))  # (D, sets)
    ends = [interval(values, sample.units) for values in accuracies.T]
    assert 930 <= sum(low <= 0.8 <= high for _, low, high in ends) <= 970


def test_the_interval_of_a_mean_of_ten_is_as_wide_as_students():
    """Plain percentiles would be about 0.82 as wide."""
    values = np.random.default_rng(8).normal(size=10).astype("float32")
    sample = draw(10, rng=np.random.default_rng(9), draws=20000)
    ends = interval(sample.compute(lambda weights: weights @ values / 10), sample.units)
    expected = stats.t.interval(0.95, 9, values.mean(), stats.sem(values))
    assert (ends.high - ends.low) / (expected[1] - expected[0]) == pytest.approx(1, abs=0.05)


def test_ignoring_groups_would_be_too_sure():
    rng = np.random.default_rng(6)
    right = np.repeat(rng.random(100) < 0.8, 4).astype("float32")
    wide, narrow = (
        interval(d.compute(lambda weights: weights @ right / weights.sum(1)), d.units)
        for d in (draw(400, rng=rng, groups=np.repeat(np.arange(100), 4)), draw(400, rng=rng))
    )
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(2, rel=0.2)  # sqrt(4)
