"""V fixed, seeded views of every training image, drawn once and stored.

The teacher labels each view once and the student cycles through the same pixels: that is what lets the
teacher's logits be computed once. Nothing is ever drawn inside a training loop. View 0 is the image itself.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..config import ViewConfig
from ..predictor import to_image
from .arrays import map_npy, write_npy
from .dataset import OnProgress, Split
from .pixels import resize

CHUNK_BYTES = 4 << 20  # of unpadded pixels warped in one go


@dataclass(frozen=True)
class Views:
    """The views of the training images, as teacher and student see them."""

    pixels: np.ndarray  # (V, N, H, W, C) uint8, mapped, read-only
    teacher_pixels: np.ndarray  # (V, N, H', W', C); is `pixels` where the teacher has no copy of its own


def draw_views(
    split: Split, out: Path, *, seed: int, policy: ViewConfig, progress: OnProgress | None = None
) -> None:
    """Draw `policy.views` views of each image into the .npy `out` (the teacher's: `<stem>_teacher.npy`).

    Warps are made at the teacher's resolution; the student's view is `resize` of the teacher's, so that both
    see the same. View v depends on `seed` and v, not on their number. `progress` hears of images. Raises
    `OSError`.
    """
    source, count = split.teacher_pixels, policy.views
    shared = source is split.pixels
    images = count * len(source)
    total = images if shared else 2 * images

    def written(path: Path, pixels: np.ndarray, chunks: Iterator[np.ndarray], before: int) -> np.ndarray:
        return write_npy(path, (count, *pixels.shape), _counted(chunks, before, total, progress))

    warped = _warped(source, count, seed, policy)
    if shared:
        _teacher_file(out).unlink(missing_ok=True)  # of other images drawn here before
        written(out, source, warped, 0)
    else:
        teacher = written(_teacher_file(out), source, warped, 0)
        written(out, split.pixels, _resized(teacher, split.pixels), images)


def read_views(out: Path) -> Views:
    """The views that `draw_views` wrote into `out`, mapped and not read. Raises `UserError`."""
    pixels, larger = map_npy(out, out.name), _teacher_file(out)
    return Views(pixels, map_npy(larger, larger.name) if larger.exists() else pixels)


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


def _slices(pixels: np.ndarray) -> Iterator[slice]:
    step = max(1, CHUNK_BYTES // pixels[0].nbytes)
    return (slice(i, i + step) for i in range(0, len(pixels), step))


def _warped(pixels: np.ndarray, count: int, seed: int, policy: ViewConfig) -> Iterator[np.ndarray]:
    """All views of (N, H, W, C), view by view, in chunks (n, H, W, C)."""
    for view in range(count):
        # a row of draws for each image, whatever the policy uses of it: neither chunks nor settings shift it
        draws = np.random.default_rng([seed, view]).random((len(pixels), 7))  # (N, 7) in 0..1
        for part in _slices(pixels):
            yield pixels[part] if view == 0 else _warp(pixels[part], draws[part], policy)


def _resized(teacher: np.ndarray, pixels: np.ndarray) -> Iterator[np.ndarray]:
    """The student's views of the teacher's (V, N, H', W', C); view 0 is the student's own `pixels`."""
    for view, larger in enumerate(teacher):
        for part in _slices(larger):
            yield pixels[part] if view == 0 else resize(larger[part], pixels.shape[1:3])


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
