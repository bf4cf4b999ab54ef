"""The tasks of one teacher: where its weights start, features, head, whole network, labels, scores.

Each reads what the one before wrote, so that a run that was interrupted does what one that was not
does. The network is built only where a stage has to be made.
"""

import math
import shutil
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.utils.naming import reset_uids  # files hold layers' names: the same in every process

from ..data.pixels import pixels_at
from ..data.views import PartOfViews, ViewArray
from ..distill.batches import Examples
from ..distill.fit import WHOLE
from ..distill.hints import as_vectors, with_features
from ..distill.inference import InferredViews, infer_images, infer_views, inference_of, inferences_of
from ..distill.replicas import check_devices, mirrored, synchronize
from ..distill.train import train_classifier
from ..errors import require
from ..evidence.metrics import softmax
from ..evidence.tables import images_of_every_class
from ..files import file_digest, make_room
from ..models.gradcam import heat
from ..models.students import load_student, without_softmax
from ..models.teachers import Base, build_base, build_head, with_head
from ..models.weights import NOT_DOWNLOADED, WeightSource
from ..native_log import native_noise
from ..records import Attention, TeacherNetwork, Training
from ..stage_folders import CHECKPOINT
from ..tflite.labelling import BATCH, Labeller
from ..tflite.labelling import labeller as labeller_of
from .data import DRAWN, read_audit, views_of
from .fitted import Fitted, read_fitted, room_for, write_fitted, write_measured
from .perform import Workspace
from .records import LabelPart, Origin
from .stages import FEATURES, LOGITS, OF_VAL, VAL_FEATURES, write_attention, write_labeller, write_origin

WEIGHTS = "teacher.weights.h5"
LITERT_FROM = 5_000  # views of images: below, what LiteRT spares is less than converting a network costs
TOLD = 1e-2  # of an output: labels that are further off Keras' are so by choice, and it is said
MOST_FEATURES = 16 << 30  # bytes of a frozen base's features that are kept
TOO_MANY_FEATURES = (
    "{}: its features take {:.1f} GiB, and at most {:.0f} are kept: they are made anew where they are needed."
)


@cache
def _weight_source(choice: str) -> WeightSource:
    """One for each choice and process: it remembers that nothing can be downloaded."""
    return WeightSource(choice)


@cache
def _check_file(choice: str, name: str, planned: str) -> None:
    """Raise `UserError` where the file that --weights means is not the one a task was planned for."""
    path = _weight_source(choice).path(name)
    digest = path and file_digest(path)
    require(digest == planned, "--weights", f"the file of {name} that the run began with", str(path))


def find_origin(space: Workspace, network: TeacherNetwork) -> None:
    """Where the weights come from: with --weights auto that depends on the day."""
    base = _build(space, network)
    write_origin(space.folder, Origin(base.origin, base.pretrained))


def extract_features(space: Workspace, network: TeacherNetwork, labeller: str = "keras") -> None:
    """What the frozen base makes of every view (V, N, F) and of val (n, F).

    Of the views it is kept where it takes at most `MOST_FEATURES` bytes, else what they are drawn by: who
    needs it makes it anew (`_features_of`).
    """
    base = _build(space, network).model
    views, val = views_of(space).teacher_pixels, space.data.val.teacher_pixels
    size = 4 * math.prod(views.shape[:2]) * math.prod(base.output.shape[1:])
    if size <= MOST_FEATURES:
        _write_outputs(space, base, [FEATURES], views, val, f"{network.name}: features", labeller)
        return
    space.progress.say(TOO_MANY_FEATURES.format(network.name, size / 2**30, MOST_FEATURES / 2**30))
    shutil.copyfile(space.inputs["views"] / DRAWN, space.folder / DRAWN)
    infer_images(inferences_of(base), val, [space.folder / VAL_FEATURES])


def _features_of(space: Workspace, base: keras.Model) -> ViewArray:
    """The features (V, N, F) that `extract_features` kept, or those that `base` makes where they are read."""
    kept = space.inputs["features"] / FEATURES
    if kept.exists():
        return np.load(kept, mmap_mode="r")
    return InferredViews(
        views_of(space, "features").teacher_pixels, inference_of(base), base.output.shape[1:]
    )


def train_head(space: Workspace, network: TeacherNetwork, training: Training) -> None:
    """The head, trained on cached features: the mathematics of training through the frozen base."""
    head, whole, base = _network(space, network)
    examples = Examples(
        _features_of(space, base),
        space.data.train.labels,
        np.load(space.inputs["features"] / VAL_FEATURES, mmap_mode="r"),
        space.data.val.labels,
    )
    history = train_classifier(
        head,
        examples,
        training,
        phase="head",
        seed=network.seed,
        title=f"{network.name}: head",
        progress=space.progress,
        validation_batch=training.batch_size,
        short_steps=True,
        checkpoint=space.folder / f"{CHECKPOINT}.npz",
    )
    _write(space.folder, whole, history)


