"""An `.npz` file -> a plan: the door opens and checks it, so that what it refuses is refused here too."""

import hashlib
from functools import partial
from pathlib import Path

import numpy as np

from ..data import load as data
from ..data.arrays import SPLITS
from ..errors import require
from ..predictor import to_image
from ..progress import Progress
from .images import Picture
from .plan import LAYOUTS, Item, Plan
from .settings import PrepareConfig


def plan_archive(source: Path, work: Path, settings: PrepareConfig, progress: Progress) -> Plan:
    """The plan of an .npz with MedMNIST or Keras keys; `work` takes its arrays, which are mapped.

    Without val it is split off train as the door does. Raises `UserError`.
    """
    require(source.suffix.lower() == ".npz", "the source", LAYOUTS, str(source))
    for name in ("group_regex", "groups"):
        got, rule = getattr(settings, name), "left out where the source is an .npz file: it has no file names"
        require(got is None, "--" + name.replace("_", "-"), rule, got)
    with open(source, "rb") as file:
        sha = hashlib.file_digest(file, "sha256").hexdigest()
    with progress.bar("checking images", 1) as advance:
        given = data.load(
            source, work, seed=settings.seed, progress=lambda done, total: advance(done / total)
        )
    for note in given.notes:
        progress.say(note)
    splits = {}
    for split in SPLITS:
        held = getattr(given, split)
        reads = [partial(_row, held.pixels, i, sha) for i in range(len(held.pixels))]
        pairs = zip(held.labels.tolist(), reads, strict=True)
        splits[split] = [Item(source.name, label, None, read) for label, read in pairs]
    return Plan(given.classes, splits)


def _row(pixels: np.ndarray, row: int, sha: str) -> Picture:
    """Image `row` of pixels (N, H, W, 1 or 3) uint8."""
    image = np.ascontiguousarray(pixels[row])
    return Picture(to_image(image), sha, None)
