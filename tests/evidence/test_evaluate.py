import numpy as np
import pytest

from kdtf.errors import UserError
from kdtf.evidence.evaluate import latency_ms, measure, summary_scores
from kdtf.evidence.metrics import METRICS, Metric, score
from kdtf.evidence.tables import all_tables, subsets
from kdtf.records import GroundTruth, Predictions

CLASSES = ("a", "b", "c")


def answers(labels, seed):
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet([1, 1, 1], len(labels)) + 0.5 * np.eye(3)[labels]
    return probs / probs.sum(1, keepdims=True)


TRUTH = GroundTruth(CLASSES, np.arange(30) % 3, np.arange(60) % 3)
MODEL = Predictions("alone", "alone", "int8", 0, answers(TRUTH.val, 0), answers(TRUTH.test, 1), 2.5)
CLEAN = np.arange(60) >= 12
SUMMARY = ("accuracy", "precision", "recall", "f1", "auc", "loss")


def test_probabilities_and_latency_are_measured_through_the_predict_function():
    batches = []

    def predict(pixels):
        batches.append(len(pixels))
        return np.full((len(pixels), 2), 0.5)

    measured = measure(predict, np.zeros((7, 2, 2, 1)), np.zeros((9, 2, 2, 1)), runs=3)
    assert measured["val_probs"].shape == (7, 2) and measured["test_probs"].shape == (9, 2)
    assert batches == [7, 9] + 8 * [1]  # five to warm up, three that are timed
    assert measured["latency_ms"] >= 0


def test_answers_that_are_not_finite_are_no_scores():
    def predict(pixels):
        return np.where(np.arange(len(pixels))[:, None] == 3, np.nan, 0.5) * np.ones((len(pixels), 2))

    lost = r"^A model's probabilities must be finite\. Got '1 of 9 images of test without one'\. .* rate"
    with pytest.raises(UserError, match=lost):
        measure(predict, np.zeros((2, 2, 2, 1)), np.zeros((9, 2, 2, 1)), runs=3)


def test_latency_is_the_median_in_milliseconds(monkeypatch):
    ticks = iter([0, 0.001, 1, 1.002, 2, 2.5])
    monkeypatch.setattr("kdtf.evidence.evaluate.time.perf_counter", lambda: next(ticks))
    assert latency_ms(lambda pixels: pixels, np.zeros((1, 2, 2, 1)), 3) == pytest.approx(2)


def test_a_row_of_the_summary_has_test_clean_and_val_scores():
    row = summary_scores(MODEL, TRUTH, CLEAN)
    assert list(row) == [
        *SUMMARY, "test_images", *(f"clean_{name}" for name in SUMMARY), "clean_images", "latency_ms",
        "val_accuracy", "val_loss",
    ]  # fmt: skip
    test, val = score(MODEL.test_probs, TRUTH.test), score(MODEL.val_probs, TRUTH.val)
    clean = score(MODEL.test_probs[CLEAN], TRUTH.test[CLEAN])
    assert all(row[name] == test[name] and row[f"clean_{name}"] == clean[name] for name in SUMMARY)
    assert (row["test_images"], row["clean_images"], row["latency_ms"]) == (60, 48, 2.5)
    assert (row["val_accuracy"], row["val_loss"]) == (val["accuracy"], val["loss"])


def test_without_clean_images_there_are_no_scores_of_them():
    row = summary_scores(MODEL, TRUTH, np.zeros(60, bool))
    assert row["clean_images"] == 0 and "clean_accuracy" not in row


def test_summary_and_intervals_agree_where_a_class_is_missing_from_test():
    """Macro F1 was 0.0408 in one and 0.0476 in the other."""
    labels = np.arange(60) % 2  # never class 2, which is predicted
    truth = GroundTruth(CLASSES, TRUTH.val, labels)
    model = Predictions("alone", "alone", "keras", 0, MODEL.val_probs, answers((labels + 1) % 3, 4))
    assert (model.test_probs.argmax(1) == 2).any()
    row = summary_scores(model, truth, np.ones(60, bool))
    everywhere = subsets(truth, np.ones(60, bool), 0)
    rows = all_tables([model], truth, everywhere, None)["intervals"]
    intervals = {r["metric"]: r["value"] for r in rows}
    assert row["auc"] is None and np.isnan(intervals["auc"])
    for name in set(SUMMARY) - {"auc"}:
        assert row[name] == pytest.approx(intervals[name], abs=1e-6), name


def test_a_new_metric_of_the_summary_is_one_row(monkeypatch):
    toy = Metric("errors", lambda sample: 1 - sample.counts[0].sum(axis=1) / sample.total, in_summary=True)
    monkeypatch.setitem(METRICS, "errors", toy)
    row = summary_scores(MODEL, TRUTH, CLEAN)
    assert row["errors"] == pytest.approx(1 - row["accuracy"])
    assert row["clean_errors"] == pytest.approx(1 - row["clean_accuracy"])
