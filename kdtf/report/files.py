"""Finished models to the files people read: CSV, PNG, `.h5`, `.keras`, `.tflite` with its `.json`, labels.

Every table and picture is drawn from the same records. Trains nothing and imports no TensorFlow.
"""

import io
from pathlib import Path

import numpy as np

from .. import __version__
from ..config import section_dict
from ..evidence.evaluate import record
from ..evidence.metrics import classification_report, confusion
from ..evidence.tables import Scored, curves_of, examples, of_one, reliability_of, study
from ..store import file_digest
from . import figures as plots
from . import images as pictures
from .page import render

SUMMARY = (
    "teacher", "model", "recipe", "accuracy", "precision", "recall", "f1", "auc", "loss", "size_kib",
    "gzip_kib", "sparsity", "parameters", "latency_ms", "quantized_tensors", "weight_tensors",
    "val_accuracy", "val_loss", "train_seconds", "teacher_weights", "alpha", "temperature",
    "seed", "data", "test_images",
    "clean_images", "clean_accuracy", "clean_precision", "clean_recall", "clean_f1", "clean_auc",
    "clean_loss",
)  # fmt: skip


TIMINGS = ("latency_ms", "train_seconds")  # never twice the same


def _row(job, model, recipe: str, **facts) -> dict:
    """A row of `summary.csv` for a finished model; columns that do not apply stay empty."""
    data = job.data
    described = {
        "teacher": model.teacher,
        "model": model.kind,
        "recipe": recipe,
        "teacher_weights": model.facts.get("teacher_weights"),
        "seed": model.seed,
        "data": data_name(data),
        **facts,
    }
    clean = np.isin(np.arange(len(data.test.labels)), job.parts[-1].rows)
    scores = record(model.measured, data.val.labels, data.test.labels, clean, **described)
    if job.config.run.deterministic:
        scores = {name: value for name, value in scores.items() if name not in TIMINGS}
    return {name: scores.get(name) for name in SUMMARY}


EVIDENCE = {
    "intervals": "intervals.csv",
    "comparisons": "comparisons.csv",
    "seeds": "seeds.csv",
    "classes": "per_class.csv",
    "calibration": "calibration.csv",
}


def data_name(data) -> str:
    """How tables name the data; synthetic data always says so."""
    return "synthetic phantom" if data.synthetic else Path(data.source).name


MODELS = {
    "loss": "Loss",
    "accuracy": "Accuracy",
    "auc": "AUC",
    "f1": "F1",
    "precision": "Precision",
    "recall": "Recall",
    "parameters": "Parameters",
    "train_seconds": "Training, s",
}


def _reported(job, name: str, models: list, make) -> None:
    """The stage NAME-report: files that `make` writes about `models`, and what else they depend on."""
    settings = {
        "version": __version__,
        "evidence": section_dict(job.config.evidence),
        "data": data_name(job.data),
        "told": job.told,
    }
    said = [file_digest(model.scores / "measured.npz") for model in models]
    job.run.written(f"{name}-report", settings, *(model.key for model in models), *said, make=make)


def untaught_files(job, student, files: dict) -> None:
    """Everything about a student trained without a teacher and its `.tflite` files."""
    models = [student, *files.values()]
    _reported(job, student.teacher, models, lambda: _student_files(job, student, files))


def taught_files(job, teacher, students: list, files: dict, attention: Path) -> None:
    """Everything about a teacher, the student distilled from it and its `.tflite` files.

    `students` are the one alone, the distilled one and, if there is one, the baseline; `attention` is
    the folder of their Grad-CAM. Warns where the teacher is no better than the student alone.
    """
    alone, distilled = students[:2]

    def make():
        _teacher_files(job, teacher, students)
        _student_files(job, distilled, files)
        _attention_files(job, {"teacher": teacher, "distilled": distilled, "alone": alone}, attention)

    _reported(job, teacher.teacher, [teacher, *students, *files.values()], make)
    taught, untaught = val_accuracy(job, teacher), val_accuracy(job, alone)
    if taught <= untaught:
        job.progress.warn(
            f"The teacher {teacher.teacher} scores {taught:.3f} on val and the student trained alone "
            f"{untaught:.3f}: distilling from it is unlikely to help."
        )