def train_whole(space: Workspace, network: TeacherNetwork, training: Training, mirror: bool = False) -> None:
    """The whole network, trained over the views from where its head, or chance, left it.

    With `mirror` on all devices of this machine. Raises `UserError` where there are not two.
    """
    if not mirror:
        _train_whole(space, network, training)
        return
    check_devices()
    _built.clear()  # on one device
    with mirrored():
        _train_whole(space, network, training)


def _train_whole(space: Workspace, network: TeacherNetwork, training: Training) -> None:
    headed = space.inputs.get("head")
    _, whole, _ = _network(space, network, headed)
    _built.clear()  # it is trained now
    if tf.distribute.has_strategy():
        synchronize(whole)
    data = space.data
    history = train_classifier(
        whole,
        Examples(
            views_of(space).teacher_pixels,
            data.train.labels,
            data.val.teacher_pixels,
            data.val.labels,
        ),
        training,
        phase=WHOLE,
        seed=network.seed,
        title=f"{network.name}: whole network",
        progress=space.progress,
        checkpoint=space.folder / f"{CHECKPOINT}.npz",
    )
    earlier = read_fitted(headed).history if headed else []
    later = [{**row, "epoch": row["epoch"] + len(earlier)} for row in history]
    _write(space.folder, whole, [*earlier, *later])


def label_views(
    space: Workspace,
    network: TeacherNetwork,
    features: bool = False,
    labeller: str = "keras",
    part: LabelPart | None = None,
) -> None:
    """Logits over every view and of val, and with `features` what the head makes them of, pooled.

    The frozen base's features spare another pass through it. With `part` the logits of that part alone,
    (1, n, K), and with the first one those of val.
    """
    title = f"{network.name}: labelling views"
    if part:
        val = space.data.val.teacher_pixels if not (part.view or part.start) else None
        _label_part(space, network, labeller, part, val, title)
        return
    head, whole, base = _network(space, network, space.inputs.get("trained"))
    frozen = space.inputs.get("features")
    if frozen:
        model = keras.Model(head.input, [as_vectors(head.input), head.output]) if features else head
        views, val = _features_of(space, base), np.load(frozen / VAL_FEATURES, mmap_mode="r")
    else:
        model = with_features(whole) if features else whole
        views, val = views_of(space).teacher_pixels, space.data.val.teacher_pixels
    _write_outputs(space, model, _labels(features), views, val, title, labeller)


def label_unlabelled(
    space: Workspace,
    network: TeacherNetwork,
    features: bool = False,
    labeller: str = "keras",
    part: LabelPart | None = None,
) -> None:
    """Logits over every view of the unlabelled images (V, U, K), and with `features` those (V, U, F).

    With `part` the logits of that part alone, (1, n, K).
    """
    title = f"{network.name}: labelling unlabelled images"
    if part:
        _label_part(space, network, labeller, part, None, title)
        return
    whole = _network(space, network, space.inputs.get("trained"))[1]
    model = with_features(whole) if features else whole
    _write_outputs(space, model, _labels(features), views_of(space).teacher_pixels, None, title, labeller)


_last_labeller: dict[tuple, Labeller] = {}  # of a part of labels, in a process that may be given the next one


def _label_part(
    space: Workspace,
    network: TeacherNetwork,
    labeller: str,
    part: LabelPart,
    val: np.ndarray | None,
    title: str,
) -> None:
    """Logits of one part of all views. The teacher is built once for all parts that a process is given."""
    views, trained = views_of(space).teacher_pixels, space.inputs.get("trained")
    at = (network, labeller, trained and trained.name, space.inputs["views"].name)
    if at not in _last_labeller:
        _last_labeller.clear()
        _last_labeller[at] = _labeller(_network(space, network, trained)[1], views, labeller)
    own = PartOfViews(views, part.view, part.start, part.stop)
    _write_inferences(space, _last_labeller[at], [LOGITS], own, val, title)


def _labels(features: bool) -> list[str]:
    """The files of a teacher's labels."""
    return [FEATURES, LOGITS] if features else [LOGITS]


def _write_outputs(
    space: Workspace,
    model: keras.Model,
    names: list[str],
    views: ViewArray,
    val: np.ndarray | None,
    title: str,
    labeller: str,
) -> None:
    """What a model gives for every view, and for val where that is given: a file for each of its outputs."""
    _write_inferences(space, _labeller(model, views, labeller), names, views, val, title)


def _write_inferences(
    space: Workspace,
    labeller: Labeller,
    names: list[str],
    views: ViewArray,
    val: np.ndarray | None,
    title: str,
) -> None:
    if labeller.reason:
        space.progress.say(f"{title} by Keras: {labeller.reason}.")
    elif (labeller.difference or 0) > TOLD:
        off = f"outputs are up to {labeller.difference:.1e} from those of Keras"
        space.progress.say(f"{title} by {labeller.by}: {off}.")
    write_labeller(space.folder, labeller.by, labeller.difference, labeller.reason)
    outs = [space.folder / name for name in names]
    infer_views(labeller.inferences, views, outs, space.progress, title, space.folder / CHECKPOINT)
    if val is not None:
        infer_images(labeller.inferences, val, [space.folder / OF_VAL[name] for name in names])


