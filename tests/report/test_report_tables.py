"""The tables of a report are drawn from records, under the names and columns that people know."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from kdtf.evidence.metrics import METRICS, Metric, score
from kdtf.evidence.tables import TABLES as EVIDENCE
from kdtf.records import Predictions
from kdtf.report import tables, write
from kdtf.report.subjects import FileSubject, RunSubject, data_name
from kdtf.report.summary import TIMINGS, summary_columns
from kdtf.report.tables import TABLES, confusion_rows, prediction_rows
from kdtf.store import Store

HEADER = (
    "teacher,model,recipe,accuracy,precision,recall,f1,auc,loss,size_kib,gzip_kib,sparsity,parameters,"
    "latency_ms,quantized_tensors,weight_tensors,val_accuracy,val_loss,train_seconds,teacher_weights,alpha,"
    "temperature,seed,data,test_images,clean_images,clean_accuracy,clean_precision,clean_recall,clean_f1,"
    "clean_auc,clean_loss"
)
COLUMNS = HEADER.split(",")


def read(results, name):
    return pd.read_csv(results / name)


def test_the_files_of_a_run_have_the_names_people_know(results):
    by_model = {
        f"{model}_{table}.csv"
        for model in ("alone_student", "baseline_student", "vgg16_student", "vgg16_teacher")
        for table in ("Confusion", "classification_report")
    }
    by_student = {
        f"{teacher}_{table}.csv"
        for teacher in ("alone", "baseline", "vgg16")
        for table in ("predictions", "ConfusionTiny", "quantization_error", "int8-qat_history")
    }
    histories = {"alone_student_history.csv", "baseline_student_history.csv", "vgg16_Distiller_history.csv"}
    of_teacher = {"vgg16_teachermodel.csv", "vgg16_models.csv"}
    of_run = {"runs.csv", "summary.csv", "TinyEvalRes_Quant.csv", "audit.csv", "audit_pairs.csv"}
    of_run |= {"agreement.csv", "frontier.csv", "verdict.csv", "subgroups.csv", "subgroup_gaps.csv"}
    evidence = {"intervals.csv", "comparisons.csv", "seeds.csv", "per_class.csv", "calibration.csv"}
    evidence |= {"top_class.csv"}
    evidence |= {"gains.csv", "sets.csv"}
    files = by_model | by_student | histories | of_teacher | of_run | evidence
    assert {path.name for path in results.glob("*.csv")} == files
    assert (results / "labels.txt").read_text() == "well\nill\nworse\n"


def test_no_two_tables_have_one_name():
    names = [table.file for table in (*TABLES, *EVIDENCE.values())]
    assert len(set(names)) == len(names)


def test_the_summary_has_its_columns_and_the_rows_of_the_first_seed_in_order(results):
    summary, runs = read(results, "summary.csv"), read(results, "runs.csv")
    assert list(summary) == list(runs) == COLUMNS == list(summary_columns())
    names = ["alone"] * 4 + ["baseline"] * 4 + ["vgg16"] * 5
    assert summary.teacher.tolist() == names and set(summary.seed) == {0}
    assert summary.model.tolist()[8:] == ["teacher"] + ["distilled"] * 4
    assert len(runs) == 25 and runs[runs.seed == 0].reset_index(drop=True).equals(summary)
    assert set(summary.data) == {"chest"} and set(summary.test_images) == {60}
    assert set(summary.clean_images) == {54}


def test_a_row_says_what_is_known_of_its_model_and_nothing_else(subjects):
    rows = {(row["teacher"], row["model"], row["recipe"]): row for row in subjects.run.summary}
    teacher = rows["vgg16", "teacher", "keras"]
    assert teacher["parameters"] == 20000 and teacher["train_seconds"] == 99.5
    assert teacher["teacher_weights"] == "ImageNet" and teacher["alpha"] is None
    alone = rows["alone", "alone", "keras"]
    assert (alone["size_kib"], alone["gzip_kib"], alone["teacher_weights"]) == (60.0, None, None)
    distilled = rows["vgg16", "distilled", "keras"]
    assert (distilled["alpha"], distilled["temperature"], distilled["train_seconds"]) == (0.25, 3.0, 7.5)
    file = rows["vgg16", "distilled", "int8"]
    assert (file["size_kib"], file["gzip_kib"], file["sparsity"]) == (2.0, 1.0, 0.5)
    assert (file["quantized_tensors"], file["weight_tensors"], file["parameters"]) == (3, 9, 1000)
    assert (file["alpha"], file["train_seconds"], file["latency_ms"]) == (0.25, None, 1.5)
    for row in rows.values():
        assert list(row) == COLUMNS


def test_scores_are_of_test_of_its_images_without_a_copy_and_of_val(subjects):
    study, result = subjects.run.study, subjects.run.models[0]
    answers, row = result.predictions, subjects.run.rows[0]
    assert row["accuracy"] == score(answers.test_probs, study.truth.test)["accuracy"]
    assert row["clean_f1"] == score(answers.test_probs[6:], study.truth.test[6:])["f1"]
    assert row["val_loss"] == score(answers.val_probs, study.truth.val)["loss"]


def test_without_timings_no_table_has_any(subjects, tmp_path, blank):
    study = replace(subjects.run.study, timings=False)
    rows = write.write_run_report(RunSubject(study, subjects.run.models), Store(tmp_path))
    assert all(row[column] is None for row in rows for column in TIMINGS)
    write.write_teacher_report(replace(subjects.teacher, study=study), Store(tmp_path))
    assert read(tmp_path, "vgg16_models.csv")["Training, s"].isna().all()
    assert not read(tmp_path, "summary.csv").parameters.isna().any()


def test_a_new_metric_is_a_new_column(subjects, monkeypatch):
    toy = Metric("toy", lambda sample: np.full(len(sample.weights), 0.5), in_summary=True)
    monkeypatch.setitem(METRICS, "toy", toy)
    row = subjects.run.study.row(subjects.run.models[0])
    assert row["toy"] == row["clean_toy"] == 0.5
    columns = list(row)
    assert columns.index("toy") < columns.index("size_kib") and columns[-1] == "clean_toy"


def test_the_files_are_a_table_of_their_own(results):
    files, summary = read(results, "TinyEvalRes_Quant.csv"), read(results, "summary.csv")
    assert list(files) == [column for column in COLUMNS if column != "train_seconds"]
    of_files = summary[summary.recipe != "keras"][list(files)].reset_index(drop=True)
    pd.testing.assert_frame_equal(files, of_files, check_dtype=False)


def test_a_teacher_is_compared_with_its_students(results):
    table = read(results, "vgg16_models.csv")
    assert list(table) == [
        *("Model", "Loss", "Accuracy", "AUC", "F1", "Precision", "Recall", "Parameters", "Training, s")
    ]
    assert table.Model.tolist() == ["teacher", "student alone", "student distilled", "baseline"]


def test_histories_name_the_weights_of_the_teacher(results):
    teacher = read(results, "vgg16_teachermodel.csv")
    assert teacher.phase.tolist() == ["head", "head", "whole network"]
    assert set(teacher.teacher_weights) == set(read(results, "vgg16_Distiller_history.csv").teacher_weights)
    assert read(results, "alone_student_history.csv").teacher_weights.isna().all()
    assert read(results, "vgg16_int8-qat_history.csv").phase.tolist() == ["fine-tuning"]


def test_only_a_fine_tuned_file_has_a_history(subjects):
    (row,) = (table for table in TABLES if table.file == "{teacher}_{recipe}_history.csv")
    histories = {
        file.facts.recipe: row.rows(FileSubject(subjects.alone.study, file)) for file in subjects.alone.files
    }
    assert [recipe for recipe, rows in histories.items() if rows] == ["int8-qat"]


def test_the_worst_layer_is_the_furthest_with_weights(results):
    errors = read(results, "vgg16_quantization_error.csv")
    assert list(errors) == list(tables.ERROR_COLUMNS)
    assert errors.recipe.tolist() == ["int8"] * 3 + ["int8-qat"] * 3
    assert errors[errors.worst == 1].layer.tolist() == ["2 FULLY_CONNECTED"] * 2


def test_of_equally_bad_layers_one_is_the_worst(subjects):
    file = subjects.alone.files[1]
    tied = replace(file, errors=[error._replace(snr_db=20.0) for error in file.errors])
    rows = tables.quantization_error_rows(replace(subjects.alone, files=(tied,)))
    assert [row["worst"] for row in rows] == [1, 0, 0]


def test_without_errors_the_table_has_its_columns(subjects, tmp_path, blank):
    files = tuple(replace(file, errors=[]) for file in subjects.alone.files)
    write.write_student_report(replace(subjects.alone, files=files), Store(tmp_path))
    assert list(read(tmp_path, "alone_quantization_error.csv")) == list(tables.ERROR_COLUMNS)
    assert not (tmp_path / "alone_quantization_error.png").exists()


def test_the_confusion_of_every_file_is_counted(subjects, results):
    tiny = read(results, "alone_ConfusionTiny.csv")
    assert tiny.recipe.tolist() == [r for r in ("float32", "int8", "int8-qat") for _ in range(3)]
    assert (tiny.groupby("recipe")[["well", "ill", "worse"]].sum().sum(axis=1) == 60).all()


def test_rules_that_were_tried_are_a_table(subjects, tmp_path, blank):
    tuning = (
        {"alpha": 0.1, "temperature": 4.0, "chosen": 0},
        {"alpha": 0.2, "temperature": 4.0, "chosen": 1},
    )
    write.write_teacher_report(replace(subjects.teacher, tuning=tuning), Store(tmp_path))
    assert read(tmp_path, "vgg16_tuning.csv").to_dict("records") == list(tuning)


def test_predictions_name_the_images_and_their_classes():
    probs = np.array([[0.25, 0.75], [0.5, 0.5]])
    assert prediction_rows(probs, np.array([1, 1]), ("ill", "well"), [7, 9]) == [
        {"index": 7, "true": "well", "predicted": "well", "correct": 1, "p ill": 0.25, "p well": 0.75},
        {"index": 9, "true": "well", "predicted": "ill", "correct": 0, "p ill": 0.5, "p well": 0.5},
    ]
    assert confusion_rows(np.array([[1, 2], [3, 4]]), ("ill", "well"))[1] == {
        "true": "well",
        "ill": 3,
        "well": 4,
    }


def test_pairs_of_copies_name_their_classes(results):
    pairs = read(results, "audit_pairs.csv")
    assert list(pairs) == list(tables.PAIR_COLUMNS)
    assert pairs.loc[1].tolist()[:9] == ["exact", "val", 0, "well", "val", 4, "ill", 1.0, 1]
    assert pairs.loc[1, ["source", "row", "other_source", "other_row"]].tolist() == ["val", 0, "val", 4]
    assert pairs.file.isna().all() and pairs.other_file.isna().all()  # the folder has no files_*.csv


@pytest.mark.parametrize("name", EVIDENCE)
def test_every_table_of_evidence_is_written(name, subjects, results):
    assert len(read(results, EVIDENCE[name].file)) == len(subjects.run.evidence[name]) > 0


def test_evidence_is_computed_once(subjects, tmp_path, monkeypatch, blank):
    from kdtf.evidence import tables as evidence

    calls = []

    def counted(models: list[Predictions], *rest) -> dict:
        calls.append(len(models))
        return subjects.run.evidence

    monkeypatch.setattr(evidence, "all_tables", counted)
    write.write_run_report(RunSubject(subjects.run.study, subjects.run.models), Store(tmp_path))
    assert calls == [25]


def test_synthetic_data_always_says_so():
    assert data_name("/a/chest_ct", False) == "chest_ct"
    assert data_name("/a/chest_ct", True) == "synthetic phantom"
