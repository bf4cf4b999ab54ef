"""One pass of the audit over pixels: what tells images apart, and what might give their class away.

Of every image its digest, averages of its thumbnail (`thumbnails`) and six plain numbers; a block of images
is in memory. Compares nothing.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from ..predictor import to_image
from .arrays import KeptRows, forget
from .copies import DIGEST, pixel_digest
from .dataset import OnProgress, Split
from .thumbnails import AT_ONCE, COARSE, SIDE, Thumbnails, sketch, thumbnail, unit, unit_thumbnails

FOREGROUND = 25  # grey levels above it are no background: a tenth of the range
EVERY = 100  # images between two reports of progress
NUMBERS = ("mean", "contrast", "darkest", "brightest", "foreground", "foreground contrast")


def counter(total: int, progress: OnProgress) -> Callable[[], None]:
    """What is called for every image, and reports some of them."""
    done = 0

    def count_image() -> None:
        nonlocal done
        done += 1
        if done % EVERY == 0 or done == total:
            progress(done, total)

    return count_image


def read_images(
    splits: dict[str, Split], count_image: Callable[[], None], folder: Path | None
) -> tuple[np.ndarray, Thumbnails, dict[str, np.ndarray]]:
    """One pass over all pixels: digests (N,), thumbnails, plain numbers {split: (n, 6)}."""
    ends = np.cumsum([len(split.labels) for split in splits.values()])
    digests, constant = np.empty(ends[-1], DIGEST), np.empty(ends[-1], bool)
    coarse, numbers, done = KeptRows(COARSE**2, np.float16, folder), {}, 0
    for name, split in splits.items():
        numbers[name] = np.empty((len(split.labels), len(NUMBERS)))
        for start in range(0, len(split.labels), AT_ONCE):
            pixels = split.teacher_pixels[start : start + AT_ONCE]
            block = slice(done, done + len(pixels))
            own = numbers[name][start : start + len(pixels)]
            digests[block], averages, constant[block] = _read_block(pixels, count_image, own)
            coarse.append(averages)
            forget(split.teacher_pixels)
            done += len(pixels)
    arrays = [split.teacher_pixels for split in splits.values()]

    def fine(rows: np.ndarray) -> np.ndarray:
        out = np.empty((len(rows), SIDE * SIDE), np.float32)
        for array, start, end in zip(arrays, [0, *ends[:-1]], ends, strict=True):
            own = (rows >= start) & (rows < end)
            out[own] = unit_thumbnails(array, rows[own] - start)
        return out

    return digests, Thumbnails(coarse.mapped(), constant, fine, folder), numbers


def _read_block(
    pixels: np.ndarray, count_image: Callable[[], None], numbers: np.ndarray | None = None
) -> tuple[list[bytes], np.ndarray, np.ndarray]:
    """Digests (n,), averages and constancy of thumbnails of images (n, H, W, C).

    Their plain numbers are written to `numbers` (n, 6), where that is given.
    """
    digests, thumbs = [], []
    for i, image in enumerate(pixels):
        digests.append(pixel_digest(image))
        grey = to_image(image).convert("L")
        thumbs.append(thumbnail(grey))
        if numbers is not None:
            numbers[i] = _plain_numbers(np.asarray(grey))
        count_image()
    return digests, *sketch(unit(np.stack(thumbs)))


def read_blocks(
    pixels: np.ndarray, count_image: Callable[[], None], size: int
) -> Iterator[tuple[np.ndarray, Thumbnails]]:
    """Digests (n,) and thumbnails of images (M, H, W, C), `size` of them at a time."""
    for first in range(0, len(pixels), size):
        own = pixels[first : first + size]
        digests: list[bytes] = []
        coarse, constant = [], []
        for start in range(0, len(own), AT_ONCE):
            names, averages, flat = _read_block(own[start : start + AT_ONCE], count_image)
            digests += names
            coarse.append(averages)
            constant.append(flat)
            forget(pixels)
        thumbs = Thumbnails(np.concatenate(coarse), np.concatenate(constant), partial(unit_thumbnails, own))
        yield np.array(digests, DIGEST), thumbs


def _plain_numbers(grey: np.ndarray) -> tuple[float, ...]:
    """`NUMBERS` of a grey image (H, W): what could give the class away without looking at the lung."""
    body = grey > FOREGROUND
    inside = grey[body] if body.any() else grey
    return grey.mean(), grey.std(), grey.min(), grey.max(), body.mean(), inside.std()
