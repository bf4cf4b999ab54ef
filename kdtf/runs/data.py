"""The tasks that need no network: the demo's phantom, the audit, the data sheet, the views."""

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..config import ViewConfig
from ..data import phantom
from ..data.audit import Audit, audit
from ..data.dataset import Dataset
from ..data.folds import clusters, folds_of
from ..data.pixels import pixels_at, student_shape
from ..data.views import Views, computed_views, draw_views, read_views
from ..errors import require
from ..records import DataSheet
from ..sections import section_dict
from ..tflite.datasheet import describe_data
from .perform import Workspace
from .stages import FOLDS

UNLABELLED_PHANTOMS = 4000
AUDIT, SHEET, VIEWS, DRAWN = "audit.json", "datasheet.json", "views.npy", "drawn.json"
MOST_STORED = 16 << 30  # bytes of views, of the student's and the teacher's together


def draw_phantom(space: Workspace, seed: int) -> None:
    """The images of the demo."""
    with space.progress.bar("drawing the phantom", 1) as advance:
        phantom.write(space.folder, seed=seed, unlabelled=UNLABELLED_PHANTOMS)
        advance(1)


def audit_data(space: Workspace, classes: list[str], unlabelled: str = "") -> None:
    """The audit of the data; the names of the classes stand in it."""
    _require_unlabelled(space, unlabelled)
    with space.progress.bar("auditing the data", 1) as advance:
        data = replace(space.data, classes=tuple(classes))
        findings = audit(data, lambda done, total: advance(done / total), space.folder)
    (space.folder / AUDIT).write_text(json.dumps(findings.to_json()))


def read_audit(folder: Path, data: Dataset) -> Audit:
    """What `audit_data` left."""
    return Audit.from_json(json.loads((folder / AUDIT).read_text()), data)


def assign_folds(space: Workspace, count: int) -> None:
    """The fold of every image of train and val; the names of the classes stand in errors alone."""
    with space.progress.bar("looking for copies", 1) as advance:
        of_image = clusters(space.data, lambda done, total: advance(done / total), space.folder)
    np.save(space.folder / FOLDS, folds_of(space.data, of_image, count))


def describe(
    space: Workspace, classes: list[str], synthetic: bool, prepared: Mapping[str, Any], side: int | None
) -> None:
    """What every card says of the data, as students with an input of this side see them."""
    data = space.data
    if prepared and student_shape(data.train, side) != data.train.pixels.shape[1:]:
        # a device reduces an image in the same steps: to the larger copy's side, then to the student's
        prepared = {**prepared, "side": data.train.teacher_pixels.shape[1]}
    splits = {name: pixels_at(own, side) for name, own in data.splits.items()}
    data = replace(data, classes=tuple(classes), synthetic=synthetic)
    sheet = describe_data(data, prepared, splits, space.folder)
    (space.folder / SHEET).write_text(json.dumps(asdict(sheet)))


def read_datasheet(folder: Path) -> DataSheet:
    """What `describe` left."""
    sheet = json.loads((folder / SHEET).read_text())
    return DataSheet(**{**sheet, "classes": tuple(sheet["classes"]), "shape": tuple(sheet["shape"])})


def draw_train_views(space: Workspace, policy: ViewConfig, seed: int) -> None:
    """The views of the training images, for the teacher and for the student."""
    _draw(space, computed_views(space.data.train, seed=seed, policy=policy), policy, seed)


def draw_unlabelled_views(space: Workspace, policy: ViewConfig, seed: int, unlabelled: str) -> None:
    """The views of those unlabelled images that are no copies of val or test images."""
    _require_unlabelled(space, unlabelled)
    rows = read_audit(space.inputs["audit"], space.data).unlabelled_rows
    views = computed_views(space.unlabelled, seed=seed, policy=policy, rows=rows)
    _draw(space, views, policy, seed, rows.tolist(), unlabelled)


def _require_unlabelled(space: Workspace, digest: str) -> None:
    """Raise `UserError` where the unlabelled images are not those that a task was planned for."""
    got = space.data.unlabelled_digest
    require(got == digest, "--unlabelled", f"the images that {space.title} is made of", got)


def _draw(
    space: Workspace,
    views: Views,
    policy: ViewConfig,
    seed: int,
    rows: list[int] | None = None,
    unlabelled: str = "",
) -> None:
    """Say what the views are made of, and store those that are to be stored."""
    record = {"policy": section_dict(policy), "seed": seed, "rows": rows, "unlabelled": unlabelled}
    (space.folder / DRAWN).write_text(json.dumps(record))
    stored = stored_parts(policy.store_views, views, shutil.disk_usage(space.folder).free)
    with space.progress.bar(f"drawing {space.title}", 1) as advance:
        if stored != "none":
            draw_views(
                views,
                space.folder / VIEWS,
                teacher=stored == "all",
                progress=lambda done, total: advance(done / total),
            )


def stored_parts(wanted: str, views: Views, free: int) -> str:
    """What of some views is stored: "all", "student" or "none", by --store-views and `free` bytes on disk."""
    if wanted != "auto":
        return wanted
    student = math.prod(views.pixels.shape)
    shared = views.pixels is views.teacher_pixels
    both = student if shared else student + math.prod(views.teacher_pixels.shape)
    if both <= min(MOST_STORED, free // 2):
        return "all"
    return "student" if not shared and student <= free // 2 else "none"


def views_of(space: Workspace, role: str = "views") -> Views:
    """The views a task was given, (V, N, H, W, C): mapped where they are stored, else computed.

    Raises `UserError` where they are to be computed of other unlabelled images than they were planned for.
    """
    folder, data = space.inputs[role], space.data
    record = json.loads((folder / DRAWN).read_text())
    split, rows = data.train, None
    if record["rows"] is not None:
        _require_unlabelled(space, record["unlabelled"])
        split, rows = space.unlabelled, np.array(record["rows"], np.int64)
    policy = ViewConfig(**record["policy"])
    return read_views(folder / VIEWS, computed_views(split, seed=record["seed"], policy=policy, rows=rows))
