"""Prediction sets: ranks and quantiles worked out by hand, exact coverage by simulation, MAPIE's sets."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from scipy.stats import betabinom, binom

from kdtf import config
from kdtf import predictor as predictor_module
from kdtf.config import EvidenceConfig
from kdtf.evidence.bootstrap import draw
from kdtf.evidence.calibration import temperature
from kdtf.evidence.conformal import (
    ALL,
    SLACK,
    UNKNOWN_PATIENTS,
    FileSets,
    class_quantiles,
    counted,
    coverage_by_class,
    least_images,
    likely_coverage,
    limits_on_test,
    quantile_rank,
    rule_limits,
    set_rule,
    too_few,
    too_few_in_words,
    unkept_in_words,
)
from kdtf.predictor import SETS, fits, members, tempered
from kdtf.records import GroundTruth, Predictions, SetRule

NAMES = ("a", "b", "c")


def answers(count, seed, sharp=2.0):
    """Probabilities (count, 3) of a poor and overconfident model, and labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    z = sharp * (rng.normal(size=(count, 3)) + np.eye(3)[labels])
    return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), labels


def rule_of(probs, labels, method, coverage):
    quantiles = class_quantiles(fits(probs, method), labels, coverage)
    return {"method": method, "quantiles": {NAMES[k]: own for k, own in quantiles.items()}}


# Ranks and quantiles


@pytest.mark.parametrize(
    "images, coverage, rank",
    [(9, 0.9, 9), (10, 0.9, 10), (19, 0.9, 18), (29, 0.9, 27), (8, 0.9, 9), (0, 0.9, 1), (99, 0.55, 55)],
)
def test_the_rank_is_that_of_the_decimal_coverage(images, coverage, rank):
    """100 * 0.55 is 55.00000000000001 in binary, whose ceiling is 56."""
    assert quantile_rank(images, coverage) == rank


@pytest.mark.parametrize(
    "coverage, least", [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99), (0.97, 33)]
)
def test_the_fewest_images_are_those_whose_rank_is_among_them(coverage, least):
    assert least_images(coverage) == least
    enough = [n for n in range(200) if quantile_rank(n, coverage) <= n]
    assert enough == list(range(least, 200))


def test_fits_by_hand():
    probs = np.array([[0.5, 0.3, 0.2], [0.4, 0.2, 0.4]], np.float32)
    assert fits(probs, "threshold") == pytest.approx(probs)
    adaptive = fits(probs, "adaptive")
    assert adaptive == pytest.approx(np.array([[1, 0.5, 0.2], [1, 0.2, 1]]))
    assert adaptive.dtype == np.float64


def test_quantiles_by_hand():
    """Of ten images of a the tenth best counts, of 19 of b the 18th; c has eight, one too few."""
    labels = np.repeat([0, 1, 2], [10, 19, 8])
    own = np.zeros((37, 3))
    own[labels == 0, 0], own[labels == 1, 1] = np.arange(10, 0, -1) / 20, np.arange(1, 20) / 20
    quantiles = class_quantiles(own, labels, 0.9)
    assert quantiles == pytest.approx({0: 0.05 * (1 - SLACK), 1: 0.1 * (1 - SLACK)}, rel=1e-12)


def test_a_class_of_too_few_images_is_in_every_set_and_it_is_said():
    labels = np.repeat([0, 1], [9, 8])
    probs = np.tile([0.6, 0.4, 0.0], (17, 1))
    truth = GroundTruth(NAMES, labels, labels)
    rule = set_rule(Predictions("t", "alone", "int8", 0, probs, probs), truth, 1.0, EvidenceConfig())
    assert list(rule.quantiles) == ["a"] and rule.val_images == {"a": 9, "b": 8, "c": 0}
    assert members(np.array([[0.0, 0.0, 1.0]]), NAMES, asdict(rule)).tolist() == [[False, True, True]]
    assert too_few(rule) == [
        "Val has 8 images of b that count, and a coverage of 90 % takes 9: b is in every prediction set, "
        "and a set of it alone says nothing.",
        "Val has 0 images of c that count, and a coverage of 90 % takes 9: c is in every prediction set, "
        "and a set of it alone says nothing.",
    ]
    one = too_few_in_words("b", 1, 0.8)
    assert too_few_in_words("b", 1, 0.5) is None and "1 image of b that counts" in one


