"""Prediction sets in the report: tables and sentences of `sets.csv`, a picture of the chosen file's."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..evidence.conformal import ALL, too_few_in_words, unkept_in_words
from .cells import CHOSEN, html_table, interval_text
from .figures import MODELS, finish, titled
from .fonts import drawable
from .frames import FILE, IMAGES, Tables, marked
from .subjects import RunSubject

LINE = 0.4  # inches of a class in the picture
COUNTS = {
    "sets of one": "single_sets",
    "of these right": "single_right",
    "empty sets": "empty_sets",
    "full sets": "full_sets",
}


class SetCoverage(NamedTuple):
    """Rows of `sets.csv` of one file on one part of test: a class each, then all of them."""

    title: str
    classes: int
    colour: str
    rows: list[dict[str, Any]]


def set_section(tables: Tables, chosen: pd.Series) -> tuple[str, list[dict], list[str]]:
    """What the page says of sets: words, tables and remarks; nothing of a run of before there were any."""
    if "sets" not in tables:
        return "", [], []
    promised = f"{100 * tables['sets'].promised.iloc[0]:g} %"
    text = (
        "The set of an image has every class that the image may be of. Of images of any class that are like "
        f"those of val, at least {promised} have their class in their set. That coverage is an average over "
        "val sets of that size. Of a single one it varies: where it is to be expected in 95 % of cases, each "
        "image counted as independent, stands beside it. Val images that train knows do not count; of a "
        "patient, where patients are known, one image a class does. The fewer classes a set has, the more it "
        "tells. A set of one class is no certainty: of many such images some have another one. "
        "Brackets hold 95 % intervals."
    )
    return text, _set_tables(tables["sets"], chosen), list(filter(None, _notes(tables["sets"], chosen)))


def _set_tables(rows: pd.DataFrame, chosen: pd.Series) -> list[dict]:
    """The sets of the chosen file, on clean images first, then those of every file of its seed."""
    frame = _frame(rows[rows.seed == chosen.seed], chosen)
    own = frame[frame[CHOSEN]].drop(columns=["teacher", "model", "recipe", CHOSEN])
    own = own.sort_values("images", key=lambda images: images != IMAGES["clean"], kind="stable")
    parts = [
        html_table(part.drop(columns="images"), title=f"{FILE} {images!s}")
        for images, part in own.groupby("images", sort=False)
    ]
    return [*parts, html_table(frame, folded=f"Every file, {len(frame)} rows")]


def _frame(rows: pd.DataFrame, chosen: pd.Series) -> pd.DataFrame:
    frame = rows[["teacher", "model", "recipe"]].copy()
    frame["model"] = rows.model.map({kind: style.label for kind, style in MODELS.items()})
    frame["images"] = rows.images.map(IMAGES)
    frame["class"], frame["in val"], frame["in these"] = rows["class"], rows.val_images, rows.test_images
    frame["coverage"] = _with_ends(rows, "coverage")
    likely = zip(rows.likely_low, rows.likely_high, strict=True)
    frame["coverage to expect"] = [
        None if pd.isna(low) else f"{low:.2f} to {high:.2f}" for low, high in likely
    ]
    frame["classes in a set"] = _with_ends(rows, "mean_size")
    for label, column in COUNTS.items():
        frame[label] = rows[column]
    return marked(frame, rows, chosen)


def _with_ends(rows: pd.DataFrame, measure: str) -> list[str | None]:
    columns = (rows[f"{measure}{end}"] for end in ("", "_low", "_high"))
    return [interval_text(value, low, high, ".2f") for value, low, high in zip(*columns, strict=True)]


def _notes(rows: pd.DataFrame, chosen: pd.Series) -> Iterator[str | None]:
    """Of the chosen file: classes that val has too few images of, promises that test does not bear out."""
    own = marked(rows, rows, chosen)
    part = "clean" if "clean" in set(rows.images) else "all"
    own = own[own[CHOSEN] & (own.images == part)]
    for row in own.to_dict("records"):
        if row["class"] != ALL:
            yield too_few_in_words(row["class"], int(row["val_images"]), row["promised"])
        yield unkept_in_words(row)


def set_record(subject: RunSubject) -> SetCoverage:
    """What `draw_sets` draws: of the chosen file, on the images that it is judged by."""
    study, file = subject.study, subject.chosen_file.predictions
    wanted = {**file.name, "images": study.part.name}
    rows = [row for row in subject.evidence["sets"] if wanted.items() <= row.items()]
    title = f"Prediction sets of the chosen file, {study.part_in_words}"
    return SetCoverage(title, len(study.truth.classes), MODELS[file.model].colour, rows)


def draw_sets(record: SetCoverage, *, synthetic: bool = False) -> Figure:
    """By class: how often the set has it beside what was promised, and how many classes a set has."""
    rows = record.rows
    figure = titled(record.title, synthetic, (9, 1.9 + LINE * len(rows)))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for y, row in enumerate(rows):
        if row["likely_low"] is not None:
            ends = {"left": row["likely_low"], "width": row["likely_high"] - row["likely_low"]}
            left.barh(
                y,
                **ends,
                height=0.7,
                color="#dfe5ea",
                label="to be expected in 95 % of cases" if not y else None,
            )
        _draw_value(left, row, "coverage", y, record.colour)
        _draw_value(right, row, "mean_size", y, record.colour)
    promised = rows[0]["promised"]
    left.axvline(promised, color="#555555", lw=1, ls="--", label=f"promised, {100 * promised:g} %")
    left.set_yticks(range(len(rows)), [drawable(row["class"]) for row in rows], fontsize=9)
    left.set(xlim=(min(0.5, *_lowest(rows)) - 0.02, 1.02), ylim=(len(rows) - 0.5, -0.5))
    right.set(xlim=(0, record.classes + 0.15))
    finish(left, "coverage, 95 % interval", "")
    finish(right, "classes in a set, mean and 95 % interval", "")
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    return figure


def _lowest(rows: list[dict[str, Any]]) -> list[float]:
    ends = [row[name] for row in rows for name in ("coverage", "coverage_low") if row[name] is not None]
    return [end for end in ends if not pd.isna(end)]


def _draw_value(axis: Axes, row: dict[str, Any], measure: str, y: int, colour: str) -> None:
    """A value and its interval, where it has one."""
    value, low, high = (row[f"{measure}{end}"] for end in ("", "_low", "_high"))
    if pd.isna(value):
        return
    ends = None if pd.isna(low) else [[max(0, value - low)], [max(0, high - value)]]
    axis.errorbar(value, y, xerr=ends, fmt="o", color=colour, ms=5, capsize=3)
