"""The picture of where a gain comes from: differences with their intervals about a line at zero."""

from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..evidence.gains import source_of
from .figures import style_of, titled
from .subjects import RunSubject


class Gains(NamedTuple):
    """Rows of `gains.csv`."""

    rows: list[dict[str, Any]]


def gains_record(subject: RunSubject) -> Gains | None:
    """What `draw_gains` draws; None of a run that distilled nothing."""
    rows = subject.evidence["gains"]
    return Gains(rows) if rows else None


def draw_gains(record: Gains, *, synthetic: bool = False) -> Figure:
    """Gains in points with their intervals about a line at zero, by question; squares: without copies."""
    rows = [row for row in record.rows if row["images"] == "all"]
    clean = {(row["question"], row["teacher"]): row for row in record.rows if row["images"] == "clean"}
    lines: list[str | dict[str, Any]] = []  # headings, and below each its rows
    for question in dict.fromkeys(row["question"] for row in rows):
        lines += [question, *(row for row in rows if row["question"] == question)]
    figure = titled("What distilling added to accuracy on test", synthetic, (9, 1.5 + 0.34 * len(lines)))
    axis, labels = figure.subplots(), {}
    aside: dict[str, Any] = {"transform": axis.get_yaxis_transform(), "va": "center"}
    for y, line in enumerate(lines):
        if isinstance(line, str):
            axis.text(0.01, y, line, fontsize=9, fontweight="bold", **aside)
            continue
        labels[y] = _label(line)
        other = clean.get((line["question"], line["teacher"]))
        _draw_gain(axis, line, y - 0.12 * bool(other), "o")
        if other:
            _draw_gain(axis, other, y + 0.18, "s")
        value, low, high = (100 * line[name] for name in ("gain", "low", "high"))
        axis.text(1.01, y, f"{value:+.1f} ({low:+.1f} to {high:+.1f})", fontsize=8, **aside)
    axis.axvline(0, color="#555555", lw=1, zorder=1)
    axis.set_yticks(list(labels), list(labels.values()), fontsize=9)
    axis.tick_params(axis="y", length=0)
    low, high = axis.get_xlim()
    axis.set(xlim=(max(low, -100), min(high, 100)), ylim=(len(lines) - 0.5, -0.5))
    over = f"{rows[0]['seeds']} seeds" if rows[0]["seeds"] > 1 else "test images"
    axis.set_xlabel(f"points of accuracy, 95 % interval over {over}")
    axis.grid(axis="x", alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def _label(row: dict[str, Any]) -> str:
    """The teacher of a gain; with what its students learn from beside, where the question does not say so."""
    source = source_of(row["teacher"])
    return source if source == row["teacher"] or "unlabelled" in row["question"] else f"{source}, unlabelled"


def _draw_gain(axis: Axes, row: dict[str, Any], y: float, mark: str) -> None:
    """A gain and its interval, in points."""
    value, low, high = (100 * row[name] for name in ("gain", "low", "high"))
    colour = style_of(row["teacher"], "distilled").colour
    axis.errorbar(value, y, xerr=[[value - low], [high - value]], fmt=mark, color=colour, ms=5, capsize=3)
