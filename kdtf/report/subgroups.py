"""What a file scores by group: the picture, and what the page says and shows of it."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..evidence.bootstrap import Interval
from ..evidence.metrics import METRICS
from ..evidence.subgroups import A_GAP, ACCURACY, LEAST, SENSITIVITY, GroupScores, units_in_words
from .cells import html_table, interval_text, points_cell
from .figures import finish, titled
from .fonts import drawable
from .frames import IMAGES, Tables
from .subjects import RunSubject

MOST_CLASSES = 6  # up to which each has its sensitivity in the picture
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito (2008)
LONGEST_NAME = 28  # letters of a group beside the picture
EXPLAINED = (
    "The chosen file, by the columns of subgroups_test.csv. Groups may differ in their mixture of classes: "
    "compare the sensitivities too. A gap is the largest difference between two groups of a column; its p is "
    "how often shuffling the groups gives one as large, corrected (Holm) over columns and, of sensitivities, "
    f"classes. Groups of fewer than {LEAST} patients, or images where no patients are known, are listed and "
    "neither tested nor judged, and so is the unknown one."
)


class GroupRows(NamedTuple):
    """Scores by group, the columns one after the other; `classes` are those drawn by their sensitivity."""

    title: str
    scores: list[GroupScores]
    classes: dict[int, str]
    units: str


def subgroups_record(subject: RunSubject, title: str) -> GroupRows | None:
    """What `draw_subgroups` draws; None where no groups are known."""
    study = subject.study
    scores = subject.groups.get(study.part.name)
    if not scores:
        return None
    names = study.truth.classes
    classes = dict(enumerate(names)) if len(names) <= MOST_CLASSES else {}
    return GroupRows(title, scores, classes, units_in_words(study.truth))


def draw_subgroups(record: GroupRows, *, synthetic: bool = False) -> Figure:
    """Accuracy of every group with its interval, and its sensitivity for each class, a row a group."""
    lines: list[str | GroupScores] = []  # headings, and below each its groups
    for column in dict.fromkeys(own.own.column for own in record.scores):
        lines += [column, *(own for own in record.scores if own.own.column == column)]
    row = 0.3 + 0.06 * len(record.classes)
    figure = titled(record.title, synthetic, (9.5, 1.7 + row * len(lines)))
    axes = figure.subplots(1, 1 + bool(record.classes), sharey=True, squeeze=False)[0]
    labels = {}
    for y, line in enumerate(lines):
        if isinstance(line, str):
            aside: dict[str, Any] = {"transform": axes[0].get_yaxis_transform(), "va": "center"}
            axes[0].text(0.01, y, drawable(line), fontsize=9, fontweight="bold", **aside)
            continue
        labels[y] = _label(line)
        look: dict[str, Any] = {} if line.own.judged else {"mfc": "white", "alpha": 0.6}
        _draw(axes[0], line.metrics[ACCURACY], y, "black", **look)
        for i, k in enumerate(record.classes):
            if k in line.sensitivity:
                place = y + 0.7 * ((i + 0.5) / len(record.classes) - 0.5)
                _draw(axes[1], line.sensitivity[k][1], place, COLOURS[i], **look)
    for axis, name in zip(axes, (ACCURACY, SENSITIVITY), strict=False):
        axis.set_xlim(0, 1.02)
        finish(axis, f"{name}, 95 % interval", "")
        axis.grid(visible=False, axis="y")
    axes[0].set_yticks(list(labels), list(labels.values()), fontsize=9)
    axes[0].set_ylim(len(lines) - 0.4, -0.6)
    axes[0].tick_params(axis="y", length=0)
    _add_legend(figure, axes[-1], record)
    return figure


def _label(line: GroupScores) -> str:
    name = line.own.name
    short = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
    return f"{drawable(short)} ({line.own.images})"


def _draw(axis: Axes, ends: Interval, y: float, colour: str, **look: Any) -> None:
    """A value with its interval."""
    value, low, high = ends
    xerr = np.maximum([[value - low], [high - value]], 0)  # Wilson's end of 7 of 7 is 1 up to rounding
    axis.errorbar(value, y, xerr=xerr, fmt="o", color=colour, ms=5, capsize=2.5, **look)


def _add_legend(figure: Figure, axis: Axes, record: GroupRows) -> None:
    colours = zip(record.classes.values(), COLOURS, strict=False)
    handles = [axis.scatter([], [], color=colour, label=drawable(name)) for name, colour in colours]
    if any(not line.own.judged for line in record.scores):
        text = f"hollow: unknown, or fewer than {LEAST} {record.units}"
        handles.append(axis.scatter([], [], color="white", edgecolors="black", label=text))
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8)


# The page


def subgroup_findings(tables: Tables) -> list[str]:
    """Of the images that count first: a sentence on accuracy by every column, and on each gap elsewhere."""
    if "subgroups" not in tables:
        return []
    gaps = tables["subgroup_gaps"]
    rows = gaps[gaps.images == _parts(gaps)[0]]
    return rows[
        (rows.metric == ACCURACY) | rows.verdict.str.contains(f": {A_GAP} (", regex=False)
    ].verdict.tolist()


def _parts(rows: pd.DataFrame) -> list[str]:
    """The parts of test, the one that counts first."""
    return [name for name in ("clean", "all") if name in rows.images.unique()]


def subgroup_tables(tables: Tables) -> list[dict]:
    """Scores of the chosen file by group, and the largest gaps, the images that count first; or nothing."""
    if "subgroups" not in tables:
        return []
    rows, gaps = tables["subgroups"], tables["subgroup_gaps"]
    own: list[dict] = []
    for i, name in enumerate(_parts(rows)):
        frames = {
            "By group": _scores(rows[rows.images == name]),
            "Largest gaps": _gaps(gaps[gaps.images == name]),
        }
        titles = {f"{what} {IMAGES[name]}": frame for what, frame in frames.items()}
        own += [html_table(frame, folded=text * bool(i), title=text) for text, frame in titles.items()]
    every = _metrics(rows)
    return [*own, html_table(every, folded=f"Every metric, {len(every)} rows")]


def _scores(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each group: its size, and what is first to be known of it."""
    lines = []
    classes = sorted(rows["class"].dropna().unique())
    for (column, group), own in rows.groupby(["column", "group"], sort=False):
        first, of_class = own.iloc[0], own[own.metric == SENSITIVITY].set_index("class")
        line = {"by": column, "group": group, "images": first.group_images}
        line |= {"patients": first.group_patients, "in train": first.train_images}
        line["judged"] = "yes" if first.judged else "no"
        for name in (ACCURACY, "auc"):
            line[METRICS[name].label] = _text(own[own.metric == name])
        for name in classes:
            known = name in of_class.index
            count = f" of {of_class.class_images[name]:.0f}" if known else ""
            line[f"{SENSITIVITY}, {name}"] = f"{_text(of_class.loc[[name]])}{count}" if known else None
        lines.append(line)
    return pd.DataFrame(lines).dropna(axis=1, how="all")


