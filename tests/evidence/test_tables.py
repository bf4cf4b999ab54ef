import pickle
from dataclasses import asdict

import numpy as np
import pytest

from kdtf.config import EvidenceConfig
from kdtf.evidence import tables
from kdtf.evidence.calibration import temperature, threshold
from kdtf.evidence.metrics import METRICS, Metric, score
from kdtf.evidence.tables import (
    TABLES,
    EvidenceTable,
    all_tables,
    example_images,
    file_evidence,
    images_of_every_class,
    pairs,
    ranking_curves,
    reliability_diagram,
    subsets,
)
from kdtf.predictor import members, tempered
from kdtf.records import GroundTruth, Predictions

CLASSES = ("a", "b", "c")
TRUTH = GroundTruth(CLASSES, np.arange(60) % 3, np.arange(150) % 3)


def answers(labels, right, seed):
    """Probabilities of a model that is right on a part `right` of the images."""
    rng = np.random.default_rng(seed)
    wrong = (labels + 1 + rng.integers(0, 2, len(labels))) % 3
    top = np.where(rng.random(len(labels)) < right, labels, wrong)
    return 0.7 * np.eye(3)[top] + 0.3 * rng.dirichlet([1, 1, 1], len(labels))


def model(teacher, kind, recipe, right, seed, noise=0):
    val, test = answers(TRUTH.val, right, seed), answers(TRUTH.test, right, 100 * noise + seed)
    return Predictions(teacher, kind, recipe, seed, val, test)


MODELS = [
    *(model("alone", "alone", r, 0.6, s) for s in (0, 1, 2) for r in ("keras", "int8")),
    model("vgg16", "teacher", "keras", 0.95, 0, noise=1),
    *(model("vgg16", "distilled", r, 0.9, s, noise=2) for s in (0, 1, 2) for r in ("keras", "int8")),
]
CLEAN = np.arange(150) >= 20
SUBSETS = subsets(TRUTH, CLEAN, 0)
STUDY = all_tables(MODELS, TRUTH, SUBSETS)


def rows(table, **where):
    return [r for r in STUDY[table] if all(r[k] == v for k, v in where.items())]


def accuracy(m, rows=slice(None)):
    return (m.test_probs.argmax(1) == TRUTH.test)[rows].mean()


def test_every_metric_of_every_model_has_an_interval_on_all_and_on_clean_images():
    assert len(STUDY["intervals"]) == len(MODELS) * 2 * 11
    for m in MODELS:
        for name, part in (("all", slice(None)), ("clean", CLEAN)):
            (row,) = rows("intervals", **m.name, images=name, metric="accuracy")
            assert row["value"] == pytest.approx(accuracy(m, part), abs=1e-6)
            assert row["low"] < row["value"] < row["high"]


def test_without_copies_there_is_one_set_of_images():
    assert [s.name for s in subsets(TRUTH, np.ones(150, bool), 0)] == ["all"]


def test_students_are_compared_with_the_one_alone_of_their_seed_and_files_with_their_float():
    questions = pairs(MODELS)
    assert [(a.name, b.name) for a, b in questions["distilled against alone"]] == [
        (
            {"teacher": "alone", "model": "alone", "recipe": "keras", "seed": s},
            {"teacher": "vgg16", "model": "distilled", "recipe": "keras", "seed": s},
        )
        for s in (0, 1, 2)
    ]
    assert all(
        (a.teacher, a.model, a.seed, a.recipe) == (b.teacher, b.model, b.seed, "keras")
        for a, b in questions[".tflite against float"]
    )
    assert len(questions[".tflite against float"]) == 6


def test_a_true_gain_is_found_and_said_with_its_correction():
    (row,) = rows("comparisons", question="distilled against alone", seed=0, images="all")
    assert row["difference"] == pytest.approx(accuracy(MODELS[7]) - accuracy(MODELS[0]), abs=1e-6)
    assert row["verdict"].startswith("vgg16, distilled against alone: gain of")
    assert row["tests_corrected_for"] == 3 and row["holm_p"] >= row["mcnemar_p"]
    assert row["only_second_right"] - row["only_first_right"] == pytest.approx(150 * row["difference"])


def test_a_file_that_says_the_same_as_its_float_shows_no_difference():
    (row,) = rows(
        "comparisons", question=".tflite against float", teacher="alone", recipe="int8", seed=1, images="all"
    )
    assert row["difference"] == 0 and row["holm_p"] == 1 and "no evidence of a difference" in row["verdict"]


