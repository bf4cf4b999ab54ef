"""`main.py reports`: report texts cross-validated, tested and put into files.

The test texts reach nothing but the scores of the finished model. That model, fitted on the other texts
alone, is the one saved. Nothing is written before everything is computed.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..evidence.bootstrap import Draws, Interval, compare, draw, drawn_scores, in_words, interval
from ..evidence.calibration import operating_point
from ..evidence.metrics import confusion, scores
from ..files import file_digest
from ..progress import Progress
from ..report.figures import Confusion, draw_confusion, png
from ..report.tables import confusion_rows, prediction_rows
from ..sections import section_dict
from ..store import Store
from ..versions import versions
from .corpus import Corpus, TextConfig, read_corpus
from .model import TextModel, fit

BAYES, MAJORITY = "naive Bayes", "majority"
METRICS = ("accuracy", "balanced_accuracy", "f1", "auc", "average_precision", "brier")  # macro averages
WORDS_LISTED = 30  # of each class
PACKAGES = ("numpy", "scipy", "pandas", "scikit-learn", "simplemma")
COLUMNS = ("part", "model", "class", "metric", "value", "low", "high", "std", "p")  # of reports_metrics.csv

Measures = dict[tuple[str, str], Interval]  # by (class, metric), class "" of what is over all classes


def classify_reports(csv: Path, settings: TextConfig, out: Store, progress: Progress) -> list[dict]:
    """Learn the labels of a CSV file's texts; write `reports_*`; return a row of test scores per model.

    A row holds `model`, `test_texts`, and each of `METRICS` with `_low` and `_high`, its 95 % interval.
    Raises `UserError` for what cannot be learned from, before anything is written.
    """
    corpus = read_corpus(csv, settings)
    _describe(corpus, settings, progress)
    train, test = hold_out(corpus.labels, settings)
    folds = cross_validate(corpus, train, settings, progress)
    model, probs = fit_and_predict(corpus, train, test, settings)
    labels = corpus.labels[test]
    draws = draw(len(test), rng=np.random.default_rng(settings.seed))
    measures = {name: measure(draws, p, labels, settings.labels) for name, p in probs.items()}
    comparison = compare(draws, probs[MAJORITY], probs[BAYES], labels)
    verdict = in_words(f"{BAYES} against the {MAJORITY}", comparison.difference, comparison.p)
    progress.say(verdict)

    differences = difference_rows(draws, probs, labels, comparison.p)
    out.write_csv("reports_metrics.csv", [*fold_rows(folds), *score_rows(measures), *differences], COLUMNS)
    out.write_csv("reports_folds.csv", folds)
    out.write_csv("reports_words.csv", model.characteristic_words(WORDS_LISTED))
    # by their row in the file, from 0: the texts themselves stay there
    predictions = prediction_rows(probs[BAYES], labels, settings.labels, corpus.rows[test].tolist())
    out.write_csv("reports_predictions.csv", predictions)
    _write_confusion(confusion(probs[BAYES], labels), settings.labels, out)
    out.write_json("reports_model.json", model.to_json())
    parts = {"train": corpus.labels[train], "test": labels}
    out.write_json("reports_summary.json", {**summary(csv, corpus, parts, settings), "verdict": verdict})
    return [_closing_row(name, len(test), own) for name, own in measures.items()]


def _describe(corpus: Corpus, settings: TextConfig, progress: Progress) -> None:
    counts = ", ".join(f"{n:,} {name}" for name, n in _counts(corpus.labels, settings.labels).items())
    removed = ", ".join(f"{n:,} {reason}" for reason, n in corpus.removed.items())
    progress.say(f"{sum(corpus.in_file.values()):,} rows, {len(corpus.texts):,} kept ({counts}): {removed}.")
    if corpus.conflicts:
        progress.warn(
            f"The same text under several labels: {corpus.conflicts} times. Its most frequent label was "
            "kept; where there was none, the text was left out."
        )


def _counts(labels: np.ndarray, classes: Sequence[str]) -> dict[str, int]:
    return {name: int((labels == k).sum()) for k, name in enumerate(classes)}


def hold_out(labels: np.ndarray, settings: TextConfig) -> tuple[np.ndarray, np.ndarray]:
    """Places of the training and of the test texts, every label in both by its part of the whole."""
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(
        np.arange(len(labels)), test_size=settings.test_fraction, stratify=labels, random_state=settings.seed
    )
    return np.sort(train), np.sort(test)


def fit_and_predict(
    corpus: Corpus, train: np.ndarray, test: np.ndarray, settings: TextConfig
) -> tuple[TextModel, dict[str, np.ndarray]]:
    """Naive Bayes of the texts in places `train`, and {model: probabilities (N, K)} of those in `test`.

    The majority gives every text the classes' shares among the texts learned from.
    """
    texts, labels = corpus.part(train)
    model = fit(texts, labels, settings)
    shares = np.bincount(labels, minlength=len(settings.labels)) / len(labels)
    test_texts, _ = corpus.part(test)
    majority = np.tile(shares, (len(test_texts), 1))
    return model, {BAYES: model.probabilities(test_texts), MAJORITY: majority}


def cross_validate(corpus: Corpus, train: np.ndarray, settings: TextConfig, progress: Progress) -> list[dict]:
    """A row of scores for every fold of the training texts and both models; words are learned anew."""
    from sklearn.model_selection import StratifiedKFold

    parts = StratifiedKFold(settings.folds, shuffle=True, random_state=settings.seed)
    rows: list[dict] = []
    with progress.bar("cross-validation", settings.folds) as advance:
        for fold, (inner, outer) in enumerate(parts.split(train, corpus.labels[train]), 1):
            _, probs = fit_and_predict(corpus, train[inner], train[outer], settings)
            sample = np.ones((1, len(outer)), np.float32)  # every text once
            for name, p in probs.items():
                values = scores(sample, p, corpus.labels[train[outer]])
                own = {metric: float(values[metric][0]) for metric in METRICS}
                rows.append({"fold": fold, "model": name, "texts": len(outer), **own})
            advance(fold)
    accuracy = [row["accuracy"] for row in rows if row["model"] == BAYES]
    spread = f"{np.mean(accuracy):.3f}, standard deviation {np.std(accuracy, ddof=1):.3f}"
    progress.say(f"Cross-validation over {settings.folds} folds: accuracy {spread}.")
    return rows


def measure(draws: Draws, probs: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Measures:
    """`METRICS` of probabilities (N, K), and precision and recall of each class, with their intervals."""
    values = drawn_scores(draws, probs, labels)
    measures = {("", metric): interval(values[metric], draws.units) for metric in METRICS}
    for k, name in enumerate(classes):
        called = (probs.argmax(axis=1) == k).astype(float)
        point = operating_point(draws, called, labels == k, 0.5)
        measures[name, "precision"], measures[name, "recall"] = point["ppv"], point["sensitivity"]
    return measures


def fold_rows(folds: list[dict]) -> list[dict]:
    """Mean and standard deviation over the folds."""
    rows = []
    for name in (BAYES, MAJORITY):
        for metric in METRICS:
            values = [row[metric] for row in folds if row["model"] == name]
            spread = {"value": float(np.mean(values)), "std": float(np.std(values, ddof=1))}
            rows.append({"part": "cross-validation", "model": name, "metric": metric, **spread})
    return rows


def score_rows(measures: dict[str, Measures]) -> list[dict]:
    """Test scores of each model with their intervals."""
    return [
        {"part": "test", "model": name, "class": of, "metric": metric, **value._asdict()}
        for name, own in measures.items()
        for (of, metric), value in own.items()
    ]


def difference_rows(draws: Draws, probs: dict[str, np.ndarray], labels: np.ndarray, p: float) -> list[dict]:
    """Naive Bayes less the majority on the same draws; `p` is McNemar's, of the accuracies."""
    bayes, majority = (drawn_scores(draws, probs[name], labels) for name in (BAYES, MAJORITY))
    rows = []
    for metric in METRICS:
        difference = interval(bayes[metric] - majority[metric], draws.units)
        row = {"part": "test", "model": f"{BAYES} - {MAJORITY}", "metric": metric, **difference._asdict()}
        rows.append({**row, "p": p if metric == "accuracy" else None})
    return rows


def _write_confusion(counts: np.ndarray, classes: tuple[str, ...], out: Store) -> None:
    out.write_csv("reports_confusion.csv", confusion_rows(counts, classes))
    figure = draw_confusion(Confusion(f"Test: {BAYES} on report texts", classes, counts))
    figure.axes[0].set_title("texts")  # the figure is shared with images
    out.write("reports_confusion.png", png(figure))


def summary(csv: Path, corpus: Corpus, parts: dict[str, np.ndarray], settings: TextConfig) -> dict:
    """What was read, what of it was left out and why, and what it was made with."""
    return {
        "source": Path(csv).name,
        "sha256": file_digest(csv),
        "rows_by_label": corpus.in_file,
        "removed": corpus.removed,
        "texts_with_several_labels": corpus.conflicts,
        **{part: _counts(labels, settings.labels) for part, labels in parts.items()},
        "settings": {k: v for k, v in section_dict(settings).items() if k != "results"},
        "versions": versions(PACKAGES),
    }


def _closing_row(name: str, count: int, measures: Measures) -> dict:
    row = {"model": name, "test_texts": count}
    for metric in METRICS:
        value, low, high = measures["", metric]
        row |= {metric: value, f"{metric}_low": low, f"{metric}_high": high}
    return row
