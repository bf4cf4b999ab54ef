"""The tasks of one student: its training, alone or distilled, and what it says of val and test."""

from typing import Any

import numpy as np

from ..data.dataset import Split
from ..data.pixels import Side, lazy_pixels_at, pixels_at, student_shape
from ..distill.batches import Examples, UnlabelledExamples
from ..distill.inference import inference_of
from ..distill.losses import LOSSES
from ..distill.train import train_student
from ..files import make_room
from ..models.cuts import is_thinned
from ..models.students import exported, load_student, new_student, save_undated
from ..models.weights import WeightSource
from ..records import Rule, StudentNetwork, Training
from ..stage_folders import CHECKPOINT
from .data import views_of
from .fitted import Fitted, room_for, write_fitted, write_measured
from .perform import Workspace
from .records import Origin
from .stages import FEATURES, LOGITS, OF_VAL, write_origin

FITTING_PIXELS = 128**3  # of the images that a thinner network is fitted to: 128 of 128 px, 2,048 of 32 px


def examples_for(space: Workspace, side: Side, features: bool = False) -> Examples:
    """Views, labels and val of a student with an input of this side, and a teacher's logits if it has one.

    With `features` the teacher's too.
    """
    data, labels = space.data, space.inputs.get("labels")
    names = {"logits": LOGITS, **({"features": FEATURES} if features else {})}
    teacher: dict[str, Any] = {}
    if labels:
        teacher = {name: np.load(labels / file, mmap_mode="r") for name, file in names.items()}
        of_val = {f"val_{name}": labels / OF_VAL[file] for name, file in names.items()}
        teacher |= {name: np.load(file, mmap_mode="r") for name, file in of_val.items()}
    unlabelled = space.inputs.get("unlabelled_labels")
    if unlabelled:
        own = {name: np.load(unlabelled / file, mmap_mode="r") for name, file in names.items()}
        others = views_of(space, "unlabelled_views").at_side(side)
        teacher["unlabelled"] = UnlabelledExamples(others, **own)
    views = views_of(space).at_side(side)
    return Examples(views, data.train.labels, pixels_at(data.val, side), data.val.labels, **teacher)


def fitting_images(train: Split, network: StudentNetwork) -> np.ndarray | None:
    """Some images of train (n, H, W, C) at its side for a network that is made thinner; None for others."""
    if not is_thinned(network.name):
        return None
    pixels = lazy_pixels_at(train, network.side)
    most = max(1, FITTING_PIXELS // (pixels.shape[1] * pixels.shape[2]))
    return pixels[np.sort(np.random.default_rng(0).permutation(len(pixels))[:most])]


def train(space: Workspace, network: StudentNetwork, training: Training, rule: Rule | None) -> None:
    """A student distilled by `rule` from the teacher among the inputs, or trained alone where it is None."""
    on_features = rule is not None and LOSSES[rule.loss].takes_features
    examples = examples_for(space, network.side, on_features)
    source = WeightSource(network.weights.source)
    shape = student_shape(space.data.train, network.side)
    student, weights, pretrained = new_student(
        network, shape, len(space.data.classes), source, fitting_images(space.data.train, network)
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
    student = load_student(space.inputs["student"])
    val, test = (pixels_at(own, student.input.shape[1:3]) for own in (space.data.val, space.data.test))
    write_measured(space.folder, inference_of(student), val, test, runs)
