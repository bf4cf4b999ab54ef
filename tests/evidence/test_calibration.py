import numpy as np
import pytest

from kdtf.evidence.bootstrap import Draws
from kdtf.evidence.calibration import (
    agreement,
    answers,
    answers_of_val,
    class_agreement,
    class_thresholds,
    operating_point,
    reliability,
    temperature,
    threshold,
    threshold_rule,
)
from kdtf.evidence.metrics import score
from kdtf.predictor import tempered


def test_answers_are_counted_as_a_device_gives_them():
    """Three of class 0, one of class 2; class 1 has no threshold, and below that of its class are two."""
    probs = np.array([[0.6, 0.3, 0.1], [0.5, 0.3, 0.2], [0.7, 0.1, 0.2], [0.2, 0.3, 0.5]])
    assert answers(probs, {0: 0.6, 2: 0.9}) == {"classes": [3, 0, 1], "uncertain": 2}
    assert answers(probs, {}) == {"classes": [3, 0, 1], "uncertain": 0}


def test_whether_an_image_of_val_is_uncertain_the_others_decide():
    """Thresholds that val chose leave few of its own answers uncertain; of new ones, many."""
    rng, own, crossed, new = np.random.default_rng(0), 0, 0, 0
    labels = np.arange(30) % 2
    for _ in range(60):
        first, second = (1 / (1 + np.exp(3 - 6 * labels - 2 * rng.normal(size=30))) for _ in range(2))
        first, second = np.column_stack([1 - first, first]), np.column_stack([1 - second, second])
        cuts = class_thresholds(first, labels)
        own += answers(first, cuts)["uncertain"]
        new += answers(second, cuts)["uncertain"]
        found = answers_of_val(first, labels)
        assert found["classes"] == answers(first, {})["classes"]
        crossed += found["uncertain"]
    assert own < 0.6 * new < crossed < 1.5 * new


VALUES = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 0.9])
POSITIVE = np.array([0, 0, 1, 0, 1, 1, 1], bool)


def test_thresholds_by_hand():
    # Youden: at 0.6 sensitivity 3/4, specificity 1; at 0.3 sensitivity 1, specificity 2/3
    assert threshold(VALUES, POSITIVE) == pytest.approx(0.6)
    assert threshold(VALUES, POSITIVE, 0.95) == pytest.approx(0.3)
    point = operating_point(Draws(np.ones((2, 7), "float32"), 7), VALUES, POSITIVE, 0.3)
    assert {k: v.value for k, v in point.items()} == pytest.approx(
        {"sensitivity": 1, "specificity": 2 / 3, "ppv": 4 / 5, "npv": 1}
    )


def test_the_highest_threshold_that_reaches_the_sensitivity_is_taken():
    for least in (0.25, 0.5, 0.75, 1.0):
        cut = threshold(VALUES, POSITIVE, least)
        reached = [(v <= VALUES[POSITIVE]).mean() for v in VALUES]
        assert cut == max(v for v, sensitivity in zip(VALUES, reached, strict=True) if sensitivity >= least)


def test_a_threshold_that_calls_nobody_is_a_number():
    assert threshold(np.array([0.5, 0.5, 0.5]), np.array([True, False, False])) <= 1


def test_a_class_that_no_val_image_has_gets_no_threshold():
    probs = np.random.default_rng(0).dirichlet([1, 1, 1], 20)
    labels = np.arange(20) % 2
    cuts = class_thresholds(probs, labels, 0.9)
    assert cuts == {k: threshold(probs[:, k], labels == k, 0.9) for k in (0, 1)}
    assert class_thresholds(probs, np.zeros(20, int)) == {}  # all of one class: none to tell it from


def test_the_rule_of_a_threshold_in_words():
    assert "Youden" in threshold_rule() and threshold_rule(0.9).endswith("a sensitivity of 0.9")


def test_an_operating_point_without_positives_is_undefined_not_zero():
    point = operating_point(Draws(np.ones((2, 7), "float32"), 7), VALUES, np.zeros(7, bool), 2)
    assert np.isnan(point["sensitivity"].value) and np.isnan(point["ppv"].value)
    assert point["specificity"].value == point["npv"].value == 1


def test_temperature_scaling_finds_the_temperature_that_was_taken_away():
    logits = np.random.default_rng(3).normal(size=(20000, 3))
    honest = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (honest.cumsum(1) > np.random.default_rng(4).random((20000, 1))).argmax(1)
    sharp = tempered(honest, 1 / 2.5)  # overconfident: logits times 2.5
    assert temperature(sharp, labels) == pytest.approx(2.5, rel=0.05)
    assert np.allclose(tempered(sharp, 2.5), honest, atol=1e-3)
    assert score(tempered(sharp, 2.5), labels)["ece"] < 0.02 < score(sharp, labels)["ece"]


def test_reliability_by_hand():
    """Two bins: confidence 0.9 with 1 of 2 right, 0.6 with 2 of 2."""
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    r = reliability(probs, np.array([0, 1, 0, 0]))
    assert r.confidence.tolist() == pytest.approx([0.6, 0.9]) and r.frequency.tolist() == [1, 0.5]
    assert r.count.tolist() == [2, 2]


def test_the_ece_is_the_gap_of_the_reliability_diagram():
    rng = np.random.default_rng(5)
    probs, labels = rng.dirichlet([1, 1, 1], 300), rng.integers(0, 3, 300)
    r = reliability(probs, labels)
    gap = (r.count * np.abs(r.confidence - r.frequency)).sum() / 300
    assert r.count.sum() == 300 and score(probs, labels)["ece"] == pytest.approx(gap)


def test_a_certain_answer_is_in_the_last_bin():
    r = reliability(np.array([[1.0, 0.0], [0.99, 0.01]]), np.array([0, 0]))
    assert r.count.tolist() == [2]


def test_where_teacher_and_student_name_one_class_by_hand():
    teacher, student, labels = np.array([0, 1, 2, 2]), np.array([0, 1, 1, 0]), np.array([0, 1, 1, 2])
    assert class_agreement("train", teacher, student, labels) == ("train", 4, 0.75, 0.75, 0.5)
    assert class_agreement("unlabelled", teacher, student) == ("unlabelled", 4, None, None, 0.5)


def test_agreement_by_hand():
    student, teacher = np.array([[0.75, 0.25], [0.5, 0.5]]), np.array([[0.5, 0.5], [0.5, 0.5]])
    values = agreement(student, teacher)
    assert values["kl_from_teacher"] == pytest.approx(0.143841 / 2, abs=1e-6)
    assert values["top1_agreement"] == 1
    assert agreement(1 - np.eye(2), np.eye(2))["top1_agreement"] == 0
