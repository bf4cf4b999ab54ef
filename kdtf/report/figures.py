"""Records to figures. Draws what it is given and computes nothing; one colour per model everywhere.

Colours are Okabe and Ito's colour-blind safe set (2008).
"""

import matplotlib

matplotlib.use("Agg")  # no screen is needed, nor looked for

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

COLOURS = {"teacher": "#0072B2", "alone": "#E69F00", "distilled": "#009E73", "baseline": "#CC79A7"}
LABELS = {
    "teacher": "teacher",
    "alone": "student alone",
    "distilled": "student distilled",
    "baseline": "baseline",
}
SYNTHETIC = "Synthetic phantom images: not patient data"


def titled(title: str, synthetic: bool, size) -> Figure:
    """An empty figure, size in inches, that says under its title when the images are synthetic."""
    figure = Figure(figsize=size, layout="constrained", dpi=110)
    figure.suptitle(f"{title}\n{SYNTHETIC}" if synthetic else title, fontsize=12)
    return figure


def _figure(title: str, synthetic: bool, size, columns=1):
    figure = titled(title, synthetic, size)
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _finish(axis, xlabel, ylabel):
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def curves(histories: dict[str, list[dict]], title: str, *, synthetic=False) -> Figure:
    """Accuracy and loss over epochs, train dashed and val solid, of `{model: history rows}`.

    The loss is the cross entropy for every model, so that the curves compare; the distilled student
    minimises a mixture of it.
    """
    figure, (left, right) = _figure(title, synthetic, (10, 4.2), 2)
    for model, rows in histories.items():
        epochs = np.arange(1, len(rows) + 1)
        for axis, name in ((left, "accuracy"), (right, "cross_entropy" if model != "teacher" else "loss")):
            for part, style in (("", "--"), ("val_", "-")):
                label = f"{LABELS[model]}, {'val' if part else 'train'}"
                values = [row[part + name] for row in rows]
                axis.plot(epochs, values, style, color=COLOURS[model], lw=1.2, alpha=0.9, label=label)
        _mark_phases(left, rows, model)
    _finish(left, "epoch", "accuracy")
    _finish(right, "epoch", "cross entropy")
    left.set_ylim(0, 1.02)
    right.set_ylim(bottom=0)
    for axis in (left, right):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.legend(fontsize=8, loc="lower right")
    return figure


def _mark_phases(axis, rows, model):
    """A thin line where a teacher goes over from its head to the whole network."""
    changes = [i + 0.5 for i in range(1, len(rows)) if rows[i]["phase"] != rows[i - 1]["phase"]]
    for x in changes:
        axis.axvline(x, color=COLOURS[model], lw=0.8, ls=":")


def confusion(counts: np.ndarray, classes, title: str, *, synthetic=False) -> Figure:
    """Confusion matrix (K, K): the counts, and beside them each as a part of its true class (row)."""
    side = 2.6 + 0.7 * len(classes)
    figure, axes = _figure(title, synthetic, (2 * side, side), 2)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for axis, cells, style in ((axes[0], counts, "d"), (axes[1], share, ".2f")):
        sns.heatmap(
            share, annot=cells, fmt=style, cmap="Blues", vmin=0, vmax=1, square=True, ax=axis, cbar=False,
            xticklabels=classes, yticklabels=classes if axis is axes[0] else False,
        )  # fmt: skip
        axis.tick_params(axis="x", rotation=35)
        axis.tick_params(axis="y", rotation=0)
        for label in axis.get_xticklabels():
            label.set_horizontalalignment("right")
    axes[0].set(xlabel="predicted", ylabel="true", title="images")
    axes[1].set(xlabel="predicted", title="part of the true class")
    return figure


