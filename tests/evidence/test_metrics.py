import numpy as np
import pytest

from kdtf.evidence.metrics import auc, classification_report, confusion, log_loss, score, softmax

# three classes, five images: four right; by hand
PROBS = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1], [0.1, 0.2, 0.7]])
LABELS = np.array([0, 0, 1, 1, 2])


def test_scores_by_hand():
    got = score(PROBS, LABELS)
    assert got["accuracy"] == pytest.approx(4 / 5)
    assert got["precision"] == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert got["recall"] == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert got["f1"] == pytest.approx((4 / 5 + 2 / 3 + 1) / 3)
    assert got["loss"] == pytest.approx(-np.log([0.8, 0.6, 0.7, 0.4, 0.7]).mean())


def test_auc_by_counting_pairs():
    def area(k):
        ours, others = PROBS[k == LABELS, k], PROBS[k != LABELS, k]
        return np.mean([(a > b) + 0.5 * (a == b) for a in ours for b in others])

    assert auc(PROBS, LABELS) == pytest.approx(np.mean([area(k) for k in range(3)]))


def test_auc_is_undefined_without_every_class():
    assert auc(PROBS[:4], LABELS[:4]) is None


def test_auc_of_two_classes_is_that_of_either():
    probs = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.6, 0.4]])
    assert auc(probs, np.array([0, 0, 1, 1])) == pytest.approx(3 / 4)


def test_log_loss_is_clipped_as_in_keras():
    assert log_loss(np.array([[0.0, 1.0]]), np.array([0])) == pytest.approx(-np.log(1e-7))


def test_confusion_counts_true_in_rows():
    assert confusion(PROBS, LABELS).tolist() == [[2, 0, 0], [1, 1, 0], [0, 0, 1]]


def test_the_report_has_a_row_per_class_and_the_averages():
    rows = {row["class"]: row for row in classification_report(PROBS, LABELS, ("x", "y", "z"))}
    assert list(rows) == ["x", "y", "z", "accuracy", "macro avg", "weighted avg"]
    assert rows["y"]["recall"] == pytest.approx(0.5) and rows["y"]["support"] == 2
    assert rows["accuracy"]["f1-score"] == pytest.approx(0.8)
    assert rows["macro avg"]["f1-score"] == pytest.approx(score(PROBS, LABELS)["f1"])


def test_softmax_is_stable():
    assert np.allclose(softmax(np.array([[1e4, 0.0]])), [[1, 0]])
    assert np.allclose(softmax(np.log([[1.0, 3.0]])), [[0.25, 0.75]])
