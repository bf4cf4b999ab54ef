"""Data frames to tables as the page's template wants them: cells with a text and the value they sort by."""

from typing import Any, NamedTuple

import pandas as pd

SENTENCE = 60  # characters from which on a text may take several lines


class Cell(NamedTuple):
    """A cell that reads as `text` and sorts by `value`."""

    text: str
    value: float


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
    return Cell(f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})", 100 * value)


def html_table(frame: pd.DataFrame, *, folded: str = "") -> dict:
    """A frame, whose cells may be `Cell`s; with `folded` it waits behind this line to click."""
    kinds = {c: "number" if pd.api.types.is_numeric_dtype(frame[c]) else "text" for c in frame}
    kinds |= {c: "number" for c in frame if any(isinstance(v, Cell) for v in frame[c])}
    texts = {c: [v for v in frame[c] if isinstance(v, str)] for c in frame}
    kinds |= {c: "text wrap" for c, own in texts.items() if max(map(len, own), default=0) > SENTENCE}
    rows = [[_plain_cell(v) for v in row] for row in frame.itertuples(index=False)]
    return {"folded": folded, "columns": [{"name": c, "kind": k} for c, k in kinds.items()], "rows": rows}


def html_tables(frame: pd.DataFrame, **first: Any) -> list[dict]:
    """The rows with the values `first`, whose columns are left out, and all rows behind a line to click."""
    wanted = (frame[list(first)] == pd.Series(first)).all(axis=1)
    rows = frame[wanted].drop(columns=list(first)).dropna(axis=1, how="all")
    rest = [] if wanted.all() else [html_table(frame, folded=f"All {len(frame)} rows")]
    return [html_table(rows), *rest]


def _plain_cell(value: Any) -> dict:
    if isinstance(value, Cell):
        return value._asdict()
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return {"text": "", "value": ""}
    if isinstance(value, float):
        style = ",.0f" if abs(value) >= 100 else ".3g" if abs(value) < 0.001 else ".3f"
        return {"text": f"{value:{style}}", "value": value}
    return {"text": value, "value": value}
