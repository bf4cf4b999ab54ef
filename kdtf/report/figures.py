"""Records to figures. Draws what it is given and computes nothing; one colour per model everywhere.

Colours are Okabe and Ito's colour-blind safe set (2008).
"""

import io
import textwrap
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")  # no screen is needed, nor looked for

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from ..evidence.gains import source_of
from ..records import KERAS, WITH_UNLABELLED
from ..tflite.recipes import RECIPES
from .fonts import drawable, fit_fonts


class ModelStyle(NamedTuple):
    """How a kind of model is called and drawn."""

    label: str
    colour: str


MODELS = {
    "teacher": ModelStyle("teacher", "#0072B2"),
    "alone": ModelStyle("student alone", "#E69F00"),
    "distilled": ModelStyle("student distilled", "#009E73"),
    "baseline": ModelStyle("baseline", "#CC79A7"),
}
UNLABELLED = ModelStyle("distilled with unlabelled images", "#56B4E9")  # a kind of student of its own here
FRONTIER_COSTS = {
    "kib": "file, KiB",
    "kmacs": "multiply-accumulates, thousands",
    "latency_ms": "one image, one thread, ms",
}
MOST_WITH_COUNTS = 30  # classes up to which the cells of a confusion matrix are large enough for a number
CHOSEN = "chosen on val"
CLEAN = "without copies"
RING = {"facecolors": "none", "edgecolors": "black", "linewidths": 1.6}  # around what was chosen
LETTERS = 11  # of a title to an inch: a longer one takes several lines
SYNTHETIC = "Synthetic phantom images: not patient data"


class Curves(NamedTuple):
    """Training histories, a row an epoch, by kind of model."""

    title: str
    histories: dict[str, list[dict]]


class Confusion(NamedTuple):
    """A confusion matrix (K, K), rows the true classes."""

    title: str
    classes: tuple[str, ...]
    counts: np.ndarray


class QuantizationErrors(NamedTuple):
    """How far every layer is from float: rows with `recipe layer snr_db worst`."""

    title: str
    rows: list[dict]


class Accuracies(NamedTuple):
    """Rows of `summary.csv`, and the 95 % interval of accuracy of what is no `.tflite`.

    `intervals` is {(teacher, model): (low, high)}; `chosen` is (teacher, model, recipe) of the file that val
    chose, and `seed` that of the rows where a run has several.
    """

    rows: list[dict]
    intervals: dict[tuple[str, str], tuple[float, float]]
    chosen: tuple[str, str, str] | None = None
    seed: int | None = None

    def is_chosen(self, row: dict) -> bool:
        """Is a row that of the file that val chose."""
        return self.chosen == (row["teacher"], row["model"], row["recipe"])


class Frontier(NamedTuple):
    """Rows of `frontier.csv`."""

    rows: list[dict]


def png(figure: Figure) -> bytes:
    """A figure as PNG bytes, without the date that would make two equal runs differ."""
    out = io.BytesIO()
    fit_fonts(figure)
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def titled(title: str, synthetic: bool, size: tuple[float, float]) -> Figure:
    """An empty figure, size in inches, that says under its title when the images are synthetic."""
    figure = Figure(figsize=size, layout="constrained", dpi=110)
    title = textwrap.fill(drawable(title), int(LETTERS * size[0]), break_on_hyphens=False)
    figure.suptitle(f"{title}\n{SYNTHETIC}" if synthetic else title, fontsize=12)
    return figure


def _figure(
    title: str, synthetic: bool, size: tuple[float, float], columns: int = 1
) -> tuple[Figure, np.ndarray]:
    figure = titled(title, synthetic, size)
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _make_logarithmic(axis: Axes, subs: tuple[int, ...]) -> None:
    """A logarithmic scale to the right, with plain numbers at `subs` of every power of ten."""
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=subs))
    axis.xaxis.set_major_formatter("{x:,g}")
    axis.xaxis.set_minor_formatter(NullFormatter())


