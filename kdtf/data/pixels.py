"""Pixels as they come -> uint8 0..255: their range, one scale for all splits, sizes, copies on disk.

Everything is looked at in chunks, so the images never sit in memory together. What is uint8 already, and
wanted as it is, is used where it lies.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UserError, require
from ..predictor import SLACK, to_image, to_pixels
from .arrays import Arrays, NamedArray, forget, map_npy, write_npy
from .dataset import PixelArray, Split

CHUNK_BYTES = 32 << 20  # of source pixels looked at in one go
MOST_HELD = 64 << 20  # bytes of a split's pixels at another side that are in memory together


class PixelRange(NamedTuple):
    """What one pass over an array of pixels found."""

    low: float
    high: float
    sha256: str  # of the raw bytes


def sha256_of(data: bytes) -> str:
    """sha256 in hex."""
    return hashlib.sha256(data).hexdigest()


def _slices(count: int, bytes_each: int) -> Iterator[slice]:
    step = max(1, CHUNK_BYTES // max(1, bytes_each))
    return (slice(i, min(i + step, count)) for i in range(0, count, step))


def measure_range(source: NamedArray, progress: Callable[[int], None]) -> PixelRange:
    """Range and sha256 of images (N, H, W, C) in one pass; `progress` hears of images.

    Raises `UserError` at NaN and infinity.
    """
    sha, low, high = hashlib.sha256(), np.inf, -np.inf
    for part in _slices(len(source.array), source.array[0].nbytes):
        chunk = np.ascontiguousarray(source.array[part])
        lowest, highest = float(chunk.min()), float(chunk.max())
        if not (np.isfinite(lowest) and np.isfinite(highest)):
            image = part.start + int(np.argmin(np.isfinite(chunk).all(axis=(1, 2, 3))))
            require(False, source.name, "finite numbers", f"NaN or infinity in image {image}")
        low, high = min(low, lowest), max(high, highest)
        sha.update(chunk.data)
        forget(source.array)
        progress(part.stop)
    return PixelRange(low, high, sha.hexdigest())


def float_scale(pixels: Arrays, ranges: dict[tuple[str, str], PixelRange]) -> int:
    """What floating-point pixels are multiplied by, 255 or 1: one answer for all splits.

    Raises `UserError` for pixels outside 0..255, and where splits have different ranges.
    """
    for at, measured in ranges.items():
        name = pixels[at].name
        hint = "Give pixels that are not standardised: 0..255, or 0..1 in floats."
        require(measured.low >= -SLACK, f"pixels in {name}", "0 or more", round(measured.low, 4), hint)
        hint = "Window images of 12 or 16 bits to 0..255 first."
        require(
            measured.high <= 255 + SLACK, f"pixels in {name}", "at most 255", round(measured.high, 4), hint
        )
    floats = {pixels[at].name: r.high for at, r in ranges.items() if pixels[at].array.dtype.kind == "f"}
    whole = {pixels[at].name: r.high for at, r in ranges.items() if pixels[at].array.dtype.kind != "f"}
    hint = "They look like 0..1 pixels cast to integers: they lost their grey levels."
    require(not whole or max(whole.values()) > 1, "whole-number pixels", "0..255", "0..1 in all splits", hint)
    cast = next((name for name, high in whole.items() if high == 1), None)  # black images end at 0
    require(cast is None, f"whole-number pixels in {cast}", "0..255 as in the other splits", "0..1", hint)
    unit = {name: high for name, high in floats.items() if high <= 1 + SLACK}
    wider = {name: high for name, high in floats.items() if high > 1 + SLACK}
    if unit and wider:
        low, high = next(iter(unit.items())), next(iter(wider.items()))
        maxima = f"a maximum of {low[1]:.4g} in {low[0]} and of {high[1]:.4g} in {high[0]}"
        raise UserError(
            f"floating-point pixels must have one range in all splits, 0..1 or 0..255. Got {maxima}."
        )
    highest = max(wider.values(), default=0)
    rule = "0..1 or 0..255"
    require(not wider or highest > 2, "floating-point pixels", rule, f"a maximum of {highest:.4g}")
    return 255 if unit else 1


def to_uint8(chunk: np.ndarray, scale: int) -> np.ndarray:
    """Pixels of any dtype as uint8; floats are multiplied by `scale`, rounded and clipped."""
    if chunk.dtype.kind != "f":
        return chunk.astype(np.uint8)
    return np.clip(np.rint(chunk.astype(np.float32) * scale), 0, 255).astype(np.uint8)


Side = int | tuple[int, int] | None  # px, of a square or (height, width); None: that of the arrays


def height_and_width(side: Side, own: tuple[int, ...]) -> tuple[int, int]:
    """(height, width) in px that a side means for images of their `own` (H, W)."""
    height, width = (side, side) if isinstance(side, int) else side or own
    return height, width


def resize(pixels: np.ndarray, side: int | tuple[int, int]) -> np.ndarray:
    """Resize images (N, H, W, C) uint8, C 1 or 3, by Pillow's antialiased triangle filter.

    `side` is that of a square, or (height, width). Returns (N, height, width, C) uint8.
    """
    height, width = height_and_width(side, pixels.shape[1:3])
    out = np.empty((len(pixels), height, width, pixels.shape[3]), np.uint8)
    for i, image in enumerate(pixels):
        out[i] = to_pixels(to_image(image), out.shape[1:])
    return out


@dataclass(frozen=True)
class ReducedPixels:
    """Images (N, H, W, C) uint8 at another height and width in px, computed where they are looked at."""

    source: np.ndarray
    size: tuple[int, int]

    dtype = np.dtype(np.uint8)
    ndim = 4

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, height, width, C)."""
        return (len(self.source), *self.size, self.source.shape[3])

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, at: slice | np.ndarray) -> np.ndarray:
        resized = resize(self.source[at], self.size)
        forget(self.source)
        return resized


