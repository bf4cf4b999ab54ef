"""From every model's probabilities to the tables of evidence: how good, how sure, how different.

Computes from arrays and writes nothing; `report` writes. All models share the same bootstrap draws,
so that every difference is paired.
"""

from collections import defaultdict
from typing import NamedTuple

import numpy as np

from . import bootstrap as ev


class Scored(NamedTuple):
    """A model and what it said: probabilities on val (n, K) and test (N, K)."""

    teacher: str  # or "alone" or "baseline"
    model: str  # teacher, distilled, alone or baseline
    recipe: str  # keras or a .tflite recipe
    seed: int
    val_probs: np.ndarray
    test_probs: np.ndarray

    @property
    def name(self) -> dict:
        return {"teacher": self.teacher, "model": self.model, "recipe": self.recipe, "seed": self.seed}


class Subset(NamedTuple):
    """A part of test: all of it, or the images without a copy in train or val."""

    name: str
    rows: np.ndarray  # (n,) indices
    draws: ev.Draws
    labels: np.ndarray  # (n,)


def subsets(data, clean: np.ndarray, seed: int) -> list[Subset]:
    """All test images and, where some have copies elsewhere, the `clean` (N,) bool ones."""
    parts = {"all": np.arange(len(clean))}
    if clean.any() and not clean.all():
        parts["clean"] = np.flatnonzero(clean)
    groups = data.test.groups
    made = []
    for name, rows in parts.items():
        own = None if groups is None else groups[rows]
        draws = ev.draw(len(rows), rng=np.random.default_rng([seed, 0xB007]), groups=own)
        made.append(Subset(name, rows, draws, data.test.labels[rows]))
    return made


def study(models: list[Scored], data, parts: list[Subset], min_sensitivity=None) -> dict[str, list]:
    """{table: rows} of all evidence: `intervals comparisons seeds classes calibration`.

    `data` a `Dataset`, `parts` its `subsets`. Thresholds and temperatures are fitted on val.
    """
    return {
        "intervals": [row for part in parts for row in _intervals(models, part)],
        "comparisons": [row for part in parts for row in _comparisons(models, part)],
        "seeds": [row for part in parts for row in _seeds(models, part)],
        "classes": [row for m in models for row in _classes(m, data, parts[0], min_sensitivity)],
        "calibration": [_calibration(m, models, data, parts[0]) for m in models],
    }


def _intervals(models, part: Subset):
    """Every metric of every model with its interval."""
    for m in models:
        for metric, values in ev.scores(part.draws.weights, m.test_probs[part.rows], part.labels).items():
            found = ev.interval(values, part.draws.units)
            yield {**m.name, "images": part.name, "metric": metric, **found._asdict()}


def pairs(models: list[Scored]) -> dict[str, list[tuple[Scored, Scored]]]:
    """{question: [(a, b)]}: each distilled student against those alone, each .tflite against its float."""
    by_name = {(m.teacher, m.model, m.recipe, m.seed): m for m in models}
    asked = {"distilled against alone": [], "distilled against baseline": [], ".tflite against float": []}
    for m in models:
        if m.model == "distilled" and m.recipe == "keras":
            for other in ("alone", "baseline"):
                if (other, other, "keras", m.seed) in by_name:
                    asked[f"distilled against {other}"].append((by_name[other, other, "keras", m.seed], m))
        elif m.recipe != "keras":
            asked[".tflite against float"].append((by_name[m.teacher, m.model, "keras", m.seed], m))
    return {question: found for question, found in asked.items() if found}


def _comparisons(models, part: Subset) -> list[dict]:
    """Paired differences; p values corrected (Holm) within each question."""
    rows = []
    for question, asked in pairs(models).items():
        found = [
            ev.compare(part.draws, a.test_probs[part.rows], b.test_probs[part.rows], part.labels)
            for a, b in asked
        ]
        corrected = ev.holm([c.p for c in found])
        for (_, b), c, p in zip(asked, found, corrected, strict=True):
            what = b.teacher if b.recipe == "keras" else f"{b.teacher} {b.recipe}"
            rows.append(
                {
                    **b.name,
                    "question": question,
                    "images": part.name,
                    "difference": c.difference.value,
                    "low": c.difference.low,
                    "high": c.difference.high,
                    "only_first_right": c.only_a,
                    "only_second_right": c.only_b,
                    "mcnemar_p": c.p,
                    "holm_p": p,
                    "tests_corrected_for": len(asked),
                    "verdict": ev.in_words(f"{what}, {question}", c.difference, p),
                }
            )
    return rows


def _seeds(models, part: Subset) -> list[dict]:
    """Mean and standard deviation over seeds of accuracy, and the gain over the student alone by seed."""
    runs = defaultdict(dict)
    for m in models:
        right = m.test_probs[part.rows].argmax(axis=1) == part.labels
        runs[m.teacher, m.model, m.recipe][m.seed] = float(right.mean())
    alone = runs["alone", "alone", "keras"]
    rows = []
    for (teacher, model, recipe), by_seed in runs.items():
        values = np.array(list(by_seed.values()))
        row = {
            "teacher": teacher,
            "model": model,
            "recipe": recipe,
            "images": part.name,
            "seeds": len(values),
            "mean": values.mean(),
            "standard_deviation": values.std(ddof=1) if len(values) > 1 else None,
            "lowest": values.min(),
            "highest": values.max(),
        }
        if model == "distilled" and recipe == "keras" and len(values) > 1:
            row |= _gain_over_seeds(np.array([by_seed[s] - alone[s] for s in by_seed]))
        rows.append(row)
    return rows


