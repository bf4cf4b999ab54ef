import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from kdtf.evidence import bootstrap as ev
from kdtf.evidence.metrics import score

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 120)
PROBS = RNG.dirichlet([1, 1, 1], 120) + 0.6 * np.eye(3)[LABELS]
PROBS /= PROBS.sum(1, keepdims=True)
PROBS[:10] = np.round(PROBS[:10], 1)  # ties
PROBS /= PROBS.sum(1, keepdims=True)


def draws(count=120, draws=50, **more):
    return ev.draw(count, rng=np.random.default_rng(1), draws=draws, **more)


def test_draws_take_as_many_as_there_are_and_row_zero_is_the_sample():
    w, units = draws()
    assert units == 120
    assert w.shape == (51, 120) and (w[0] == 1).all() and (w.sum(1) == 120).all()
    assert w[1:].std() == pytest.approx(1, abs=0.05)  # multiplicities are nearly Poisson(1)


def test_draws_by_group_take_whole_groups():
    groups = np.repeat(["p", "q", "r", "s"], [50, 40, 20, 10])
    w, units = draws(groups=groups)
    assert units == 4
    for name in "pqrs":
        assert (w[:, groups == name] == w[:, groups == name][:, :1]).all()
    assert (w[1:, [0, 50, 90, 110]].sum(1) == 4).all()


def test_every_metric_of_every_draw_is_that_of_scikit_learn():
    w = draws(draws=8).weights
    got = ev.scores(w, PROBS, LABELS)
    for d in range(9):
        rows = np.repeat(np.arange(120), w[d].astype(int))
        p, y = PROBS[rows], LABELS[rows]
        expected = {
            **score(p, y),
            "balanced_accuracy": sk.balanced_accuracy_score(y, p.argmax(1)),
            "average_precision": np.mean([sk.average_precision_score(y == k, p[:, k]) for k in range(3)]),
            "brier": np.mean(((p - np.eye(3)[y]) ** 2).sum(1)),
        }
        for name, value in expected.items():
            assert got[name][d] == pytest.approx(value, abs=1e-5), name


def test_auc_with_weights_is_that_of_scikit_learn_ties_included():
    w = RNG.integers(0, 4, (5, 40)).astype("float32")
    values, positive = np.round(RNG.random(40), 1), RNG.random(40) < 0.4
    for d in range(5):
        expected = sk.roc_auc_score(positive, values, sample_weight=w[d])
        assert ev.weighted_auc(ev.ranked(w, values, positive))[d] == pytest.approx(expected, abs=1e-6)
        expected = sk.average_precision_score(positive, values, sample_weight=w[d])
        assert ev.weighted_average_precision(ev.ranked(w, values, positive))[d] == pytest.approx(
            expected, abs=1e-6
        )


def test_a_draw_without_a_class_has_no_auc_and_leaves_it_out_of_the_averages():
    w = np.stack([np.ones(120), (LABELS != 2).astype(float)]).astype("float32")
    got = ev.scores(w, PROBS, LABELS)
    assert np.isnan(got["auc"][1])
    rows = LABELS != 2
    recall = sk.recall_score(LABELS[rows], PROBS[rows].argmax(1), labels=[0, 1], average="macro")
    assert got["recall"][1] == pytest.approx(recall, abs=1e-6)


def test_ece_by_hand():
    """Two bins: confidence 0.9 with 1 of 2 right, 0.6 with 2 of 2: (2 * 0.4 + 2 * 0.4) / 4."""
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    labels = np.array([0, 1, 0, 0])
    assert ev.weighted_ece(np.ones((1, 4), "float32"), probs, labels)[0] == pytest.approx(0.4, abs=1e-6)
    r = ev.reliability(probs, labels)
    assert r.confidence.tolist() == pytest.approx([0.6, 0.9]) and r.frequency.tolist() == [1, 0.5]
    assert r.count.tolist() == [2, 2]


def test_mcnemar_is_the_binomial_test_of_the_images_they_disagree_on():
    a = np.eye(2)[[0] * 12 + [1] * 3 + [0] * 20]
    b = np.eye(2)[[1] * 12 + [0] * 3 + [0] * 20]
    got = ev.compare(draws(35), a, b, np.zeros(35, int))
    assert (got.only_a, got.only_b) == (12, 3)
    assert got.p == pytest.approx(stats.binomtest(3, 15).pvalue)
    assert got.difference.value == pytest.approx(-9 / 35, abs=1e-6)


def test_a_model_against_itself_shows_nothing():
    got = ev.compare(draws(), PROBS, PROBS, LABELS)
    assert got.difference == (0, 0, 0) and got.p == 1
    assert ev.in_words("x", got.difference, got.p).startswith("x: no evidence of a difference")