def _teacher_files(job, teacher, students: list) -> None:
    """A teacher's history, and its pictures beside the students'."""
    name, origin = teacher.teacher, teacher.facts["teacher_weights"]
    job.run.write_csv(f"{name}_teachermodel.csv", [{**r, "teacher_weights": origin} for r in teacher.history])
    models = {"teacher": teacher, **{student.kind: student for student in students}}
    rows = [_float_row(job, model) for model in models.values()]
    table = [
        {"Model": plots.LABELS[row["model"]], **{shown: row[k] for k, shown in MODELS.items()}}
        for row in rows
    ]
    job.run.write_csv(f"{name}_models.csv", table)
    histories = {kind: m.history for kind, m in models.items() if m.history}
    _curves(job, f"{name}_curves.png", f"{name}, {origin}", histories)
    if teacher.history:
        _curves(job, f"{name}_teacher_curves.png", f"teacher {name}, {origin}", {"teacher": teacher.history})
    _examples(job, f"{name}_teacher_examples.png", f"teacher {name}, {origin}", teacher)
    _class_files(job, f"{name}_teacher", f"teacher {name}, {origin}", teacher)
    _evidence_pictures(job, f"{name}, {origin}", name, {k: _scored(m, "keras") for k, m in models.items()})


def _class_files(job, stem: str, shown: str, model) -> None:
    """Scores of every class and the confusion matrix of a model on test."""
    classes, labels, probs = job.data.classes, job.data.test.labels, model.measured["test_probs"]
    counts = confusion(probs, labels)
    job.run.write_csv(f"{stem}_classification_report.csv", classification_report(probs, labels, classes))
    job.run.write_csv(f"{stem}_Confusion.csv", confusion_rows(counts, classes))
    figure = plots.confusion(counts, classes, f"Test: {shown}", synthetic=job.data.synthetic)
    job.run.write(f"{stem}_confusion_matrix.png", png(figure))


def _curves(job, file: str, title: str, histories: dict) -> None:
    job.run.write(file, png(plots.curves(histories, title, synthetic=job.data.synthetic)))


def _said(job, probs: np.ndarray, i: int) -> pictures.Said:
    """A test image and what a model with test probabilities (N, K) says of it."""
    classes, test = job.data.classes, job.data.test
    return pictures.Said(
        test.teacher_pixels[i], classes[test.labels[i]], classes[probs[i].argmax()], float(probs[i].max())
    )


def _examples(job, file: str, title: str, model) -> None:
    """Test images with what the model says of them, the surest mistakes first."""
    probs = model.measured["test_probs"]
    rows = [_said(job, probs, i) for i in examples(probs, job.data.test.labels)]
    wrong = sum(row.true != row.predicted for row in rows)
    title = f"{title}: its {wrong} surest mistakes on test, then {len(rows) - wrong} it got right"
    job.run.write(file, png(pictures.examples(rows, title, synthetic=job.data.synthetic)))


def _attention_files(job, models: dict, folder: Path) -> None:
    """Grad-CAM of a teacher and its students on the same test images, from `folder`'s `heat.npz`."""
    found = np.load(folder / "heat.npz", allow_pickle=False)
    probs = {kind: model.measured["test_probs"] for kind, model in models.items()}
    rows = [
        {kind: (_said(job, probs[kind], i), found[kind][at]) for kind in models}
        for at, i in enumerate(found["images"])
    ]
    name = models["teacher"].teacher
    title = f"{name}, {models['teacher'].facts['teacher_weights']}: what speaks for the class named"
    job.run.write(f"{name}_gradcam.png", png(pictures.attention(rows, title, synthetic=job.data.synthetic)))


def _evidence_pictures(job, title, name, models: dict[str, Scored]) -> None:
    """ROC and PR curves, and the reliability diagram, of a teacher and the two students."""
    part, synthetic = job.parts[0], job.data.synthetic
    if len(np.unique(part.labels)) == len(job.data.classes):  # else a class has no curve
        found = {kind: curves_of(m, part) for kind, m in models.items()}
        job.run.write(
            f"{name}_roc_pr.png", png(plots.ranking(found, job.data.classes, title, synthetic=synthetic))
        )
    found = {kind: reliability_of(m, part) for kind, m in models.items()}
    job.run.write(f"{name}_reliability.png", png(plots.reliability(found, title, synthetic=synthetic)))


def val_accuracy(job, model) -> float:
    """The part of val a finished model gets right."""
    return float(np.mean(model.measured["val_probs"].argmax(1) == job.data.val.labels))


def _scored(model, recipe: str) -> Scored:
    said = model.measured
    return Scored(model.teacher, model.kind, recipe, model.seed, said["val_probs"], said["test_probs"])


def _float_row(job, student) -> dict:
    told = ("parameters", "size_kib", "train_seconds", "alpha", "temperature")
    return _row(job, student, "keras", **{k: student.facts.get(k) for k in told})


def _tflite_row(job, student, recipe: str, file) -> dict:
    counts = {k: file.facts[k] for k in ("quantized_tensors", "weight_tensors")}
    told = {k: student.facts.get(k) for k in ("parameters", "alpha", "temperature", "teacher_weights")}
    sizes = {"size_kib": file.facts["bytes"] / 1024, "gzip_kib": file.facts["gzip_bytes"] / 1024}
    return _row(job, file, recipe, **sizes, sparsity=file.facts["sparsity"], **counts, **told)


