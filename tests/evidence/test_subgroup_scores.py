"""Scores by group and their gaps: by hand, by SciPy, and how often chance is taken for a gap."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from kdtf.evidence import subgroups
from kdtf.evidence.bootstrap import Draws, draw, drawn_scores, interval
from kdtf.evidence.metrics import METRICS
from kdtf.evidence.subgroups import (
    LEAST,
    card_rows,
    gap_in_words,
    gap_rows,
    group_scores,
    groups_in,
    largest_gaps,
    permutation_p,
    score_rows,
)
from kdtf.evidence.tables import subsets
from kdtf.records import GroundTruth, Predictions, Subgroups

RNG = np.random.default_rng(3)
N = 240
LABELS = np.arange(N) % 2
PATIENTS = np.array([f"p{i // 2}" for i in range(N)])
SEX = np.repeat([0, 1, 2], [120, 112, 8])  # the last 8 are of 4 patients
SITE = (np.arange(N) // 2) % 2
COLUMNS = (Subgroups("sex", ("F", "M", "unknown"), SEX), Subgroups("site", ("a", "b"), SITE))
TRUTH = GroundTruth(("well", "ill"), LABELS, LABELS, PATIENTS, COLUMNS, ((9, 8, 7), (6, 5)))
CLEAN = np.arange(N) >= 20
PARTS = subsets(TRUTH, CLEAN, 0)


def model(wrong):
    """Wrong on the images `wrong` (N,) bool; how sure it is varies."""
    top = np.where(wrong, 1 - LABELS, LABELS)
    sure = 0.5 + 0.49 * np.random.default_rng(0).random(N)
    probs = np.where(np.eye(2)[top] == 1, sure[:, None], 1 - sure[:, None])
    return Predictions("alone", "alone", "int8", 0, probs, probs)


WRONG = RNG.random(N) < np.where(SEX == 0, 0.1, 0.4)
MODEL = model(WRONG)
SCORES = {part.name: group_scores(MODEL, TRUTH, part) for part in PARTS}


def of(column, group, part="all"):
    return next(s for s in SCORES[part] if (s.own.column, s.own.name) == (column, group))


@pytest.mark.parametrize("part, k", [("all", 0), ("clean", 1)])
def test_scores_of_a_group_are_those_of_its_images(part, k):
    clean = CLEAN if part == "clean" else np.ones(N, bool)
    for at, name in enumerate(COLUMNS[k].groups):
        mask = (COLUMNS[k].member == at) & clean
        if not mask.any():
            continue
        own = of(COLUMNS[k].column, name, part)
        assert (own.own.images, own.own.units) == (mask.sum(), len(np.unique(PATIENTS[mask])))
        assert own.metrics["accuracy"].value == pytest.approx(1 - WRONG[mask].mean())
        area = roc_auc_score(LABELS[mask], MODEL.test_probs[mask, 1])
        assert own.metrics["auc"].value == pytest.approx(area)
        count, ends = own.sensitivity[1]
        assert count == (LABELS[mask] == 1).sum()
        assert ends.value == pytest.approx(1 - WRONG[mask & (LABELS == 1)].mean())
        assert own.metrics.keys() == METRICS.keys()


def test_intervals_are_of_whole_patients_under_the_draws_that_all_models_share():
    """Twenty thousand samples of the 60 patients of group F, drawn here by themselves."""
    own = of("sex", "F").metrics["accuracy"]
    right = (~WRONG[SEX == 0]).reshape(60, 2).sum(axis=1)  # of each of 60 patients with two images
    drawn = right[np.random.default_rng(1).integers(0, 60, (20000, 60))].sum(axis=1) / 120
    tail = 100 * stats.norm.cdf(-np.sqrt(60 / 59) * stats.t.ppf(0.975, 59))
    assert (own.low, own.high) == pytest.approx(np.percentile(drawn, [tail, 100 - tail]), abs=0.012)
    whole, part = PARTS[0], drawn_scores(PARTS[0].draws, MODEL.test_probs, LABELS)
    everyone = TRUTH._replace(subgroups=(Subgroups("all", ("all",), np.zeros(N, int)),), in_train=())
    (same,) = group_scores(MODEL, everyone, whole)
    for name in METRICS:
        assert same.metrics[name] == pytest.approx(interval(part[name], whole.draws.units), nan_ok=True)
    assert same.own.in_train is None and of("sex", "M").own.in_train == 8


def test_small_and_unknown_groups_are_listed_and_not_judged():
    assert of("sex", "unknown").own.images == 8 and not of("sex", "unknown").own.judged
    few = TRUTH._replace(subgroups=(Subgroups("x", ("many", "few"), np.repeat([0, 1], [202, 38])),))
    many, small = groups_in(few, PARTS[0], 0)
    assert (many.units, many.judged) == (101, True) and (small.units, small.judged) == (LEAST - 1, False)
    (gap,) = largest_gaps(MODEL, few._replace(in_train=()), PARTS[0], 0)
    assert (gap.p, gap.compared, gap.left_out) == (None, 1, 1)
    assert gap_in_words(few, gap, None) == (
        "x, accuracy: not tested (less than two groups of at least 20 patients)."
    )
    images = few._replace(groups=None)
    assert all(group.judged for group in groups_in(images, PARTS[0], 0))  # 38 images


def test_seven_of_seven_are_not_surely_all_and_what_cannot_vary_has_no_interval():
    one = TRUTH._replace(
        groups=None, subgroups=(Subgroups("x", ("a", "b"), (np.arange(N) >= 7).astype(int)),)
    )
    seven = group_scores(model(np.zeros(N, bool)), one._replace(in_train=()), PARTS[0])[0]
    assert seven.metrics["accuracy"] == pytest.approx((1, 0.6457, 1), abs=1e-4)  # Wilson, as in the verdict
    assert np.isnan(seven.metrics["f1"].low) and seven.metrics["f1"].value == 1
    assert card_rows([seven]) == []  # too few to be told of
    large = seven._replace(own=seven.own._replace(units=LEAST))
    (row, _) = card_rows([large, large])
    assert "f1" not in row["test"] and row["test"]["accuracy"][0] == 1 and row["images"] == 7


@pytest.mark.parametrize("mistakes", [(1, 6), (3, 4)])
def test_p_is_that_of_scipys_permutation_test(mistakes):
    """All ways of giving 8 of 17 images to a group; 9,999 random tables are within four standard errors."""
    member = np.repeat([0, 1], [8, 9])
    right = np.r_[np.arange(8) >= mistakes[0], np.arange(9) >= mistakes[1]]

    def gap(a, b, axis):
        return np.abs(a.mean(axis=axis) - b.mean(axis=axis))

    exact = stats.permutation_test(
        (right[:8].astype(float), right[8:].astype(float)), gap, vectorized=True, alternative="greater",
        n_resamples=np.inf,
    ).pvalue  # fmt: skip
    ours = permutation_p(right, member, None, rng=np.random.default_rng(0))
    assert ours == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 9999))


def test_p_of_three_groups_is_that_of_shuffling_whole_patients():
    """By shuffling labels of patients one by one, which is another algorithm than drawing tables."""
    rng = np.random.default_rng(4)
    patients = np.repeat(np.arange(60), rng.integers(1, 5, 60))
    group = rng.integers(0, 3, 60)
    right = rng.random(len(patients)) < np.where(group == 2, 0.55, 0.8)[patients]
    part, whole = np.bincount(patients, right), np.bincount(patients)

    def gaps(labels):  # (P, 60)
        rates = [(part * (labels == g)).sum(axis=1) / (whole * (labels == g)).sum(axis=1) for g in range(3)]
        return np.ptp(np.stack(rates), axis=0)

    shuffled = gaps(rng.permuted(np.tile(group, (20000, 1)), axis=1))
    expected = (shuffled >= gaps(group[None])[0] - 1e-9).mean()
    ours = permutation_p(right, group[patients], patients, rng=np.random.default_rng(0))
    assert 0.01 < expected < 0.9 and ours == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("of_patients", [False, True])
def test_without_a_true_gap_p_is_below_5_percent_in_about_5_percent(of_patients, monkeypatch):
    """400 test sets of three groups; of patients with 3 images, half of whom are always right."""
    monkeypatch.setattr(subgroups, "PERMUTATIONS", 199)
    rng = np.random.default_rng(6)
    each = 3 if of_patients else 1
    owner = np.repeat(np.arange(60), each)
    falls = np.zeros(400)
    for i in range(len(falls)):
        able = np.where(rng.random(60) < 0.5, 1.0, 0.5) if of_patients else np.full(60, 0.75)
        right = rng.random(len(owner)) < able[owner]
        member = rng.integers(0, 3, 60)[owner]
        falls[i] = permutation_p(right, member, owner, rng=rng) <= 0.05
    assert 0.02 < falls.mean() < 0.08  # 0.05, three standard errors are 0.033
    assert not of_patients or _falls_by_images(rng) > 0.1


def _falls_by_images(rng):
    """How often the same is taken for a gap where the images of a patient are shuffled apart."""
    owner, falls = np.repeat(np.arange(60), 3), np.zeros(200)
    for i in range(len(falls)):
        able = np.where(rng.random(60) < 0.5, 1.0, 0.5)
        right = rng.random(180) < able[owner]
        falls[i] = permutation_p(right, rng.integers(0, 3, 60)[owner], None, rng=rng) <= 0.05
    return falls.mean()


def test_gaps_are_the_largest_and_corrected_over_columns_and_classes():
    gaps = largest_gaps(MODEL, TRUTH, PARTS[0], 0)
    rows = list(gap_rows(TRUTH, "all", gaps))
    assert [(r["column"], r["metric"], r["class"]) for r in rows] == [
        ("sex", "accuracy", ""),
        ("site", "accuracy", ""),
        *((column, "sensitivity", name) for name in TRUTH.classes for column in ("sex", "site")),
    ]
    sex = rows[0]
    assert (sex["best_group"], sex["worst_group"], sex["groups_compared"], sex["groups_left_out"]) == (
        "F",
        "M",
        2,
        1,
    )
    rates = [1 - WRONG[k == SEX].mean() for k in (0, 1)]
    assert (sex["best_value"], sex["worst_value"]) == pytest.approx(rates)
    assert sex["gap"] == pytest.approx(rates[0] - rates[1]) and sex["low"] < sex["gap"] < sex["high"]
    p = [row["permutation_p"] for row in rows]
    assert p[0] < 0.001 < p[1]
    assert rows[0]["holm_p"] == pytest.approx(2 * p[0]) and rows[1]["holm_p"] == pytest.approx(p[1])
    order = np.argsort(p[2:])
    assert rows[2 + order[0]]["holm_p"] == pytest.approx(min(1, 4 * p[2 + order[0]]))
    assert sex["verdict"].startswith("sex, accuracy: a gap (M ") and "no evidence" in rows[1]["verdict"]


def test_the_interval_of_a_gap_is_that_of_two_independent_groups():
    """Normal approximation: patients of a group have two images, the variance is that of their means."""
    (gap, *_) = largest_gaps(MODEL, TRUTH, PARTS[0], 0)
    means = [(~WRONG[k == SEX]).reshape(-1, 2).mean(axis=1) for k in (0, 1)]
    error = np.sqrt(sum(own.var(ddof=1) / len(own) for own in means))
    half = stats.t.ppf(0.975, 55) * error
    middle = means[0].mean() - means[1].mean()
    assert (gap.difference.low, gap.difference.high) == pytest.approx(
        (middle - half, middle + half), abs=0.02
    )


def test_rows_have_sizes_and_every_metric():
    rows = list(score_rows(MODEL, TRUTH, "all", SCORES["all"]))
    assert len(rows) == 5 * len(METRICS) + sum(len(s.sensitivity) for s in SCORES["all"])
    first = rows[0]
    assert first == {
        **MODEL.name, "images": "all", "column": "sex", "group": "F", "group_images": 120,
        "group_patients": 60, "train_images": 9, "judged": 1, "metric": "accuracy", "class": "",
        "class_images": None, **of("sex", "F").metrics["accuracy"]._asdict(),
    }  # fmt: skip
    ill = next(r for r in rows if r["metric"] == "sensitivity" and r["class"] == "ill")
    assert ill["class_images"] == 60


def test_a_group_that_most_draws_leave_out_is_scored_without_a_warning(recwarn):
    lone = TRUTH._replace(subgroups=(Subgroups("x", ("one", "rest"), (np.arange(N) >= 2).astype(int)),))
    draws = draw(N, rng=np.random.default_rng(0), draws=50, groups=PATIENTS)
    part = PARTS[0]._replace(draws=Draws(draws.times, draws.units))
    one = group_scores(MODEL, lone._replace(in_train=()), part)[0]
    assert one.own.units == 1 and not recwarn.list
