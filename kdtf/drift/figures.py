"""A log in pictures: the statistics of the images and the answers, window by window. Computes no verdict."""

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes

from ..predictor import STATISTICS
from ..report.figures import png, titled
from ..report.fonts import drawable
from .comparison import CHECKS, CLASSES, UNCERTAIN, UNLIKE
from .expectation import Expectation, Reference
from .reading import Log
from .verdict import CHANGED, UNUSUAL, JudgedWindow, Verdict

UNITS = {
    "brightness": "mean grey level",
    "contrast": "SD of grey levels",
    "colour": "grey levels",
    "layout": "%",
}
SERIES = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#999999",
)  # of classes
CALM, ALARM, BAND = "#0072B2", "#D55E00", "#e3e8ec"
MARKS = {CHANGED: (ALARM, "D"), UNUSUAL: (ALARM, "o")}
MOST_TICKS = 8
MOST_CLASSES = 7  # that are drawn; the others are drawn together
TILT = 30  # degrees


def statistics_picture(verdict: Verdict, log: Log, expected: Expectation) -> bytes | None:
    """Median and the middle 90 % of each statistic by window, over those of train and val; a PNG.

    A statistic that is 0 everywhere, as the colour of grey images, is left out; None where nothing is left.
    """
    windows = [own for own in verdict.windows if own.checks]
    names = [name for name in STATISTICS if _varies(log.statistics[name], expected.statistics[name].values())]
    if not windows or not names:
        return None
    figure = titled("The images, window by window", False, (9.5, 0.7 + 2.1 * len(names)))
    panels = figure.subplots(len(names), 1, squeeze=False, sharex=True)[:, 0]
    for name, axes in zip(names, panels, strict=True):
        _draw_statistic(axes, name, windows, list(expected.statistics[name].values()))
    _name_windows(panels[-1], windows)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8)
    return png(figure)


def _varies(values: np.ndarray, references: Iterable[Reference]) -> bool:
    ends = [values.min(), values.max()]
    for own in references:
        ends += [own.values[0], own.values[-1]]
    return min(ends) < max(ends)


def _draw_statistic(axes: Axes, name: str, windows: list[JudgedWindow], references: list[Reference]) -> None:
    low = min(own.quantile(0.05) for own in references)
    high = max(own.quantile(0.95) for own in references)
    axes.axhspan(low, high, color=BAND, lw=0, label="train and val, middle 90 %")
    axes.axhline(references[0].quantile(0.5), color="#5b6b7a", lw=1, ls="--", label="median of train")
    checks = [own.checks[CHECKS.index(name)] for own in windows]
    median, least, most = np.array([own.check.observed for own in checks]).T
    at = np.arange(len(windows))
    axes.vlines(at, least, most, color=CALM, lw=1.6, alpha=0.55)
    axes.plot(at, median, "o", color=CALM, ms=4, label="window: median, middle 90 %")
    _mark(axes, at, median, [own.state for own in checks])
    axes.set_ylabel(f"{name}\n{UNITS[name]}", fontsize=9)
    _plain(axes)


def _mark(axes: Axes, at: np.ndarray, values: np.ndarray, states: list[str]) -> None:
    """The windows that are not as expected, in the colour of alarm: filled where they changed."""
    for state, (colour, marker) in MARKS.items():
        rows = np.array([own == state for own in states], bool)
        face = colour if state == CHANGED else "white"
        axes.plot(at[rows], values[rows], marker, color=colour, mfc=face, ms=7, ls="", label=state)


def answers_picture(verdict: Verdict, log: Log, expected: Expectation) -> bytes | None:
    """The mix of classes and the parts that are uncertain and unlike, by window, val first; a PNG."""
    windows = [own for own in verdict.windows if own.checks]
    if not windows:
        return None
    figure = titled("The answers, window by window", False, (9.5, 6.6))
    mix, rates = figure.subplots(2, 1)
    _draw_mix(mix, windows, log, expected)
    _draw_rates(rates, windows, expected)
    return png(figure)


