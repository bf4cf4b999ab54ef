"""A row of `summary.csv`: the facts known of a finished model, and its scores. Decides nothing."""

import numpy as np

from ..evidence.evaluate import summary_scores
from ..evidence.metrics import METRICS
from ..records import FileResult, GroundTruth, StudentResult, TeacherResult

Result = TeacherResult | StudentResult | FileResult

TIMINGS = ("latency_ms", "train_seconds")  # never twice the same


def summary_columns() -> tuple[str, ...]:
    """The columns of `summary.csv` and `runs.csv`."""
    scores = [name for name, metric in METRICS.items() if metric.in_summary]
    return (
        "teacher", "model", "recipe", *scores, "size_kib", "gzip_kib", "sparsity", "parameters",
        "latency_ms", "quantized_tensors", "weight_tensors", "val_accuracy", "val_loss", "train_seconds",
        "teacher_weights", "alpha", "temperature", "seed", "data", "test_images", "clean_images",
        *(f"clean_{name}" for name in scores),
    )  # fmt: skip


def summary_row(
    result: Result, truth: GroundTruth, clean: np.ndarray, *, data_name: str, timings: bool
) -> dict:
    """The row of a model: its facts, and scores on test, on its `clean` (N,) bool part and on val.

    Columns that do not apply are None, and without `timings` those of `TIMINGS` too.
    """
    row = {
        **result.predictions.name,
        **_facts(result),
        **summary_scores(result.predictions, truth, clean),
        "data": data_name,
    }
    left_out = () if timings else TIMINGS
    return {column: None if column in left_out else row.get(column) for column in summary_columns()}


def _facts(result: Result) -> dict:
    """What is known of a model beside its predictions."""
    if isinstance(result, FileResult):
        facts = result.facts
        return {
            **_student_facts(result.student),
            "size_kib": facts.bytes / 1024,
            "gzip_kib": facts.gzip_bytes / 1024,
            "sparsity": facts.sparsity,
            "quantized_tensors": facts.quantized_tensors,
            "weight_tensors": facts.weight_tensors,
        }
    own = {"size_kib": result.size_kib, "train_seconds": result.train_seconds}
    if isinstance(result, StudentResult):
        return {**_student_facts(result), **own}
    return {"parameters": result.parameters, "teacher_weights": result.weights, **own}


def _student_facts(student: StudentResult) -> dict:
    """What a student and its files have in common."""
    rule = student.rule
    return {
        "parameters": student.parameters,
        "teacher_weights": student.teacher_weights,
        "alpha": rule and rule.alpha,
        "temperature": rule and rule.temperature,
    }