def _labeller(model: keras.Model, views: ViewArray, choice: str) -> Labeller:
    """A model as a function of arrays, by one of `config.LABELLERS`.

    "auto" is LiteRT where there are views enough for it to pay and no GPU, on which Keras is faster.
    """
    pays = math.prod(views.shape[:2]) >= LITERT_FROM and not tf.config.get_visible_devices("GPU")
    if choice == "keras" or (choice == "auto" and not pays):
        return Labeller(inferences_of(model), "Keras")
    with native_noise():
        return labeller_of(model, views[0, :BATCH], "litert" if choice == "auto" else choice)


def evaluate(space: Workspace, network: TeacherNetwork, runs: int) -> None:
    """What the teacher says of val and test."""
    logits_of = inference_of(_network(space, network, space.inputs.get("trained"))[1])
    val, test = space.data.val.teacher_pixels, space.data.test.teacher_pixels
    write_measured(space.folder, lambda pixels: softmax(logits_of(pixels)), val, test, runs)


def explain(space: Workspace, network: TeacherNetwork, images: int, seed: int) -> None:
    """Grad-CAM of teacher and students on test images without a copy elsewhere."""
    data = space.data
    clean = np.flatnonzero(~read_audit(space.inputs["audit"], data).has_copy["test"])
    rows = clean if len(clean) else np.arange(len(data.test.labels))
    chosen = images_of_every_class(data.test.labels, rows, images, seed)
    maps = {}
    with space.progress.bar(f"{network.name}: Grad-CAM", 3) as advance:
        whole = _network(space, network, space.inputs.get("trained"))[1]
        maps["teacher"] = heat(whole, data.test.teacher_pixels[chosen])
        advance(1)
        for model in ("distilled", "alone"):
            student = without_softmax(load_student(space.inputs[model]))
            maps[model] = heat(student, pixels_at(data.test, student.input.shape[1:3])[chosen])
            advance(len(maps))
    write_attention(space.folder, Attention(chosen, maps))


@dataclass
class _Built:
    """The base that was built last: a teacher's next task begins with the same one.

    To build a large network takes seconds. `network` and `shape` (H, W, C) say which it is, without what is
    found out on the way; `as_begun` is whether it has still the weights that it begins with.
    """

    network: TeacherNetwork
    shape: tuple[int, ...]
    base: Base
    as_begun: bool = True

    def serves(self, network: TeacherNetwork, shape: tuple[int, ...], as_begun: bool) -> bool:
        """Whether it is that network from weights of its origin, and where they matter with these still."""
        same = (self.network, self.shape) == (_undetermined(network), shape)
        found = network.pretrained in (None, self.base.pretrained)
        return same and found and (self.as_begun or not as_begun)


_built: list[_Built] = []  # at most one


def _undetermined(network: TeacherNetwork) -> TeacherNetwork:
    """A network without what is found out of its weights on the way."""
    return replace(network, origin=None, pretrained=None)


def _build(space: Workspace, network: TeacherNetwork, as_begun: bool = True) -> Base:
    """The base with the weights that its network names; with any, where not `as_begun`.

    Raises `UserError` where they cannot be had now.
    """
    source = _weight_source(network.weights.source)
    if network.weights.file:
        _check_file(network.weights.source, network.name, network.weights.file)
    if network.origin == NOT_DOWNLOADED:  # they might be had by now
        source = WeightSource("none")
    shape = space.data.train.teacher_pixels.shape[1:]
    if not (_built and _built[0].serves(network, shape, as_begun)):
        _built.clear()  # before the next one takes memory
        reset_uids()
        base = build_base(
            network.name,
            shape,
            source,
            size=network.size,
            momentum=network.momentum,
            seed=network.seed,
        )
        _built.append(_Built(_undetermined(network), shape, base))
    base = _built[0].base
    rule = f"able to give {network.name} the weights it began with"
    same = network.pretrained in (None, base.pretrained)
    require(same, "--weights", rule, base.origin, "Try again when they can be had, or with --fresh.")
    return base


def _network(
    space: Workspace, network: TeacherNetwork, trained: Path | None = None
) -> tuple[keras.Model, keras.Model, keras.Model]:
    """(head, whole teacher, its base): as they start, or with the weights of a finished stage's folder."""
    base = _build(space, network, as_begun=trained is None).model
    reset_uids()
    head = build_head(
        network.name, base.output.shape[1:], len(space.data.classes), network.seed, network.head
    )
    whole = with_head(base, head)
    if trained:
        _built[0].as_begun = False
        whole.load_weights(trained / WEIGHTS)
    return head, whole, base


def _write(folder: Path, whole: keras.Model, history: list[dict[str, Any]]) -> None:
    """Weights and record of a trained teacher."""
    make_room(folder, room_for(whole))
    # saved through a copy that was never compiled: the optimizer's moments would treble the file
    keras.Model(whole.input, whole.output, name=whole.name).save_weights(folder / WEIGHTS)
    write_fitted(folder, Fitted(whole.count_params(), (folder / WEIGHTS).stat().st_size / 1024, history))
