"""A decoded image, and the square that becomes of it, by the function the predictor uses on a device."""

from typing import NamedTuple

import numpy as np
from PIL import Image

from ..predictor import to_pixels


class Picture(NamedTuple):
    """One image of the source."""

    image: Image.Image  # mode L or RGB
    sha256: str  # of the file's bytes
    peak: int | None  # largest value of a 16-bit grey image without a window


def square(image: Image.Image, side: int, *, keep_aspect: bool, grey: bool) -> np.ndarray:
    """(side, side, 1 or 3) uint8, stretched or padded with black: `predictor.to_pixels`."""
    return to_pixels(image, (side, side, 1 if grey else 3), keep_aspect)
