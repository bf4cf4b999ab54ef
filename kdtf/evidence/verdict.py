"""Is the file that val chose good enough to ship? A row for each rule: what it asks, what was found.

Test may refuse the file, and never chooses another one. What the rules ask is set in `EvidenceConfig`. A new
rule is a new row of `RULES`.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..config import EvidenceConfig
from ..records import GroundTruth, Predictions
from ..words import plural
from .bootstrap import mean_interval, paired_difference
from .choose import val_accuracy
from .metrics import Sample, is_right
from .subgroups import ACCURACY, LEAST, GroupScores, units_in_words
from .tables import Subset

NONE_IS_GOOD = "None of these is good enough to ship."
ROUNDING = 1e-9


class Requirement(NamedTuple):
    """What a rule asks of the file and what was found: a row of `verdict.csv`.

    `met` is None where the rule does not apply; `value`, its interval and `limit` are parts, or images.
    """

    rule: str
    asked: str
    found: str
    met: bool | None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None


class Case(NamedTuple):
    """The file that val chose, and what it is judged by.

    `student` is the network it was made of and `alone` that trained without a teacher, both in float;
    `part` the images of test that count, those without a copy in train or val where there are any;
    `tied` says how many of how many files val could not tell apart from it; `groups` what the file scores
    in each group of these images, where groups are known.
    """

    file: Predictions
    student: Predictions
    alone: Predictions
    truth: GroundTruth
    part: Subset
    tied: tuple[int, int]
    rules: EvidenceConfig
    groups: Sequence[GroupScores] = ()


def chance(classes: int) -> float:
    """What guessing gets right where all classes are as frequent."""
    return 1 / classes


def verdict(case: Case) -> list[Requirement]:
    """All rules in order. Which file they are asked of is decided in `choose`, on val."""
    return [rule(case) for rule in RULES]


def good_enough(rows: Iterable[Requirement]) -> bool:
    """Whether no rule is broken."""
    return all(row.met is not False for row in rows)


def in_words(rows: Iterable[Requirement], file: str) -> str:
    """One sentence for a console: whether to ship the file of this name, and which rules it breaks."""
    broken = [row for row in rows if row.met is False]
    if not broken:
        return f"{file} meets all that is asked of a file to ship."
    return f"{NONE_IS_GOOD} Of {file}: " + "; ".join(f"{row.rule}: {row.found}" for row in broken) + "."


def _above_majority(case: Case) -> Requirement:
    """The low end of the accuracy's interval against the share of the class that is most frequent there."""
    part, margin = case.part, case.rules.ship_over_majority
    counts = np.bincount(part.labels, minlength=len(case.truth.classes))
    share, name = float(counts.max() / counts.sum()), case.truth.classes[int(counts.argmax())]
    right = is_right(case.file.test_probs[part.rows], part.labels)
    value, low, high = mean_interval(part.draws, right.astype(np.float32))
    more = f" by {_points(margin)}" if margin else ""
    found = (
        f"{_percent(value)} of {_images(case)} right (95 % interval {_percent(low)} to {_percent(high)}); "
    )
    found += f"always naming {name} gets {_percent(share)}, guessing {_percent(chance(len(counts)))}"
    return Requirement(
        "Better than the largest class",
        f"The low end of the interval of its accuracy is above the share of the largest class{more}",
        found,
        part.clean and low > share + margin,
        value,
        low,
        high,
        share,
    )


def _every_class_found(case: Case) -> Requirement:
    part, least, names = case.part, case.rules.ship_sensitivity, case.truth.classes
    probs = case.file.test_probs[part.rows]
    recall = Sample(np.ones((1, len(part.labels))), probs, part.labels).recall[0]  # (K,)
    asked = f"Of every class at least {_percent(least)} of the images are named so"
    rule = "Every class is found"
    if np.isnan(recall).any():
        missing = ", ".join(name for name, own in zip(names, recall, strict=True) if np.isnan(own))
        return Requirement(rule, asked, f"no image of {missing} to judge by", least <= 0, limit=least)
    worst = int(recall.argmin())
    count = int((part.labels == worst).sum())
    found = f"lowest for {names[worst]}: {_percent(recall[worst])} of its {count} {plural(count, 'image')}"
    value = float(recall[worst])
    return Requirement(rule, asked, found, value >= least - ROUNDING, value, limit=least)


