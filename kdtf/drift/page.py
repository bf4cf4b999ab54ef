"""The verdict on a log as `drift.html`: one file, pictures embedded, nothing fetched. Decides nothing."""

import base64
from pathlib import Path
from typing import Any

import pandas as pd

from .. import __version__
from ..predictor import STATISTICS
from ..report.cells import html_table, p_text
from ..report.page import TEMPLATES
from ..words import plural
from .comparison import CHECKS, CLASSES, DRAWS
from .expectation import Expectation
from .reading import Log
from .table import rows_of, sign
from .verdict import (
    ALPHA,
    CHANGED,
    EXPECTED,
    LARGE,
    MANY_UNREAD,
    MODERATE,
    UNUSUAL,
    Judged,
    JudgedWindow,
    Verdict,
)
from .windows import LEAST

OWN = Path(__file__).parent / "templates"
USE = (
    "A change says that the student meets other images than it was made for, not that its answers are wrong. "
    "Look at some of them, and score it again on images whose classes are known."
)
SIGNS_IN_WORDS = (
    "What changed is called by its direction: up, down, or other where values are spread otherwise. In "
    "brackets it is unusual taken alone; an empty cell is as expected."
)
EXPECTED_IN_WORDS = (
    "What the shipped file said of val, with which later answers are compared, and of test, which decides "
    "nothing."
)


def render(verdict: Verdict, log: Log, expected: Expectation, student: dict[str, str]) -> str:
    """The page; `student` is what the card says of the file, {name: value}."""
    from jinja2 import Environment, FileSystemLoader

    from .figures import pictures

    environment = Environment(loader=FileSystemLoader([OWN, TEMPLATES]), autoescape=True)
    return environment.get_template("drift.html.j2").render(
        version=__version__,
        verdict=verdict,
        facts=facts(verdict, log),
        use=USE,
        warnings=log.remarks,
        sections=_sections(verdict, expected, pictures(verdict, log, expected)),
        student=student,
        explained=lambda text: "",
    )


def _sections(verdict: Verdict, expected: Expectation, drawn: dict[str, bytes]) -> list[dict[str, Any]]:
    """The page's sections, as `report.page` has them."""
    embedded = [
        {"data": base64.b64encode(content).decode(), "alt": caption} for caption, content in drawn.items()
    ]
    numbers = details(verdict)
    folded = [html_table(numbers, folded="Every check of every window in numbers")] if len(numbers) else []
    outline = [
        ("pictures", "Over time", "", [], [], embedded),
        ("windows", "Window by window", SIGNS_IN_WORDS, [], [html_table(overview(verdict)), *folded], []),
        (
            "expected",
            "What the card expects",
            EXPECTED_IN_WORDS,
            [],
            [html_table(expectations(expected))],
            [],
        ),
        ("rules", "How it is judged", "", [*verdict.limits, *_rules(expected)], [], []),
    ]
    names = ("id", "title", "text", "notes", "tables", "pictures")
    return [{**dict(zip(names, own, strict=True)), "folded": []} for own in outline]


def facts(verdict: Verdict, log: Log) -> list[dict[str, str]]:
    """The tiles of the first card."""
    compared = sum(bool(own.checks) for own in verdict.windows)
    values = {
        f"{plural(len(log.times), 'image')} of this student": f"{len(log.times):,}",
        f"{plural(len(log.unread), 'image')} not read": f"{len(log.unread):,}",
        f"{plural(compared, 'window')} compared": f"{compared}",
        f"{plural(verdict.count(CHANGED), 'window')} changed": f"{verdict.count(CHANGED)}",
        f"{plural(verdict.count(UNUSUAL), 'window')} unusual taken alone": f"{verdict.count(UNUSUAL)}",
    }
    return [{"name": name, "value": value} for name, value in values.items()]


def overview(verdict: Verdict) -> pd.DataFrame:
    """A row a window, a column a check: "up" where it changed, "(up)" where it is unusual taken alone."""
    return pd.DataFrame([_overview_row(own) for own in verdict.windows])


def _overview_row(own: JudgedWindow) -> dict[str, Any]:
    signs = {one.check.name: _named_sign(one) for one in own.checks} or dict.fromkeys(CHECKS, "")
    counts = {"images": own.window.images, "not read": own.window.unread}
    return {"window": own.window.name, **counts, "state": own.state, **signs}


def _named_sign(one: Judged) -> str:
    """A check in a cell, empty where it is as expected; the mix of classes with the one that differs most."""
    if one.state == EXPECTED:
        return ""
    return f"{one.check.label} {sign(one)}" if one.check.name == CLASSES else sign(one)


def details(verdict: Verdict) -> pd.DataFrame:
    """The rows of `drift.csv` as a reader wants them."""
    rows = []
    for row in rows_of(verdict):
        if "check" not in row:
            continue
        statistic = row["check"] in STATISTICS
        values = {
            name: f"{row[name]:.1f} ({row[f'{name}_low']:.1f} to {row[f'{name}_high']:.1f})"
            if statistic
            else f"{100 * row[name]:.1f} %"
            for name in ("expected", "observed")
        }
        rows.append(
            {
                **{name: row[name] for name in ("window", "check", "against", "class")},
                **values,
                "KS distance": row["ks_distance"] if statistic else None,
                "PSI": row["psi"],
                "beyond chance": row["psi_beyond_chance"],
                "p in its window": p_text(row["p_window"]),
                "p in all": p_text(row["p_all"]),
                "state": row["state"],
            }
        )
    return pd.DataFrame(rows)


def expectations(expected: Expectation) -> pd.DataFrame:
    """What the card expects: of val, and of test, which decides nothing."""
    columns = {"val": expected.val, "test": expected.test}
    rows = [
        {
            "part of the images": f"named {name}",
            **{split: _part(own.named[k], own.images) for split, own in columns.items()},
        }
        for k, name in enumerate(expected.classes)
    ]
    for name in ("uncertain", "unlike"):
        cells = {split: _part(getattr(own, name), own.images) for split, own in columns.items()}
        rows.append({"part of the images": name, **cells})
    return pd.DataFrame(rows)


def _part(count: int, images: int) -> str:
    return f"{100 * count / images:.1f} % ({count} of {images})" if images else ""


def _rules(expected: Expectation) -> list[str]:
    """How it is judged, a sentence each."""
    sizes = " and ".join(
        f"{own.images:,} {split}" for split, own in expected.statistics["brightness"].items()
    )
    return [
        f"Brightness, contrast, colour and layout of a window are compared with {sizes} images by Kolmogorov "
        "and Smirnov's two-sample test; what counts is the split that the window is more alike, so that a "
        "window that is like either is not called changed.",
        f"Uncertain answers and unlike images are compared with val's {expected.val.images} by Fisher's "
        f"exact test, the classes named by chi-square, or by {DRAWS:,} drawn tables where a class is rare.",
        "The population stability index (PSI, ten bins between deciles) says how large a change is: under "
        f"{MODERATE} small, from {LARGE} large. A small window has an index by chance alone, which is taken "
        "off.",
        "A window changed where a check's p, corrected by Holm for all checks of all windows, is at most "
        f"{ALPHA} and its PSI beyond chance at least {MODERATE}. It is unusual taken alone where that holds "
        "of p corrected within the window.",
        f"Windows of fewer than {LEAST} images are not compared.",
        f"A window of {LEAST} images or more of which {100 * MANY_UNREAD:g} % could not be read changed, "
        "whatever the others show.",
    ]
