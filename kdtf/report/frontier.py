"""What several networks and input sides reach: the record of its picture, and the sentence on the page."""

from typing import Any

from .cells import percent
from .figures import Frontier
from .subjects import RunSubject


def frontier_record(subject: RunSubject) -> Frontier | None:
    """What `draw_frontier` draws; None where there was one network alone."""
    return Frontier(subject.frontier_rows) if subject.frontier_rows else None


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
