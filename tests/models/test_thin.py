"""Channels left out inside the blocks of a network: which, and what becomes of what they gave."""

import keras
import numpy as np
import pytest
from keras import layers

from kdtf.models.cuts import CUTTABLE, build_cut
from kdtf.models.thin import thinned
from kdtf.models.weights import WeightSource

IMAGES = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")


def block(channels=16):
    """A convolution and one inverted residual: (N, 8, 8, 3) to (N, 4, 4, 5), drawn weights everywhere."""
    pixels = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same")(pixels)
    x = layers.Conv2D(channels, 1, use_bias=False, name="expand")(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, 2, padding="same", use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization(name="norm")(x))
    x = layers.Conv2D(5, 1, use_bias=False, name="project")(x)
    network = keras.Model(pixels, layers.BatchNormalization()(x))
    rng = np.random.default_rng(1)
    for layer in network.layers:
        layer.set_weights([rng.uniform(0.2, 1, w.shape).astype("float32") for w in layer.get_weights()])
    return network


@pytest.mark.parametrize("offset", [0.0, 1.5])
def test_channels_that_are_always_the_same_are_left_out_and_the_answers_stay(offset):
    """Half the channels are `offset` whatever the image: their sum goes into the next mean."""
    network = block()
    norm = network.get_layer("norm")
    gain, shift, *moments = norm.get_weights()
    gain[1::2], shift[1::2] = 0.0, offset
    norm.set_weights([gain, shift, *moments])
    thin = thinned(network, 0.5)
    assert thin.get_layer("expand").filters == 8
    kernels = [model.get_layer("expand").get_weights()[0] for model in (network, thin)]
    assert np.array_equal(kernels[1], kernels[0][..., 0::2])
    assert thin(IMAGES).numpy() == pytest.approx(network(IMAGES).numpy(), abs=1e-4)


def test_a_channel_that_nothing_listens_to_is_left_out_first():
    network = block()
    project = network.get_layer("project")
    (kernel,) = project.get_weights()
    kernel[:, :, 3:11] = 0
    project.set_weights([kernel])
    thin = thinned(network, 0.5)
    (kept,) = thin.get_layer("expand").get_weights()
    (all_channels,) = network.get_layer("expand").get_weights()
    assert np.array_equal(kept, np.delete(all_channels, range(3, 11), axis=3))
    assert thin(IMAGES).numpy() == pytest.approx(network(IMAGES).numpy(), abs=1e-4)


@pytest.mark.parametrize("part, filters", [(0.01, 8), (0.4, 8), (0.6, 8), (0.8, 16), (1.0, 16)])
def test_channels_are_rounded_to_eights(part, filters):
    assert thinned(block(), part).get_layer("expand").filters == filters


@pytest.mark.parametrize("network", CUTTABLE)
def test_every_network_can_be_thinned(network):
    def cut(part):
        settings = {"momentum": 0.9, "dropout": 0.0, "seed": 0, "source": WeightSource("none")}
        return build_cut(f"cut:{network}:4:{part}", (32, 32, 1), 3, **settings)[0]

    whole, thin = cut(1), cut(0.5)
    assert thin.count_params() < 0.8 * whole.count_params()
    assert [layer.name for layer in thin.layers] == [layer.name for layer in whole.layers]
    assert np.isfinite(thin(np.zeros((1, 32, 32, 1))).numpy()).all()