def _student_files(job, student, files: dict) -> None:
    """Everything about one student, float and as `.tflite`."""
    run, data, name = job.run, job.data, student.teacher
    labels, probs = data.test.labels, student.measured["test_probs"]
    history = f"{name}_{'Distiller' if student.kind == 'distilled' else 'student'}_history.csv"
    origin = student.facts["teacher_weights"]
    run.write_csv(history, [{**r, "teacher_weights": origin} for r in student.history])
    shown = f"student of {name}, {origin}" if student.kind == "distilled" else plots.LABELS[student.kind]
    _class_files(job, f"{name}_student", shown, student)
    _curves(job, f"{name}_student_curves.png", shown, {student.kind: student.history})
    _examples(job, f"{name}_student_examples.png", shown, student)
    run.write_csv(f"{name}_predictions.csv", prediction_rows(probs, labels, data.classes))
    for suffix in ("h5", "keras"):
        run.write(f"{name}_Student.{suffix}", (student.folder / f"student.{suffix}").read_bytes())
    _quantization_files(job, student, files)
    tiny = []
    for recipe, file in files.items():
        _tflite_files(job, student, recipe, file)
        counted = confusion(file.measured["test_probs"], labels)
        tiny += [{"recipe": recipe, **r} for r in confusion_rows(counted, data.classes)]
    run.write_csv(f"{name}_ConfusionTiny.csv", tiny)


def _tflite_files(job, student, recipe, file) -> None:
    """The `.tflite` and its `.json`, evidence included."""
    stem = f"{student.teacher}_Student_{recipe}"
    job.run.write(f"{stem}.tflite", (file.folder / "model.tflite").read_bytes())
    found = of_one(_scored(file, recipe), job.data, job.parts[0], job.config.evidence.min_sensitivity)
    taken = {**file.facts["input"], **job.told["input"]}
    job.run.write_json(f"{stem}.json", {**file.facts, **found, **job.told, "input": taken})


ERRORS = (
    "recipe", "layer", "tensor", "weighted", "cosine", "snr_db", "max_abs", "weights_snr_db", "worst",
)  # fmt: skip


def _quantization_files(job, student, files: dict) -> None:
    """How far every tensor of every file is from the float file's, and the histories of fine-tuned ones."""
    name, rows = student.teacher, []
    for recipe, file in files.items():
        found = file.tensor_errors
        least = min((error.snr_db for error in found if error.weighted), default=None)
        rows += [
            {"recipe": recipe, **e._asdict(), "worst": int(e.weighted and e.snr_db == least)} for e in found
        ]
        if file.history:
            job.run.write_csv(f"{name}_{recipe}_history.csv", file.history)
    job.run.write_csv(f"{name}_quantization_error.csv", rows, ERRORS)
    if rows:
        figure = plots.quantization_error(rows, name, synthetic=job.data.synthetic)
        job.run.write(f"{name}_quantization_error.png", png(figure))


def tell_loss(job, student, lost: float, bad, mixed) -> None:
    """Warn that int8 lost accuracy on val, and say which tensor is furthest off (a `TensorError`).

    `mixed` is the file with that layer in float, or None.
    """
    helped = "--mixed makes a file with that layer in float."
    if mixed:
        kept = 100 * (val_accuracy(job, student) - val_accuracy(job, mixed))
        helped = f"With that layer in float, int8-mixed loses {kept:.1f}."
    job.progress.warn(
        f"{student.teacher}, seed {student.seed}: int8 loses {100 * lost:.1f} points on val. Furthest off is "
        f"the output of {bad.layer} ({bad.snr_db:.0f} dB). {helped}"
    )


def closing_files(job, done: list[tuple]) -> list[dict]:
    """The tables and pictures over all models, the manifest and the page; returns the rows of `summary.csv`.

    `done` holds every (model, its `.tflite` files) of all seeds; the summary is of the first seed.
    """
    run, data = job.run, job.data
    every, runs, scored = [], [], []
    for model, files in done:
        every += [model, *files.values()]
        runs.append(_float_row(job, model))
        runs += [_tflite_row(job, model, recipe, file) for recipe, file in files.items()]
        scored += [_scored(model, "keras"), *(_scored(file, recipe) for recipe, file in files.items())]
    rows = [row for row in runs if row["seed"] == job.config.run.seed]
    _reported(job, "closing", every, lambda: _tables(job, runs, rows, scored))
    described = {
        "source": str(data.source),
        "name": data_name(data),
        "digest": data.digest,
        "synthetic": data.synthetic,
        "classes": list(data.classes),
        "images": {s: len(getattr(data, s).labels) for s in ("train", "val", "test")},
        "notes": list(data.notes),
    }
    weights = {row["teacher"]: row["teacher_weights"] for row in rows if row["model"] == "teacher"}
    run.write_manifest(job.config.to_dict(), described, weights, job.progress.warnings)
    run.write("report.html", render(run.root))
    return rows


