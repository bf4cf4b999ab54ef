"""The verdict as rows of `drift.csv`: one for each check of each window, and one for a window without any."""

import csv
import io
from typing import Any

from ..predictor import STATISTICS, cell
from .verdict import CHANGED, EXPECTED, UNUSUAL, Judged, Verdict
from .windows import Window

COLUMNS = (
    *("window", "first", "last", "images", "unread", "check", "against", "class", "expected", "expected_low"),
    *("expected_high", "observed", "observed_low", "observed_high", "direction", "ks_distance", "psi"),
    *("psi_beyond_chance", "p", "p_window", "p_all", "state"),
)

SIGNS = {CHANGED: "{}", UNUSUAL: "({})", EXPECTED: "-"}  # of a cell, around the direction of a check


def sign(one: Judged) -> str:
    """A check in a cell of a table of windows."""
    return SIGNS[one.state].format(one.check.direction)


def drift_csv(verdict: Verdict) -> bytes:
    """The whole table; texts are written as by `predictor.cell`, numbers to six digits."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n", restval="")
    table.writeheader()
    for row in rows_of(verdict):
        table.writerow({name: cell(_number(value)) for name, value in row.items()})
    return text.getvalue().encode()


def rows_of(verdict: Verdict) -> list[dict[str, Any]]:
    """A row a check: of a statistic medians with 5 and 95 %, of the others parts of the images."""
    rows = []
    for own in verdict.windows:
        place = _place(own.window)
        rows += [{**place, **_check(one)} for one in own.checks] or [{**place, "state": own.state}]
    return rows


def _place(window: Window) -> dict[str, Any]:
    times = {"first": f"{window.first}Z", "last": f"{window.last}Z"}
    return {"window": window.name, **times, "images": window.images, "unread": window.unread}


def _check(one: Judged) -> dict[str, Any]:
    check = one.check
    ends = ("", "_low", "_high") if check.name in STATISTICS else ("",)
    return {
        "check": check.name,
        "against": check.against,
        "class": check.label,
        **{f"expected{end}": value for end, value in zip(ends, check.expected, strict=True)},
        **{f"observed{end}": value for end, value in zip(ends, check.observed, strict=True)},
        "direction": check.direction,
        "ks_distance": "" if check.distance is None else check.distance,
        "psi": check.raw_psi,
        "psi_beyond_chance": check.psi,
        "p": check.p,
        "p_window": one.p_window,
        "p_all": one.p_all,
        "state": one.state,
    }


def _number(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value
