"""Test and training images as figures: pairs of copies, what a model said of them, where it looked.

Draws what it is given. Right and wrong are written in words and drawn in colours everyone can tell apart.
"""

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from .figures import LABELS, titled

RIGHT, WRONG = "#0072B2", "#D55E00"


class Said(NamedTuple):
    """An image (H, W, C), 0..255, its true class, and what a model called it with what probability."""

    image: np.ndarray
    true: str
    predicted: str
    probability: float

    @property
    def colour(self) -> str:
        return RIGHT if self.true == self.predicted else WRONG


def _show(axis, image, caption=""):
    axis.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axis.set_xlabel(caption, fontsize=7.5)
    axis.set(xticks=[], yticks=[])


def _short(name: str, most=24) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _frame(axis, colour):
    for spine in axis.spines.values():
        spine.set(color=colour, linewidth=2.5)


def examples(rows: list[Said], title: str, *, synthetic=False) -> Figure:
    """A grid of test images in the order given, each framed by whether the model is right."""
    across = 6
    figure = titled(title, synthetic, (1.85 * across, 0.7 + 2.28 * -(-len(rows) // across)))
    axes = figure.subplots(-(-len(rows) // across), across, squeeze=False).flat
    for axis in axes[len(rows) :]:
        axis.set_axis_off()
    for axis, row in zip(axes, rows, strict=False):
        verdict = "right" if row.true == row.predicted else f"truly {_short(row.true)}"
        _show(axis, row.image, f"{_short(row.predicted)}, {row.probability:.2f}\n{verdict}")
        _frame(axis, row.colour)
    return figure


def attention(rows: list[dict], title: str, *, synthetic=False) -> Figure:
    """Grad-CAM side by side: of each image a record `{model: (Said, heat (h, w) in 0..1)}`.

    Bright is what spoke for the class that the model named.
    """
    models = list(rows[0])
    figure = titled(title, synthetic, (2.3 * (len(models) + 1), 0.8 + 2.45 * len(rows)))
    grid = figure.subplots(len(rows), len(models) + 1, squeeze=False)
    for axes, row in zip(grid, rows, strict=True):
        first = next(iter(row.values()))[0]
        _show(axes[0], first.image, f"truly {_short(first.true)}")
        for axis, (said, heat) in zip(axes[1:], row.values(), strict=True):
            note = "" if heat.any() else "\nno part speaks for it"
            _show(axis, first.image, f"{_short(said.predicted)}, {said.probability:.2f}{note}")
            size = first.image.shape[1::-1]
            shown = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BILINEAR))
            # transparent where there is no evidence, so that the anatomy stays visible
            axis.imshow(shown, cmap="inferno", vmin=0, vmax=1, alpha=0.7 * np.clip(shown, 0, 1))
            _frame(axis, said.colour)
    for axis, model in zip(grid[0], ["image", *(LABELS[m] for m in models)], strict=True):
        axis.set_title(model, fontsize=10)
    return figure


def pairs(rows: list[tuple], title: str, *, synthetic=False) -> Figure:
    """Contact sheet of image pairs: rows of (image, its caption, image, its caption, headline)."""
    across = min(3, len(rows))
    down = -(-len(rows) // across)
    figure = titled(title, synthetic, (4.6 * across, 0.9 + 2.75 * down))
    for cell, (first, left, second, right, headline) in zip(
        figure.subfigures(down, across).flat if len(rows) > 1 else [figure.subfigures(1, 1)],
        rows,
        strict=False,
    ):
        cell.suptitle(headline, fontsize=9)
        for axis, image, caption in zip(cell.subplots(1, 2), (first, second), (left, right), strict=True):
            _show(axis, image, caption)
    return figure
