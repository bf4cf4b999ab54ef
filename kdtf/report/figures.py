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

from ..evidence.calibration import Reliability
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


class Ranking(NamedTuple):
    """ROC and precision-recall curves by kind of model, a record a class: see `evidence.tables`."""

    title: str
    classes: tuple[str, ...]
    curves: dict[str, list[dict]]


class ReliabilityCurves(NamedTuple):
    """How often the top class is right by how sure the model is, and the ECE, by kind of model."""

    title: str
    curves: dict[str, tuple[Reliability, float]]


class QuantizationErrors(NamedTuple):
    """How far every layer is from float: rows with `recipe layer snr_db worst`."""

    title: str
    rows: list[dict]


class Accuracies(NamedTuple):
    """Rows of `summary.csv`, and the 95 % interval of accuracy of what is no `.tflite`.

    `intervals` is {(teacher, model): (low, high)}.
    """

    rows: list[dict]
    intervals: dict[tuple[str, str], tuple[float, float]]


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


def _finish(axis: Axes, xlabel: str, ylabel: str) -> None:
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
    _finish(left, "epoch", "accuracy")
    _finish(right, "epoch", "cross entropy")
    left.set_ylim(0, 1.02)
    right.set_ylim(bottom=0)
    for axis in (left, right):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.legend(fontsize=8, loc="lower right")
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


def draw_ranking(record: Ranking, *, synthetic: bool = False) -> Figure:
    """ROC curves in the upper row and precision-recall curves in the lower one, a column a class."""
    classes = record.classes
    figure = titled(record.title, synthetic, (3.1 * len(classes) + 0.4, 6.6))
    axes = figure.subplots(2, len(classes), squeeze=False)
    for model, curves in record.curves.items():
        for (upper, lower), curve in zip(axes.T, curves, strict=True):
            style = {"color": MODELS[model].colour, "lw": 1.5}
            upper.plot(curve["false_positive"], curve["true_positive"], label=f"{curve['auc']:.3f}", **style)
            label = f"{curve['average_precision']:.3f}"
            lower.plot(curve["recall"], curve["precision"], drawstyle="steps-post", label=label, **style)
    for k, name in enumerate(classes):
        axes[0, k].plot([0, 1], [0, 1], color="#999999", lw=0.8, ls=":")
        axes[0, k].set_title(drawable(name), fontsize=9)
        _finish(axes[0, k], "1 - specificity", "sensitivity" if not k else "")
        _finish(axes[1, k], "recall", "precision" if not k else "")
        for axis, metric, place in (
            (axes[0, k], "AUC", "lower right"),
            (axes[1, k], "AP", "lower left"),
        ):
            axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
            axis.legend(fontsize=8, title=metric, title_fontsize=8, loc=place)
    handles = [axes[0, 0].lines[i] for i in range(len(record.curves))]
    labels = [MODELS[model].label for model in record.curves]
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    return figure


def draw_reliability(record: ReliabilityCurves, *, synthetic: bool = False) -> Figure:
    """A reliability diagram: part right (vertical) by confidence; a point's area is its images."""
    figure, (axis,) = _figure(record.title, synthetic, (5.6, 5.2))
    axis.plot([0, 1], [0, 1], color="#999999", lw=0.8, ls=":")
    for model, (curve, ece) in record.curves.items():
        confidence, frequency, count = curve
        label, colour = MODELS[model]
        axis.plot(confidence, frequency, "-", color=colour, lw=1.2, label=f"{label}, ECE {ece:.3f}")
        axis.scatter(confidence, frequency, s=8 + 160 * count / count.sum(), color=colour, alpha=0.8)
    _finish(axis, "confidence in the top class", "part that is right")
    axis.set(xlim=(0, 1.02), ylim=(-0.02, 1.02))
    axis.legend(fontsize=8, loc="upper left")
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
    _finish(axis, "", "signal to noise, dB")
    figure.legend(loc="outside right center", fontsize=8)
    return figure


