"""The embedded data set: a seeded phantom of axial chest slices in four classes.

Everything here is drawn from formulas and a random generator: no pixel comes from a patient, nothing measured
on it says anything about patients, and every class name and patient id says "synthetic". It lets the demo and
the tests run the real pipeline with nothing downloaded. What tells the classes apart, a lesion's edge and
texture, is about as fine as a student's pixel: that is what a teacher with the larger copy has to teach.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..config import SIDES
from ..errors import require
from ..files import written_aside
from .arrays import FILE_NAMES
from .dataset import SPLITS, UNLABELLED_SPLIT

CLASSES = (  # no lesion, smooth nodules, spiculated masses, granular patches
    "synthetic none",
    "synthetic nodules",
    "synthetic masses",
    "synthetic patches",
)
NOTICE = """SYNTHETIC DATA

These images are a phantom of chest slices, drawn by kdtf/data/phantom.py (seed {seed}). They show no patient,
the ids in groups_*.npy are invented, and nothing measured on them says anything about patients or is fit for
any medical use. They are here so that the pipeline can be tried and tested with nothing downloaded.
"""
IMAGES_EACH = 3  # at most, of one synthetic patient

# Grey levels are 0..1 until the end. Lengths are parts of half a side: x and y run from -1 to 1, x to the
# right, y down, the patient's front on top.
FAT, MUSCLE, HEART, AORTA, MARROW, CORTEX = 0.40, 0.54, 0.58, 0.62, 0.74, 0.95
# What lesions of all classes share, so that size and density do not give the class away.
COUNT, RADIUS, DENSITY, BLUR = (4, 7), (0.09, 0.17), (0.30, 0.46), (0.03, 0.09)
EVEN = 0.06  # denser lungs where there is no lesion, so that an image's mean says nothing
# What tells them apart, and what hides it.
STRAND, GRAIN, VESSEL = (0.08, 0.18), (0.6, 1.0), (0.06, 0.20)


@dataclass(frozen=True)
class _Patient:
    """What the slices of one synthetic patient share."""

    width: float  # of the body, half
    height: float
    fat: float  # thickness under the skin
    heart: float  # radius
    air: float  # grey level of the lungs
    turn: float  # radians the patient lies rotated

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "_Patient":
        width = rng.uniform(0.84, 0.95)
        return cls(
            width=width,
            height=width * rng.uniform(0.72, 0.84),
            fat=rng.uniform(0.03, 0.09),
            heart=rng.uniform(0.22, 0.32),
            air=rng.uniform(0.06, 0.24),
            turn=rng.uniform(-0.09, 0.09),
        )


def phantom(label: int, side: int, rng: np.random.Generator, patient: _Patient | None = None) -> np.ndarray:
    """One synthetic slice of class `label`, (side, side) uint8, of a new patient unless one is given.

    Grain and noise are drawn per pixel, whatever the side. Raises `UserError` for an unknown label.

    >>> phantom(1, 64, np.random.default_rng(0)).shape
    (64, 64)
    """
    require(label in range(len(CLASSES)), "label", f"a whole number from 0 to {len(CLASSES) - 1}", label)
    patient = patient or _Patient.draw(rng)
    x, y = _grid(side, patient.turn + rng.normal(0, 0.02), rng.normal(0, 0.02, 2))
    image, depth = _chest(x, y, patient, rng)
    lung = depth > -2 / side  # all that follows is drawn on these P points alone
    x, y, depth = x[lung], y[lung], depth[lung]  # (P,)
    inside = np.maximum(_vessels(x, y, 2 / side, rng), _haze(x, y, rng))
    draw_lesion = _LESIONS[label]
    if draw_lesion is None:
        inside += EVEN
    else:
        deep = np.flatnonzero(depth >= min(0.06, depth.max()))  # places not too near the lung's edge
        at = rng.choice(deep, rng.integers(*COUNT))
        lesion = np.max([draw_lesion(x - x[i], y - y[i], 2 / side, rng) for i in at], axis=0)  # (P,)
        inside = np.maximum(inside, lesion) + 0.25 * np.minimum(inside, lesion)
    image[lung] += _fill(-depth, 2 / side) * inside
    return _scanned(image, rng)


def _grid(side: int, turn: float, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates x and y of every pixel's centre, each (side, side), turned and shifted."""
    at = (np.arange(side) + 0.5) * 2 / side - 1
    x, y = at[None, :] - shift[0], at[:, None] - shift[1]
    turned = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    return tuple(a.astype(np.float32) for a in turned)  # quicker, and exact to far less than a grey level


def _fill(distance: np.ndarray, blur: float) -> np.ndarray:
    """1 inside, 0 outside a shape given by its signed distance; `blur` is the width of the edge."""
    return np.clip(0.5 - distance / blur, 0, 1)


