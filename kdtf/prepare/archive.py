"""An `.npz` file -> a plan: `data.load` opens and checks it, so that what it refuses is refused here too."""

from functools import partial
from pathlib import Path

import numpy as np

from ..data.dataset import UNLABELLED_SPLIT
from ..data.load import load
from ..errors import UserError, require
from ..files import file_digest
from ..predictor import to_image
from ..progress import Progress
from ..sections import flag
from .formats import layouts
from .images import Picture
from .output import out_errors
from .plan import Item, Plan, unlabelled_split
from .settings import PrepareConfig
from .unlabelled import chosen_files, instead_note


def plan_archive(source: Path, work: Path, settings: PrepareConfig, progress: Progress) -> Plan:
    """The plan of an .npz with MedMNIST or Keras keys; `work` takes its arrays, which are mapped.

    Without val it is split off train as `data.load` does. Subgroups that lie beside it are carried on.
    Raises `UserError`.
    """
    require(source.suffix.lower() == ".npz", "the source", layouts(), str(source))
    for name in ("group_regex", "groups", "layout", "ignore", "subgroups", "subgroup_tags"):
        value = getattr(settings, name)
        rule = "left out where the source is an .npz file: it has no names of files and folders"
        require(value in (None, ()), flag(name), rule, value)
    try:
        sha = file_digest(source)
    except OSError as error:
        raise UserError(f"the source must be readable. Got {str(source)!r} ({error.strerror}).") from None
    with out_errors(Path(settings.out)), progress.bar("checking images", 1) as advance:
        data = load(source, work, seed=settings.seed, progress=lambda done, total: advance(done / total))
    for note in data.notes:
        progress.say(note)
    splits = {}
    own = {UNLABELLED_SPLIT: data.unlabelled} if data.unlabelled else {}
    if own and settings.unlabelled is not None:
        progress.say(instead_note(len(own.pop(UNLABELLED_SPLIT).labels)))
    for name, split in (data.splits | own).items():
        reads = [partial(_picture, split.pixels, i, sha) for i in range(len(split.pixels))]
        cells = [[own.groups[k] for k in own.member] for own in split.subgroups]
        groups = list(zip(*cells, strict=True)) or [()] * len(reads)
        rows = zip(split.labels.tolist(), reads, groups, strict=True)
        splits[name] = [Item(source.name, label, None, read, group) for label, read, group in rows]
    files, ignored = chosen_files({}, settings, progress)
    splits |= unlabelled_split(files, {}, settings)
    columns = next((own.subgroups for own in data.splits.values() if own.subgroups), ())
    names = tuple(own.column for own in columns)
    return Plan(data.classes, splits, "an .npz file", ignored=dict(ignored), columns=names)


def _picture(pixels: np.ndarray, row: int, sha: str) -> Picture:
    """Image `row` of pixels (N, H, W, 1 or 3) uint8."""
    return Picture(to_image(np.ascontiguousarray(pixels[row])), sha, None)