def _no_worse_than_alone(case: Case) -> Requirement:
    rule, most = "Distilling did no harm", case.rules.ship_distilled_loss
    asked = (
        "In float it is not shown to be worse than the student alone: the interval of the difference reaches "
    )
    asked += f"{-100 * most:.1f} points" if most else "zero"
    if case.student.model != "distilled":
        return Requirement(rule, asked, "it was trained without a teacher", None)
    right = [is_right(m.test_probs[case.part.rows], case.part.labels) for m in (case.alone, case.student)]
    value, low, high = paired_difference(case.part.draws, *right)
    found = f"{100 * value:+.1f} points against alone ({100 * low:+.1f} to {100 * high:+.1f})"
    return Requirement(rule, asked, found, high >= -most - ROUNDING, value, low, high, -most)


def _close_to_float(case: Case) -> Requirement:
    most = case.rules.ship_file_loss
    lost = val_accuracy(case.student, case.truth) - val_accuracy(case.file, case.truth)
    asked = f"On val the file loses at most {_points(most)} against its float network"
    found = f"it loses {_points(lost)}" if lost > 0 else "it loses nothing"
    return Requirement("As good as in float", asked, found, lost <= most + ROUNDING, lost, limit=most)


def _enough_val(case: Case) -> Requirement:
    count, least = len(case.truth.val), case.rules.ship_val_images
    tied, files = case.tied
    found = f"{count} {plural(count, 'image')}"
    if tied > 1:
        found += f"; {tied} of the {files} files have the best score on them"
    asked = f"At least {least} images to choose by"
    return Requirement("Val is large enough", asked, found, count >= least, count, limit=least)


def _good_in_every_group(case: Case) -> Requirement:
    """What was measured against the floor, as for classes: interval ends would judge the size of a group.

    The low end asks for large groups rather than for good ones; the high end shelters the small ones.
    """
    least, units = case.rules.ship_group_accuracy, units_in_words(case.truth)
    asked = f"Of every group of at least {LEAST} {units} at least {_percent(least)} of the images are right"
    rule, judged = "Good in every group", [own for own in case.groups if own.own.judged]
    if not judged:
        found = f"no group has {LEAST} {units}" if case.groups else "no groups are known (subgroups_test.csv)"
        return Requirement(rule, asked, found, None)
    worst = min(judged, key=lambda own: own.metrics[ACCURACY].value)
    value, low, high = worst.metrics[ACCURACY]
    count = worst.own.images
    found = f"lowest of {len(judged)}, {worst.own.column} = {worst.own.name}: {_percent(value)} of its "
    found += f"{count} {plural(count, 'image')} (95 % interval {_percent(low)} to {_percent(high)})"
    others = len(case.groups) - len(judged)
    found += f"; {others} {plural(others, 'group')} not judged" if others else ""
    return Requirement(rule, asked, found, value >= least - ROUNDING, value, low, high, least)


RULES: tuple[Callable[[Case], Requirement], ...] = (
    _above_majority,
    _every_class_found,
    _no_worse_than_alone,
    _close_to_float,
    _enough_val,
    _good_in_every_group,
)


def _images(case: Case) -> str:
    """The images that count, in words."""
    count, of = len(case.part.rows), len(case.truth.test)
    if not case.part.clean:
        return f"{count} test {plural(count, 'image')}, all with a copy in train or val,"
    return f"{count} test {plural(count, 'image')}" + (" without a copy" if count < of else "")


def _percent(part: float) -> str:
    """A part in percent, rounded as tables have it: to six digits, then to three."""
    as_in_csv = float(f"{part:.6g}")
    return f"{100 * float(f'{as_in_csv:.3f}'):.1f} %"


def _points(part: float) -> str:
    points = f"{100 * part:.1f}"
    return f"{points} {'point' if points == '1.0' else 'points'}"
