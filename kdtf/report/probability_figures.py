"""Pictures of what probabilities are worth: ROC and precision-recall curves, reliability.

Draws what it is given and computes nothing. Legends stand beside the data, never on it.
"""

from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..evidence.calibration import Reliability
from .figures import MODELS, finish, titled
from .fonts import drawable


class Ranking(NamedTuple):
    """ROC and precision-recall curves by kind of model, a record a class: see `evidence.tables`."""

    title: str
    classes: tuple[str, ...]
    curves: dict[str, list[dict]]


class ReliabilityCurves(NamedTuple):
    """How often the top class is right by how sure the model is, and the ECE, by kind of model."""

    title: str
    curves: dict[str, tuple[Reliability, float]]


def draw_ranking(record: Ranking, *, synthetic: bool = False) -> Figure:
    """ROC curves in the upper row and precision-recall curves in the lower one, a column a class.

    The areas under them stand above each, in the colours of their models.
    """
    classes = record.classes
    figure = titled(record.title, synthetic, (max(3.1 * len(classes) + 0.4, 6), 7.2))
    axes = figure.subplots(2, len(classes), squeeze=False)
    for model, curves in record.curves.items():
        for (upper, lower), curve in zip(axes.T, curves, strict=True):
            style = {"color": MODELS[model].colour, "lw": 1.5}
            upper.plot(curve["false_positive"], curve["true_positive"], **style)
            lower.plot(curve["recall"], curve["precision"], drawstyle="steps-post", **style)
    for k, name in enumerate(classes):
        axes[0, k].plot([0, 1], [0, 1], color="#999999", lw=0.8, ls=":")
        finish(axes[0, k], "1 - specificity", "sensitivity" if not k else "")
        finish(axes[1, k], "recall", "precision" if not k else "")
        for axis in axes[:, k]:
            axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes[0, k].set_title(drawable(name), fontsize=9, pad=20)
        for axis, short, area in ((axes[0, k], "AUC", "auc"), (axes[1, k], "AP", "average_precision")):
            _write_areas(axis, short, {model: curves[k][area] for model, curves in record.curves.items()})
    handles = [axes[0, 0].lines[i] for i in range(len(record.curves))]
    labels = [MODELS[model].label for model in record.curves]
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9)
    return figure


def _write_areas(axis: Axes, short: str, areas: dict[str, float]) -> None:
    """Above an axis what the area under each curve is called, and how large it is."""
    above: dict[str, Any] = {"transform": axis.transAxes, "va": "bottom", "fontsize": 8}
    axis.text(0, 1.02, short, color="#555555", **above)
    for i, (model, area) in enumerate(areas.items()):
        axis.text(
            0.16 + 0.21 * i, 1.02, f"{area:.3f}", color=MODELS[model].colour, fontweight="bold", **above
        )


def draw_reliability(record: ReliabilityCurves, *, synthetic: bool = False) -> Figure:
    """A reliability diagram a model: part right by confidence, above the number of images of each bin.

    Bins of few images have long intervals: no line joins them, which would be read as a course.
    """
    models = list(record.curves)
    figure = titled(record.title, synthetic, (max(3.2 * len(models) + 0.4, 4.6), 5.2))
    axes = figure.subplots(2, len(models), squeeze=False, sharex=True, height_ratios=(3, 1))
    for at, (model, (curve, ece)) in enumerate(record.curves.items()):
        label, colour = MODELS[model]
        upper, lower = axes[:, at]
        upper.plot([0, 1], [0, 1], color="#999999", lw=0.8, ls=":")
        ends = np.maximum([curve.frequency - curve.low, curve.high - curve.frequency], 0)
        look: dict[str, Any] = {"color": colour, "ms": 5, "lw": 1.2, "capsize": 2}
        upper.errorbar(curve.confidence, curve.frequency, ends, fmt="o", label=label, **look)
        upper.set_title(f"{label}\nECE {ece:.3f}", fontsize=9)
        upper.set(xlim=(0, 1.02), ylim=(-0.02, 1.02))
        lower.bar(curve.confidence, curve.count, 0.04, color=colour)
        finish(upper, "", "part that is right, 95 % interval" if not at else "")
        finish(lower, "confidence in the top class", "images" if not at else "")
    return figure