def _draw_mix(axes: Axes, windows: list[JudgedWindow], log: Log, expected: Expectation) -> None:
    """Bars of 100 %: val first, then the windows."""
    kinds = len(expected.classes)
    counts = [np.bincount(log.named[own.window.rows], minlength=kinds) for own in windows]
    parts = np.array([own / own.sum() for own in (expected.val.named, *counts)])  # (1 + W, K)
    order = np.argsort(-parts.sum(axis=0), kind="stable")
    shown, rest = order[:MOST_CLASSES], order[MOST_CLASSES:]
    columns = [parts[:, k] for k in shown] + ([parts[:, rest].sum(axis=1)] if len(rest) else [])
    labels = [drawable(expected.classes[k]) for k in shown] + ([f"{len(rest)} others"] if len(rest) else [])
    at, base = np.array([-1.5, *range(len(windows))]), np.zeros(len(parts))
    for colour, label, own in zip(SERIES, labels, columns, strict=False):
        axes.bar(at, 100 * own, bottom=100 * base, color=colour, width=0.9, label=label, lw=0)
        base = base + own
    axes.set_ylabel("class named, %", fontsize=9)
    axes.set_ylim(0, 100)
    states = [own.checks[CHECKS.index(CLASSES)].state for own in windows]
    _mark(axes, at[1:], np.full(len(windows), 96.0), states)
    _name_windows(axes, windows, first=["val"])
    handles, names = axes.get_legend_handles_labels()
    kept = [i for i, name in enumerate(names) if name not in MARKS]
    axes.legend([handles[i] for i in kept], [names[i] for i in kept], loc="center left",
                bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)  # fmt: skip
    _plain(axes)


def _draw_rates(axes: Axes, windows: list[JudgedWindow], expected: Expectation) -> None:
    at = np.arange(len(windows))
    val = {UNCERTAIN: expected.val.uncertain, UNLIKE: expected.val.unlike}
    for name, colour, shape in ((UNCERTAIN, SERIES[0], "o"), (UNLIKE, SERIES[2], "s")):
        checks = [own.checks[CHECKS.index(name)] for own in windows]
        parts = np.array([100 * own.check.observed[0] for own in checks])
        axes.axhline(
            100 * val[name] / expected.val.images, color=colour, lw=1, ls="--", label=f"{name} on val"
        )
        axes.plot(at, parts, shape, ls="-", lw=0.8, color=colour, ms=4, label=name)
        _mark(axes, at, parts, [own.state for own in checks])
    axes.set_ylabel("of the images, %", fontsize=9)
    axes.set_ylim(bottom=-2)
    axes.set_xlim(-2.2, len(windows) - 0.4)
    _name_windows(axes, windows)
    handles, names = axes.get_legend_handles_labels()
    kept = {name: handle for handle, name in zip(handles, names, strict=True)}
    axes.legend(list(kept.values()), list(kept), loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8,
                frameon=False)  # fmt: skip
    _plain(axes)


def _name_windows(axes: Axes, windows: list[JudgedWindow], first: list[str] | None = None) -> None:
    every = max(1, -(-len(windows) // MOST_TICKS))
    at = list(range(0, len(windows), every))
    names = [windows[i].window.name for i in at]
    axes.set_xticks(
        [-1.5] * len(first or []) + at, (first or []) + names, rotation=TILT, ha="right", fontsize=8
    )


def _plain(axes: Axes) -> None:
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def pictures(verdict: Verdict, log: Log, expected: Expectation) -> dict[str, bytes]:
    """{caption: PNG}, those that there is something to draw of."""
    drawn = {
        "Each statistic by window: the dot is the median, the line the middle 90 % of the images. Grey is "
        "what train and val look like. A diamond changed; an open ring is unusual taken alone.":
            statistics_picture(verdict, log, expected),
        "What the student said: the classes it named, with those on val at the left; below, how many answers "
        "were uncertain and how many images unlike the training images.":
            answers_picture(verdict, log, expected),
    }  # fmt: skip
    return {caption: content for caption, content in drawn.items() if content is not None}