def test_seeds_have_mean_deviation_and_a_paired_gain():
    (row,) = rows("seeds", teacher="vgg16", model="distilled", recipe="keras", images="all")
    students, alone = (
        [accuracy(m) for m in MODELS if m.model == k and m.recipe == "keras"] for k in ("distilled", "alone")
    )
    assert row["seeds"] == 3 and row["mean"] == pytest.approx(np.mean(students))
    assert row["standard_deviation"] == pytest.approx(np.std(students, ddof=1))
    gains = np.subtract(students, alone)
    half = 4.302653 * gains.std(ddof=1) / np.sqrt(3)  # Student's t with two degrees of freedom, by the table
    assert (row["gain_low"], row["gain_high"]) == pytest.approx(
        (gains.mean() - half, gains.mean() + half), rel=1e-4
    )
    words = f"against training alone: a gain ({100 * gains.mean():+.1f} points on average, "
    assert row["verdict"].startswith(f"Over 3 seeds distilling from vgg16 {words}")
    assert list(row)[-2:] == ["gain_p", "verdict"]
    (teacher,) = rows("seeds", model="teacher", images="all")
    assert teacher["standard_deviation"] is None and "gain" not in teacher


def test_operating_points_are_chosen_on_val_and_reach_the_asked_sensitivity_there():
    wanted = all_tables(MODELS[:1], TRUTH, SUBSETS, min_sensitivity=0.95)["classes"]
    assert [r["class"] for r in wanted] == list(CLASSES)
    for k, row in enumerate(wanted):
        val = MODELS[0].val_probs[TRUTH.val == k, k]
        assert (val >= row["threshold"]).mean() >= 0.95
        test = MODELS[0].test_probs[TRUTH.test == k, k]
        assert row["sensitivity"] == pytest.approx((test >= row["threshold"]).mean(), abs=1e-6)
        assert row["sensitivity_low"] <= row["sensitivity"] <= row["sensitivity_high"]


def test_calibration_and_agreement():
    (row,) = rows("calibration", teacher="vgg16", model="distilled", recipe="keras", seed=2)
    teacher, student = MODELS[6], next(m for m in MODELS[7:] if m.seed == 2 and m.recipe == "keras")
    agreed = (teacher.test_probs.argmax(1) == student.test_probs.argmax(1)).mean()
    assert row["top1_agreement"] == pytest.approx(agreed) and row["kl_from_teacher"] > 0
    assert row["temperature"] > 0
    assert "top1_agreement" not in rows("calibration", model="alone", recipe="keras", seed=0)[0]


def test_every_file_has_the_coverage_of_its_sets_on_all_and_on_clean_images():
    files = [m for m in MODELS if m.recipe != "keras"]
    assert len(STUDY["sets"]) == len(files) * 2 * 4
    for m in (files[0], files[-1]):
        rule = file_evidence(m, TRUTH, SUBSETS).prediction_sets
        probs = tempered(m.test_probs, temperature(m.val_probs, TRUTH.val))
        inside = members(probs, CLASSES, asdict(rule))
        for name, part in (("all", np.ones(150, bool)), ("clean", CLEAN)):
            for k, row in enumerate(rows("sets", **m.name, images=name)):
                own = part & (TRUTH.test == k) if k < 3 else part
                assert (row["method"], row["promised"]) == ("adaptive", 0.9)
                held = inside[np.arange(150), TRUTH.test][own]
                assert (row["test_images"], row["coverage"]) == (own.sum(), pytest.approx(held.mean()))
                assert row["mean_size"] == pytest.approx(inside[own].sum(axis=1).mean())
                assert row["coverage_low"] < row["coverage"] <= row["coverage_high"]
    rules = EvidenceConfig(coverage=0.5, sets="threshold")
    wanted = list(TABLES["sets"].rows(tables.TestedModels(MODELS[1:2], TRUTH, SUBSETS, None, rules)))
    assert [(row["method"], row["promised"]) for row in wanted] == [("threshold", 0.5)] * 8
    assert wanted[3]["mean_size"] < rows("sets", **MODELS[1].name, images="all")[3]["mean_size"]


def test_patients_are_drawn_whole():
    grouped = TRUTH._replace(groups=np.repeat(np.arange(50), 3).astype(str))
    assert [s.draws.units for s in subsets(grouped, np.ones(150, bool), 0)] == [50]
    assert [s.draws.units for s in subsets(grouped, CLEAN, 0)] == [50, 44]


def test_the_surest_mistakes_come_first_then_right_ones_from_unsure_to_sure():
    labels = np.array([0, 0, 0, 0, 0, 1])
    sure = np.array([0.6, 0.9, 0.7, 0.8, 0.95, 0.99])
    named = np.array([1, 1, 0, 0, 0, 1])  # images 0 and 1 are wrong
    probs = np.where(named[:, None] == [0, 1], sure[:, None], 1 - sure[:, None])
    assert example_images(probs, labels, 6).tolist() == [1, 0, 2, 3, 4, 5]
    assert example_images(probs, labels, 3).tolist() == [1, 0, 2]  # two thirds at most are mistakes
    assert example_images(probs, 1 - named, 4).tolist() == [5, 4, 1, 3]  # all wrong
    assert example_images(probs, named, 2).tolist() == [0, 5]  # all right