def pixels_at(split: Split, side: Side) -> PixelArray:
    """The student's pixels of a split (N, H, W, C), reduced from the teacher's where `side` is another.

    All at once where they take no more than `MOST_HELD` bytes, else those that are looked at.
    """
    pixels = lazy_pixels_at(split, side)
    small = math.prod(pixels.shape) <= MOST_HELD
    return pixels[:] if small and pixels is not split.pixels else pixels


def lazy_pixels_at(split: Split, side: Side) -> PixelArray:
    """The same, where only what is looked at is read and reduced."""
    shape = student_shape(split, side)
    if split.pixels.shape[1:] == shape:
        return split.pixels
    return ReducedPixels(split.teacher_pixels, shape[:2])


def student_shape(split: Split, side: Side) -> tuple[int, int, int]:
    """(H, W, C) of the student's pixels, at another side than the split's own where one is given."""
    return (*height_and_width(side, split.pixels.shape[1:3]), split.pixels.shape[3])


def _taken(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Some rows of an array, of which no more is left in memory."""
    taken = array[rows]
    forget(array)
    return taken


@dataclass(frozen=True)
class PixelStore:
    """Checked arrays -> uint8 splits: the user's own file where it will do, else one copy in `work`."""

    work: Path
    pixels: Arrays  # of kinds "X" and "teacher", each (N, H, W, C)
    ranges: dict[tuple[str, str], PixelRange]
    scale: int  # of floats
    rows: dict[str, np.ndarray]  # of train, for each split made out of it
    image_size: int | None

    def origin(self, split: str) -> str:
        """The split of the source that `split` is made of."""
        return "train" if split in self.rows else split

    @property
    def resizes(self) -> bool:
        """Whether the student's pixels have another size than the source's."""
        side = self.image_size
        return side is not None and self.pixels["X", "train"].image_shape[:2] != (side, side)

    def split(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """(student's, teacher's pixels), each (N, H, W, C) uint8; one object where they are the same."""
        if ("X", self.origin(split)) not in self.pixels:
            return self._reduced(split), self._stored("teacher", split, None)
        student = self._stored("X", split, self.image_size if self.resizes else None)
        if ("teacher", "train") in self.pixels:
            return student, self._stored("teacher", split, None)
        return student, self._stored("X", split, None) if self.resizes else student

    def _reduced(self, split: str) -> np.ndarray:
        """The student's pixels of images that came as the teacher's alone."""
        own, side = self.pixels["teacher", self.origin(split)].image_shape[:2], self.image_size
        size = (side, side) if side else self.pixels["X", "train"].image_shape[:2]
        return self._stored("teacher", split, None if size == own else size)

    def _stored(self, kind: str, split: str, side: int | tuple[int, int] | None) -> np.ndarray:
        at = (kind, self.origin(split))
        array, rows, scale = self.pixels[at].array, self.rows.get(split), self.scale
        if array.dtype == np.uint8 and rows is None and side is None:
            return array
        index = np.arange(len(array)) if rows is None else rows
        scale = scale if array.dtype.kind == "f" else 1
        shape = (*height_and_width(side, array.shape[1:3]), array.shape[3])
        content = self.ranges[at].sha256
        upstream = [content, array.dtype.str, array.shape, scale, side, sha256_of(index.tobytes())]
        path = self.work / f"{kind}_{split}_{sha256_of(json.dumps(upstream).encode())[:16]}.npy"
        if path.exists():
            return map_npy(path, path.name)
        parts = (to_uint8(_taken(array, index[part]), scale) for part in _slices(len(index), array[0].nbytes))
        return write_npy(path, (len(index), *shape), (resize(p, side) for p in parts) if side else parts)

    def notes(self) -> list[str]:
        """What became of the pixels, a sentence each."""
        source, notes = self.pixels["X", "train"], []
        converted = sorted({str(p.array.dtype) for p in self.pixels.values() if p.array.dtype != np.uint8})
        if converted:
            how = "multiplied by 255 and rounded" if self.scale == 255 else "rounded"
            notes.append(f"Pixels given as {', '.join(converted)} were {how} to whole numbers from 0 to 255.")
        size = "{}x{}".format(*source.image_shape)
        if self.resizes:
            notes.append(
                f"Images of {size} were resized to {self.image_size}x{self.image_size} for the student."
            )
        if ("teacher", "train") in self.pixels:
            larger = self.pixels["teacher", "train"].image_shape
            notes.append("The teacher sees teacher/, {}x{}.".format(*larger))
        elif self.resizes:
            notes.append(f"The teacher sees the images as they came, {size}.")
        return notes