@pytest.mark.parametrize("patients", [None, np.arange(20).astype(str)])
def test_that_patients_are_not_known_is_a_limit(patients):
    labels, probs = np.arange(20) % 2, np.tile([0.6, 0.4], (20, 1))
    truth = GroundTruth(("a", "b"), labels, labels, val_groups=patients)
    limits = rule_limits(set_rule(file_of(probs, probs), truth, 1.0, EvidenceConfig()))
    assert (UNKNOWN_PATIENTS in limits) == (patients is None)


def test_copies_of_training_images_do_not_count():
    """Nine images of a that train has are sure; without them one is left, too few."""
    labels, copies = np.repeat([0, 1], [10, 9]), np.arange(19) < 9
    probs = np.where((labels == 0)[:, None], [0.9, 0.1, 0.0], [0.2, 0.8, 0.0])
    truth = GroundTruth(NAMES, labels, labels)
    every = set_rule(file_of(probs, probs), truth, 1.0, EvidenceConfig())
    rule = set_rule(file_of(probs, probs), truth._replace(val_met=copies), 1.0, EvidenceConfig())
    assert every.val_images == {"a": 10, "b": 9, "c": 0} and list(every.quantiles) == ["a", "b"]
    assert rule.val_images == {"a": 1, "b": 9, "c": 0} and list(rule.quantiles) == ["b"]
    assert rule.rule == f"{every.rule} 9 val images do not count: a copy, or its patient, is in train."


def test_of_a_patient_one_image_a_class_counts_and_none_is_favoured():
    labels, patients = np.tile([0, 0, 1], 200), np.repeat(np.arange(200).astype(str), 3)
    truth = GroundTruth(NAMES, labels, labels, val_groups=patients)
    rows = counted(truth)
    assert len(rows) == 400 and (np.diff(rows) > 0).all()
    assert all(len(np.unique(patients[rows[labels[rows] == k]])) == 200 for k in (0, 1))
    assert 70 < (rows % 3 == 0).sum() < 130  # of two images of a, the first about as often as the second
    part = truth._replace(val_met=np.arange(600) % 3 == 0)
    assert counted(part).tolist() == [i for i in range(600) if i % 3]


def test_with_few_patients_of_many_images_the_promise_holds_by_counting_patients():
    """Patients differ more than their images do: 12 of 10 images each, 400 draws, coverage 0.9 asked for."""
    rng, covered = np.random.default_rng(3), {True: [], False: []}
    for _ in range(400):
        level = rng.normal(size=13).repeat(10) + 0.3 * rng.normal(
            size=130
        )  # the last one's are those to come
        probs = np.column_stack([1 / (1 + np.exp(-level)), 1 / (1 + np.exp(level))])
        labels, patients = np.zeros(120, int), np.repeat(np.arange(12).astype(str), 10)
        for known, values in covered.items():
            truth = GroundTruth(("a", "b"), labels, labels, val_groups=patients if known else None)
            model = file_of(probs[:120], probs[120:])
            rule = set_rule(model, truth, 1.0, EvidenceConfig(sets="threshold"))
            values.append(members(model.test_probs, ("a", "b"), asdict(rule))[:, 0].mean())
    assert np.mean(covered[True]) > 0.89 and np.mean(covered[False]) < np.mean(covered[True]) - 0.02


@pytest.mark.parametrize("method", SETS)
def test_an_image_at_a_quantile_is_inside_however_it_was_rounded(method):
    """Of a file of 8 bits many val images lie at the quantile itself; another language rounds otherwise."""
    rng = np.random.default_rng(0)
    levels = rng.multinomial(256, [0.5, 0.3, 0.2], size=60).astype(np.float32) / 256
    for t in (0.3, 1.0, 2.7):
        val, labels = tempered(levels, t), np.arange(60) % 3
        assert val.dtype == np.float32
        rule = rule_of(val, labels, method, 0.9)
        at = np.isclose(fits(val, method), [[rule["quantiles"][name] for name in NAMES]], rtol=2 * SLACK)
        at &= np.eye(3, dtype=bool)[labels]
        exact = tempered(levels.astype(np.float64), t)
        assert at.sum() >= 3
        for probs in (val, exact, exact * (1 - 1e-6), exact.astype(np.float32)):
            assert members(probs, NAMES, rule)[at].all()


