"""Students: small networks from pixels 0..255 to logits, one registry row per name.

Scaling lives inside the graph. `exported` puts the softmax on top; nothing here trains or converts.
Every layer has a name of its own: Keras would number them by how many it has made before, and the same
student would be called otherwise in another run.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError, require, require_known
from ..lazy_keras import keras, layers
from ..records import StudentNetwork
from . import networks
from .cut_names import PREFIX, is_cut
from .cuts import CUTTABLE, build_cut, parse
from .seeding import initial_weights_from
from .weights import WeightSource

Shape = tuple[int, int, int]  # (H, W, C)


@dataclass(frozen=True)
class Student:
    """`build(shape, classes, momentum, dropout)` makes the network; `min_side` in pixels.

    A `chain` is one layer after another, of the layers that `compress` can rebuild.
    """

    build: Callable[..., keras.Model]
    min_side: int
    chain: bool = False


def cnn3(
    shape: Shape, classes: int, momentum: float, dropout: float, width: int = 32, name: str = "cnn3"
) -> keras.Model:
    """Three Conv-BN-ReLU-MaxPool blocks (32, 64, 128), Dense 256, dropout. (H, W, C) -> logits (K,).

    `width` is the number of the first filters; all other widths are in proportion.
    """
    x = pixels = keras.Input(shape, name="pixels")
    x = layers.Rescaling(1 / 255, name="scale")(x)
    for i, filters in enumerate((width, 2 * width, 4 * width), 1):
        x = layers.Conv2D(filters, 3, padding="same", name=f"conv{i}")(x)
        x = layers.BatchNormalization(momentum=momentum, name=f"norm{i}")(x)
        x = layers.ReLU(name=f"relu{i}")(x)
        x = layers.MaxPooling2D(name=f"pool{i}")(x)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(8 * width, activation="relu", name="dense")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(pixels, layers.Dense(classes, name="logits")(x), name=name)


def cnn3_small(shape: Shape, classes: int, momentum: float, dropout: float) -> keras.Model:
    """`cnn3` with a quarter of its channels: a sixteenth of its weights, 44 KiB of int8 from 32 px."""
    return cnn3(shape, classes, momentum, dropout, width=8, name="cnn3-small")


def baseline(shape: Shape, classes: int, momentum: float, dropout: float) -> keras.Model:
    """The plain CNN of tutorials, to be beaten: two Conv-ReLU-MaxPool (32, 64), Dense 128, dropout."""
    x = pixels = keras.Input(shape, name="pixels")
    x = layers.Rescaling(1 / 255, name="scale")(x)
    for i, filters in enumerate((32, 64), 1):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv{i}")(x)
        x = layers.MaxPooling2D(name=f"pool{i}")(x)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(128, activation="relu", name="dense")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(pixels, layers.Dense(classes, name="logits")(x), name="baseline")


def cnn5(shape: Shape, classes: int, momentum: float, dropout: float) -> keras.Model:
    """Five Conv-BN-ReLU blocks (16 to 256 filters), global average pooling, dropout."""
    x = pixels = keras.Input(shape, name="pixels")
    x = layers.Rescaling(1 / 255, name="scale")(x)
    x = networks.cnn5(x, (16, 32, 64, 128, 256), momentum)
    x = layers.GlobalAveragePooling2D(name="average")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(pixels, layers.Dense(classes, name="logits")(x), name="cnn5")


def dscnn(shape: Shape, classes: int, momentum: float, dropout: float) -> keras.Model:
    """Conv-BN-ReLU (16), then three depthwise-separable blocks (32, 64, 96), each after a MaxPool; average.

    After the DS-CNN of Zhang et al., "Hello Edge: Keyword Spotting on Microcontrollers", 2017 (arXiv
    1711.07128): 11 thousand weights from grey images, about 20 KiB of int8.
    """
    x = pixels = keras.Input(shape, name="pixels")
    x = layers.Rescaling(1 / 255, name="scale")(x)
    x = layers.Conv2D(16, 3, padding="same", use_bias=False, name="conv")(x)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(momentum=momentum, name="norm")(x))
    for i, filters in enumerate((32, 64, 96), 1):
        x = layers.MaxPooling2D(name=f"pool{i}")(x)
        x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"depthwise{i}")(x)
        x = layers.BatchNormalization(momentum=momentum, name=f"depthwise_norm{i}")(x)
        x = layers.ReLU(name=f"depthwise_relu{i}")(x)
        x = layers.Conv2D(filters, 1, use_bias=False, name=f"pointwise{i}")(x)
        x = layers.BatchNormalization(momentum=momentum, name=f"pointwise_norm{i}")(x)
        x = layers.ReLU(name=f"pointwise_relu{i}")(x)
    x = layers.GlobalAveragePooling2D(name="average")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(pixels, layers.Dense(classes, name="logits")(x), name="dscnn")


def mobilenetv2(shape: Shape, classes: int, momentum: float, dropout: float) -> keras.Model:
    """MobileNetV2's features from random weights, global average pooling, Dense 512 ReLU, dropout."""
    x = pixels = keras.Input(shape, name="pixels")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="scale")(x)
    features = keras.applications.MobileNetV2(
        input_tensor=x, input_shape=shape, include_top=False, weights=None
    )
    for layer in features.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = momentum
    x = layers.GlobalAveragePooling2D(name="average")(features.output)
    x = layers.Dense(512, activation="relu", name="dense")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(pixels, layers.Dense(classes, name="logits")(x), name="mobilenetv2")