def ranking(curves: dict[str, list[dict]], classes, title: str, *, synthetic=False) -> Figure:
    """ROC (upper row) and precision-recall curves (lower) of every class, of `{model: a record a class}`.

    A record holds `false_positive, true_positive, recall, precision` as arrays, `auc` and
    `average_precision`.
    """
    figure = titled(title, synthetic, (3.1 * len(classes) + 0.4, 6.6))
    axes = figure.subplots(2, len(classes), squeeze=False)
    for model, records in curves.items():
        for (upper, lower), record in zip(axes.T, records, strict=True):
            style = {"color": COLOURS[model], "lw": 1.5}
            upper.plot(
                record["false_positive"], record["true_positive"], label=f"{record['auc']:.3f}", **style
            )
            label = f"{record['average_precision']:.3f}"
            lower.plot(record["recall"], record["precision"], drawstyle="steps-post", label=label, **style)
    for k, name in enumerate(classes):
        axes[0, k].plot([0, 1], [0, 1], color="#999999", lw=0.8, ls=":")
        axes[0, k].set_title(name, fontsize=9)
        _finish(axes[0, k], "1 - specificity", "sensitivity" if not k else "")
        _finish(axes[1, k], "recall", "precision" if not k else "")
        for axis, what in ((axes[0, k], "AUC"), (axes[1, k], "AP")):
            axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
            axis.legend(
                fontsize=8, title=what, title_fontsize=8, loc="lower right" if what == "AUC" else "lower left"
            )
    handles = [axes[0, 0].lines[i] for i in range(len(curves))]
    figure.legend(handles, [LABELS[m] for m in curves], loc="outside lower center", ncols=3, fontsize=9)
    return figure


def reliability(curves: dict[str, tuple], title: str, *, synthetic=False) -> Figure:
    """How often the top class is right (vertical) by how sure the model is (horizontal).

    Of `{model: (Reliability, ECE)}`; a point's area is the number of images in its bin.
    """
    figure, (axis,) = _figure(title, synthetic, (5.6, 5.2))
    axis.plot([0, 1], [0, 1], color="#999999", lw=0.8, ls=":")
    for model, (r, ece) in curves.items():
        label = f"{LABELS[model]}, ECE {ece:.3f}"
        axis.plot(r.confidence, r.frequency, "-", color=COLOURS[model], lw=1.2, label=label)
        size = 8 + 160 * r.count / r.count.sum()
        axis.scatter(r.confidence, r.frequency, s=size, color=COLOURS[model], alpha=0.8)
    _finish(axis, "confidence in the top class", "part that is right")
    axis.set(xlim=(0, 1.02), ylim=(-0.02, 1.02))
    axis.legend(fontsize=8, loc="upper left")
    return figure


MARKS = {
    "keras": "o", "float32": "s", "float16": "^", "dynamic": "v", "int8": "D", "int16x8": "<", "int4": ">",
    "int8-qat": "p", "int8-prune": "X", "int8-cluster": "h", "int8-mixed": "d",
}  # fmt: skip


def quantization_error(rows: list[dict], title: str, *, synthetic=False) -> Figure:
    """Signal to noise of every layer's output, a line per recipe; a ring around each recipe's worst layer.

    Rows hold `recipe layer snr_db worst`.
    """
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    figure, (axis,) = _figure(f"{title}: how far from float", synthetic, (4 + 0.42 * len(layers), 4.6))
    for recipe in dict.fromkeys(row["recipe"] for row in rows):
        own = [row for row in rows if row["recipe"] == recipe]
        places = [layers.index(row["layer"]) for row in own]
        heights = [row["snr_db"] for row in own]
        (line,) = axis.plot(places, heights, lw=1.2, ms=4, marker=MARKS.get(recipe, "P"), label=recipe)
        at = [i for i, row in enumerate(own) if row["worst"]]
        axis.scatter(
            [places[i] for i in at], [heights[i] for i in at], s=110, facecolors="none",
            edgecolors=line.get_color(),
        )  # fmt: skip
    axis.set_xticks(range(len(layers)), layers, rotation=35, ha="right", fontsize=8)
    axis.set_ylim(bottom=0)
    _finish(axis, "", "signal to noise, dB")
    figure.legend(loc="outside right center", fontsize=8)
    return figure


