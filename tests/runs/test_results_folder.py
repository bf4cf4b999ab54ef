"""A finished results folder: every file, its columns, and that the files agree."""

import json

import keras
import numpy as np
import pytest
from small_run import table

from kdtf.data import phantom
from kdtf.data.typical import layout, typical
from kdtf.distill.batches import batch_sizes
from kdtf.files import file_digest
from kdtf.predictor import Predictor
from kdtf.report.summary import summary_columns

RECIPES = ("float32", "float16", "dynamic", "int8")


def test_every_file_people_know_is_there(finished):
    expected = {"summary.csv", "TinyEvalRes_Quant.csv", "comparison.png", "manifest.json", "work"}
    expected |= {"audit.csv", "audit_pairs.csv", "runs.csv", "intervals.csv", "comparisons.csv", "seeds.csv"}
    expected |= {"per_class.csv", "calibration.csv", "report.html", "labels.txt"}
    expected |= {"gains.csv", "gains.png", "agreement.csv", "verdict.csv", "top_class.csv"}
    expected |= {f"chosen_{name}.png" for name in ("confusion_matrix", "examples", "reliability", "roc_pr")}
    expected |= {"sets.csv", "chosen_sets.png"}
    classes = ("classification_report.csv", "Confusion.csv", "confusion_matrix.png")
    for name in ("alone_student", "mobilenet_student", "mobilenet_teacher"):
        expected |= {f"{name}_{file}" for file in classes}
    for name in ("alone", "mobilenet"):
        expected |= {
            f"{name}_student_curves.png",
            f"{name}_student_examples.png",
            f"{name}_predictions.csv",
            f"{name}_ConfusionTiny.csv",
            f"{name}_quantization_error.csv",
            f"{name}_quantization_error.png",
            f"{name}_Student.h5",
            f"{name}_Student.keras",
            *(f"{name}_Student_{recipe}.{suffix}" for recipe in RECIPES for suffix in ("tflite", "json")),
        }
    expected |= {"mobilenet_teachermodel.csv", "mobilenet_Distiller_history.csv", "mobilenet_curves.png"}
    expected |= {"mobilenet_teacher_curves.png", "mobilenet_teacher_examples.png", "mobilenet_gradcam.png"}
    expected |= {"mobilenet_roc_pr.png", "mobilenet_reliability.png", "pareto.png"}
    expected |= {"alone_student_history.csv", "mobilenet_models.csv"}
    assert {path.name for path in finished.iterdir()} == expected


def test_the_summary_has_a_row_per_teacher_model_and_recipe(finished):
    rows = table(finished, "summary.csv")
    assert tuple(rows.columns) == summary_columns()
    keys = list(zip(rows.teacher, rows.model, rows.recipe, strict=True))
    expected = [("alone", "alone", r) for r in ("keras", *RECIPES)]
    expected += [("mobilenet", "teacher", "keras")]
    expected += [("mobilenet", "distilled", r) for r in ("keras", *RECIPES)]
    assert keys == expected
    assert (
        rows[["accuracy", "precision", "recall", "f1", "val_accuracy"]]
        .apply(lambda c: c.between(0, 1))
        .all(axis=None)
    )
    assert (rows[["size_kib", "latency_ms", "parameters", "loss"]] > 0).all(axis=None)
    assert (rows.data == "synthetic phantom").all()
    assert (rows.teacher_weights[rows.teacher == "mobilenet"] == "random weights, by --weights none").all()


@pytest.mark.parametrize("name", ["alone", "mobilenet"])
def test_tables_agree_with_each_other(finished, name):
    rows = table(finished, "summary.csv").query("teacher == @name and model != 'teacher'").set_index("recipe")
    predictions = table(finished, f"{name}_predictions.csv")
    assert len(predictions) == 24
    accuracy = (predictions.true == predictions.predicted).mean()
    assert rows.accuracy["keras"] == pytest.approx(accuracy, abs=1e-5)
    assert predictions.correct.mean() == pytest.approx(accuracy)
    assert np.allclose(predictions.filter(like="p ").sum(axis=1), 1, atol=1e-4)
    counts = table(finished, f"{name}_student_Confusion.csv").set_index("true")
    assert list(counts.columns) == list(counts.index) == list(phantom.CLASSES)
    assert np.trace(counts) / counts.to_numpy().sum() == pytest.approx(accuracy)
    report = table(finished, f"{name}_student_classification_report.csv").set_index("class")
    assert report.loc["accuracy", "f1-score"] == pytest.approx(accuracy, abs=1e-5)
    assert report.loc["macro avg", "f1-score"] == pytest.approx(rows.f1["keras"], abs=1e-5)
    tiny = table(finished, f"{name}_ConfusionTiny.csv")
    for recipe in RECIPES:
        counts = tiny[tiny.recipe == recipe].set_index("true").drop(columns="recipe")
        assert np.trace(counts) / 24 == pytest.approx(rows.accuracy[recipe], abs=1e-5)
    quantized = table(finished, "TinyEvalRes_Quant.csv").query("teacher == @name").set_index("recipe")
    assert list(quantized.index) == list(RECIPES)
    assert (quantized.accuracy == rows.accuracy[list(RECIPES)]).all()


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", ["alone", "mobilenet"])
def test_a_bundle_gives_the_scores_it_states(finished, tiny, name, recipe):
    path = finished / f"{name}_Student_{recipe}.tflite"
    facts = json.loads(path.with_suffix(".json").read_text())
    row = table(finished, "summary.csv").query("teacher == @name and recipe == @recipe").iloc[0]
    assert facts["sha256"] == file_digest(path) and facts["bytes"] == path.stat().st_size
    assert facts["classes"] == list(phantom.CLASSES) and facts["synthetic_data"] is True
    assert row.size_kib == pytest.approx(path.stat().st_size / 1024, rel=1e-5)
    probs = Predictor(path)(np.load(tiny / "X_test.npy"))
    accuracy = (probs.argmax(1) == np.load(tiny / "y_test.npy")).mean()
    value, low, high = facts["test"]["accuracy"]
    assert value == pytest.approx(accuracy, abs=1e-6) and row.accuracy == pytest.approx(accuracy, abs=1e-5)
    assert low <= value <= high and facts["test_images"] == 24
    assert facts["temperature"] > 0 and list(facts["thresholds"]) == list(phantom.CLASSES)
    assert "largest Youden index" in facts["threshold_rule"] and "synthetic phantom" in facts["limits"][0]
    assert facts["images"] == {"train": 48, "val": 16, "test": 24}
    assert (finished / "labels.txt").read_text().splitlines() == facts["classes"]
    patterns, left = layout(np.load(tiny / "X_train.npy"), np.load(tiny / "X_val.npy"))
    assert facts["training_layout"] == patterns
    assert facts["training_images"] == typical(np.load(tiny / "X_train.npy")) | {"layout": left}