def test_the_likeliest_class_is_always_in_an_adaptive_set():
    probs, labels = answers(300, 1)
    inside = members(probs, NAMES, rule_of(probs, labels, "adaptive", 0.6))
    assert inside[np.arange(300), probs.argmax(axis=1)].all() and inside.sum() < 600


def test_of_two_classes_no_temperature_changes_a_set_and_of_three_it_may():
    probs, labels = answers(90, 2)
    pair = np.column_stack([probs[:, 0], 1 - probs[:, 0]])
    sets = {}
    for t in (0.5, 1.0, 3.0):
        two, three = tempered(pair, t), tempered(probs, t)
        rule = {"method": "threshold", "quantiles": {}}
        rule["quantiles"] = dict(zip("ab", class_quantiles(two, labels % 2, 0.8).values(), strict=True))
        sets[t] = (
            members(two, ("a", "b"), rule).tolist(),
            members(three, NAMES, rule_of(three, labels, "threshold", 0.8)).tolist(),
        )
    assert sets[0.5][0] == sets[1.0][0] == sets[3.0][0]
    assert sets[0.5][1] != sets[3.0][1]


def test_settings_and_the_predictor_know_the_same_methods():
    assert config.SETS == predictor_module.SETS and EvidenceConfig().sets in SETS


# The promise


@pytest.mark.parametrize(
    "images, tested, coverage", [(9, 1, 0.9), (23, 120, 0.9), (40, 7, 0.8), (500, 900, 0.95)]
)
def test_the_coverage_to_expect_is_the_beta_binomial(images, tested, coverage):
    rank = quantile_rank(images, coverage)
    law = betabinom(tested, rank, images + 1 - rank)
    assert likely_coverage(images, tested, coverage) == tuple(law.ppf([0.025, 0.975]) / tested)


def test_of_too_few_images_all_are_to_be_expected_in_their_sets():
    assert likely_coverage(8, 50, 0.9) == (1.0, 1.0)


DRAWS, VAL, TEST = 1000, 23, 40


@pytest.fixture(scope="module")
def drawn():
    """Of 1,000 draws of val and test images: probabilities (draws, 3 * (VAL + TEST), 3) of random images."""
    probs, labels = answers(DRAWS * 3 * (VAL + TEST), 3)
    shape = (DRAWS, 3 * (VAL + TEST))
    return probs.reshape(*shape, 3), labels.reshape(shape)


def covered(probs, labels, method, coverage):
    """How many of the TEST images of each class have it in the set that the others make: (DRAWS, 3)."""
    counts = np.zeros((DRAWS, 3), int)
    own = fits(probs.reshape(-1, 3), method).reshape(probs.shape)
    for i in range(DRAWS):
        quantiles = class_quantiles(own[i, : 3 * VAL], labels[i, : 3 * VAL], coverage)
        true, test = labels[i, 3 * VAL :], own[i, 3 * VAL :]
        inside = test[np.arange(len(true)), true] >= np.array([quantiles[k] for k in range(3)])[true]
        counts[i] = np.bincount(true[inside], minlength=3)
    return counts


@pytest.mark.parametrize("method, coverage", [("threshold", 0.9), ("adaptive", 0.9), ("threshold", 0.75)])
def test_over_a_thousand_draws_coverage_is_as_exact_as_promised(drawn, method, coverage):
    """The counts are beta-binomial: their mean, their tails and their whole distribution (Kolmogorov).

    An adaptive fit of 1 is that of every image that is named right: such ties make coverage larger.
    """
    counts = covered(*drawn, method, coverage)
    rank = quantile_rank(VAL, coverage)
    law = betabinom(TEST, rank, VAL + 1 - rank)
    low, high = (round(TEST * end) for end in likely_coverage(VAL, TEST, coverage))
    for own in counts.T:
        noise = 4 * law.std() / math.sqrt(DRAWS)
        assert own.mean() >= law.mean() - noise and law.mean() >= TEST * coverage
        below = int((own < low).sum())
        assert below <= binom(DRAWS, law.cdf(low - 1)).ppf(0.9999)
        if method == "threshold":
            assert own.mean() <= law.mean() + noise
            assert (own > high).sum() <= binom(DRAWS, law.sf(high)).ppf(0.9999)
            seen = np.cumsum(np.bincount(own, minlength=TEST + 1)) / DRAWS
            assert np.abs(seen - law.cdf(np.arange(TEST + 1))).max() < 1.95 / math.sqrt(DRAWS)


