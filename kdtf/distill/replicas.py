"""One training on several devices of a machine: a replica on each, for its share of every batch."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import tensorflow as tf

from ..errors import require


def devices() -> list[str]:
    """The devices that replicas are put on: the GPUs that TensorFlow sees, without any its logical CPUs."""
    named = (tf.config.list_logical_devices(kind) for kind in ("GPU", "CPU"))
    return next(([device.name for device in own] for own in named if own), [])


def check_devices() -> None:
    """Raise `UserError` where there are not two devices. Starts TensorFlow."""
    own = devices()
    require(len(own) > 1, "--mirror", "given where TensorFlow sees two GPUs or more", ", ".join(own))


@contextmanager
def mirrored() -> Iterator[None]:
    """Networks that are built inside have their variables on every device, and train on all of them.

    Each replica takes its share of a batch, and gradients are added up, as of one device. A batch that is
    no multiple of the devices is divided unevenly, and each share counts as much.
    """
    with tf.distribute.MirroredStrategy(devices()).scope():
        yield


def synchronize(model: keras.Model) -> None:
    """Every BatchNormalization of `model` and of the models in it takes its statistics of the whole batch.

    By those of its replica's share it would be another network than on one device.
    """
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            synchronize(layer)
        elif isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
