import tracemalloc

import numpy as np
import pytest
from sklearn import metrics as sk

from kdtf.evidence.bootstrap import draw, interval
from kdtf.evidence.metrics import (
    METRICS,
    Metric,
    accuracy,
    classification_report,
    confusion,
    ranked,
    score,
    scores,
    softmax,
    weighted_auc,
    weighted_average_precision,
)

# three classes, five images: four right; by hand
PROBS = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1], [0.1, 0.2, 0.7]])
LABELS = np.array([0, 0, 1, 1, 2])


def random_answers(classes=3, count=120, seed=0):
    """Probabilities (N, K) better than chance, ten of them tied, and labels (N,) of every class."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % classes)
    probs = rng.dirichlet(np.ones(classes), count) + 0.6 * np.eye(classes)[labels]
    probs /= probs.sum(1, keepdims=True)
    probs[:10] = np.round(probs[:10], 1) + 0.01
    return probs / probs.sum(1, keepdims=True), labels


def draws(count=120, draws=8):
    return draw(count, rng=np.random.default_rng(1), draws=draws).times.astype("float32")


def by_scikit_learn(p, y):
    """The metrics that scikit-learn has, of probabilities (N, K) and labels (N,) of every class."""
    predicted = p.argmax(1)
    classes = range(p.shape[1])
    macro = {"average": "macro", "zero_division": 0}
    areas = [sk.roc_auc_score(y == k, p[:, k]) for k in classes]
    return {
        "accuracy": sk.accuracy_score(y, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(y, predicted),
        "precision": sk.precision_score(y, predicted, **macro),
        "recall": sk.recall_score(y, predicted, **macro),
        "f1": sk.f1_score(y, predicted, **macro),
        "auc": np.mean(areas),
        "auc_by_images": np.average(areas, weights=np.bincount(y)),
        "average_precision": np.mean([sk.average_precision_score(y == k, p[:, k]) for k in classes]),
        "loss": sk.log_loss(y, p, labels=list(classes)),
        "brier": np.mean(((p - np.eye(len(classes))[y]) ** 2).sum(1)),
    }


def test_scores_by_hand():
    values = score(PROBS, LABELS)
    assert values["accuracy"] == pytest.approx(4 / 5)
    assert values["precision"] == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert values["recall"] == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert values["f1"] == pytest.approx((4 / 5 + 2 / 3 + 1) / 3)
    assert values["loss"] == pytest.approx(-np.log([0.8, 0.6, 0.7, 0.4, 0.7]).mean())


def test_the_tables_have_these_metrics_in_this_order():
    assert list(METRICS) == [
        "accuracy", "balanced_accuracy", "precision", "recall", "f1", "auc", "auc_by_images",
        "average_precision", "loss", "brier", "ece",
    ]  # fmt: skip
    summary = [name for name, metric in METRICS.items() if metric.in_summary]
    assert summary == ["accuracy", "precision", "recall", "f1", "auc", "loss"]
    assert [m.label for m in METRICS.values() if m.headline] == ["accuracy", "macro F1", "AUC"]
    assert [m.heading for m in METRICS.values() if m.headline] == ["Accuracy", "F1", "AUC"]


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_every_metric_of_every_draw_is_that_of_scikit_learn(classes):
    probs, labels = random_answers(classes)
    weights = draws()
    values = scores(weights, probs, labels)
    for d, row in enumerate(weights):
        rows = np.repeat(np.arange(120), row.astype(int))
        for name, expected in by_scikit_learn(probs[rows], labels[rows]).items():
            assert values[name][d] == pytest.approx(expected, abs=1e-5), name


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_one_sample_is_scored_in_double_precision(classes):
    probs, labels = random_answers(classes)
    values = score(probs, labels)
    for name, expected in by_scikit_learn(probs, labels).items():
        assert values[name] == pytest.approx(expected, abs=1e-14), name
    assert accuracy(probs, labels) == values["accuracy"]


def test_a_sample_is_scored_as_its_draw_of_ones():
    probs, labels = random_answers()
    weighted = scores(draws(), probs, labels)
    assert list(weighted) == list(METRICS)
    for name, value in score(probs, labels).items():
        assert weighted[name][0] == pytest.approx(value, abs=1e-6), name


def test_an_image_taken_twice_counts_as_two():
    probs, labels = random_answers()
    weights = draws(draws=1)[1:]
    rows = np.repeat(np.arange(120), weights[0].astype(int))
    weighted = scores(weights.astype(float), probs, labels)
    for name, value in score(probs[rows], labels[rows]).items():
        assert weighted[name][0] == pytest.approx(value, abs=1e-12), name


def test_the_order_of_the_images_changes_no_metric():
    probs, labels = random_answers()
    order = np.random.default_rng(3).permutation(120)
    assert score(probs[order], labels[order]) == pytest.approx(score(probs, labels), abs=1e-12)


@pytest.mark.parametrize("missing", [0, 2])
def test_macro_averages_are_over_the_classes_that_occur(missing):
    """A missing class has no recall; that it was predicted costs the precision of no other class."""
    probs, labels = random_answers()
    rows = labels != missing
    probs, labels = probs[rows], labels[rows]
    present = [k for k in range(3) if k != missing]
    assert (probs.argmax(1) == missing).any()
    macro = {"labels": present, "average": "macro", "zero_division": 0}
    values = score(probs, labels)
    assert values["recall"] == pytest.approx(sk.recall_score(labels, probs.argmax(1), **macro))
    assert values["precision"] == pytest.approx(sk.precision_score(labels, probs.argmax(1), **macro))
    assert values["f1"] == pytest.approx(sk.f1_score(labels, probs.argmax(1), **macro))


def test_a_draw_without_a_class_is_scored_as_the_sample_without_it():
    probs, labels = random_answers()
    weights = np.stack([np.ones(120), labels != 2]).astype(float)
    weighted = scores(weights, probs, labels)
    for name, value in score(probs[labels != 2], labels[labels != 2]).items():
        if value is None:
            assert np.isnan(weighted[name][1]), name
        else:
            assert weighted[name][1] == pytest.approx(value, abs=1e-12), name


def test_the_areas_under_curves_are_undefined_without_every_class():
    values = score(PROBS[:4], LABELS[:4])
    assert [name for name, value in values.items() if value is None] == [
        "auc",
        "auc_by_images",
        "average_precision",
    ]


def test_auc_by_counting_pairs():
    def area(k, probs, labels):
        own, others = probs[k == labels, k], probs[k != labels, k]
        return np.mean([(a > b) + 0.5 * (a == b) for a in own for b in others])

    assert score(PROBS, LABELS)["auc"] == pytest.approx(np.mean([area(k, PROBS, LABELS) for k in range(3)]))
    probs, labels = random_answers(count=60)
    kept = (labels != 2) | (np.arange(60) % 4 == 0)  # classes of unlike size
    probs, labels = probs[kept], labels[kept]
    areas, values = [area(k, probs, labels) for k in range(3)], score(probs, labels)
    assert values["auc"] == pytest.approx(np.mean(areas))
    assert values["auc_by_images"] == pytest.approx(np.average(areas, weights=np.bincount(labels)))
    assert abs(values["auc_by_images"] - values["auc"]) > 0.001


def test_auc_of_two_classes_is_that_of_either():
    probs = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.6, 0.4]])
    assert score(probs, np.array([0, 0, 1, 1]))["auc"] == pytest.approx(3 / 4)


def test_areas_with_weights_are_those_of_scikit_learn_ties_included():
    rng = np.random.default_rng(0)
    weights = rng.integers(0, 4, (5, 40)).astype("float32")
    values, positive = np.round(rng.random(40), 1), rng.random(40) < 0.4
    ranks = ranked(weights, values, positive)
    for d in range(5):
        expected = sk.roc_auc_score(positive, values, sample_weight=weights[d])
        assert weighted_auc(ranks)[d] == pytest.approx(expected, abs=1e-6)
        expected = sk.average_precision_score(positive, values, sample_weight=weights[d])
        assert weighted_average_precision(ranks)[d] == pytest.approx(expected, abs=1e-6)


def test_ece_by_hand():
    """Two bins: confidence 0.9 with 1 of 2 right, 0.6 with 2 of 2: (2 * 0.4 + 2 * 0.4) / 4."""
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    assert score(probs, np.array([0, 1, 0, 0]))["ece"] == pytest.approx(0.4)


def test_the_loss_is_clipped_as_in_keras():
    assert score(np.array([[0.0, 1.0]]), np.array([0]))["loss"] == pytest.approx(-np.log(1e-7))


@pytest.mark.parametrize("classes", [200, 400])
def test_many_classes_are_scored_in_little_memory(classes):
    """An identity matrix of K^2 rows would take 6 GB at 200 classes and 100 GB at 400."""
    count = 3 * classes
    probs, labels = random_answers(classes, count)
    weights = draws(count, draws=20)
    tracemalloc.start()
    values = scores(weights, probs, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6
    assert values["f1"][0] == pytest.approx(
        sk.f1_score(labels, probs.argmax(1), average="macro", zero_division=0), abs=1e-6
    )


def test_a_new_metric_is_one_row(monkeypatch):
    """Here where metrics are computed; in the tables: test_tables, test_evaluate."""
    toy = Metric("errors", lambda sample: 1 - sample.counts[0].sum(axis=1) / sample.total)
    monkeypatch.setitem(METRICS, "errors", toy)
    assert score(PROBS, LABELS)["errors"] == pytest.approx(1 / 5)
    probs, labels = random_answers()
    values = scores(draws(draws=50), probs, labels)
    assert np.allclose(values["errors"], 1 - values["accuracy"])
    ends = interval(values["errors"], 120)
    assert ends.low < ends.value < ends.high


def test_confusion_counts_true_in_rows():
    assert confusion(PROBS, LABELS).tolist() == [[2, 0, 0], [1, 1, 0], [0, 0, 1]]


def test_the_report_has_a_row_per_class_and_the_averages():
    rows = {row["class"]: row for row in classification_report(PROBS, LABELS, ("x", "y", "z"))}
    assert list(rows) == ["x", "y", "z", "accuracy", "macro avg", "weighted avg"]
    assert rows["y"]["recall"] == pytest.approx(0.5) and rows["y"]["support"] == 2
    assert rows["accuracy"]["f1-score"] == pytest.approx(0.8)
    assert rows["macro avg"]["f1-score"] == pytest.approx(score(PROBS, LABELS)["f1"])


def test_the_report_is_that_of_scikit_learn_where_every_class_occurs():
    probs, labels = random_answers()
    names = ("x", "y", "z")
    expected = sk.classification_report(
        labels, probs.argmax(1), target_names=names, output_dict=True, zero_division=0
    )
    rows = {row.pop("class"): row for row in classification_report(probs, labels, names)}
    for name in (*names, "macro avg", "weighted avg"):
        assert rows[name] == pytest.approx(expected[name])
    assert rows["accuracy"]["f1-score"] == pytest.approx(expected["accuracy"])


def test_the_macro_average_of_the_report_is_over_the_classes_that_occur():
    probs, labels = random_answers()
    probs, labels = probs[labels != 2], labels[labels != 2]
    rows = {row["class"]: row for row in classification_report(probs, labels, ("x", "y", "z"))}
    values = score(probs, labels)
    macro = rows["macro avg"]
    assert (macro["precision"], macro["recall"], macro["f1-score"]) == pytest.approx(
        (values["precision"], values["recall"], values["f1"])
    )
    assert rows["z"]["support"] == 0 and macro["support"] == len(labels)


def test_a_class_may_be_called_as_an_average_is():
    rows = classification_report(PROBS, LABELS, ("accuracy", "macro avg", "z"))
    assert len(rows) == 6 and rows[1]["recall"] == pytest.approx(0.5)


def test_softmax_is_stable():
    assert np.allclose(softmax(np.array([[1e4, 0.0]])), [[1, 0]])
    assert np.allclose(softmax(np.log([[1.0, 3.0]])), [[0.25, 0.75]])