def test_holm_by_hand():
    """Sorted 0.01, 0.02, 0.04 times 3, 2, 1, never falling: 0.03, 0.04, 0.04."""
    assert ev.holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert ev.holm([]) == []


@pytest.mark.parametrize(
    "difference, p, text",
    [
        (ev.Interval(0.021, 0.004, 0.038), 0.01, "x: gain of 2.1 points (interval +0.4 to +3.8"),
        (ev.Interval(-0.03, -0.05, -0.01), 0.01, "x: loss of 3.0 points (interval -5.0 to -1.0"),
        (ev.Interval(0.021, -0.004, 0.04), 0.01, "x: no evidence of a difference (+2.1 points"),
        (ev.Interval(0.021, 0.004, 0.04), 0.2, "x: no evidence of a difference"),
    ],
)
def test_verdicts(difference, p, text):
    assert ev.in_words("x", difference, p).startswith(text)


def test_thresholds_by_hand():
    values = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 0.9])
    positive = np.array([0, 0, 1, 0, 1, 1, 1], bool)
    # Youden: at 0.6 sensitivity 3/4, specificity 1; at 0.3 sensitivity 1, specificity 2/3
    assert ev.threshold(values, positive) == pytest.approx(0.6)
    assert ev.threshold(values, positive, 0.95) == pytest.approx(0.3)
    point = ev.operating_point(ev.Draws(np.ones((2, 7), "float32"), 7), values, positive, 0.3)
    assert {k: v.value for k, v in point.items()} == pytest.approx(
        {"sensitivity": 1, "specificity": 2 / 3, "ppv": 4 / 5, "npv": 1}
    )


def test_a_threshold_that_calls_nobody_is_a_number():
    assert ev.threshold(np.array([0.5, 0.5, 0.5]), np.array([True, False, False])) <= 1


def test_temperature_scaling_finds_the_temperature_that_was_taken_away():
    logits = np.random.default_rng(3).normal(size=(20000, 3))
    honest = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (honest.cumsum(1) > np.random.default_rng(4).random((20000, 1))).argmax(1)
    sharp = ev.tempered(honest, 1 / 2.5)  # overconfident: logits times 2.5
    assert ev.temperature(sharp, labels) == pytest.approx(2.5, rel=0.05)
    assert np.allclose(ev.tempered(sharp, 2.5), honest, atol=1e-3)
    one = np.ones((1, 20000), "float32")
    assert (
        ev.weighted_ece(one, ev.tempered(sharp, 2.5), labels)[0]
        < 0.02
        < ev.weighted_ece(one, sharp, labels)[0]
    )


def test_agreement_by_hand():
    student, teacher = np.array([[0.75, 0.25], [0.5, 0.5]]), np.array([[0.5, 0.5], [0.5, 0.5]])
    got = ev.agreement(student, teacher)
    assert got["kl_from_teacher"] == pytest.approx(0.143841 / 2, abs=1e-6) and got["top1_agreement"] == 1


@pytest.mark.parametrize("grouped", [False, True])
def test_the_interval_covers_the_truth_95_times_in_100(grouped):
    """1,000 simulated test sets, 80 % right; with groups, two images a patient, alike."""
    rng = np.random.default_rng(5)
    covered, units = 0, 200
    groups = np.repeat(np.arange(units), 2) if grouped else None
    for _ in range(1000):
        right = (rng.random(units) < 0.8).astype("float32")
        right = np.repeat(right, 2) if grouped else right
        sample = ev.draw(len(right), rng=rng, draws=400, groups=groups)
        found = ev.interval(sample.weights @ right / sample.weights.sum(1), sample.units)
        covered += found.low <= 0.8 <= found.high
    assert 930 <= covered <= 970


def test_the_interval_of_a_mean_of_ten_is_as_wide_as_students():
    """Plain percentiles would be about 0.82 as wide."""
    values = np.random.default_rng(8).normal(size=10).astype("float32")
    sample = ev.draw(10, rng=np.random.default_rng(9), draws=20000)
    found = ev.interval(sample.weights @ values / 10, sample.units)
    expected = stats.t.interval(0.95, 9, values.mean(), stats.sem(values))
    assert (found.high - found.low) / (expected[1] - expected[0]) == pytest.approx(1, abs=0.05)


def test_ignoring_groups_would_be_too_sure():
    rng = np.random.default_rng(6)
    right = np.repeat(rng.random(100) < 0.8, 4).astype("float32")
    wide, narrow = (
        ev.interval(d.weights @ right / d.weights.sum(1), d.units)
        for d in (ev.draw(400, rng=rng, groups=np.repeat(np.arange(100), 4)), ev.draw(400, rng=rng))
    )
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(2, rel=0.2)  # sqrt(4)
