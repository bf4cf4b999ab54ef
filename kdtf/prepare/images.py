"""One image file -> its pixels and its hash -> squares, by the functions the predictor decodes with.

What becomes of an image is decided in `predictor` alone, so that a device sees what training saw.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from .. import predictor
from ..predictor import Unusable
from ..store import file_digest

__all__ = ["Picture", "Unusable", "read_image", "square"]


class Picture(NamedTuple):
    image: Image.Image  # mode L or RGB
    sha256: str  # of the file's bytes
    peak: int | None  # largest value of a 16-bit grey image without a window


def read_image(path: Path, window: tuple[float, ...] = ()) -> Picture:
    """Decode a PNG, JPEG, TIFF or BMP as `predictor.read_image` does. Raises `Unusable`."""
    got = predictor.read_image(path, window)
    return Picture(got.image, file_digest(path), got.peak)


def square(image: Image.Image, side: int, *, keep_aspect: bool, grey: bool) -> np.ndarray:
    """(side, side, 1 or 3) uint8, stretched or padded with black: `predictor.to_pixels`."""
    return predictor.to_pixels(image, (side, side, 1 if grey else 3), keep_aspect)