def test_images_are_drawn_of_the_classes_in_turn():
    labels = np.repeat([0, 1, 2], [50, 3, 1])
    chosen = images_of_every_class(labels, np.arange(54), 5, seed=3)
    assert labels[chosen].tolist() == [0, 1, 2, 0, 1] and len(set(chosen)) == 5
    assert chosen.tolist() == images_of_every_class(labels, np.arange(54), 5, seed=3).tolist()
    assert set(images_of_every_class(labels, np.array([7, 51]), 5, seed=0)) == {7, 51}


@pytest.mark.parametrize("least, rule", [(None, "largest Youden index"), (0.9, "a sensitivity of 0.9")])
def test_the_thresholds_of_a_card_are_of_its_calibrated_probabilities(least, rule):
    m = MODELS[0]
    evidence = file_evidence(m, TRUTH, SUBSETS, least)
    scaled = tempered(m.val_probs, evidence.temperature)
    assert rule in evidence.threshold_rule and list(evidence.thresholds) == list(CLASSES)
    for k, cut in enumerate(evidence.thresholds.values()):
        assert cut == threshold(scaled[:, k], TRUTH.val == k, least)
        assert cut in scaled[:, k]  # so that the predictor's comparison is exact
        if least:
            assert (scaled[TRUTH.val == k, k] >= cut).mean() >= least


def test_the_scores_of_a_card_are_those_of_the_intervals():
    m = MODELS[0]
    evidence = file_evidence(m, TRUTH, SUBSETS)
    for images, scores, count in (("all", evidence.test, 150), ("clean", evidence.clean, 130)):
        assert list(scores) == list(METRICS)
        for metric, ends in scores.items():
            (row,) = rows("intervals", **m.name, images=images, metric=metric)
            assert ends == [row["value"], row["low"], row["high"]]
        assert count == {"all": evidence.test_images, "clean": evidence.clean_images}[images]
    assert pickle.loads(pickle.dumps(evidence)) == evidence


def test_a_card_where_nothing_has_a_copy_tells_of_one_set_of_images():
    evidence = file_evidence(MODELS[0], TRUTH, subsets(TRUTH, np.ones(150, bool), 0))
    assert evidence.clean == {} and evidence.clean_images == 0


def test_a_card_leaves_out_what_is_undefined():
    """NaN is no JSON. Val has no class 2, and test has none."""
    truth = GroundTruth(CLASSES, TRUTH.val % 2, TRUTH.test % 2)
    evidence = file_evidence(MODELS[0], truth, subsets(truth, np.ones(150, bool), 0))
    assert set(METRICS) - set(evidence.test) == {"auc", "auc_by_images", "average_precision"}
    assert list(evidence.thresholds) == ["a", "b"]
    assert all(np.isfinite(v) for value in asdict(evidence)["test"].values() for v in value)


def test_a_new_metric_has_an_interval_and_stands_on_cards(monkeypatch):
    toy = Metric("errors", lambda sample: 1 - sample.counts[0].sum(axis=1) / sample.total)
    monkeypatch.setitem(METRICS, "errors", toy)
    table = all_tables(MODELS[:1], TRUTH, SUBSETS)["intervals"]
    errors = [r for r in table if r["metric"] == "errors"]
    assert [r["images"] for r in errors] == ["all", "clean"]
    assert errors[0]["value"] == pytest.approx(1 - accuracy(MODELS[0]), abs=1e-6)
    assert file_evidence(MODELS[0], TRUTH, SUBSETS).test["errors"][0] == errors[0]["value"]


def test_a_new_table_is_one_row(monkeypatch):
    def sizes(data):
        yield from ({"images": subset.name, "count": len(subset.rows)} for subset in data.subsets)

    monkeypatch.setitem(TABLES, "sizes", EvidenceTable("sizes.csv", sizes))
    tables = all_tables(MODELS[:1], TRUTH, SUBSETS)
    assert tables["sizes"] == [{"images": "all", "count": 150}, {"images": "clean", "count": 130}]


def test_the_tables_and_their_files():
    assert {name: table.file for name, table in TABLES.items()} == {
        "intervals": "intervals.csv",
        "comparisons": "comparisons.csv",
        "seeds": "seeds.csv",
        "gains": "gains.csv",
        "top_classes": "top_class.csv",
        "classes": "per_class.csv",
        "calibration": "calibration.csv",
        "sets": "sets.csv",
    }
    assert list(STUDY) == list(TABLES)


def test_areas_of_the_ranking_curves_are_the_metrics():
    curves = ranking_curves(MODELS[0], SUBSETS[1])
    values = score(MODELS[0].test_probs[CLEAN], TRUTH.test[CLEAN])
    assert np.mean([c["auc"] for c in curves]) == pytest.approx(values["auc"])
    assert np.mean([c["average_precision"] for c in curves]) == pytest.approx(values["average_precision"])


def test_the_ece_of_the_reliability_diagram_is_the_metric():
    bins, ece = reliability_diagram(MODELS[0], SUBSETS[1])
    assert bins.count.sum() == 130
    assert ece == pytest.approx(score(MODELS[0].test_probs[CLEAN], TRUTH.test[CLEAN])["ece"], abs=1e-6)
