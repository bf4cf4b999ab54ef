"""Test and training images as figures: pairs of copies, verdicts of models, where they looked.

Draws what it is given. Right and wrong are written in words and drawn in colours everyone can tell apart.
"""

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image

from .figures import MODELS, titled
from .fonts import drawable

RIGHT, WRONG = "#0072B2", "#D55E00"
LINE = 32  # letters of a line below an image


class Verdict(NamedTuple):
    """An image (H, W, C), 0..255, its true class, and what a model called it with what probability."""

    image: np.ndarray
    true: str
    predicted: str
    probability: float

    @property
    def right(self) -> bool:
        """Did the model name the true class."""
        return self.true == self.predicted


class Examples(NamedTuple):
    """Images in the order to be shown."""

    title: str
    verdicts: list[Verdict]


class GradCam(NamedTuple):
    """Of each image a row {kind of model: (its verdict, heat (h, w) in 0..1)}."""

    title: str
    rows: list[dict[str, tuple[Verdict, np.ndarray]]]


class Copies(NamedTuple):
    """Two images (H, W, C), 0..255, a caption for each, and how they are related."""

    images: tuple[np.ndarray, ...]
    captions: tuple[str, ...]
    relation: str


class ContactSheet(NamedTuple):
    """Pairs of images that are copies, in the order to be shown."""

    title: str
    pairs: list[Copies]


def _show(axis: Axes, image: np.ndarray, caption: str = "") -> None:
    pixels = image[..., 0] if image.shape[-1] == 1 else image  # `squeeze` would take an image of 1x1 away
    axis.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axis.set_xlabel(drawable(caption), fontsize=7.5)
    axis.set(xticks=[], yticks=[], anchor="N")  # what room is left is for the caption


def _short(name: str, most: int = 24) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _fitting(caption: str) -> str:
    """A caption whose lines fit below an image: of a file's name the end tells it from its neighbours."""
    lines = (
        line if len(line) <= LINE else f"{line[: LINE // 4]}…{line[1 - LINE * 3 // 4 :]}"
        for line in caption.splitlines()
    )
    return "\n".join(lines)


def _frame(axis: Axes, verdict: Verdict) -> None:
    for spine in axis.spines.values():
        spine.set(color=RIGHT if verdict.right else WRONG, linewidth=2.5)


def draw_examples(record: Examples, *, synthetic: bool = False) -> Figure:
    """A grid of images, each framed by whether the model is right."""
    verdicts, across = record.verdicts, 6
    down = -(-len(verdicts) // across)
    figure = titled(record.title, synthetic, (1.85 * across, 0.7 + 2.28 * down))
    axes = figure.subplots(down, across, squeeze=False).flat
    for axis in axes[len(verdicts) :]:
        axis.set_axis_off()
    for axis, verdict in zip(axes, verdicts, strict=False):
        truth = "right" if verdict.right else f"truly {_short(verdict.true)}"
        _show(axis, verdict.image, f"{_short(verdict.predicted)}, {verdict.probability:.2f}\n{truth}")
        _frame(axis, verdict)
    return figure


def draw_gradcam(record: GradCam, *, synthetic: bool = False) -> Figure:
    """Each image beside what every model looked at: bright is what spoke for the class that it named."""
    rows, models = record.rows, list(record.rows[0])
    figure = titled(record.title, synthetic, (0.9 + 2.3 * (len(models) + 1), 0.8 + 2.45 * len(rows)))
    grid = figure.subplots(len(rows), len(models) + 1, squeeze=False)
    for axes, row in zip(grid, rows, strict=True):
        image, true = next(iter(row.values()))[0][:2]
        _show(axes[0], image, f"truly {_short(true)}")
        for axis, (verdict, heat) in zip(axes[1:], row.values(), strict=True):
            note = "" if heat.any() else "\nno part speaks for it"
            _show(axis, image, f"{_short(verdict.predicted)}, {verdict.probability:.2f}{note}")
            resized = Image.fromarray(heat).resize(image.shape[1::-1], Image.Resampling.BILINEAR)
            overlay = np.asarray(resized)
            # transparent where there is no evidence, so that the anatomy stays visible
            axis.imshow(overlay, cmap="inferno", vmin=0, vmax=1, alpha=0.7 * np.clip(overlay, 0, 1))
            _frame(axis, verdict)
    scale = figure.colorbar(ScalarMappable(Normalize(0, 1), "inferno"), ax=grid, shrink=0.6, pad=0.02)
    scale.set_label("evidence for the class named: 0 none, 1 the most in its image", fontsize=9)
    for axis, heading in zip(grid[0], ["image", *(MODELS[m].label for m in models)], strict=True):
        axis.set_title(heading, fontsize=10)
    return figure


def draw_contact_sheet(record: ContactSheet, *, synthetic: bool = False) -> Figure:
    """Pairs of images side by side, their relation above them."""
    pairs = record.pairs
    across = min(3, len(pairs))
    down = -(-len(pairs) // across)
    lines = max(len(caption.splitlines()) for pair in pairs for caption in pair.captions)
    figure = titled(record.title, synthetic, (4.6 * across, 0.9 + (2.55 + 0.16 * lines) * down))
    cells = figure.subfigures(down, across, squeeze=False, hspace=0.09).flat
    for cell, pair in zip(cells, pairs, strict=False):
        cell.suptitle(pair.relation, fontsize=9)
        for axis, image, caption in zip(cell.subplots(1, 2), pair.images, pair.captions, strict=True):
            _show(axis, image, _fitting(caption))
    return figure