def _gain_over_seeds(gains: np.ndarray) -> dict:
    """Mean paired gain (S,) with Student's t interval over seeds: does training again give it again?"""
    from scipy.stats import ttest_1samp

    if np.ptp(gains) == 0:  # the t test is undefined; the interval has no width
        found = (gains[0], gains[0], gains[0])
        return dict(zip(("gain", "gain_low", "gain_high"), map(float, found), strict=True)) | {"gain_p": None}
    test = ttest_1samp(gains, 0)
    low, high = test.confidence_interval(0.95)
    return {
        "gain": gains.mean(),
        "gain_low": float(low),
        "gain_high": float(high),
        "gain_p": float(test.pvalue),
    }


def _classes(m: Scored, data, part: Subset, min_sensitivity) -> list[dict]:
    """Each class against the rest at a threshold chosen on val, with intervals on test."""
    rows = []
    for k, name in enumerate(data.classes):
        val = data.val.labels == k
        if not val.any() or val.all():
            continue  # no threshold can be chosen
        cut = ev.threshold(m.val_probs[:, k], val, min_sensitivity)
        point = ev.operating_point(part.draws, m.test_probs[:, k], part.labels == k, cut)
        area = ev.weighted_auc(ev.ranked(part.draws.weights, m.test_probs[:, k], part.labels == k))
        row = {**m.name, "class": name, "threshold": cut, "test_images": int((part.labels == k).sum())}
        for metric, found in {**point, "auc": ev.interval(area, part.draws.units)}.items():
            row |= {metric: found.value, f"{metric}_low": found.low, f"{metric}_high": found.high}
        rows.append(row)
    return rows


def _calibration(m: Scored, models, data, part: Subset) -> dict:
    """Calibration before and after the temperature fitted on val; agreement of a student with its teacher."""
    t = ev.temperature(m.val_probs, data.val.labels)
    row = {**m.name, "temperature": t}
    for name, probs in (("", m.test_probs), ("scaled_", ev.tempered(m.test_probs, t))):
        got = ev.scores(part.draws.weights[:1], probs, part.labels)
        row |= {f"{name}{k}": float(got[k][0]) for k in ("ece", "brier", "loss")}
    taught = [o for o in models if o.teacher == m.teacher and o.model == "teacher"]
    if m.model == "distilled" and taught:
        own = next((o for o in taught if o.seed == m.seed), taught[0])
        row |= ev.agreement(m.test_probs, own.test_probs)
    return row


def of_one(m: Scored, data, part: Subset, min_sensitivity=None) -> dict:
    """What a bundle says of itself: temperature, thresholds by class, test metrics as [value, low, high].

    Its thresholds are of the probabilities at that temperature, which a device compares them with; those
    of `per_class.csv` are of the probabilities as they come.
    """
    t = ev.temperature(m.val_probs, data.val.labels)
    calibrated = ev.tempered(m.val_probs, t)
    chosen = "of the largest Youden index"
    if min_sensitivity is not None:
        chosen = f"the highest that reaches a sensitivity of {min_sensitivity}"
    return {
        "temperature": t,
        "thresholds": {
            name: ev.threshold(calibrated[:, k], data.val.labels == k, min_sensitivity)
            for k, name in enumerate(data.classes)
            if 0 < (data.val.labels == k).sum() < len(data.val.labels)
        },
        "threshold_rule": f"Each class against the rest on val, {chosen}, of softmax(log p / temperature). "
        "An image whose top class is below its threshold is uncertain.",
        "test": {r["metric"]: [r["value"], r["low"], r["high"]] for r in _intervals([m], part)},
        "test_images": len(part.rows),
    }


def curves_of(m: Scored, part: Subset) -> list[dict]:
    """ROC and precision-recall curves of every class against the rest, one record a class."""
    from sklearn import metrics

    made = []
    for k in range(m.test_probs.shape[1]):
        positive, values = part.labels == k, m.test_probs[part.rows, k]
        false, true, _ = metrics.roc_curve(positive, values)
        precision, recall, _ = metrics.precision_recall_curve(positive, values)
        made.append(
            {
                "false_positive": false,
                "true_positive": true,
                "auc": metrics.auc(false, true),
                "precision": precision,
                "recall": recall,
                "average_precision": metrics.average_precision_score(positive, values),
            }
        )
    return made


def reliability_of(m: Scored, part: Subset) -> tuple[ev.Reliability, float]:
    """The reliability record of a model on a part of test, and its ECE."""
    probs = m.test_probs[part.rows]
    return ev.reliability(probs, part.labels), float(
        ev.weighted_ece(part.draws.weights[:1], probs, part.labels)[0]
    )


def examples(probs: np.ndarray, labels: np.ndarray, count=18) -> np.ndarray:
    """Which images to show of probabilities (N, K): the surest mistakes first, then right ones.

    At most two thirds are mistakes. The right ones are spread evenly from the least to the most sure.
    Returns at most `count` indices.
    """
    sure, right = probs.max(axis=1), probs.argmax(axis=1) == labels
    order = np.argsort(-sure, kind="stable")
    wrong, well = order[~right[order]], order[right[order]][::-1]
    wrong = wrong[: max(count - len(well), count * 2 // 3)]
    places = np.linspace(0, len(well) - 1, min(count - len(wrong), len(well)))
    return np.concatenate([wrong, well[np.rint(places).astype(int)]])


def of_every_class(labels: np.ndarray, rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`count` of the images `rows` (indices into labels (N,)) drawn by `seed`, the classes in turn."""
    rng = np.random.default_rng([seed, 0x5E1])
    by_class = [rng.permutation(rows[labels[rows] == k]) for k in np.unique(labels[rows])]
    turns = [own[i] for i in range(max(map(len, by_class))) for own in by_class if i < len(own)]
    return np.array(turns[:count])