def _ellipse(x: np.ndarray, y: np.ndarray, cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
    """Signed distance, near enough, to an ellipse: negative inside."""
    return (np.hypot((x - cx) / rx, (y - cy) / ry) - 1) * min(rx, ry)


def _chest(
    x: np.ndarray, y: np.ndarray, p: _Patient, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A slice (H, W) without its lungs' contents, and each pixel's depth in a lung, negative outside."""
    w, h = p.width, p.height
    body = _ellipse(x, y, 0, 0, w, h)
    cage = _ellipse(x, y, 0, -0.01, w - p.fat - 0.10, h - p.fat - 0.08)  # the inner side of the ribs
    spine_y, hilum = 0.62 * h, rng.uniform(-0.05, 0.05)
    centre = np.abs(x) - 0.11 - 0.07 * np.exp(-(((y - hilum) / 0.22) ** 2))
    heart = _ellipse(x, y, 0.10, -0.12 * h, p.heart * rng.uniform(1, 1.15), p.heart * rng.uniform(0.9, 1.05))
    lungs = np.maximum.reduce([cage, -centre, -heart, -_ellipse(x, y, 0, spine_y, 0.19, 0.24)])

    image = np.zeros_like(x)

    def lay(distance: np.ndarray, level: float) -> None:
        nonlocal image
        image += _fill(distance, 2 / len(x)) * (level - image)

    lay(np.abs(y - h - 0.05 + 0.10 * x**2) - 0.015, 0.22)  # the couch
    lay(body, FAT)
    lay(body + p.fat, MUSCLE)
    lay(lungs, p.air)
    lay(np.maximum(heart, -lungs), HEART)
    lay(_ellipse(x, y, 0.13, 0.34 * h, 0.075, 0.075), AORTA)
    for sign in (-1, 1):  # the main bronchi
        lay(_ellipse(x, y, sign * 0.065, 0.16 * h, 0.035, 0.045), p.air)
    for cx, cy, rx, ry, level in (
        (0, spine_y, 0.135, 0.11, CORTEX),  # a vertebra, its marrow, its processes and the canal
        (0, spine_y, 0.10, 0.075, MARROW),
        (0, spine_y + 0.14, 0.20, 0.035, CORTEX),
        (0, spine_y + 0.19, 0.035, 0.09, CORTEX),
        (0, spine_y + 0.13, 0.055, 0.04, MUSCLE),
        (0, 0.05 - h + p.fat, 0.10, 0.03, CORTEX),  # the sternum
    ):
        lay(_ellipse(x, y, cx, cy, rx, ry), level)
    lay(np.maximum(np.abs(cage - 0.035) - 0.022, _rib_gaps(x / w, y / h, rng)), CORTEX)
    return image, -lungs


def _rib_gaps(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Distance, in radians along the wall, to the nearest of five ribs on each side."""
    angle = np.abs(np.arctan2(u, -v))  # 0 in front, pi behind; both sides alike
    ribs = np.linspace(0.5, 2.6, 5) + rng.uniform(-0.12, 0.12) + rng.normal(0, 0.04, 5)
    return np.abs(angle[..., None] - ribs).min(-1) - rng.uniform(0.10, 0.16)


def _vessels(
    x: np.ndarray, y: np.ndarray, pixel: float, rng: np.random.Generator, branches: int = 6, dots: int = 6
) -> np.ndarray:
    """Branches from both hila outwards, and vessels that cross the slice as dots. Points (P,) -> (P,)."""
    n = 2 * branches
    angle, length = rng.uniform(-1.25, 1.25, n), rng.uniform(0.2, 0.5, n)
    ax, ay = np.repeat([-0.14, 0.14], branches), rng.uniform(-0.02, 0.14, n)
    ux, uy = np.sign(ax) * np.cos(angle), np.sin(angle)
    dx, dy = x[:, None] - ax, y[:, None] - ay  # (P, n)
    along = np.clip(dx * ux + dy * uy, 0, length)
    thick = rng.uniform(0.018, 0.03, n) * (1.1 - 0.8 * along / length)
    lines = np.hypot(dx - along * ux, dy - along * uy) - thick
    at = rng.uniform(-0.75, 0.75, (2, dots))
    spots = np.hypot(x[:, None] - at[0], y[:, None] - at[1]) - rng.uniform(0.012, 0.04, dots)
    return (_fill(np.hstack([lines, spots]), pixel) * rng.uniform(*VESSEL, n + dots)).max(-1)


def _haze(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Soft unevenness of the lung tissue, a little denser towards the back."""
    kx, ky = rng.normal(0, 7, (2, 4))
    waves = np.cos(x[:, None] * kx + y[:, None] * ky + rng.uniform(0, 2 * np.pi, 4)).mean(-1)
    return np.maximum(0, rng.uniform(0, 0.12) + 0.06 * waves + rng.uniform(0, 0.12) * y)


def _blob(x: np.ndarray, y: np.ndarray, radius: float, lobes: int, rng: np.random.Generator) -> np.ndarray:
    """Signed distance to a circle about 0 whose outline waves in and out `lobes` times and less."""
    angle, k = np.arctan2(y, x), np.arange(2, lobes + 1)
    waves = np.cos(angle[:, None] * k + rng.uniform(0, 2 * np.pi, len(k))) * rng.normal(0, 0.05, len(k))
    return np.hypot(x, y) - radius * (1 + waves.sum(-1))


def _smooth_nodule(x: np.ndarray, y: np.ndarray, pixel: float, rng: np.random.Generator) -> np.ndarray:
    """Round or a little lobed, evenly dense, its edge sharp or soft."""
    body = _blob(x, y, rng.uniform(*RADIUS), 4, rng)
    return rng.uniform(*DENSITY) * _fill(body, max(pixel, rng.uniform(*BLUR)))


def _spiculated_mass(x: np.ndarray, y: np.ndarray, pixel: float, rng: np.random.Generator) -> np.ndarray:
    """The same, with thin strands that run out into the lung."""
    size, count = rng.uniform(*RADIUS) * 0.9, int(rng.integers(9, 14))
    core = _fill(_blob(x, y, size, 4, rng), max(pixel, rng.uniform(*BLUR)))
    at = (np.arange(count) + rng.uniform(-0.3, 0.3, count)) * 2 * np.pi / count + rng.uniform(0, 2 * np.pi)
    along = x[:, None] * np.cos(at) + y[:, None] * np.sin(at)  # (P, count)
    across = np.abs(y[:, None] * np.cos(at) - x[:, None] * np.sin(at))
    reach = size + rng.uniform(*STRAND, count)
    strands = np.where(along > 0, np.maximum(across - 0.02, along - reach), 1).min(-1)
    return rng.uniform(*DENSITY) * np.maximum(core, 0.8 * _fill(strands, pixel))


def _granular_patch(x: np.ndarray, y: np.ndarray, pixel: float, rng: np.random.Generator) -> np.ndarray:
    """Of a fine grain that a smaller copy averages away, on the whole as dense as the others."""
    body = _blob(x, y, rng.uniform(*RADIUS) * 1.1, 4, rng)
    grain = 1 + rng.uniform(*GRAIN) * rng.uniform(-1, 1, len(x))
    return rng.uniform(*DENSITY) * _fill(body, max(pixel, rng.uniform(*BLUR))) * grain


_LESIONS = (None, _smooth_nodule, _spiculated_mass, _granular_patch)


def _scanned(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Window, brightness and noise of a scan: grey levels (H, W) -> uint8."""
    image = image * rng.uniform(0.85, 1.05) + rng.uniform(0, 0.06)
    image = image + rng.normal(0, rng.uniform(0.01, 0.025), image.shape)
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)


def write(
    folder: str | Path,
    *,
    train: int = 1000,
    val: int = 200,
    test: int = 400,
    unlabelled: int = 0,
    side: int = 32,
    teacher_side: int = 64,
    seed: int = 0,
) -> None:
    """Write the data set into `folder`, as `data.load` reads it: both copies, classes, patients, the notice.

    Splits are balanced and share no patient; unlabelled images are as those of another one, without labels.
    X_*.npy (N, side, side, 1) are Pillow's antialiased reductions of teacher/X_*.npy (N, teacher_side,
    teacher_side, 1). Each file is written aside and renamed. Raises `UserError` for counts and sides that
    cannot be drawn.
    """
    counts = dict(zip(SPLITS, (train, val, test), strict=True))
    counts |= {UNLABELLED_SPLIT: unlabelled} if unlabelled else {}
    for name, count in counts.items():
        require(count >= len(CLASSES), name, f"at least {len(CLASSES)} images, one a class", count)
    least, _ = SIDES
    require(least <= side <= teacher_side, "side", f"from {least} px to the teacher's {teacher_side}", side)
    folder = Path(folder)
    _write_text(folder / "SYNTHETIC.txt", NOTICE.format(seed=seed))  # first: it may never be missing
    _write_text(folder / "classes.txt", "".join(f"{name}\n" for name in CLASSES))
    patients = 0
    for i, (split, count) in enumerate(counts.items()):
        large, labels, groups = _draw_split(count, teacher_side, np.random.default_rng([seed, i]))
        small = [
            np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))
            for image in large
        ]
        ids = np.array([f"synthetic-{patients + g:04d}" for g in groups])
        arrays = {"teacher": large[..., None], "X": np.stack(small)[..., None], "y": labels, "groups": ids}
        if split == UNLABELLED_SPLIT:
            del arrays["y"]
        for kind, array in arrays.items():
            _write_array(folder / FILE_NAMES[kind].format(split), array)
        patients += groups.max() + 1


def _draw_split(count: int, side: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images (N, side, side) uint8, labels (N,) and patients (N,), both int64, in random order."""
    labels = np.arange(count) % len(CLASSES)  # (N,)
    groups = np.arange(count) // len(CLASSES) // IMAGES_EACH * len(CLASSES) + labels  # of one class each
    patients = [_Patient.draw(rng) for _ in range(groups.max() + 1)]
    images = np.stack([phantom(int(k), side, rng, patients[g]) for k, g in zip(labels, groups, strict=True)])
    order = rng.permutation(count)
    return images[order], labels[order], groups[order]


def _write_text(path: Path, text: str) -> None:
    with written_aside(path) as file:
        file.write(text.encode())


def _write_array(path: Path, array: np.ndarray) -> None:
    with written_aside(path) as file:
        np.save(file, array)