def squeezenet(shape: Shape, classes: int, momentum: float, dropout: float) -> keras.Model:
    """SqueezeNet 1.1: dropout, a 1 x 1 convolution to K maps and their global averages as logits."""
    x = pixels = keras.Input(shape, name="pixels")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="scale")(x)
    x = layers.Dropout(dropout, name="dropout")(networks.squeezenet(x))
    x = layers.Conv2D(classes, 1, name="conv10")(x)
    return keras.Model(pixels, layers.GlobalAveragePooling2D(name="logits")(x), name="squeezenet")


STUDENTS = {
    "cnn3": Student(cnn3, min_side=8, chain=True),
    "cnn3-small": Student(cnn3_small, min_side=8, chain=True),
    "cnn5": Student(cnn5, min_side=16, chain=True),
    "dscnn": Student(dscnn, min_side=8),
    "mobilenetv2": Student(mobilenetv2, min_side=32),
    "squeezenet": Student(squeezenet, min_side=17),
    "baseline": Student(baseline, min_side=4, chain=True),
}


RANDOM = "random weights"


def check_student(name: str, flag: str = "--student") -> None:
    """Raise `UserError` for a name that is neither a row of `STUDENTS` nor a cut that exists."""
    if is_cut(name):
        parse(name, flag)
    else:
        require_known(flag, name, [*STUDENTS, *(f"{PREFIX}{network}" for network in CUTTABLE)])


def is_chain(name: str) -> bool:
    """Whether a student is one layer after another, so that it can be pruned or clustered."""
    return not is_cut(name) and STUDENTS[name].chain


def new_student(
    network: StudentNetwork,
    shape: Shape,
    classes: int,
    source: WeightSource,
    images: np.ndarray | None,
) -> tuple[keras.Model, str, bool]:
    """A student to be trained, where its weights came from in words, and whether they are pretrained.

    From pixels (N, H, W, C) to logits (N, K); `source` gives the weights of a cut network, which is fitted to
    `images` as in `build_cut`. Raises `UserError` as `build_student` does, and for weights that do not fit.
    """
    own: dict[str, Any] = {"momentum": network.momentum, "dropout": network.dropout}
    if is_cut(network.name):
        own |= {"source": source, "images": images}
        return build_cut(network.name, shape, classes, seed=network.seed, **own)
    return build_student(network.name, shape, classes, seed=network.seed, **own), RANDOM, False


def build_student(
    name: str, shape: Shape, classes: int, *, momentum: float, dropout: float, seed: int
) -> keras.Model:
    """A new student with initial weights drawn from `seed`.

    Returns a `keras.Model` from pixels (N, H, W, C) to logits (N, K). Raises `UserError` for an
    unknown name or images smaller than the student can take.
    """
    require_known("--student", name, STUDENTS)
    row = STUDENTS[name]
    require(min(shape[:2]) >= row.min_side, "image side", f"at least {row.min_side} px for {name}", shape[:2])
    with initial_weights_from(seed):
        return row.build(shape, classes, momentum, dropout)


def exported(student: keras.Model) -> keras.Model:
    """The same network with probabilities (N, K) as output: what is saved, converted and shipped."""
    return keras.Model(student.input, layers.Softmax(name="probs")(student.output), name=student.name)


def save_undated(student: keras.Model, path: Path) -> None:
    """Save as `.keras` without the dates and addresses that would make two equal students differ."""
    student.save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    metadata = json.loads(parts["metadata.json"])
    del metadata["date_saved"]
    parts["metadata.json"] = json.dumps(metadata).encode()
    numbers: dict[bytes, int] = {}  # what layers share is known by its address: numbered instead
    parts["config.json"] = re.sub(
        rb'(?<="shared_object_id": )\d+',
        lambda match: b"%d" % numbers.setdefault(match.group(), len(numbers)),
        parts["config.json"],
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name), content)


def without_softmax(student: keras.Model) -> keras.Model:
    """The inverse of `exported`: the same network without its softmax."""
    return keras.Model(student.input, student.get_layer("probs").input, name=student.name)


def load_student(folder: Path) -> keras.Model:
    """A finished student as it is shipped: pixels to probabilities.

    Raises `UserError` for any other file: in Keras' safe mode one that holds code is refused.
    """
    path = folder / "student.keras"
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError, LookupError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{path} must be a student as kdtf saves it. It is not: {reason}.") from None
