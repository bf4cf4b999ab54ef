"""The hand-built networks against their published sizes, and SqueezeNet against its published weights."""

from math import prod

import h5py
import keras
import numpy as np
from keras import layers

from kdtf.models import networks


def test_resnet18_has_its_published_size():
    pixels = keras.Input((224, 224, 3))
    maps = networks.resnet18(pixels)
    assert maps.shape == (None, 7, 7, 512)
    model = keras.Model(pixels, layers.Dense(1000)(layers.GlobalAveragePooling2D()(maps)))
    assert sum(prod(w.shape) for w in model.trainable_weights) == 11_689_512


def test_squeezenet_has_its_published_size():
    pixels = keras.Input((224, 224, 3))
    model = keras.Model(pixels, layers.Conv2D(1000, 1)(networks.squeezenet(pixels)))
    assert model.count_params() == 1_235_496


def test_squeezenet_takes_its_published_weights(shared_weights):
    file = next(shared_weights.glob("squeezenet_*_notop.h5"))
    model = networks.as_application(networks.squeezenet)((48, 48, 3), weights=str(file))
    with h5py.File(file) as published:
        stored = {name: np.asarray(w) for name, w in _arrays(published)}
    for fire, part in ((2, "squeeze1x1"), (5, "expand1x1"), (9, "expand3x3")):
        own = model.get_layer(f"fire{fire}_{part}").get_weights()[0]
        theirs = next(w for name, w in stored.items() if f"fire{fire}/{part}" in name and "kernel" in name)
        assert np.array_equal(own, theirs)


def _arrays(group):
    for name, item in group.items():
        yield from (
            ((f"{name}/{n}", a) for n, a in _arrays(item)) if hasattr(item, "items") else [(name, item)]
        )
