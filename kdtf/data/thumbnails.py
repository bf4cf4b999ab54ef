"""Grey thumbnails of images, by which near copies are found: 512 bytes an image kept, the rest made anew.

A correlation is taken of thumbnails of 64 x 64 pixels, 16 KiB an image. Only averages of them over squares
are kept, in a file, and rule nearly all pairs out; the thumbnails themselves are made again, of the pixels,
for the pairs that are left. Compares nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..predictor import to_image
from .arrays import forget

SIDE = 64  # px, of the grey thumbnails that are compared
COARSE = 16  # px, of the averages that rule most pairs out
AT_ONCE = 512  # thumbnails in memory, where they are gone through once

Fine = Callable[[np.ndarray], np.ndarray]  # rows (n,) to their unit thumbnails (n, SIDE * SIDE) float32


@dataclass(frozen=True)
class Thumbnails:
    """Unit thumbnails of N images: averages of them, and themselves where they are asked for by row."""

    coarse: np.ndarray  # (N, COARSE * COARSE) float16, lengths in the same space
    constant: np.ndarray  # (N,) bool: of one grey level, and so near nothing
    fine: Fine
    folder: Path | None = None  # for what else is kept of each image; by default that of temporary files

    @classmethod
    def of(cls, units: np.ndarray) -> "Thumbnails":
        """Those of unit thumbnails (N, SIDE * SIDE) that are all there."""
        kept = [sketch(units[start : start + AT_ONCE]) for start in range(0, max(1, len(units)), AT_ONCE)]
        coarse, constant = (np.concatenate(parts) for parts in zip(*kept, strict=True))
        return cls(coarse, constant, units.__getitem__)


def thumbnail(grey: Image.Image) -> np.ndarray:
    """A grey image as (SIDE * SIDE,) float32."""
    small = grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(small, np.float32).ravel()


def unit(thumbs: np.ndarray) -> np.ndarray:
    """Thumbnails (N, 4096) of which a dot product is a correlation; a constant image has none."""
    centred = thumbs - thumbs.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.where(norm > 0, norm, 1)


def unit_thumbnails(pixels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Those (n, 4096) of some rows (n,) of images (N, H, W, C)."""
    thumbs = np.empty((len(rows), SIDE * SIDE), np.float32)
    for i, row in enumerate(rows.tolist()):
        thumbs[i] = thumbnail(to_image(pixels[row]).convert("L"))
    forget(pixels)
    return unit(thumbs)


def sketch(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(averages (n, 256) float16, which are constant (n,)) of unit thumbnails (n, 4096).

    Averages are over squares, by which no two get further apart.
    """
    factor = SIDE // COARSE
    # rows first: twice as fast as both axes at once
    by_row = units.reshape(len(units), COARSE, factor, SIDE).sum(axis=2)
    squares = by_row.reshape(len(units), COARSE, COARSE, factor).sum(axis=3)
    coarse = squares.reshape(len(units), COARSE**2) / factor
    return coarse.astype(np.float16), np.logical_not(units.any(axis=1))
