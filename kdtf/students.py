"""Students: small networks from pixels 0..255 to logits, one registry row per name.

Scaling lives inside the graph. `exported` puts the softmax on top; nothing here trains or converts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import keras
from keras import layers

from .checks import require, require_known


@dataclass(frozen=True)
class Student:
    """`build(shape, classes, momentum, dropout)` makes the network; `min_side` in pixels."""

    build: Callable
    min_side: int


def cnn3(shape, classes, momentum, dropout):
    """Three Conv-BN-ReLU-MaxPool blocks (32, 64, 128), Dense 256, dropout. (H, W, C) -> logits (K,)."""
    x = pixels = keras.Input(shape, name="pixels")
    x = layers.Rescaling(1 / 255)(x)
    for filters in (32, 64, 128):
        x = layers.Conv2D(filters, 3, padding="same")(x)
        x = layers.BatchNormalization(momentum=momentum)(x)
        x = layers.ReLU()(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(256, activation="relu")(x)
    x = layers.Dropout(dropout)(x)
    return keras.Model(pixels, layers.Dense(classes, name="logits")(x), name="cnn3")


STUDENTS = {"cnn3": Student(cnn3, min_side=8)}


def build_student(name, shape, classes, *, momentum, dropout, seed):
    """A new student with initial weights drawn from `seed`.

    Returns a `keras.Model` from pixels (N, H, W, C) to logits (N, K). Raises `UserError` for an
    unknown name or images smaller than the student can take.
    """
    require_known("--student", name, STUDENTS)
    row = STUDENTS[name]
    require(min(shape[:2]) >= row.min_side, "image side", f"at least {row.min_side} px for {name}", shape[:2])
    keras.utils.set_random_seed(seed)  # Keras layers without a seed of their own draw it from here
    return row.build(shape, classes, momentum, dropout)


def exported(student):
    """The same network with probabilities (N, K) as output: what is saved, converted and shipped."""
    return keras.Model(student.input, layers.Softmax(name="probs")(student.output), name=student.name)


def without_softmax(student):
    """The inverse of `exported`: the same network without its softmax."""
    return keras.Model(student.input, student.get_layer("probs").input, name=student.name)