def finish(axis: Axes, xlabel: str, ylabel: str) -> None:
    """The labels of an axis, and as much of a frame as it needs."""
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def draw_curves(record: Curves, *, synthetic: bool = False) -> Figure:
    """Accuracy and loss over epochs, train dashed and val solid.

    The loss is the cross entropy for every model, so that the curves compare; the distilled student
    minimises a mixture of it.
    """
    figure, (left, right) = _figure(record.title, synthetic, (10, 4.2), 2)
    for model, rows in record.histories.items():
        epochs = np.arange(1, len(rows) + 1)
        label, colour = MODELS[model]
        for axis, name in ((left, "accuracy"), (right, "cross_entropy" if model != "teacher" else "loss")):
            for part, style in (("", "--"), ("val_", "-")):
                values = [row[part + name] for row in rows]
                part_label = f"{label}, {'val' if part else 'train'}"
                axis.plot(epochs, values, style, color=colour, lw=1.2, alpha=0.9, label=part_label)
        _mark_phases(left, rows, colour)
    finish(left, "epoch", "accuracy")
    finish(right, "epoch", "cross entropy")
    left.set_ylim(0, 1.02)
    right.set_ylim(bottom=0)
    for axis in (left, right):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(*left.get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=4)
    return figure


def _mark_phases(axis: Axes, rows: list[dict], colour: str) -> None:
    """A thin line where a teacher goes over from its head to the whole network."""
    changes = [i + 0.5 for i in range(1, len(rows)) if rows[i]["phase"] != rows[i - 1]["phase"]]
    for x in changes:
        axis.axvline(x, color=colour, lw=0.8, ls=":")


def draw_confusion(record: Confusion, *, synthetic: bool = False) -> Figure:
    """The counts, and beside them each as a part of its true class (row); of many classes colours alone."""
    import seaborn as sns  # longer to import than all else that the page needs

    classes = [drawable(name) for name in record.classes]
    few = len(classes) <= MOST_WITH_COUNTS
    side = 2.6 + 0.7 * min(len(classes), MOST_WITH_COUNTS)
    figure, axes = _figure(record.title, synthetic, (2 * side, side), 2)
    share = record.counts / np.maximum(record.counts.sum(axis=1, keepdims=True), 1)
    for axis, cells, style in ((axes[0], record.counts, "d"), (axes[1], share, ".2f")):
        sns.heatmap(
            share, annot=cells if few else None, fmt=style, cmap="Blues", vmin=0, vmax=1, square=True,
            ax=axis, cbar=False, xticklabels=False, yticklabels=False,
        )  # fmt: skip
        # seaborn would draw the whole figure for every one of its labels
        size = {} if few else {"fontsize": min(10, 1000 / len(classes))}
        axis.set_xticks(np.arange(len(classes)) + 0.5, classes, rotation=35, ha="right", **size)
        if axis is axes[0]:
            axis.set_yticks(np.arange(len(classes)) + 0.5, classes, rotation=0, va="center", **size)
    axes[0].set(xlabel="predicted", ylabel="true", title="images")
    axes[1].set(xlabel="predicted", title="part of the true class")
    return figure


def _mark(recipe: str) -> str:
    return "o" if recipe == KERAS else RECIPES[recipe].mark


def draw_quantization_errors(record: QuantizationErrors, *, synthetic: bool = False) -> Figure:
    """Signal to noise of every layer's output, a line per recipe; a ring around each recipe's worst layer."""
    layers = list(dict.fromkeys(row["layer"] for row in record.rows))
    title = f"{record.title}: how far from float"
    figure, (axis,) = _figure(title, synthetic, (4 + 0.42 * len(layers), 4.6))
    for recipe in dict.fromkeys(row["recipe"] for row in record.rows):
        own = [row for row in record.rows if row["recipe"] == recipe]
        places = [layers.index(row["layer"]) for row in own]
        heights = [row["snr_db"] for row in own]
        (line,) = axis.plot(places, heights, lw=1.2, ms=4, marker=_mark(recipe), label=recipe)
        ringed = [i for i, row in enumerate(own) if row["worst"]]
        axis.scatter(
            [places[i] for i in ringed], [heights[i] for i in ringed], s=110, facecolors="none",
            edgecolors=line.get_color(),
        )  # fmt: skip
    axis.set_xticks(range(len(layers)), layers, rotation=35, ha="right", fontsize=8)
    axis.set_ylim(bottom=0)
    finish(axis, "", "signal to noise, dB")
    figure.legend(loc="outside right center", fontsize=8)
    return figure