def _tables(job, runs: list[dict], rows: list[dict], models: list[Scored]) -> None:
    """The tables of all seeds and of the first, and the two pictures over all models."""
    run, data = job.run, job.data
    run.write_csv("runs.csv", runs, SUMMARY)
    tables = study(models, data, job.parts, job.config.evidence.min_sensitivity)
    for name, file in EVIDENCE.items():
        run.write_csv(file, tables[name])
    run.write_csv("summary.csv", rows, SUMMARY)
    tiny = [row for row in rows if row["recipe"] != "keras"]
    columns = [c for c in SUMMARY if c != "train_seconds"]
    run.write("labels.txt", "".join(f"{name}\n" for name in data.classes))
    run.write_csv("TinyEvalRes_Quant.csv", [{c: row[c] for c in columns} for row in tiny], columns)
    ends = _accuracies(tables["intervals"], job.config.run.seed)
    run.write("comparison.png", png(plots.comparison(rows, ends, synthetic=data.synthetic)))
    run.write("pareto.png", png(plots.pareto(rows, ends, synthetic=data.synthetic)))


def _accuracies(intervals: list[dict], seed: int) -> dict[tuple[str, str], tuple[float, float]]:
    """{(teacher, model): ends of the interval} of the accuracy of the Keras models of a seed."""
    wanted = {"recipe": "keras", "seed": seed, "images": "all", "metric": "accuracy"}
    found = (row for row in intervals if wanted.items() <= row.items())
    return {(row["teacher"], row["model"]): (row["low"], row["high"]) for row in found}


AUDIT = ("check", "split", "other", "name", "count", "of", "value")
PAIRS = ("kind", "split", "index", "class", "other", "other_index", "other_class", "correlation", "conflict")


def audit_files(run, data, audit) -> None:
    """`audit.csv`, `audit_pairs.csv` and a contact sheet of the worst pairs of each kind."""
    run.write_csv("audit.csv", audit.rows, AUDIT)
    run.write_csv("audit_pairs.csv", [_pair_row(pair, data) for pair in audit.pairs], PAIRS)
    for kind in ("exact", "near"):
        worst = audit.worst(kind, 12)
        name = f"audit_{kind}_copies.png"
        if not worst:
            run.path(name).unlink(missing_ok=True)  # of an earlier run on other data
            continue
        shown = [_shown_pair(pair, data) for pair in worst]
        title = f"The worst {len(worst)} pairs of {kind} copies"
        run.write(name, png(pictures.pairs(shown, title, synthetic=data.synthetic)))


def _pair_row(pair, data) -> dict:
    ends = [
        (split, i, data.classes[getattr(data, split).labels[i]]) for split, i in (pair.first, pair.second)
    ]
    return dict(
        zip(PAIRS, (pair.kind, *ends[0], *ends[1], pair.correlation, int(pair.conflict)), strict=True)
    )


def _shown_pair(pair, data) -> tuple:
    shown = []
    for split, i in (pair.first, pair.second):
        part = getattr(data, split)
        shown += [part.teacher_pixels[i], f"{split} {i}\n{data.classes[part.labels[i]]}"]
    relation = (
        "two labels" if pair.conflict else "across splits" if pair.first[0] != pair.second[0] else "one split"
    )
    return (*shown, f"{relation}, correlation {pair.correlation:.4f}")


def confusion_rows(counts: np.ndarray, classes) -> list[dict]:
    """A confusion matrix (K, K) as a row for each true class."""
    return [
        {"true": true, **dict(zip(classes, map(int, row), strict=True))}
        for true, row in zip(classes, counts, strict=True)
    ]


def prediction_rows(probs: np.ndarray, labels: np.ndarray, classes, index=None) -> list[dict]:
    """Probabilities (N, K) beside the true labels (N,); `index` is what the rows are called, 0 to N - 1."""
    return [
        {
            "index": i,
            "true": classes[label],
            "predicted": classes[p.argmax()],
            "correct": int(p.argmax() == label),
            **{f"p {c}": float(v) for c, v in zip(classes, p, strict=True)},
        }
        for i, p, label in zip(range(len(probs)) if index is None else index, probs, labels, strict=True)
    ]


def png(figure) -> bytes:
    """A figure as PNG bytes, without the date that would make two equal runs differ."""
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
