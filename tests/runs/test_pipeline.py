"""The whole road on a tiny synthetic set: every file, its columns, and that the files agree."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import QUICK
from kdtf.report.files import SUMMARY

from kdtf.cli.entry import main
from kdtf.data import phantom as sample
from kdtf.data.typical import layout, typical
from kdtf.predictor import Predictor
from kdtf.store import file_digest

RECIPES = ("float32", "float16", "dynamic", "int8")


def table(results, name):
    return pd.read_csv(results / name)


def test_every_file_people_know_is_there(finished):
    expected = {"summary.csv", "TinyEvalRes_Quant.csv", "comparison.png", "manifest.json", "work"}
    expected |= {"audit.csv", "audit_pairs.csv", "runs.csv", "intervals.csv", "comparisons.csv", "seeds.csv"}
    expected |= {"per_class.csv", "calibration.csv", "report.html", "labels.txt"}
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
    assert tuple(rows.columns) == SUMMARY
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
    assert list(counts.columns) == list(counts.index) == list(sample.CLASSES)
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


def test_scores_are_also_given_on_images_without_a_copy(tiny, finished, tmp_path):
    """Two test images are put into train: the clean scores are those of the other 22."""
    for file in tiny.rglob("*"):
        if file.is_file():
            (tmp_path / "d" / file.relative_to(tiny)).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "d" / file.relative_to(tiny)).write_bytes(file.read_bytes())
    for folder in (tmp_path / "d", tmp_path / "d" / "teacher"):
        train = np.load(folder / "X_train.npy")
        train[:2] = np.load(folder / "X_test.npy")[:2]
        np.save(folder / "X_train.npy", train)
    argv = ["--data", str(tmp_path / "d"), "--results", str(tmp_path / "r"), "--recipes", "float32"]
    assert main([*argv, *QUICK]) == 0
    row = table(tmp_path / "r", "summary.csv").iloc[0]
    predictions = table(tmp_path / "r", "alone_predictions.csv")
    assert (row.test_images, row.clean_images) == (24, 22)
    assert row.clean_accuracy == pytest.approx(predictions.correct[2:].mean(), abs=1e-5)
    assert row.accuracy == pytest.approx(predictions.correct.mean(), abs=1e-5)
    untouched = table(finished, "summary.csv").iloc[0]
    assert untouched.clean_images == 24 and untouched.clean_accuracy == untouched.accuracy


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", ["alone", "mobilenet"])
def test_a_bundle_gives_the_scores_it_states(finished, tiny, name, recipe):
    path = finished / f"{name}_Student_{recipe}.tflite"
    facts = json.loads(path.with_suffix(".json").read_text())
    row = table(finished, "summary.csv").query("teacher == @name and recipe == @recipe").iloc[0]
    assert facts["sha256"] == file_digest(path) and facts["bytes"] == path.stat().st_size
    assert facts["classes"] == list(sample.CLASSES) and facts["synthetic_data"] is True
    assert row.size_kib == pytest.approx(path.stat().st_size / 1024, rel=1e-5)
    probs = Predictor(path)(np.load(tiny / "X_test.npy"))
    accuracy = (probs.argmax(1) == np.load(tiny / "y_test.npy")).mean()
    value, low, high = facts["test"]["accuracy"]
    assert value == pytest.approx(accuracy, abs=1e-6) and row.accuracy == pytest.approx(accuracy, abs=1e-5)
    assert low <= value <= high and facts["test_images"] == 24
    assert facts["temperature"] > 0 and list(facts["thresholds"]) == list(sample.CLASSES)
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


def monkeypatch_refusal(monkeypatch, module):
    """A function that makes those of a module refuse to be called."""

    def refuse(*args, **kwargs):
        raise AssertionError("done again")

    return lambda *names: [monkeypatch.setattr(module, name, refuse) for name in names]


def test_the_same_command_again_redoes_nothing_and_changes_nothing(finished, tiny, monkeypatch):
    from kdtf.report import files as report
    from kdtf.runs import files as file_stages
    from kdtf.runs import student as student_stages
    from kdtf.runs import teacher as teacher_stages

    monkeypatch_refusal(monkeypatch, teacher_stages)("build_base", "fit_head", "fine_tune")
    monkeypatch_refusal(monkeypatch, student_stages)("fit_student", "batched")
    monkeypatch_refusal(monkeypatch, file_stages)("quantize", "Predictor")
    monkeypatch_refusal(monkeypatch, report)("study", "examples")
    before = {p.name: file_digest(p) for p in finished.iterdir() if p.is_file() and p.name != "manifest.json"}
    assert main(["--data", str(tiny), "--results", str(finished), *QUICK]) == 0
    after = {p.name: file_digest(p) for p in finished.iterdir() if p.is_file() and p.name != "manifest.json"}
    assert before == after


OF_MOBILENET = {f"mobilenet-{recipe}" for recipe in RECIPES}
CHANGES = {  # a flag and what depends on it; scores and reports follow
    ("--temperature", "3"): {"mobilenet-student", "mobilenet-gradcam"} | OF_MOBILENET,
    ("--calibration-images", "9"): {"alone-int8", "mobilenet-int8"},
    ("--class-names", "a", "b", "c", "d"): set(),
}


@pytest.mark.parametrize("flag", CHANGES, ids=lambda flag: flag[0])
def test_a_changed_setting_redoes_what_depends_on_it_and_nothing_else(flag, finished, tiny, tmp_path):
    shutil.copytree(finished, tmp_path / "r")
    assert main(["--data", str(tiny), "--results", str(tmp_path / "r"), *QUICK, *flag]) == 0
    keys = [
        {
            name: stage["key"]
            for name, stage in json.loads((folder / "manifest.json").read_text())["stages"].items()
        }
        for folder in (finished, tmp_path / "r")
    ]
    assert keys[0].keys() == keys[1].keys()
    redone = {name for name in keys[0] if keys[0][name] != keys[1][name]}
    made = CHANGES[flag]
    scored = {f"{name}-evaluation" for name in made if "gradcam" not in name}
    reports = {f"{name.partition('-')[0]}-report" for name in made} | {"closing-report"}
    if flag[0] == "--class-names":
        reports |= {"audit", "alone-report", "mobilenet-report"}
        card = json.loads((tmp_path / "r" / "alone_Student_int8.json").read_text())
        assert card["classes"] == list(card["thresholds"]) == list("abcd")
        assert (tmp_path / "r" / "labels.txt").read_text() == "a\nb\nc\nd\n"
    assert redone == made | scored | reports


def test_seeds_repeat_the_students_and_keep_the_first_ones_files(finished, tiny, tmp_path):
    argv = ["--data", str(tiny), "--results", str(tmp_path), *QUICK, "--recipes", "int8", "--seeds", "2"]
    assert main(argv) == 0
    runs = table(tmp_path, "runs.csv")
    keys = list(zip(runs.teacher, runs.model, runs.recipe, runs.seed, strict=True))
    students = [("alone", "alone", s) for s in (0, 1)] + [("mobilenet", "distilled", s) for s in (0, 1)]
    expected = [(t, m, r, s) for t, m, s in students for r in ("keras", "int8")]
    assert sorted(keys) == sorted([*expected, ("mobilenet", "teacher", "keras", 0)])
    assert (table(tmp_path, "summary.csv").seed == 0).all()
    one = table(finished, "summary.csv").query("recipe == 'keras'").accuracy.tolist()
    assert table(tmp_path, "summary.csv").query("recipe == 'keras'").accuracy.tolist() == pytest.approx(
        one, abs=0.09
    )
    seeds = table(tmp_path, "seeds.csv").set_index(["teacher", "model", "recipe"])
    ours = runs.query("model == 'distilled' and recipe == 'keras'").accuracy
    assert seeds.loc[("mobilenet", "distilled", "keras"), "mean"] == pytest.approx(ours.mean(), abs=1e-5)
    compared = table(tmp_path, "comparisons.csv")
    assert (compared.question == "distilled against alone").sum() == 2


TUNED = [
    *("--recipes", "int8", "int8-qat", "--compress", "prune", "--mixed"),
    *("--qat-epochs", "1", "--compress-epochs", "2"),
]


def test_fine_tuned_and_mixed_files_join_a_finished_run(finished, tiny, tmp_path, monkeypatch):
    from kdtf.runs import files as file_stages
    from kdtf.runs import student as student_stages
    from kdtf.runs import teacher as teacher_stages

    shutil.copytree(finished, tmp_path / "r")
    monkeypatch.setattr(file_stages, "MOST_LOST", -1)  # as if int8 had lost, whatever it did
    monkeypatch_refusal(monkeypatch, teacher_stages)("fine_tune")
    monkeypatch_refusal(monkeypatch, student_stages)("fit_student")
    argv = ["--data", str(tiny), "--results", str(tmp_path / "r"), *QUICK, *TUNED]
    assert main(argv) == 0
    rows = table(tmp_path / "r", "summary.csv").query("model == 'distilled'").set_index("recipe")
    assert list(rows.index) == ["keras", "int8", "int8-qat", "int8-prune", "int8-mixed"]
    assert rows.accuracy["int8"] == table(finished, "summary.csv").iloc[-1].accuracy  # the stage that stood
    assert rows.sparsity["int8-prune"] > 0.45 > rows.sparsity["int8"]
    assert rows.gzip_kib["int8-prune"] < rows.gzip_kib["int8"] <= rows.size_kib["int8"]
    errors = table(tmp_path / "r", "mobilenet_quantization_error.csv")
    assert errors.recipe.unique().tolist() == ["int8", "int8-qat", "int8-prune", "int8-mixed"]
    of_int8, of_mixed = (errors.query("recipe == @r").set_index("layer") for r in ("int8", "int8-mixed"))
    bad = of_int8.index[of_int8.worst == 1][0]
    assert of_int8.snr_db[bad] == of_int8.snr_db[of_int8.weighted].min()
    assert of_mixed.weights_snr_db[bad] == 200
    history = table(tmp_path / "r", "mobilenet_int8-prune_history.csv")
    assert history.epoch.tolist() == [1, 2] and (history.phase == "prune").all()
    warned = json.loads((tmp_path / "r" / "manifest.json").read_text())["warnings"]
    told = next(w for w in warned if w.startswith("mobilenet, seed 0: int8 loses"))
    assert f"the output of {bad} (" in told and "With that layer in float, int8-mixed loses" in told
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert "What small files cost" in page and "int8-prune" in page
    monkeypatch_refusal(monkeypatch, file_stages)("quantize")
    monkeypatch_refusal(monkeypatch, file_stages.qat)("fine_tune")
    assert main(argv) == 0


def test_a_teacher_that_is_no_better_is_warned_about(finished):
    rows = table(finished, "summary.csv").set_index(["teacher", "model", "recipe"]).val_accuracy
    worse = rows["mobilenet", "teacher", "keras"] <= rows["alone", "alone", "keras"]
    warnings = json.loads((finished / "manifest.json").read_text())["warnings"]
    assert any("unlikely to help" in w for w in warnings) == worse


def test_frozen_features_take_the_short_way(tiny, tmp_path):
    """--freeze --fine-tune-epochs 0: logits from cached features are those of the whole saved teacher."""
    argv = ["--data", str(tiny), "--results", str(tmp_path), "--freeze", "--fine-tune-epochs", "0"]
    assert main([*argv, *QUICK, "--views", "1", "--recipes", "int8"]) == 0
    from kdtf.distill.train import batched
    from kdtf.models.teachers import WeightSource, build_base, build_head, with_head

    base = build_base("mobilenet", (64, 64, 1), WeightSource("none"))
    teacher = with_head(base.model, build_head("mobilenet", (1024,), 4))
    (head,) = (tmp_path / "work").glob("mobilenet-head-*")
    (labels,) = (tmp_path / "work").glob("mobilenet-logits-*")
    teacher.load_weights(head / "teacher.weights.h5")
    logits = batched(teacher)(np.load(tiny / "teacher" / "X_train.npy"))
    assert np.allclose(np.load(labels / "logits.npy")[0], logits, atol=1e-4)


def test_it_runs_as_a_command_and_keeps_its_output_clean(tiny, tmp_path):
    """stdout holds the table and stderr nothing but what kdtf has to say: no noise, no bars in a pipe."""
    root = Path(__file__).parents[2]
    argv = [sys.executable, "main.py", "--data", tiny, "--results", tmp_path, *QUICK, "--recipes", "int8"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_CPP")}
    done = subprocess.run(list(map(str, argv)), cwd=root, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "Test scores on a synthetic phantom: not patient data" in done.stdout
    ours = (
        "Audit: no copies",
        "Warning: The teacher mobilenet",
        "Warning: mobilenet, seed 0: int8 loses",  # one of 16 val images is enough
        "Warning: alone, seed 0: int8 loses",
        "The teacher sees",
        "The folder says that its images are synthetic",
    )
    assert [line for line in done.stderr.splitlines() if not line.startswith(ours)] == []


def weights_that(pretrained, origin):
    """What `WeightSource.load` does where the weights can or cannot be had."""
    return lambda self, name, make: (make(weights=None), pretrained, origin)


def test_a_teacher_goes_on_with_the_weights_it_began_with(tiny, tmp_path, monkeypatch, capsys):
    from kdtf.models.teachers import NOT_DOWNLOADED, WeightSource

    there, gone = weights_that(True, "ImageNet weights from Keras"), weights_that(False, NOT_DOWNLOADED)
    argv = ["--data", str(tiny), *QUICK, "--teachers", "cnn5", "--weights", "auto", "--recipes", "int8"]
    argv += ["--fine-tune-epochs", "1"]

    def run(results, load):
        monkeypatch.setattr(WeightSource, "load", load)
        return main([*argv, "--results", str(results)])

    assert run(tmp_path / "a", there) == 0
    shutil.rmtree(next((tmp_path / "a" / "work").glob("cnn5-whole-*")))
    assert run(tmp_path / "a", gone) == 2
    assert "--weights must be able to give cnn5 the weights it began with" in capsys.readouterr().err
    monkeypatch.undo()
    assert run(tmp_path / "b", gone) == 0
    shutil.rmtree(next((tmp_path / "b" / "work").glob("cnn5-whole-*")))
    monkeypatch.undo()  # they could be had now, and are not asked for
    assert main([*argv, "--results", str(tmp_path / "b")]) == 0
    teacher = table(tmp_path / "b", "summary.csv").query("model == 'teacher'").iloc[0]
    assert teacher.teacher_weights == NOT_DOWNLOADED
