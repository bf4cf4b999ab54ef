"""Where a student and its teacher name the same class, on the images that students learn from.

The teacher's classes are those of its cached labels; val and test are in the evaluations already.
"""

import json
from pathlib import Path

import numpy as np

from ..data.arrays import forget
from ..data.views import ViewArray
from ..evidence.calibration import class_agreement
from ..models.students import load_student
from ..records import Agreement
from .data import views_of
from .perform import Workspace
from .stages import LOGITS

AGREEMENT = "agreement.json"


def compare(space: Workspace, side: int | None) -> None:
    """A student with an input of this side and its teacher on view 0, the images as they are.

    On those of train and, where the teacher has labelled any, on those without labels.
    """
    from ..distill.inference import AT_ONCE, inference_of

    predict = inference_of(load_student(space.inputs["student"]))

    def classes(views: ViewArray) -> np.ndarray:
        named = []
        for start in range(0, views.shape[1], AT_ONCE):
            named.append(predict(views[0, start : start + AT_ONCE]).argmax(axis=1))
            forget(views)
        return np.concatenate(named)  # (N,)

    images: dict[str, tuple[str, str, np.ndarray | None]]
    images = {"train": ("views", "labels", space.data.train.labels)}
    if "unlabelled_labels" in space.inputs:
        images["unlabelled"] = ("unlabelled_views", "unlabelled_labels", None)
    rows = []
    with space.progress.bar(f"{space.title}: agreement with the teacher", len(images)) as advance:
        for name, (views, logits, labels) in images.items():
            teacher = np.load(space.inputs[logits] / LOGITS, mmap_mode="r")[0].argmax(axis=1)
            rows.append(class_agreement(name, teacher, classes(views_of(space, views).at_side(side)), labels))
            advance(len(rows))
    (space.folder / AGREEMENT).write_text(json.dumps([row._asdict() for row in rows]))


def read_agreement(folder: Path) -> tuple[Agreement, ...]:
    """What `compare` left."""
    return tuple(Agreement(**row) for row in json.loads((folder / AGREEMENT).read_text()))
