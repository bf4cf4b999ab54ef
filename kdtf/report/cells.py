"""Data frames to tables as the page's template wants them: cells with a text and the value they sort by."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..evidence.bootstrap import p_in_words

SENTENCE = 60  # characters from which on a text may take several lines
CHOSEN = "file that val chose"  # a column of bools: its rows are marked, and it is not shown
MARK = "◆ chosen"


class Cell(NamedTuple):
    """A cell that reads as `text` and sorts by `value`."""

    text: str
    value: float


def signed(points: float) -> str:
    """A difference in points with its sign; nothing is "-0.0"."""
    return f"{round(points, 1) + 0.0:+.1f}"


def p_text(p: float) -> str:
    """A p value as a cell."""
    return p_in_words(p).removeprefix("= ")


# how the numbers of a column are written, one way each
STYLES: dict[str, Callable[[float], str]] = {
    **dict.fromkeys(("p", "p (Holm)"), p_text),
    **dict.fromkeys(("points on val", "points on test"), signed),
    **dict.fromkeys(
        ("KiB", "KiB, gzip", "training, s", "signal to noise, dB", "its weights alone, dB"), "{:,.1f}".format
    ),
    **dict.fromkeys(("multiplications", "cycles", "images/s"), "{:,.0f}".format),
    **dict.fromkeys(("LiteRT's memory, KiB", "TFLite Micro's, KiB", "SRAM, KiB"), "{:,.1f}".format),
    "operators on it, %": "{:.0f}".format,
    "temperature": "{:.2f}".format,
    "weights that are 0": "{:.1%}".format,
}


def interval_cell(interval: pd.Series | None) -> Cell | None:
    """A row with `value low high` as a cell."""
    text = None if interval is None else interval_text(interval.value, interval.low, interval.high, ".3f")
    return None if interval is None or text is None else Cell(text, interval.value)


def interval_text(value: float, low: float, high: float, style: str) -> str | None:
    """A value and its interval as text: the value alone without one, None where it is undefined itself."""
    if pd.isna(value):
        return None
    ends = "" if pd.isna(low) or pd.isna(high) else f" ({low:{style}} to {high:{style}})"
    return f"{value:{style}}{ends}"


def percent(part: float) -> str:
    """A part in percent, rounded once, as `interval_cell` rounds it: 0.7775 is 0.777, and 77.7."""
    return f"{100 * float(f'{part:.3f}'):.1f}"


def points_cell(value: float, low: float, high: float) -> Cell | None:
    """A difference of two parts and its interval as a cell, in points."""
    if pd.isna(value):
        return None
    return Cell(f"{signed(100 * value)} ({signed(100 * low)} to {signed(100 * high)})", 100 * value)


def html_table(frame: pd.DataFrame, *, folded: str = "", title: str = "") -> dict:
    """A frame, whose cells may be `Cell`s; with `folded` it waits behind this line to click."""
    marked = frame[CHOSEN].tolist() if CHOSEN in frame else [False] * len(frame)
    frame = frame.drop(columns=CHOSEN, errors="ignore")
    kinds = {c: "number" if pd.api.types.is_numeric_dtype(frame[c]) else "text" for c in frame}
    kinds |= {c: "number" for c in frame if any(isinstance(v, Cell) for v in frame[c])}
    texts = {c: [v for v in frame[c] if isinstance(v, str)] for c in frame}
    kinds |= {c: "text wrap" for c, own in texts.items() if max(map(len, own), default=0) > SENTENCE}
    rows = [
        {
            "mark": MARK if chosen else "",
            "cells": [_plain_cell(v, c) for c, v in zip(frame, row, strict=True)],
        }
        for chosen, row in zip(marked, frame.itertuples(index=False), strict=True)
    ]
    columns = [{"name": c, "kind": k} for c, k in kinds.items()]
    return {"folded": folded, "title": title, "columns": columns, "rows": rows}


def html_tables(frame: pd.DataFrame, *, title: str = "", **first: Any) -> list[dict]:
    """The rows with the values `first`, those of the chosen file first, and all behind a line to click.

    The chosen file is shown whatever its recipe.

    Columns in which these are all alike are left out.
    """
    wanted = (frame[list(first)] == pd.Series(first)).all(axis=1)
    if CHOSEN in frame:
        others = {name: value for name, value in first.items() if name != "recipe"}
        wanted |= frame[CHOSEN] & (frame[list(others)] == pd.Series(others)).all(axis=1)
        frame = frame.sort_values(CHOSEN, ascending=False, kind="stable")
    rows = frame[wanted.reindex(frame.index)]
    alike = [name for name, value in first.items() if (rows[name] == value).all()]
    rows = rows.drop(columns=alike)
    rows = rows.dropna(axis=1, how="all") if len(rows) else rows
    rest = [] if wanted.all() else [html_table(frame, folded=f"All {len(frame)} rows")]
    return [html_table(rows, title=title), *rest]


def _plain_cell(value: Any, column: str) -> dict:
    if isinstance(value, Cell):
        return value._asdict()
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return {"text": "", "value": ""}
    if column in STYLES and isinstance(value, float | int | np.number):
        return {"text": STYLES[column](float(value)), "value": value}
    if isinstance(value, float):
        style = ",.0f" if abs(value) >= 100 else ".3g" if 0 < abs(value) < 0.001 else ".3f"
        return {"text": f"{value:{style}}", "value": value}
    return {"text": value, "value": value}