@pytest.mark.parametrize("method", SETS)
def test_probabilities_in_few_levels_cover_no_less(drawn, method):
    """A file of 8 bits, here of 4: most images share their level with others."""
    probs, labels = drawn
    levels = np.rint(15 * probs).astype(np.float32)
    counts = covered(levels / levels.sum(axis=2, keepdims=True), labels, method, 0.9)
    law = betabinom(TEST, 22, 2)
    assert (counts.mean(axis=0) >= law.mean() - 4 * law.std() / math.sqrt(DRAWS)).all()


# MAPIE


def estimator():
    """What MAPIE asks: here images are their probabilities."""
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Probabilities(ClassifierMixin, BaseEstimator):
        classes_ = np.arange(3)

        def fit(self, x, y):
            return self

        def predict_proba(self, x):
            return x

        def predict(self, x):
            return x.argmax(axis=1)

        def __sklearn_is_fitted__(self):
            return True

    return Probabilities()


# one class at a time is what is asked of it
@pytest.mark.filterwarnings("ignore:WARNING. your conformalization dataset has less labels:UserWarning")
@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_threshold_sets_are_those_of_mapie_calibrated_class_by_class(coverage):
    mapie = pytest.importorskip("mapie.classification", reason="no MAPIE: see requirements-dev.txt")
    (val, labels), (test, _) = answers(120, 4), answers(400, 5)
    inside = members(test, NAMES, rule_of(val, labels, "threshold", coverage))
    for k in range(3):
        peer = mapie.SplitConformalClassifier(estimator(), coverage, conformity_score="lac", prefit=True)
        peer.conformalize(val[labels == k], labels[labels == k])
        theirs = peer.predict_set(test)[1][:, :, 0]
        assert theirs[:, k].tolist() == inside[:, k].tolist() and 0 < theirs[:, k].sum() < 400


def test_adaptive_fits_are_those_of_mapies_scores_without_their_random_part():
    """Theirs is the sum down to the true class; Romano et al. take off u times its probability, here all."""
    scores = pytest.importorskip("mapie.conformity_scores", reason="no MAPIE: see requirements-dev.txt")
    probs, labels = answers(200, 6)
    sums, _ = scores.APSConformityScore.get_true_label_cumsum_proba(labels, probs, np.arange(3))
    own = probs[np.arange(200), labels]
    assert fits(probs, "adaptive")[np.arange(200), labels] == pytest.approx(1 - (sums[:, 0] - own))


# A file on test


def file_of(val, test):
    return Predictions(
        "vgg16", "distilled", "int8", 0, np.asarray(val, np.float32), np.asarray(test, np.float32)
    )


def test_rows_of_a_file_by_hand():
    """Val tells the classes apart at 0.8 and 0.6: of three test images of a one has a, one none, one b."""
    val = [[0.8, 0.2]] * 9 + [[0.2, 0.8]] * 9 + [[0.4, 0.6]]
    truth = GroundTruth(("a", "b"), np.repeat([0, 1], [9, 10]), np.array([0, 0, 0, 1]))
    test = [[0.9, 0.1], [0.5, 0.5], [0.3, 0.7], [0.1, 0.9]]
    sets = FileSets(file_of(val, test), truth, 1.0, EvidenceConfig(sets="threshold"))
    assert sets.rule.quantiles == pytest.approx({"a": 0.8, "b": 0.6}, rel=2 * SLACK)
    draws = draw(4, rng=np.random.default_rng(0), draws=100)
    a, b, both = sets.rows(np.arange(4), draws)
    assert [row["class"] for row in (a, b, both)] == ["a", "b", ALL]
    assert (a["val_images"], b["val_images"], both["val_images"]) == (9, 10, 19)
    assert (a["test_images"], a["covered_images"], a["coverage"]) == (3, 1, pytest.approx(1 / 3))
    assert a["mean_size"] == pytest.approx(2 / 3) and a["mean_size_low"] <= 2 / 3 <= a["mean_size_high"]
    assert (a["single_sets"], a["empty_sets"], a["full_sets"]) == (2, 1, 0)
    assert (b["coverage"], b["mean_size"]) == (1, 1) and np.isnan(b["mean_size_low"])
    assert 0 < b["coverage_low"] < 1  # one of one is not "100 % to 100 %"
    assert (both["covered_images"], both["single_sets"]) == (2, 3) and both["quantile"] is None
    (part, *_) = sets.rows(np.array([0, 3]), draw(2, rng=np.random.default_rng(0), draws=100))
    assert (part["test_images"], part["coverage"]) == (1, 1)


