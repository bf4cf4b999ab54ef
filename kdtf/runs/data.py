"""The tasks that need no network: the demo's phantom, the audit, the data sheet, the views."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..config import ViewConfig
from ..data import phantom
from ..data.audit import Audit, audit
from ..data.dataset import Dataset
from ..data.views import Views, draw_views, read_views
from ..records import DataSheet
from ..tflite.datasheet import describe_data
from .perform import Workspace

AUDIT, SHEET, VIEWS = "audit.json", "datasheet.json", "views.npy"


def draw_phantom(space: Workspace, seed: int) -> None:
    """The images of the demo."""
    with space.progress.bar("drawing the phantom", 1) as advance:
        phantom.write(space.folder, seed=seed)
        advance(1)


def audit_data(space: Workspace, classes: list[str]) -> None:
    """The audit of the data; the names of the classes stand in it."""
    with space.progress.bar("auditing the data", 1) as advance:
        data = replace(space.data, classes=tuple(classes))
        findings = audit(data, lambda done, total: advance(done / total))
    (space.folder / AUDIT).write_text(json.dumps(findings.to_json()))


def read_audit(folder: Path, data: Dataset) -> Audit:
    """What `audit_data` left."""
    return Audit.from_json(json.loads((folder / AUDIT).read_text()), data)


def describe(space: Workspace, classes: list[str], synthetic: bool, prepared: Mapping[str, Any]) -> None:
    """What every card says of the data."""
    data = replace(space.data, classes=tuple(classes), synthetic=synthetic)
    (space.folder / SHEET).write_text(json.dumps(asdict(describe_data(data, prepared))))


def read_datasheet(folder: Path) -> DataSheet:
    """What `describe` left."""
    sheet = json.loads((folder / SHEET).read_text())
    return DataSheet(**{**sheet, "classes": tuple(sheet["classes"]), "shape": tuple(sheet["shape"])})


def draw_all_views(space: Workspace, policy: ViewConfig, seed: int) -> None:
    """The views of the training images, for the teacher and for the student."""
    with space.progress.bar("drawing views", 1) as advance:
        draw_views(
            space.data.train,
            space.folder / VIEWS,
            seed=seed,
            policy=policy,
            progress=lambda done, total: advance(done / total),
        )


def stored_views(space: Workspace) -> Views:
    """The views a task was given, mapped: (V, N, H, W, C)."""
    return read_views(space.inputs["views"] / VIEWS)