def test_a_bundle_finds_its_own_test_images_ordinary(finished, tiny):
    rows = list(Predictor(finished / "alone_Student_int8.tflite").rows([tiny / "X_test.npy"]))
    assert len(rows) == 24 and sum(bool(row.warning) for row in rows) <= 1


@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_the_saved_student_predicts_what_was_scored(finished, tiny, suffix):
    model = keras.saving.load_model(finished / f"mobilenet_Student.{suffix}", compile=False)
    probs = model.predict(np.load(tiny / "X_test.npy").astype("float32"), verbose=0)
    stored = table(finished, "mobilenet_predictions.csv").filter(like="p ").to_numpy()
    assert np.allclose(probs, stored, atol=1e-5)


def test_histories_have_a_row_an_epoch(finished):
    scores = ["accuracy", "loss", "val_accuracy", "val_loss", "learning_rate", "teacher_weights"]
    for name, epochs in (
        ("mobilenet_teachermodel", 1),
        ("mobilenet_Distiller_history", 2),
        ("alone_student_history", 2),
    ):
        rows = table(finished, f"{name}.csv")
        assert rows.epoch.tolist() == list(range(1, epochs + 1))
        assert set(scores) <= set(rows.columns)
    distilled = table(finished, "mobilenet_Distiller_history.csv")
    mixed = 0.5 * distilled.cross_entropy + 0.5 * distilled.distillation
    assert np.allclose(distilled.loss, mixed, rtol=1e-4)
    assert (distilled.distillation > 0).all()


def test_the_manifest_describes_the_run(finished):
    manifest = json.loads((finished / "manifest.json").read_text())
    assert manifest["data"]["synthetic"] is True
    assert manifest["data"]["images"] == {"train": 48, "val": 16, "test": 24}
    assert manifest["config"]["teacher"]["teachers"] == ["mobilenet"]
    for name, digest in manifest["outputs"].items():
        assert file_digest(finished / name) == digest


def test_the_run_says_what_to_expect_of_its_teacher_and_warns_of_a_worse_one(finished):
    rows = table(finished, "summary.csv").set_index(["teacher", "model", "recipe"]).val_accuracy
    points = 100 * (rows["mobilenet", "teacher", "keras"] - rows["alone", "alone", "keras"])
    manifest = json.loads((finished / "manifest.json").read_text())
    (sentence,) = manifest["expectations"]
    place = f"{abs(points):.1f} points {'above' if points > 0 else 'below'}" if points else "level with"
    assert sentence.startswith(f"On val the teacher mobilenet is {place} the student alone (interval ")
    assert (sentence in manifest["warnings"]) == ("it is worse" in sentence)
    assert sentence in (finished / "report.html").read_text(encoding="utf-8")


def test_the_run_says_how_much_its_students_see(finished):
    budget = json.loads((finished / "manifest.json").read_text())["budget"]
    steps = 2 * len(batch_sizes(48, 256))
    assert budget == f"Every student sees 96 images in {steps} steps, with a teacher or without."
    assert budget in (finished / "report.html").read_text(encoding="utf-8")


def test_the_agreement_of_the_student_with_its_teacher(finished):
    """That of test is the one of calibration.csv."""
    rows = table(finished, "agreement.csv").set_index("images")
    assert rows["count"].to_dict() == {"train": 48, "val": 16, "test": 24} and set(rows.teacher) == {
        "mobilenet"
    }
    calibration = table(finished, "calibration.csv").query("model == 'distilled' and recipe == 'keras'")
    assert rows.agreement["test"] == pytest.approx(calibration.top1_agreement.iloc[0])
    summary = table(finished, "summary.csv").query("recipe == 'keras'").set_index(["teacher", "model"])
    for model, right in (("teacher", rows.teacher_right), ("distilled", rows.student_right)):
        row = summary.loc["mobilenet", model]
        assert right["test"] == pytest.approx(row.accuracy) and right["val"] == pytest.approx(
            row.val_accuracy
        )