def test_a_class_without_test_images_has_no_coverage():
    probs, labels = answers(60, 7)
    truth = GroundTruth(NAMES, labels, labels % 2)
    sets = FileSets(file_of(probs, probs), truth, 1.0, EvidenceConfig())
    rows = list(sets.rows(np.arange(60), draw(60, rng=np.random.default_rng(0), draws=50)))
    assert rows[2]["test_images"] == 0 and np.isnan(rows[2]["coverage"]) and rows[2]["likely_low"] is None
    assert unkept_in_words({**rows[2], "promised": 0.9}) is None


def test_a_promise_that_test_does_not_bear_out_is_told():
    row = {"class": "b", "coverage": 0.69, "coverage_low": 0.6, "coverage_high": 0.93, "likely_low": 0.77}
    row |= {"test_images": 90, "promised": 0.9}
    assert unkept_in_words(row) == (
        "Test does not bear the promise out for b: 69 % of its 90 images have it in their set (95 % interval "
        "60 to 93 %), not 90 %. Its images may be unlike those in val, or val be too much like train."
    )
    assert unkept_in_words({**row, "coverage": 0.77}) is None
    short = unkept_in_words({**row, "coverage": 0.77, "coverage_high": 0.85})  # its whole interval
    assert (
        short is not None and "77 % of its 90 images have it in their set (95 % interval 60 to 85 %)" in short
    )
    whole = {**row, "class": ALL, "likely_low": None}
    assert unkept_in_words(whole) is None
    told = unkept_in_words({**whole, "coverage_high": 0.8})
    assert told.startswith(
        "Test does not bear the promise out for all classes: 69 % of all 90 images have their"
    )


def test_sets_of_one_class_that_are_no_certainty_are_told():
    """Val says nothing of a: it is in every set, also where b is the answer."""
    val, labels = [[0.2, 0.8]] * 12, np.ones(12, int)
    test = [[0.9, 0.1]] * 4 + [[0.1, 0.9]] * 2
    truth = GroundTruth(("a", "b"), labels, np.array([0, 1, 1, 1, 1, 1]))
    sets = FileSets(file_of(val, test), truth, 1.0, EvidenceConfig(sets="threshold"))
    told = sets.singles_in_words(np.arange(6))
    assert told == "Of 4 test images with a set of one class, 1 is of that class: such a set is no certainty."
    assert sets.singles_in_words(np.array([0, 4])) is None and sets.singles_in_words(np.array([4])) is None
    draws = draw(6, rng=np.random.default_rng(0), draws=50)
    scored = list(sets.rows(np.arange(6), draws))
    assert [row["single_right"] for row in scored] == [1, 0, 1]
    assert told in limits_on_test(sets, scored, np.arange(6))
    assert list(coverage_by_class(scored)) == ["a", "b", ALL]


@pytest.mark.parametrize("method", SETS)
def test_the_rule_of_a_card_is_of_calibrated_probabilities_and_survives_json(method):
    probs, labels = answers(90, 8)
    model, truth = file_of(probs, probs), GroundTruth(NAMES, labels, labels)
    t = temperature(model.val_probs, labels)
    rule = set_rule(model, truth, t, EvidenceConfig(sets=method, coverage=0.8))
    assert t > 1.2 and (rule.method, rule.coverage) == (method, 0.8) and "at least 80 %" in rule.rule
    back = SetRule(**json.loads(json.dumps(asdict(rule))))
    assert back == rule
    own = fits(tempered(model.val_probs, t), method)
    for k, name in enumerate(NAMES):
        inside = own[labels == k, k] >= rule.quantiles[name]
        assert inside.sum() >= quantile_rank(30, 0.8) == 25
        assert (own[labels == k, k] >= rule.quantiles[name] * (1 + 3 * SLACK)).sum() < 25
