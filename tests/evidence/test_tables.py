import numpy as np
import pytest

from kdtf.data.load import Dataset, Split
from kdtf.evidence import bootstrap as ev
from kdtf.evidence.tables import Scored, examples, of_every_class, of_one, pairs, study, subsets

RNG = np.random.default_rng(0)
CLASSES = ("a", "b", "c")


def split(count, groups=None):
    return Split(
        np.zeros((count, 2, 2, 1), np.uint8),
        np.arange(count) % 3,
        groups,
        np.zeros((count, 2, 2, 1), np.uint8),
    )


DATA = Dataset(split(30), split(60), split(150), CLASSES, "digest", ())


def said(labels, right, seed):
    """Probabilities of a model that is right on a part `right` of the images."""
    rng = np.random.default_rng(seed)
    wrong = (labels + 1 + rng.integers(0, 2, len(labels))) % 3
    top = np.where(rng.random(len(labels)) < right, labels, wrong)
    probs = 0.7 * np.eye(3)[top] + 0.3 * rng.dirichlet([1, 1, 1], len(labels))
    return probs


def model(teacher, kind, recipe, right, seed, noise=0):
    return Scored(
        teacher,
        kind,
        recipe,
        seed,
        said(DATA.val.labels, right, seed),
        said(DATA.test.labels, right, 100 * noise + seed),
    )


MODELS = [
    *(model("alone", "alone", r, 0.6, s) for s in (0, 1, 2) for r in ("keras", "int8")),
    model("vgg16", "teacher", "keras", 0.95, 0, noise=1),
    *(model("vgg16", "distilled", r, 0.9, s, noise=2) for s in (0, 1, 2) for r in ("keras", "int8")),
]
CLEAN = np.arange(150) >= 20
PARTS = subsets(DATA, CLEAN, 0)
TABLES = study(MODELS, DATA, PARTS)


def rows(table, **where):
    return [r for r in TABLES[table] if all(r[k] == v for k, v in where.items())]


def accuracy(m, part=slice(None)):
    return (m.test_probs.argmax(1) == DATA.test.labels)[part].mean()


def test_every_metric_of_every_model_has_an_interval_on_all_and_on_clean_images():
    assert len(TABLES["intervals"]) == len(MODELS) * 2 * 10
    for m in MODELS:
        for name, part in (("all", slice(None)), ("clean", CLEAN)):
            (row,) = rows("intervals", **m.name, images=name, metric="accuracy")
            assert row["value"] == pytest.approx(accuracy(m, part), abs=1e-6)
            assert row["low"] < row["value"] < row["high"]


def test_without_copies_there_is_one_set_of_images():
    assert [s.name for s in subsets(DATA, np.ones(150, bool), 0)] == ["all"]


def test_students_are_compared_with_the_one_alone_of_their_seed_and_files_with_their_float():
    asked = pairs(MODELS)
    assert [(a.name, b.name) for a, b in asked["distilled against alone"]] == [
        (
            {"teacher": "alone", "model": "alone", "recipe": "keras", "seed": s},
            {"teacher": "vgg16", "model": "distilled", "recipe": "keras", "seed": s},
        )
        for s in (0, 1, 2)
    ]
    assert all(
        (a.teacher, a.model, a.seed, a.recipe) == (b.teacher, b.model, b.seed, "keras")
        for a, b in asked[".tflite against float"]
    )
    assert len(asked[".tflite against float"]) == 6


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
    (teacher,) = rows("seeds", model="teacher", images="all")
    assert teacher["standard_deviation"] is None and "gain" not in teacher


def test_operating_points_are_chosen_on_val_and_reach_the_asked_sensitivity_there():
    wanted = study(MODELS[:1], DATA, PARTS, min_sensitivity=0.95)["classes"]
    assert [r["class"] for r in wanted] == list(CLASSES)
    for k, row in enumerate(wanted):
        val = MODELS[0].val_probs[DATA.val.labels == k, k]
        assert (val >= row["threshold"]).mean() >= 0.95
        test = MODELS[0].test_probs[DATA.test.labels == k, k]
        assert row["sensitivity"] == pytest.approx((test >= row["threshold"]).mean(), abs=1e-6)
        assert row["sensitivity_low"] <= row["sensitivity"] <= row["sensitivity_high"]


def test_calibration_and_agreement():
    (row,) = rows("calibration", teacher="vgg16", model="distilled", recipe="keras", seed=2)
    teacher, student = MODELS[6], next(m for m in MODELS[7:] if m.seed == 2 and m.recipe == "keras")
    agreed = (teacher.test_probs.argmax(1) == student.test_probs.argmax(1)).mean()
    assert row["top1_agreement"] == pytest.approx(agreed) and row["kl_from_teacher"] > 0
    assert row["temperature"] > 0
    assert "top1_agreement" not in rows("calibration", model="alone", recipe="keras", seed=0)[0]


def test_patients_are_drawn_whole():
    grouped = Dataset(
        DATA.train, DATA.val, split(150, np.repeat(np.arange(50), 3).astype(str)), CLASSES, "", ()
    )
    (part,) = subsets(grouped, np.ones(150, bool), 0)
    assert part.draws.units == 50


def test_the_surest_mistakes_come_first_then_right_ones_from_unsure_to_sure():
    labels = np.array([0, 0, 0, 0, 0, 1])
    sure = np.array([0.6, 0.9, 0.7, 0.8, 0.95, 0.99])
    named = np.array([1, 1, 0, 0, 0, 1])  # images 0 and 1 are wrong
    probs = np.where(named[:, None] == [0, 1], sure[:, None], 1 - sure[:, None])
    assert examples(probs, labels, 6).tolist() == [1, 0, 2, 3, 4, 5]
    assert examples(probs, labels, 3).tolist() == [1, 0, 2]  # two thirds at most are mistakes
    assert examples(probs, 1 - named, 4).tolist() == [5, 4, 1, 3]  # all wrong
    assert examples(probs, named, 2).tolist() == [0, 5]  # all right


def test_images_are_drawn_of_the_classes_in_turn():
    labels = np.repeat([0, 1, 2], [50, 3, 1])
    chosen = of_every_class(labels, np.arange(54), 5, seed=3)
    assert labels[chosen].tolist() == [0, 1, 2, 0, 1] and len(set(chosen)) == 5
    assert chosen.tolist() == of_every_class(labels, np.arange(54), 5, seed=3).tolist()
    assert set(of_every_class(labels, np.array([7, 51]), 5, seed=0)) == {7, 51}


@pytest.mark.parametrize("least, rule", [(None, "largest Youden index"), (0.9, "a sensitivity of 0.9")])
def test_a_bundles_thresholds_are_of_its_calibrated_probabilities(least, rule):
    m = MODELS[0]
    told = of_one(m, DATA, PARTS[0], least)
    scaled = ev.tempered(m.val_probs, told["temperature"])
    assert rule in told["threshold_rule"] and list(told["thresholds"]) == list(CLASSES)
    for k, cut in enumerate(told["thresholds"].values()):
        assert cut == ev.threshold(scaled[:, k], DATA.val.labels == k, least)
        assert cut in scaled[:, k]  # so that the predictor's comparison is exact
        if least:
            assert (scaled[DATA.val.labels == k, k] >= cut).mean() >= least
    value, low, high = told["test"]["accuracy"]
    assert value == pytest.approx(accuracy(m)) and low < value < high
