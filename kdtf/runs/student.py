"""The tasks of one student: its training, alone or distilled, and what it says of val and test."""

import numpy as np

from ..distill.batches import Examples
from ..distill.inference import inference_of
from ..distill.train import train_student
from ..files import make_room
from ..models.students import exported, load_student, new_student, save_undated
from ..models.weights import WeightSource
from ..records import Rule, StudentNetwork, Training
from ..stage_folders import CHECKPOINT
from .data import stored_views
from .fitted import Fitted, room_for, write_fitted, write_measured
from .perform import Workspace
from .records import Origin
from .stages import LOGITS, VAL_LOGITS, write_origin


def examples_for(space: Workspace) -> Examples:
    """Views, labels and val of a student, and the teacher's logits where there is a teacher."""
    data, labels = space.data, space.inputs.get("labels")
    logits = {}
    if labels:
        logits = {
            "logits": np.load(labels / LOGITS, mmap_mode="r"),
            "val_logits": np.load(labels / VAL_LOGITS),
        }
    views = stored_views(space).pixels
    return Examples(views, data.train.labels, data.val.pixels, data.val.labels, **logits)


def train(space: Workspace, network: StudentNetwork, training: Training, rule: Rule | None) -> None:
    """A student distilled by `rule` from the teacher among the inputs, or trained alone where it is None."""
    examples = examples_for(space)
    source = WeightSource(network.weights.source)
    student, weights, pretrained = new_student(
        network, examples.views.shape[2:], len(space.data.classes), source
    )
    history = train_student(
        student,
        examples,
        training,
        rule,
        seed=network.seed,
        title=f"{space.title}: student",
        progress=space.progress,
        checkpoint=space.folder / f"{CHECKPOINT}.npz",
    )
    shipped = exported(student)
    make_room(space.folder, 2 * room_for(shipped))
    save_undated(shipped, space.folder / "student.keras")
    shipped.save(space.folder / "student.h5")
    size = (space.folder / "student.h5").stat().st_size / 1024
    write_fitted(space.folder, Fitted(shipped.count_params(), size, history))
    write_origin(space.folder, Origin(weights, pretrained))


def evaluate(space: Workspace, runs: int) -> None:
    """What the student says of val and test."""
    predict = inference_of(load_student(space.inputs["student"]))
    write_measured(space.folder, predict, space.data.val.pixels, space.data.test.pixels, runs)
