"""Where a gain comes from: the same student alone, distilled, with unlabelled images, from an ensemble.

Paired differences of accuracy between students of the same seeds: over seeds, where a student was trained
from several of them, and else over test images. Takes predictions, gives rows of records.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..records import ENSEMBLE, KERAS, WITH_UNLABELLED, GroundTruth, Predictions
from .bootstrap import Draws, Interval, compare, gain_in_words, holm, in_words, paired_difference
from .choose import best_teacher
from .metrics import is_right

SEEDS, IMAGES = "seeds", "test images"  # what an interval is over
Students = list[tuple[np.ndarray, np.ndarray]]  # by seed, probabilities (n, K): of the other and of ours
EQUAL = 1e-9  # gains that differ by less are one gain, up to the rounding of their accuracies
AGAINST_ALONE = ("distilled against alone", "with unlabelled images against alone")
AGAINST_WITHOUT = "with unlabelled images against without"
AGAINST_BEST = "ensemble against the best single teacher"


class Contrast(NamedTuple):
    """Students that are compared with others: their names in tables, and what differs, in words.

    Where there is one seed, p values are corrected for all contrasts of a `family`.
    """

    question: str
    teacher: str
    other: str
    change: str
    family: str


def source_of(name: str) -> str:
    """The teacher of the students that a table calls `name`: vgg16 of vgg16-unlabelled too."""
    return name.removesuffix(WITH_UNLABELLED)


def teacher_in_words(name: str) -> str:
    """What students that a table calls `name` learn from, as the object of a sentence."""
    source = source_of(name)
    words = f"the {ENSEMBLE}" if source == ENSEMBLE else source
    return words if name == source else f"{words} with unlabelled images"


def against_alone(name: str) -> str:
    """What students that a table calls `name` are compared with, in words."""
    return f"distilling from {teacher_in_words(name)} against training alone"


def contrasts(models: Sequence[Predictions], truth: GroundTruth) -> list[Contrast]:
    """The comparisons that say where a gain comes from, as far as their students are among the models."""
    names = list(dict.fromkeys(m.teacher for m in models if m.model == "distilled" and m.recipe == KERAS))
    alone, without = [], []
    for name in names:
        source = source_of(name)
        question = AGAINST_ALONE[name != source]
        alone.append(Contrast(question, name, "alone", against_alone(name), "alone"))
        if name != source and source in names:
            change = f"distilling from {teacher_in_words(name)} against without them"
            without.append(Contrast(AGAINST_WITHOUT, name, source, change, "without"))
    alone.sort(key=lambda contrast: AGAINST_ALONE.index(contrast.question))
    return [*alone, *without, *_ensemble_contrasts(names, models, truth)]


def _ensemble_contrasts(
    names: list[str], models: Sequence[Predictions], truth: GroundTruth
) -> list[Contrast]:
    """The students of an ensemble against those of its best member on val."""
    teachers: dict[str, Predictions] = {}  # of each its first seed
    for m in models:
        if m.model == "teacher" and m.teacher != ENSEMBLE:
            teachers.setdefault(m.teacher, m)
    if not teachers or ENSEMBLE not in names:
        return []
    singles = list(teachers.values())
    best = singles[best_teacher(singles, truth)].teacher
    change = f"distilling from the {ENSEMBLE} against {best}, the best single teacher on val"
    pairs = {"": change, WITH_UNLABELLED: f"{change}, both with unlabelled images"}
    return [
        Contrast(AGAINST_BEST, ENSEMBLE + ending, best + ending, words, "ensemble")
        for ending, words in pairs.items()
        if {ENSEMBLE + ending, best + ending} <= set(names)
    ]


def gain_rows(
    models: Sequence[Predictions], truth: GroundTruth, images: str, rows: np.ndarray, draws: Draws
) -> Iterator[dict[str, Any]]:
    """A row for every contrast on the test images `rows` (n,), called `images`, of which `draws` are."""
    labels = truth.test[rows]
    probs: defaultdict[str, dict[int, np.ndarray]] = defaultdict(dict)  # {name: {seed: (n, K)}}
    for m in models:
        if m.model in ("alone", "distilled") and m.recipe == KERAS:
            probs[m.teacher][m.seed] = m.test_probs[rows]
    pairs = {
        contrast: [(probs[contrast.other][seed], ours) for seed, ours in probs[contrast.teacher].items()]
        for contrast in contrasts(models, truth)
    }
    of_one_seed = _over_images(pairs, labels, draws)
    for contrast, students in pairs.items():
        if len(students) > 1:
            gain, p, over = _over_seeds(students, labels, draws)
            verdict = gain_in_words(contrast.change, gain, len(students))
        else:
            gain, p, over = of_one_seed[contrast]
            verdict = in_words(f"With one seed, {contrast.change}", gain, p)
        yield {
            "teacher": contrast.teacher,
            "question": contrast.question,
            "images": images,
            "seeds": len(students),
            **dict(zip(("gain", "low", "high"), gain, strict=True)),
            "interval_over": over,
            "p": p,
            "verdict": verdict,
        }


def _over_images(
    pairs: Mapping[Contrast, Students], labels: np.ndarray, draws: Draws
) -> dict[Contrast, tuple[Interval, float, str]]:
    """Of contrasts with one pair of students: the difference over test images, p by McNemar and Holm."""
    single = {c: compare(draws, *students[0], labels) for c, students in pairs.items() if len(students) == 1}
    corrected: dict[Contrast, float] = {}
    for family in {contrast.family for contrast in single}:
        own = {contrast: comparison.p for contrast, comparison in single.items() if contrast.family == family}
        corrected |= dict(zip(own, holm(list(own.values())), strict=True))
    return {contrast: (single[contrast].difference, p, IMAGES) for contrast, p in corrected.items()}


def _over_seeds(students: Students, labels: np.ndarray, draws: Draws) -> tuple[Interval, float | None, str]:
    """Mean of paired gains, Student's t interval over seeds, p: does training again give it again?

    Where all seeds gain the same, which says nothing of another one's gain, the interval is over test images.
    """
    right = np.array([[is_right(probs, labels) for probs in pair] for pair in students])  # (S, 2, n)
    gains = right[:, 1].mean(axis=1) - right[:, 0].mean(axis=1)  # (S,)
    if np.ptp(gains) < EQUAL:
        return paired_difference(draws, *right.mean(axis=0)), None, IMAGES
    return *mean_gain(gains), SEEDS


def mean_gain(gains: np.ndarray) -> tuple[Interval, float]:
    """Mean of gains (S,), S at least 2, with Student's t interval of 95 %; p against no gain."""
    from scipy.stats import ttest_1samp

    test = ttest_1samp(gains, 0)
    low, high = test.confidence_interval(0.95)
    return Interval(float(gains.mean()), float(low), float(high)), float(test.pvalue)
