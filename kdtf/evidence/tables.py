"""From every model's probabilities to the tables of evidence: how good, how sure, how different.

Computes from arrays and writes nothing; `report` writes. All models share the same bootstrap draws,
so that every difference is paired. A table is a row of `TABLES`.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..config import EvidenceConfig
from ..predictor import tempered
from ..records import KERAS, FileEvidence, GroundTruth, Predictions
from .bootstrap import (
    Draws,
    compare,
    draw,
    drawn_counts,
    drawn_scores,
    holm,
    in_words,
    interval,
    proportion_interval,
)
from .calibration import (
    Reliability,
    agreement,
    answers,
    answers_of_val,
    class_thresholds,
    operating_point,
    reliability,
    temperature,
    threshold_rule,
)
from .conformal import FileSets, coverage_by_class, limits_on_test
from .gains import AGAINST_ALONE, gain_rows, teacher_in_words
from .metrics import accuracy, is_right, ranked, scores, weighted_auc

DEFAULT_RULES = EvidenceConfig()


class Subset(NamedTuple):
    """A part of test: "all" of it, or the "clean" images, those without a copy in train or val."""

    name: str
    rows: np.ndarray  # (n,) indices into test
    draws: Draws
    labels: np.ndarray  # (n,)
    clean: bool  # has none of its images a copy: "all" may be clean, or be left without a clean one


def clean_part(subsets: Sequence[Subset]) -> Subset | None:
    """The images of test without a copy in train or val; None where every image has one."""
    return next((subset for subset in subsets if subset.clean), None)


def subsets(truth: GroundTruth, clean: np.ndarray, seed: int) -> list[Subset]:
    """All test images and, where some but not all have copies elsewhere, the `clean` (N,) bool ones."""
    parts = {"all": np.arange(len(clean))}
    if clean.any() and not clean.all():
        parts["clean"] = np.flatnonzero(clean)
    subsets = []
    for name, rows in parts.items():
        groups = None if truth.groups is None else truth.groups[rows]
        draws = draw(len(rows), rng=np.random.default_rng([seed, 0xB007]), groups=groups)
        subsets.append(Subset(name, rows, draws, truth.test[rows], bool(clean[rows].all())))
    return subsets


class TestedModels(NamedTuple):
    """What the tables are computed from: models, what is known of their images, parts of test."""

    models: list[Predictions]
    truth: GroundTruth
    subsets: list[Subset]
    min_sensitivity: float | None  # that thresholds have to reach on val
    rules: EvidenceConfig  # how prediction sets are made


class EvidenceTable(NamedTuple):
    """A table of evidence: the file that people read, its rows, and its columns where there may be no row."""

    file: str
    rows: Callable[[TestedModels], Iterable[dict[str, Any]]]
    columns: tuple[str, ...] | None = None


def all_tables(
    models: list[Predictions],
    truth: GroundTruth,
    subsets: list[Subset],
    min_sensitivity: float | None = None,
    rules: EvidenceConfig = DEFAULT_RULES,
) -> dict[str, list[dict[str, Any]]]:
    """{name: rows} of every one of `TABLES`. Thresholds, temperatures and quantiles are fitted on val."""
    data = TestedModels(models, truth, subsets, min_sensitivity, rules)
    return {name: list(table.rows(data)) for name, table in TABLES.items()}


def _intervals(data: TestedModels) -> Iterator[dict[str, Any]]:
    """Every metric of every model with its interval, on every subset."""
    for subset in data.subsets:
        for model in data.models:
            for metric, values in _scores(model, subset).items():
                ends = interval(values, subset.draws.units)
                yield {**model.name, "images": subset.name, "metric": metric, **ends._asdict()}


def _scores(model: Predictions, subset: Subset) -> dict[str, np.ndarray]:
    return drawn_scores(subset.draws, model.test_probs[subset.rows], subset.labels)


def pairs(models: list[Predictions]) -> dict[str, list[tuple[Predictions, Predictions]]]:
    """{question: [(a, b)]}: each distilled student against those alone, each .tflite against its float."""
    by_name = {(m.teacher, m.model, m.recipe, m.seed): m for m in models}
    questions: dict[str, list[tuple[Predictions, Predictions]]] = {
        name: []
        for name in ("distilled against alone", "distilled against baseline", ".tflite against float")
    }
    for m in models:
        if m.model == "distilled" and m.recipe == KERAS:
            for other in ("alone", "baseline"):
                if (other, other, KERAS, m.seed) in by_name:
                    questions[f"distilled against {other}"].append((by_name[other, other, KERAS, m.seed], m))
        elif m.recipe != KERAS:
            questions[".tflite against float"].append((by_name[m.teacher, m.model, KERAS, m.seed], m))
    return {question: compared for question, compared in questions.items() if compared}


def _comparisons(data: TestedModels) -> Iterator[dict[str, Any]]:
    """Paired differences on every subset; p values corrected (Holm) within each question."""
    for subset in data.subsets:
        for question, compared in pairs(data.models).items():
            yield from _comparison_rows(question, compared, subset)


def _comparison_rows(
    question: str, compared: list[tuple[Predictions, Predictions]], subset: Subset
) -> Iterator[dict[str, Any]]:
    rows, labels = subset.rows, subset.labels
    comparisons = [compare(subset.draws, a.test_probs[rows], b.test_probs[rows], labels) for a, b in compared]
    corrected = holm([comparison.p for comparison in comparisons])
    for (_, b), comparison, p in zip(compared, comparisons, corrected, strict=True):
        subject = teacher_in_words(b.teacher)
        if b.recipe != KERAS:
            subject += f", {b.recipe}" if " " in subject else f" {b.recipe}"
        yield {
            **b.name,
            "question": question,
            "images": subset.name,
            "difference": comparison.difference.value,
            "low": comparison.difference.low,
            "high": comparison.difference.high,
            "only_first_right": comparison.only_a,
            "only_second_right": comparison.only_b,
            "mcnemar_p": comparison.p,
            "holm_p": p,
            "tests_corrected_for": len(compared),
            "verdict": in_words(f"{subject}, {question}", comparison.difference, p),
        }


def _seeds(data: TestedModels) -> Iterator[dict[str, Any]]:
    """Mean and standard deviation over seeds of accuracy, and the gain over the student alone by seed."""
    for subset in data.subsets:
        accuracies: defaultdict[tuple[str, str, str], dict[int, float]] = defaultdict(dict)
        for m in data.models:
            value = accuracy(m.test_probs[subset.rows], subset.labels)
            accuracies[m.teacher, m.model, m.recipe][m.seed] = value
        rows = _subset_gains(data, subset)
        gains = {row["teacher"]: row for row in rows if row["question"] in AGAINST_ALONE}
        for (teacher, model, recipe), by_seed in accuracies.items():
            values = np.array(list(by_seed.values()))
            row = {
                "teacher": teacher,
                "model": model,
                "recipe": recipe,
                "images": subset.name,
                "seeds": len(values),
                "mean": values.mean(),
                "standard_deviation": values.std(ddof=1) if len(values) > 1 else None,
                "lowest": values.min(),
                "highest": values.max(),
            }
            if model == "distilled" and recipe == KERAS and len(values) > 1:
                own = gains[teacher]
                row |= {"gain": own["gain"], "gain_low": own["low"], "gain_high": own["high"]}
                row |= {"gain_p": own["p"], "verdict": own["verdict"]}
            yield row


def _gains(data: TestedModels) -> Iterator[dict[str, Any]]:
    """What distilling, unlabelled images and an ensemble add, on every subset."""
    for subset in data.subsets:
        yield from _subset_gains(data, subset)


def _subset_gains(data: TestedModels, subset: Subset) -> Iterator[dict[str, Any]]:
    return gain_rows(data.models, data.truth, subset.name, subset.rows, subset.draws)


def _classes(data: TestedModels) -> Iterator[dict[str, Any]]:
    """Each class against the rest at a threshold chosen on val, with intervals on test."""
    whole = data.subsets[0]
    for model in data.models:
        cuts = class_thresholds(model.val_probs, data.truth.val, data.min_sensitivity)
        for k, cut in cuts.items():
            probs, positive = model.test_probs[:, k], whole.labels == k
            area = whole.draws.compute(partial(_area, probs, positive))
            point = operating_point(whole.draws, probs, positive, cut)
            point["auc"] = interval(area, whole.draws.units)
            row = {**model.name, "class": data.truth.classes[k], "threshold": cut}
            row["test_images"] = int(positive.sum())
            for metric, ends in point.items():
                row |= {metric: ends.value, f"{metric}_low": ends.low, f"{metric}_high": ends.high}
            yield row


def _top_classes(data: TestedModels) -> Iterator[dict[str, Any]]:
    """Each class as it is named, the most probable one, on every subset: with the class counts behind it."""
    for subset in data.subsets:
        for model in data.models:
            probs = model.test_probs[subset.rows]
            right, true, named = drawn_counts(subset.draws, probs, subset.labels)  # each (D, K)
            total = true.sum(axis=1, keepdims=True)
            others, rest = total - true, total - named
            parts = {
                "sensitivity": (right, true),
                "specificity": (others - (named - right), others),
                "ppv": (right, named),
                "npv": (others - (named - right), rest),
            }  # counts, each (D, K)
            for k, name in enumerate(data.truth.classes):
                row = {**model.name, "images": subset.name, "class": name}
                row |= {"class_images": int(true[0, k]), "named_images": int(named[0, k])}
                row |= {"right_images": int(right[0, k]), "of": len(subset.rows)}
                for metric, (part, whole) in parts.items():
                    ends = proportion_interval(part[:, k], whole[:, k], subset.draws.units)
                    row |= {metric: ends.value, f"{metric}_low": ends.low, f"{metric}_high": ends.high}
                yield row


def _area(probs: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weighted_auc(ranked(weights, probs, positive))


def _calibration(data: TestedModels) -> Iterator[dict[str, Any]]:
    """Calibration before and after the temperature fitted on val; agreement of a student with its teacher."""
    whole = data.subsets[0]
    for model in data.models:
        t = temperature(model.val_probs, data.truth.val)
        row = {**model.name, "temperature": t}
        for prefix, probs in (("", model.test_probs), ("scaled_", tempered(model.test_probs, t))):
            values = scores(whole.draws.sample(), probs, whole.labels)
            row |= {f"{prefix}{metric}": float(values[metric][0]) for metric in ("ece", "brier", "loss")}
        teachers = [m for m in data.models if m.teacher == model.teacher and m.model == "teacher"]
        if model.model == "distilled" and teachers:
            own = next((m for m in teachers if m.seed == model.seed), teachers[0])
            row |= agreement(model.test_probs, own.test_probs)
        yield row


def _sets(data: TestedModels) -> Iterator[dict[str, Any]]:
    """Prediction sets of every file: how often they hold the true class and how large they are, by class."""
    for model in data.models:
        if model.recipe == KERAS:
            continue
        t = temperature(model.val_probs, data.truth.val)
        sets = FileSets(model, data.truth, t, data.rules)
        how = {"method": sets.rule.method, "promised": sets.rule.coverage}
        for subset in data.subsets:
            for row in sets.rows(subset.rows, subset.draws):
                yield {**model.name, "images": subset.name, **how, **row}


CLASS_METRICS = ("sensitivity", "specificity", "ppv", "npv", "auc")
CLASS_COLUMNS = (
    *("teacher", "model", "recipe", "seed", "class", "threshold", "test_images"),
    *(f"{metric}{end}" for metric in CLASS_METRICS for end in ("", "_low", "_high")),
)
SET_COLUMNS = (
    *("teacher", "model", "recipe", "seed", "images", "method", "promised", "class", "val_images"),
    *("quantile", "likely_low", "likely_high", "test_images", "covered_images"),
    *(f"{measure}{end}" for measure in ("coverage", "mean_size") for end in ("", "_low", "_high")),
    *("single_sets", "single_right", "empty_sets", "full_sets"),
)
TABLES = {
    "intervals": EvidenceTable("intervals.csv", _intervals),
    "comparisons": EvidenceTable("comparisons.csv", _comparisons),
    "seeds": EvidenceTable("seeds.csv", _seeds),
    "gains": EvidenceTable("gains.csv", _gains),
    "top_classes": EvidenceTable("top_class.csv", _top_classes),
    "classes": EvidenceTable("per_class.csv", _classes, CLASS_COLUMNS),
    "calibration": EvidenceTable("calibration.csv", _calibration),
    "sets": EvidenceTable("sets.csv", _sets, SET_COLUMNS),
}


def file_evidence(
    model: Predictions,
    truth: GroundTruth,
    subsets: list[Subset],
    min_sensitivity: float | None = None,
    rules: EvidenceConfig = DEFAULT_RULES,
) -> FileEvidence:
    """What the card of a file says of its calibration, its thresholds, its sets and its scores on test.

    Thresholds and sets are of the probabilities at the temperature, which a device compares them with; those
    of `per_class.csv` are of the probabilities as they come.
    """
    t = temperature(model.val_probs, truth.val)
    cuts = class_thresholds(tempered(model.val_probs, t), truth.val, min_sensitivity)
    whole, clean = subsets[0], subsets[1] if len(subsets) > 1 else None
    sets, part = FileSets(model, truth, t, rules), clean or whole
    scored = list(sets.rows(part.rows, part.draws))
    return FileEvidence(
        temperature=t,
        thresholds={truth.classes[k]: cut for k, cut in cuts.items()},
        threshold_rule=f"Each class against the rest on val, {threshold_rule(min_sensitivity)}, of "
        "softmax(log p / temperature). An image whose top class is below its threshold is uncertain.",
        prediction_sets=sets.rule,
        set_coverage=coverage_by_class(scored),
        set_limits=limits_on_test(sets, scored, part.rows),
        test=_test_scores(model, whole),
        test_images=len(whole.rows),
        clean=_test_scores(model, clean) if clean else {},
        clean_images=len(clean.rows) if clean else 0,
        answers={
            "val": answers_of_val(tempered(model.val_probs, t), truth.val, min_sensitivity),
            "test": answers(tempered(model.test_probs, t), cuts),
        },
    )


def _test_scores(model: Predictions, subset: Subset) -> dict[str, list[float]]:
    """{metric: [value, low, high]}; what is undefined, as the AUC where a class is missing, is left out."""
    ends = {metric: interval(v, subset.draws.units) for metric, v in _scores(model, subset).items()}
    return {metric: list(values) for metric, values in ends.items() if np.isfinite(values).all()}


def ranking_curves(model: Predictions, subset: Subset) -> list[dict[str, Any]]:
    """ROC and precision-recall curves of every class against the rest, one record a class.

    Every class must occur in the subset.
    """
    from sklearn import metrics

    curves = []
    for k in range(model.test_probs.shape[1]):
        positive, probs = subset.labels == k, model.test_probs[subset.rows, k]
        false, true, _ = metrics.roc_curve(positive, probs)
        precision, recall, _ = metrics.precision_recall_curve(positive, probs)
        curves.append(
            {
                "false_positive": false,
                "true_positive": true,
                "auc": metrics.auc(false, true),
                "precision": precision,
                "recall": recall,
                "average_precision": metrics.average_precision_score(positive, probs),
            }
        )
    return curves


def reliability_diagram(model: Predictions, subset: Subset) -> tuple[Reliability, float]:
    """The reliability of a model on a part of test, bin by bin, and its ECE."""
    probs = model.test_probs[subset.rows]
    ece = scores(subset.draws.sample(), probs, subset.labels)["ece"]
    return reliability(probs, subset.labels), float(ece[0])


def example_images(probs: np.ndarray, labels: np.ndarray, count: int = 18) -> np.ndarray:
    """Which images to show of probabilities (N, K): the surest mistakes first, then right ones.

    At most two thirds are mistakes. The right ones are spread evenly from the least to the most sure.
    Returns at most `count` indices.
    """
    confidence, right = probs.max(axis=1), is_right(probs, labels)
    order = np.argsort(-confidence, kind="stable")
    mistakes, successes = order[~right[order]], order[right[order]][::-1]
    mistakes = mistakes[: max(count - len(successes), count * 2 // 3)]
    places = np.linspace(0, len(successes) - 1, min(count - len(mistakes), len(successes)))
    return np.concatenate([mistakes, successes[np.rint(places).astype(int)]])


def images_of_every_class(labels: np.ndarray, rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`count` of the images `rows` (indices into labels (N,)) drawn by `seed`, the classes in turn."""
    rng = np.random.default_rng([seed, 0x5E1])
    by_class = [rng.permutation(rows[labels[rows] == k]) for k in np.unique(labels[rows])]
    turns = [own[i] for i in range(max(map(len, by_class))) for own in by_class if i < len(own)]
    return np.array(turns[:count])