def draw_pareto(record: Accuracies, *, synthetic: bool = False) -> Figure:
    """Accuracy on test against size and, where it was measured, latency, both on logarithmic scales.

    The interval of the student alone is a band, to judge distances by.
    """
    rows = record.rows
    costs = {"size_kib": "size, KiB", "latency_ms": "one image, ms"}
    known = {column: [row for row in rows if row[column] is not None] for column in costs}
    costs = {column: label for column, label in costs.items() if known[column]}
    figure, axes = _figure("What accuracy costs", synthetic, (5 * len(costs), 4.4), len(costs))
    for axis, (column, label) in zip(axes, costs.items(), strict=True):
        axis.axhspan(*record.intervals["alone", "alone"], color=MODELS["alone"].colour, alpha=0.15, lw=0)
        for row in known[column]:  # a teacher that was not trained has no file of weights
            above = 2 + (row["model"] == "alone")  # the one all others are compared with
            look = {"marker": _mark(row["recipe"]), "color": style_of(row["teacher"], row["model"]).colour}
            axis.scatter(row[column], row["accuracy"], s=46, alpha=0.75, zorder=above, **look)
            if record.is_chosen(row):
                axis.scatter(row[column], row["accuracy"], s=190, zorder=4, **RING)
        spread = max(row[column] for row in known[column]) / min(row[column] for row in known[column])
        _make_logarithmic(axis, (1, 2, 5) if spread < 30 else (1, 3))
        finish(axis, label, "accuracy" if column == "size_kib" else "")
    styles = {style_of(row["teacher"], row["model"]) for row in rows}
    handles = _pareto_legend(axes[0], styles, {row["recipe"] for row in rows})
    if any(map(record.is_chosen, rows)):
        handles.append(axes[0].scatter([], [], s=80, label=CHOSEN, **RING))
    columns = min(len(handles), 3 * len(costs))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8)
    return figure


def style_of(teacher: str, model: str) -> ModelStyle:
    """How the model of a row of a table is drawn."""
    return MODELS[model] if teacher == source_of(teacher) else UNLABELLED


def _pareto_legend(axis: Axes, styles: set[ModelStyle], recipes: set[str]) -> list:
    """A coloured point for each kind of model, a grey mark for each recipe."""
    coloured = [
        axis.scatter([], [], color=style.colour, label=style.label)
        for style in (*MODELS.values(), UNLABELLED)
        if style in styles
    ]
    marked = [
        axis.scatter([], [], color="#555555", marker=_mark(recipe), label=recipe)
        for recipe in (KERAS, *RECIPES)
        if recipe in recipes
    ]
    return coloured + marked


