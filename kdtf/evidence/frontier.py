"""What several networks and input sides are compared by: accuracy against bytes, work and time."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..records import FrontierFile, GroundTruth
from .bootstrap import Interval, mean_interval
from .choose import good_files, val_interval
from .metrics import is_right
from .tables import Subset, clean_part


def frontier_rows(
    files: Sequence[FrontierFile], truth: GroundTruth, subsets: Sequence[Subset], seed: int, *, timings: bool
) -> list[dict[str, Any]]:
    """A row for each file that was compared, the smallest first.

    Accuracies are means over seeds, the intervals 95 % by bootstrap over images. `chosen` marks the file
    that the run goes on with, `within` those whose val score is within the interval of the best. Where no
    test image is clean, the clean scores are None.
    """
    scores = [val_interval(file, truth, seed) for file in files]
    good, clean_images = good_files(files, scores), clean_part(subsets)
    rows = []
    for i, (file, val) in enumerate(zip(files, scores, strict=True)):
        name = file.files[0].predictions
        whole = _test(file, subsets[0])
        clean = _test(file, clean_images) if clean_images else None
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
                "latency_ms": float(np.median(latencies)) if timings else None,
                "val_accuracy": val.value,
                "val_low": val.low,
                "val_high": val.high,
                "accuracy": whole.value,
                "low": whole.low,
                "high": whole.high,
                "clean_accuracy": clean and clean.value,
                "clean_low": clean and clean.low,
                "clean_high": clean and clean.high,
                "within": int(i in good),
                "chosen": int(i == good[0]),
            }
        )
    return sorted(rows, key=lambda row: (row["kib"], row["kmacs"], row["model"]))


def _test(file: FrontierFile, subset: Subset) -> Interval:
    """Accuracy on a part of test, the mean over seeds, with its interval over images."""
    right = [is_right(own.predictions.test_probs[subset.rows], subset.labels) for own in file.files]
    return mean_interval(subset.draws, np.mean(right, axis=0))
