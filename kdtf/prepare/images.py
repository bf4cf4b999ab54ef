"""One image file -> upright, opaque 8-bit pixels -> squares.

An image that is damaged, cut short, too large or of several pages is refused with a reason, never
repaired. The file's bytes reach Pillow's decoders of four formats and nothing else.
"""

import hashlib
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .. import npz

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
# What decoders raise, between them, on damaged or hostile files.
UNREADABLE = (
    *npz.UNREADABLE,
    *BOMBS,
    struct.error,
    LookupError,
    AttributeError,
    ArithmeticError,
    MemoryError,
)
FULL_16_BIT = (0, 65535)


class Unusable(Exception):
    """An image that cannot be taken. Its text is the reason: no path and nothing out of a header."""


class Picture(NamedTuple):
    image: Image.Image  # mode L or RGB
    sha256: str  # of the file's bytes
    peak: int | None  # largest value of a 16-bit grey image without a window


def read_image(path: Path, window: tuple[float, ...] = ()) -> Picture:
    """Decode a PNG, JPEG, TIFF or BMP; `window` is (center, width) of 16- and 32-bit grey levels, or ().

    Without a window 16 bits are 0..65535, and 32 bits the image's own minimum to maximum. Raises `Unusable`.
    """
    try:
        with open(path, "rb") as file:
            sha = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            with Image.open(file, formats=FORMATS) as image:
                _check(image)
                image.load()  # before the EXIF data: in a PNG they may follow the pixels
                ImageOps.exif_transpose(image, in_place=True)
                flat, peak = _flatten(image, window)
    except UnidentifiedImageError:
        raise Unusable(f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image") from None
    except BOMBS:
        raise Unusable(_too_large()) from None
    except UNREADABLE as error:  # the text of an OSError with a number names the path
        text = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise Unusable(text or type(error).__name__) from None
    return Picture(flat, sha, peak)


def check_pixels(width: int, height: int) -> None:
    """Raise `Unusable` above the number of pixels at which Pillow warns of a decompression bomb."""
    if width * height > (Image.MAX_IMAGE_PIXELS or np.inf):
        raise Unusable(_too_large())


def _too_large() -> str:
    return f"more than {Image.MAX_IMAGE_PIXELS:,} pixels: it may be a decompression bomb"


def _check(image: Image.Image) -> None:
    check_pixels(*image.size)
    pages = getattr(image, "n_frames", 1) if image.format in ("TIFF", "PNG") else 1
    if pages > 1:
        raise Unusable(f"{pages} images in one file")


def _flatten(image: Image.Image, window: tuple[float, ...]) -> tuple[Image.Image, int | None]:
    """(image of mode L or RGB, peak as in `Picture`); transparent parts lie on black."""
    if image.mode.startswith("I;16"):
        values = np.asarray(image)
        peak = None if window else int(values.max())
        return stretch(values, *(limits(*window) if window else FULL_16_BIT)), peak
    if image.mode in ("I", "F"):
        values = np.asarray(image)
        if not np.isfinite(values).all():
            raise Unusable("NaN or infinity among its pixels")
        low_high = limits(*window) if window else (values.min(), values.max())
        return stretch(values, *low_high), None
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image.convert("RGBA")).convert("RGB"), None
    return image.convert("L" if image.mode in ("1", "L") else "RGB"), None


def limits(center: float, width: float) -> tuple[float, float]:
    """The values that become black and white: DICOM's linear window (PS3.3 C.11.2.1.2.1)."""
    return center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2


def stretch(values: np.ndarray, low: float, high: float) -> Image.Image:
    """Grey levels (H, W) with `low` as 0 and `high` as 255; an image of one level is black."""
    scale = 255 / (float(high) - float(low)) if high > low else 0
    return Image.fromarray(np.clip(np.rint((values - np.float64(low)) * scale), 0, 255).astype(np.uint8))


def square(image: Image.Image, side: int, *, keep_aspect: bool, grey: bool) -> np.ndarray:
    """(side, side, 1 or 3) uint8 by Pillow's antialiased triangle filter, stretched or padded with black."""
    image = image.convert("L") if grey else image
    longest = max(image.size) if keep_aspect else 0
    box = [max(1, round(side * length / longest)) if longest else side for length in image.size]
    small = image.resize(tuple(box), Image.Resampling.BILINEAR)
    if box != [side, side]:
        canvas = Image.new(small.mode, (side, side))
        canvas.paste(small, ((side - box[0]) // 2, (side - box[1]) // 2))
        small = canvas
    pixels = np.asarray(small if grey else small.convert("RGB"))
    return pixels.reshape(side, side, -1)