def _text(rows: pd.DataFrame) -> str | None:
    """The one row's value and interval."""
    (value, low, high), *_ = rows[["value", "low", "high"]].to_numpy(float)
    return interval_text(value, low, high, ".2f")


def _gaps(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each column and what was compared."""
    what = [m if pd.isna(c) else f"{m}, {c}" for m, c in zip(rows.metric, rows["class"], strict=True)]
    frame = pd.DataFrame(
        {"by": rows.column, "of": what, "lowest": rows.worst_group, "highest": rows.best_group}
    )
    values = zip(rows.gap, rows.low, rows.high, strict=True)
    frame["points, interval"] = [points_cell(*row) for row in values]
    frame["p (Holm)"] = rows.holm_p
    frame["finding"] = [text.split(": ", 1)[-1].split(" (")[0] + "." for text in rows.verdict]
    return frame.dropna(axis=1, how="all")


def _metrics(rows: pd.DataFrame) -> pd.DataFrame:
    """Every metric of every group, as `subgroups.csv` has them."""
    rows = rows[rows.metric != SENSITIVITY]
    keys = ["images", "column", "group"]
    lines = []
    for names, own in rows.groupby(keys, sort=False):
        line = dict(zip(keys, names, strict=True))
        lines.append(line | {METRICS[m].label: _text(own[own.metric == m]) for m in own.metric})
    return pd.DataFrame(lines).rename(columns={"column": "by"})