def pareto(rows: list[dict], intervals: dict[tuple[str, str], tuple], *, synthetic=False) -> Figure:
    """Accuracy on test against size and, where it was measured, latency, both on logarithmic scales.

    `intervals` as for `comparison`: that of the student alone is a band, to judge distances by.
    """
    costs = {"size_kib": "size, KiB", "latency_ms": "one image, ms"}
    costs = {column: label for column, label in costs.items() if rows[0][column] is not None}
    figure, axes = _figure("What accuracy costs", synthetic, (5 * len(costs), 4.4), len(costs))
    for axis, (column, label) in zip(axes, costs.items(), strict=True):
        axis.axhspan(*intervals["alone", "alone"], color=COLOURS["alone"], alpha=0.15, lw=0)
        for row in rows:
            mark = MARKS.get(row["recipe"], "P")
            above = 2 + (row["model"] == "alone")  # the one all others are compared with
            look = {"marker": mark, "s": 46, "color": COLOURS[row["model"]], "alpha": 0.75, "zorder": above}
            axis.scatter(row[column], row["accuracy"], **look)
        axis.set_xscale("log")
        spread = max(row[column] for row in rows) / min(row[column] for row in rows)
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if spread < 30 else (1, 3)))
        axis.xaxis.set_major_formatter("{x:,g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
        _finish(axis, label, "accuracy" if column == "size_kib" else "")
    names = {row["recipe"] for row in rows}
    models = [m for m in LABELS if any(row["model"] == m for row in rows)]
    handles = [axes[0].scatter([], [], color=COLOURS[m], label=LABELS[m]) for m in models]
    handles += [
        axes[0].scatter([], [], color="#555555", marker=MARKS.get(r, "P"), label=r)
        for r in MARKS
        if r in names
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)
    return figure


def comparison(rows: list[dict], intervals: dict[tuple[str, str], tuple], *, synthetic=False) -> Figure:
    """Test accuracy of teacher and distilled student per teacher; student alone and baseline as lines.

    `intervals` is {(teacher, model): (low, high)}: whiskers of the bars, a band around the lines.
    """
    teachers = [row["teacher"] for row in rows if row["model"] == "teacher"]
    value = {(row["teacher"], row["model"]): row["accuracy"] for row in rows if row["recipe"] == "keras"}
    figure, (axis,) = _figure("Accuracy on test", synthetic, (3.5 + 1.1 * len(teachers), 4.4))
    for model in ("alone", "baseline"):
        height = value.get((model, model))
        if height is not None:
            axis.axhspan(*intervals[model, model], color=COLOURS[model], alpha=0.15, lw=0)
            axis.axhline(height, color=COLOURS[model], lw=2, label=f"{LABELS[model]} ({height:.3f})")
    places = np.arange(len(teachers))
    for offset, model in ((-0.2, "teacher"), (0.2, "distilled")):
        heights = np.array([value[t, model] for t in teachers])
        ends = np.array([intervals[t, model] for t in teachers]).T  # (2, teachers)
        bars = axis.bar(places + offset, heights, 0.38, color=COLOURS[model], label=LABELS[model])
        axis.errorbar(places + offset, heights, np.abs(ends - heights), fmt="none", color="black", capsize=3)
        axis.bar_label(bars, fmt="%.3f", label_type="center", fontsize=8, color="white", fontweight="bold")
    axis.set_xticks(places, teachers)
    axis.set_ylim(0, 1.08)
    _finish(axis, "teacher", "accuracy, 95 % interval")
    axis.grid(visible=False, axis="x")
    figure.legend(fontsize=8, loc="outside lower center", ncols=min(4, 1 + len(teachers)))
    return figure
