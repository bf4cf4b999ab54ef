"""What several networks and input sides are compared by: accuracy against bytes, work and time."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..evidence import choose
from ..evidence.bootstrap import Interval, interval
from ..evidence.metrics import is_right
from ..evidence.tables import Subset
from ..records import FrontierFile
from .cells import percent
from .figures import Frontier
from .subjects import RunSubject


def frontier_rows(subject: RunSubject) -> list[dict[str, Any]] | None:
    """A row for each file that was compared, the smallest first; None where there was one network alone.

    Accuracies are means over seeds, the intervals 95 % by bootstrap over images. `chosen` marks the file
    that the run goes on with, `within` those whose val score is within the interval of the best.
    """
    study, files = subject.study, subject.frontier
    if not files:
        return None
    chosen = choose.smallest_good(files, study.truth, study.seed)
    good = choose.good_files(files, study.truth, study.seed)
    rows = []
    for i, (file, val) in enumerate(zip(files, _val(subject, files), strict=True)):
        name = file.files[0].predictions
        whole, clean = (_test(file, subset) for subset in (study.subsets[0], study.subsets[-1]))
        latencies = [own.predictions.latency_ms or 0.0 for own in file.files]
        rows.append(
            {
                "network": file.network,
                "side": file.side,
                "teacher": name.teacher,
                "model": name.model,
                "recipe": name.recipe,
                "seeds": len(file.files),
                "kib": file.kib,
                "kmacs": file.kmacs,
                "arena_kib": file.arena_kib,
                "latency_ms": float(np.median(latencies)) if study.timings else None,
                "val_accuracy": val.value,
                "val_low": val.low,
                "val_high": val.high,
                "accuracy": whole.value,
                "low": whole.low,
                "high": whole.high,
                "clean_accuracy": clean.value,
                "clean_low": clean.low,
                "clean_high": clean.high,
                "within": int(i in good),
                "chosen": int(i == chosen),
            }
        )
    return sorted(rows, key=lambda row: (row["kib"], row["kmacs"], row["model"]))


def _val(subject: RunSubject, files: Iterable[FrontierFile]) -> list[Interval]:
    return [choose.val_interval(file, subject.study.truth, subject.study.seed) for file in files]


def _test(file: FrontierFile, subset: Subset) -> Interval:
    """Accuracy on a part of test, the mean over seeds, with its interval over images."""
    right = [is_right(own.predictions.test_probs[subset.rows], subset.labels) for own in file.files]
    weights = subset.draws.weights
    return interval(weights @ np.mean(right, axis=0) / weights.sum(axis=1), subset.draws.units)


def frontier_record(subject: RunSubject) -> Frontier | None:
    """What `draw_frontier` draws; None where there was one network alone."""
    rows = frontier_rows(subject)
    return Frontier(rows) if rows else None


def frontier_in_words(rows: list[dict[str, Any]], val_images: int) -> str:
    """The opening of a report that compared several networks: which file was chosen, and how surely."""
    chosen = next(row for row in rows if row["chosen"])
    best = max(rows, key=lambda row: row["val_accuracy"])
    margin = 50 * (best["val_high"] - best["val_low"])
    limit = f" Val has {val_images} images: it hardly tells scores apart that differ by {margin:.0f} points."
    return (
        f"Of {len(rows)} files compared, {chosen['network']} at {chosen['side']} px is the smallest "
        f"({chosen['kib']:.1f} KiB) whose val score ({percent(chosen['val_accuracy'])} %) is within the 95 % "
        f"interval of the best ({percent(best['val_accuracy'])} %, {best['kib']:.1f} KiB)."
    ) + (limit if margin >= 1 else "")