def draw_pareto(record: Accuracies, *, synthetic: bool = False) -> Figure:
    """Accuracy on test against size and, where it was measured, latency, both on logarithmic scales.

    The interval of the student alone is a band, to judge distances by.
    """
    rows = record.rows
    costs = {"size_kib": "size, KiB", "latency_ms": "one image, ms"}
    costs = {column: label for column, label in costs.items() if rows[0][column] is not None}
    figure, axes = _figure("What accuracy costs", synthetic, (5 * len(costs), 4.4), len(costs))
    for axis, (column, label) in zip(axes, costs.items(), strict=True):
        axis.axhspan(*record.intervals["alone", "alone"], color=MODELS["alone"].colour, alpha=0.15, lw=0)
        for row in rows:
            above = 2 + (row["model"] == "alone")  # the one all others are compared with
            look = {"marker": _mark(row["recipe"]), "color": style_of(row["teacher"], row["model"]).colour}
            axis.scatter(row[column], row["accuracy"], s=46, alpha=0.75, zorder=above, **look)
        spread = max(row[column] for row in rows) / min(row[column] for row in rows)
        _make_logarithmic(axis, (1, 2, 5) if spread < 30 else (1, 3))
        _finish(axis, label, "accuracy" if column == "size_kib" else "")
    styles = {style_of(row["teacher"], row["model"]) for row in rows}
    handles = _pareto_legend(axes[0], styles, {row["recipe"] for row in rows})
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)
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

    The intervals are whiskers of the bars and bands around the lines.
    """
    rows, intervals = record.rows, record.intervals
    teachers = [row["teacher"] for row in rows if row["model"] == "teacher"]
    value = {(row["teacher"], row["model"]): row["accuracy"] for row in rows if row["recipe"] == KERAS}
    kinds = [("", "teacher"), ("", "distilled"), (WITH_UNLABELLED, "distilled")]
    kinds = [kind for kind in kinds if {(t + kind[0], kind[1]) for t in teachers} & value.keys()]
    figure, (axis,) = _figure("Accuracy on test", synthetic, (3.5 + 0.55 * len(kinds) * len(teachers), 4.4))
    for model in ("alone", "baseline"):
        height, (label, colour) = value.get((model, model)), MODELS[model]
        if height is not None:
            axis.axhspan(*intervals[model, model], color=colour, alpha=0.15, lw=0)
            axis.axhline(height, color=colour, lw=2, label=f"{label} ({height:.3f})")
    width = 0.8 / len(kinds)
    for i, (ending, model) in enumerate(kinds):
        names = {at: (t + ending, model) for at, t in enumerate(teachers) if (t + ending, model) in value}
        heights = np.array([value[name] for name in names.values()])
        ends = np.array([intervals[name] for name in names.values()]).T  # (2, bars)
        label, colour = style_of(*next(iter(names.values())))
        places = np.array(list(names)) + (i - (len(kinds) - 1) / 2) * width
        axis.bar(places, heights, width - 0.02, color=colour, label=label)
        axis.errorbar(places, heights, np.abs(ends - heights), fmt="none", color="black", capsize=3)
        for place, height in zip(places, heights, strict=True):  # at the foot, below the whiskers
            ink = "black" if ending else "white"
            axis.text(place, 0.02, f"{height:.3f}", ha="center", fontsize=8, color=ink, fontweight="bold")
    axis.set_xticks(range(len(teachers)), teachers)
    axis.set_ylim(0, 1.08)
    _finish(axis, "teacher", "accuracy, 95 % interval")
    axis.grid(visible=False, axis="x")
    figure.legend(fontsize=8, loc="outside lower center", ncols=min(4, 1 + len(teachers)))
    return figure


def draw_frontier(record: Frontier, *, synthetic: bool = False) -> Figure:
    """Accuracy on test with its interval against size, work and time; ringed: the file that was chosen."""
    rows = record.rows
    costs = {column: label for column, label in FRONTIER_COSTS.items() if rows[0][column] is not None}
    title = "What small networks reach: accuracy on test, 95 % intervals"
    figure, axes = _figure(title, synthetic, (4.6 * len(costs), 4.6), len(costs))
    for axis, (column, label) in zip(axes, costs.items(), strict=True):
        for row in rows:
            ends = np.array([[row["accuracy"] - row["low"]], [row["high"] - row["accuracy"]]])
            look = {"color": MODELS[row["model"]].colour, "alpha": 0.8, "markersize": 6, "capsize": 2}
            axis.errorbar(row[column], row["accuracy"], np.maximum(ends, 0), fmt="o", lw=1, **look)
            if row["chosen"]:
                ring = {"s": 170, "facecolors": "none", "edgecolors": "black", "linewidths": 1.6}
                axis.scatter(row[column], row["accuracy"], zorder=4, **ring)
        _make_logarithmic(axis, (1, 2, 5))
        _finish(axis, label, "accuracy" if column == "kib" else "")
    models = dict.fromkeys(row["model"] for row in rows)
    handles = [axes[0].scatter([], [], color=MODELS[m].colour, label=MODELS[m].label) for m in models]
    ring = {"facecolors": "none", "edgecolors": "black", "s": 80, "label": "goes on with"}
    figure.legend(
        handles=[*handles, axes[0].scatter([], [], **ring)], loc="outside lower center", ncols=4, fontsize=8
    )
    return figure