def draw_comparison(record: Accuracies, *, synthetic: bool = False) -> Figure:
    """Test accuracy of teacher and distilled students per teacher; student alone and baseline as lines.

    The intervals are whiskers of the bars and bands around the lines. Squares and dotted lines: on the
    images without a copy in train or val, where some have one.
    """
    rows, intervals = record.rows, record.intervals
    teachers = [row["teacher"] for row in rows if row["model"] == "teacher"]
    floats = {(row["teacher"], row["model"]): row for row in rows if row["recipe"] == KERAS}
    kinds = [("", "teacher"), ("", "distilled"), (WITH_UNLABELLED, "distilled")]
    kinds = [kind for kind in kinds if {(t + kind[0], kind[1]) for t in teachers} & floats.keys()]
    title = "Accuracy on test" + ("" if record.seed is None else f", seed {record.seed}")
    figure, (axis,) = _figure(title, synthetic, (4.5 + 0.55 * len(kinds) * len(teachers), 4.4))
    for model in ("alone", "baseline"):
        if (model, model) in floats:
            _draw_line(axis, floats[model, model], intervals[model, model])
    width = 0.8 / len(kinds)
    for i, (ending, model) in enumerate(kinds):
        own = {
            at: floats[t + ending, model] for at, t in enumerate(teachers) if (t + ending, model) in floats
        }
        names = [(row["teacher"], row["model"]) for row in own.values()]
        heights = np.array([row["accuracy"] for row in own.values()])
        ends = np.array([intervals[name] for name in names]).T  # (2, bars)
        label, colour = style_of(*names[0])
        places = np.array(list(own)) + (i - (len(kinds) - 1) / 2) * width
        axis.bar(places, heights, width - 0.02, color=colour, label=label)
        axis.errorbar(places, heights, np.abs(ends - heights), fmt="none", color="black", capsize=3)
        for place, row in zip(places, own.values(), strict=True):  # at the foot, below the whiskers
            ink = "black" if ending else "white"
            text = f"{row['accuracy']:.3f}"
            axis.text(place, 0.02, text, ha="center", fontsize=8, color=ink, fontweight="bold")
            if has_copies(row):
                axis.plot(place, row["clean_accuracy"], "s", color="white", mec="black", ms=6, zorder=4)
    if any(map(has_copies, floats.values())):
        axis.plot([], [], "s", color="white", mec="black", ms=6, label=CLEAN)
    axis.set_xticks(range(len(teachers)), teachers)
    axis.set_ylim(0, 1.08)
    finish(axis, "teacher", "accuracy, 95 % interval")
    axis.grid(visible=False, axis="x")
    figure.legend(fontsize=8, loc="outside lower center", ncols=2)
    return figure


def has_copies(row: dict) -> bool:
    """Whether a row of `summary.csv` has another score on images without a copy in train or val."""
    return row.get("clean_accuracy") is not None and row["clean_images"] < row["test_images"]


def _draw_line(axis: Axes, row: dict, ends: tuple[float, float]) -> None:
    """A model that no teacher has a part in, as a line with a band."""
    label, colour = MODELS[row["model"]]
    axis.axhspan(*ends, color=colour, alpha=0.15, lw=0)
    axis.axhline(row["accuracy"], color=colour, lw=2, label=f"{label} ({row['accuracy']:.3f})")
    if has_copies(row):
        clean = row["clean_accuracy"]
        axis.axhline(clean, color=colour, lw=2, ls=":", label=f"{label} without copies ({clean:.3f})")


def draw_frontier(record: Frontier, *, synthetic: bool = False) -> Figure:
    """Accuracy on test with its interval against size, work and time; ringed: the file that was chosen."""
    rows = record.rows
    with_copies = [row for row in rows if row["clean_accuracy"] not in (None, row["accuracy"])]
    costs = {column: label for column, label in FRONTIER_COSTS.items() if rows[0][column] is not None}
    title = "What small networks reach: accuracy on test, 95 % intervals"
    figure, axes = _figure(title, synthetic, (4.6 * len(costs), 4.6), len(costs))
    for axis, (column, label) in zip(axes, costs.items(), strict=True):
        for row in rows:
            ends = np.array([[row["accuracy"] - row["low"]], [row["high"] - row["accuracy"]]])
            look = {"color": MODELS[row["model"]].colour, "alpha": 0.8, "markersize": 6, "capsize": 2}
            axis.errorbar(row[column], row["accuracy"], np.maximum(ends, 0), fmt="o", lw=1, **look)
            if row["chosen"]:
                axis.scatter(row[column], row["accuracy"], s=170, zorder=4, **RING)
        for row in with_copies:
            edge = MODELS[row["model"]].colour
            axis.plot(row[column], row["clean_accuracy"], "s", color="white", mec=edge, ms=6)
        _make_logarithmic(axis, (1, 2, 5))
        finish(axis, label, "accuracy" if column == "kib" else "")
    models = dict.fromkeys(row["model"] for row in rows)
    handles = [axes[0].scatter([], [], color=MODELS[m].colour, label=MODELS[m].label) for m in models]
    if with_copies:
        handles.append(axes[0].scatter([], [], marker="s", color="white", ec="black", label=CLEAN))
    handles.append(axes[0].scatter([], [], s=80, label=CHOSEN, **RING))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8)
    return figure
