"""V fixed, seeded views of every training image: a function of (seed, view, image), stored or computed.

The teacher labels each view once and the student cycles through the same pixels: that is what lets the
teacher's logits be computed once. Stored views and computed ones are the same bytes, so whether they are
kept on disk decides nothing but time and room. View 0 is the image itself.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from ..config import ViewConfig
from ..predictor import to_image
from .arrays import forget, map_npy, write_npy
from .dataset import OnProgress, Split
from .pixels import Side, height_and_width, resize

CHUNK_BYTES = 4 << 20  # of unpadded pixels warped in one go
DRAWS = 7  # numbers that a view of an image is made of


class ViewArray(Protocol):
    """Views (V, N, H, W, C) uint8: a mapped array, or `ComputedViews`.

    Indexed by [views, images]: a view or (n,) of them, and a slice or (n,) of images; gives (n, H, W, C).
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, at: tuple[int | np.ndarray, slice | np.ndarray]) -> np.ndarray: ...


@dataclass(frozen=True)
class ComputedViews:
    """Views that are made where they are looked at: warped at the size of `source`, reduced to `pixels`'.

    `pixels` (N, H, W, C) are view 0, and may be `source` (N, H', W', C) itself. `rows` (n,) are the images
    of which there are views; an image's views are its own whichever others there are.
    """

    source: np.ndarray
    pixels: np.ndarray
    rows: np.ndarray
    policy: ViewConfig
    seed: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(V, n, H, W, C)."""
        return (self.policy.views, len(self.rows), *self.pixels.shape[1:])

    def __getitem__(self, at: tuple[int | np.ndarray, slice | np.ndarray]) -> np.ndarray:
        rows = self.rows[at[1]]
        views = np.broadcast_to(at[0], rows.shape)
        out = np.empty((len(rows), *self.pixels.shape[1:]), np.uint8)
        plain = views == 0
        out[plain] = self.pixels[rows[plain]]
        if not plain.all():
            rows, views = rows[~plain], views[~plain]
            warped = _warp(self.source[rows], _draws(self.seed, views, rows), self.policy)
            reduced = self.pixels is not self.source
            out[~plain] = resize(warped, self.pixels.shape[1:3]) if reduced else warped
        forget(self.source)
        forget(self.pixels)
        return out


@dataclass(frozen=True)
class ReducedViews:
    """Views (V, N, H, W, C) at another height and width in px, computed where they are looked at."""

    views: ViewArray
    size: tuple[int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        """(V, N, height, width, C)."""
        return (*self.views.shape[:2], *self.size, self.views.shape[4])

    def __getitem__(self, at: tuple[int | np.ndarray, slice | np.ndarray]) -> np.ndarray:
        return resize(self.views[at], self.size)


@dataclass(frozen=True)
class PartOfViews:
    """Some images of one view of `views`, as views (1, n, H, W, C)."""

    views: ViewArray
    view: int
    start: int
    stop: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(1, n, H, W, C)."""
        return (1, self.stop - self.start, *self.views.shape[2:])

    def __getitem__(self, at: tuple[int | np.ndarray, slice | np.ndarray]) -> np.ndarray:
        rows = np.arange(self.start, self.stop)[at[1]]
        return self.views[self.view + np.zeros_like(rows), rows]


@dataclass(frozen=True)
class Views:
    """The views of some images, as teacher and student see them."""

    pixels: ViewArray  # (V, N, H, W, C) uint8, read-only
    teacher_pixels: ViewArray  # (V, N, H', W', C); is `pixels` where the teacher has no copy of its own

    def at_side(self, side: Side) -> ViewArray:
        """The student's views, at another side than its own arrays' where one is given."""
        own = self.pixels.shape[2:4]
        size = height_and_width(side, own)
        return self.pixels if size == own else ReducedViews(self.teacher_pixels, size)


def computed_views(split: Split, *, seed: int, policy: ViewConfig, rows: np.ndarray | None = None) -> Views:
    """`policy.views` views of each image of a split, or of some `rows` (n,) of it, none of them stored.

    Warps are made at the teacher's resolution; the student's view is `resize` of the teacher's, so that both
    see the same. View v depends on `seed` and v, not on their number.
    """
    larger, rows = split.teacher_pixels, np.arange(len(split.teacher_pixels)) if rows is None else rows
    teacher = ComputedViews(larger, larger, rows, policy, seed)
    shared = larger is split.pixels
    return Views(teacher if shared else ComputedViews(larger, split.pixels, rows, policy, seed), teacher)


def draw_views(views: Views, out: Path, *, teacher: bool = True, progress: OnProgress | None = None) -> None:
    """Store views in the .npy `out`, the teacher's, if they are others, in `<stem>_teacher.npy`.

    Without `teacher` the student's alone. `progress` hears of images. Raises `OSError`.
    """
    small, large = views.pixels, views.teacher_pixels
    images = small.shape[0] * small.shape[1]
    _teacher_file(out).unlink(missing_ok=True)  # of other images drawn here before
    if small is large or not teacher:
        write_npy(out, small.shape, _counted(_chunks(small), 0, images, progress))
        return
    first = _counted(_chunks(large), 0, 2 * images, progress)
    stored = write_npy(_teacher_file(out), large.shape, first)
    write_npy(out, small.shape, _counted(_reduced(small, stored), images, 2 * images, progress))


def read_views(out: Path, computed: Views) -> Views:
    """Those of the `computed` views that `draw_views` stored in `out`, mapped, and the others as they are.

    Raises `UserError` for a file that is none.
    """
    if not out.exists():
        return computed
    pixels, larger = map_npy(out, out.name), _teacher_file(out)
    if computed.pixels is computed.teacher_pixels:
        return Views(pixels, pixels)
    return Views(pixels, map_npy(larger, larger.name) if larger.exists() else computed.teacher_pixels)


def _teacher_file(out: Path) -> Path:
    return out.with_name(f"{out.stem}_teacher.npy")


def _counted(
    chunks: Iterator[np.ndarray], before: int, total: int, progress: OnProgress | None
) -> Iterator[np.ndarray]:
    """Pass chunks on, and say how many of `total` images are finished, `before` of them earlier."""
    done = before
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        if progress:
            progress(done, total)


def _parts(views: ViewArray) -> Iterator[tuple[int, slice]]:
    """(view, slice of images), one after the other, of views (V, N, H, W, C)."""
    count, images = views.shape[:2]
    step = max(1, CHUNK_BYTES // math.prod(views.shape[2:]))
    return ((v, slice(i, i + step)) for v in range(count) for i in range(0, images, step))


def _chunks(views: ViewArray) -> Iterator[np.ndarray]:
    """All views, view by view, in chunks (n, H, W, C)."""
    return (views[v, part] for v, part in _parts(views))


def _reduced(small: ViewArray, large: np.ndarray) -> Iterator[np.ndarray]:
    """The student's views, of the teacher's (V, N, H', W', C) that are stored already."""
    for v, part in _parts(large):
        yield small[v, part] if v == 0 else resize(large[v, part], (small.shape[2], small.shape[3]))


def _draws(seed: int, views: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(n, 7) in 0..1: the numbers of view views[i] of image rows[i].

    Those of `default_rng([seed, view]).random((N, 7))`, found without drawing what comes before: whatever a
    policy uses of them, neither other images nor settings shift them.
    """
    draws = np.empty((len(rows), DRAWS))
    for view in np.unique(views):
        bits = np.random.PCG64(np.random.SeedSequence([seed, int(view)]))
        generator, position = np.random.Generator(bits), 0
        for i in np.flatnonzero(views == view):
            start = DRAWS * int(rows[i])
            bits.advance((start - position) % 2**128)
            draws[i], position = generator.random(DRAWS), start + DRAWS
    return draws


def _warp(pixels: np.ndarray, draws: np.ndarray, policy: ViewConfig) -> np.ndarray:
    """One affine map and one tone curve an image. pixels (n, H, W, C) uint8, draws (n, 7) in 0..1."""
    n, height, width, channels = pixels.shape
    pad = _padding(height, width, policy)
    # edges are repeated outwards, so that no black corner tells a warped image from an untouched one
    padded = np.pad(pixels, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="edge")
    maps, curves = _affines(draws, height, width, pad, policy), _tone_curves(pixels, draws, policy)
    out = np.empty_like(pixels)
    for i in range(n):
        image = to_image(padded[i])
        warped = image.transform((width, height), Image.Transform.AFFINE, maps[i], Image.Resampling.BILINEAR)
        out[i] = curves[i][np.asarray(warped)].reshape(height, width, channels)
    return out


def _padding(height: int, width: int, policy: ViewConfig) -> int:
    """Pixels on each side such that no view reaches past them."""
    tilt, longest = math.sin(math.radians(policy.rotate)), max(height, width)
    reach = longest / 2 * (1 + tilt) / (1 - policy.zoom) + policy.shift * longest  # from the centre
    return math.ceil(reach - min(height, width) / 2) + 1


def _affines(draws: np.ndarray, height: int, width: int, pad: int, policy: ViewConfig) -> np.ndarray:
    """(n, 6): for each output point its point in the padded image, as Pillow wants it."""
    signed = 2 * draws - 1  # (n, 7) in -1..1
    flip = np.where(policy.flip & (draws[:, 0] < 0.5), -1.0, 1.0)
    angle, zoom = np.radians(policy.rotate * signed[:, 3]), 1 + policy.zoom * signed[:, 4]
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    a, b, d, e = flip * cos, -sin, flip * sin, cos
    x, y = width / 2, height / 2  # the centre, which shift alone moves
    c = x + pad + policy.shift * width * signed[:, 1] - a * x - b * y
    f = y + pad + policy.shift * height * signed[:, 2] - d * x - e * y
    return np.stack([a, b, c, d, e, f], axis=1)


def _tone_curves(pixels: np.ndarray, draws: np.ndarray, policy: ViewConfig) -> np.ndarray:
    """(n, 256) uint8: contrast about the image's mean, then brightness, then clipped."""
    mean = pixels.mean(axis=(1, 2, 3))[:, None]  # (n, 1)
    brightness = 1 + policy.brightness * (2 * draws[:, 5:6] - 1)
    contrast = 1 + policy.contrast * (2 * draws[:, 6:7] - 1)
    levels = np.arange(256.0)[None]
    return np.clip(np.rint(((levels - mean) * contrast + mean) * brightness), 0, 255).astype(np.uint8)
