"""Channels left out inside the blocks of a network: which, and what becomes of what they gave."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

from kdtf.data.dataset import Split
from kdtf.models import thin as thin_module
from kdtf.models.cuts import CUTTABLE, build_cut, build_trunk
from kdtf.models.students import new_student
from kdtf.models.thin import thinned
from kdtf.models.weights import WeightSource
from kdtf.records import StudentNetwork
from kdtf.runs.student import fitting_images

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


def features(network, images=IMAGES):
    return network(images).numpy()


@pytest.mark.parametrize("offset", [0.0, 1.5])
def test_channels_that_are_always_the_same_are_left_out_and_the_answers_stay(offset):
    """Half the channels are `offset` whatever the image: their sum goes into the next mean."""
    network = block()
    norm = network.get_layer("norm")
    gain, shift, *moments = norm.get_weights()
    gain[1::2], shift[1::2] = 0.0, offset
    norm.set_weights([gain, shift, *moments])
    thin = thinned(network, 0.5, IMAGES)
    kernels = [model.get_layer("expand").get_weights()[0] for model in (network, thin)]
    assert np.array_equal(kernels[1], kernels[0][..., 0::2])
    assert features(thin) == pytest.approx(features(network), abs=1e-4)


def test_of_equal_channels_one_is_left_and_read_for_both(monkeypatch):
    monkeypatch.setattr(thin_module, "RIDGE", 1e-6)
    network = block()
    for layer in network.layers[2:-2]:  # behind the first convolution, before the one that reads the channels
        values = layer.get_weights()
        axis = 2 if isinstance(layer, layers.DepthwiseConv2D) else -1
        layer.set_weights([np.concatenate(2 * [np.split(v, 2, axis)[0]], axis) for v in values])
    thin = thinned(network, 0.5, IMAGES)
    assert features(thin) == pytest.approx(features(network), abs=0.02)


def test_what_is_kept_is_read_by_the_least_squares_kernel_and_with_its_mean(monkeypatch):
    """Of the images that it was fitted to no other kernel and mean tell more."""
    monkeypatch.setattr(thin_module, "RIDGE", 1e-6)
    network = block()
    thin = thinned(network, 0.5, IMAGES)
    project = thin.get_layer("project")
    channels = keras.Model(thin.input, project.input)(IMAGES).numpy().reshape(-1, 8)
    before_norm = keras.Model(network.input, network.get_layer("project").output)(IMAGES).numpy()
    wanted = before_norm.reshape(-1, 5)
    design = np.column_stack([channels, np.ones(len(channels))])
    best = np.linalg.lstsq(design, wanted, rcond=None)[0]
    least = ((design @ best - wanted) ** 2).mean()
    means = [model.layers[-1].get_weights()[2] for model in (network, thin)]
    told = channels @ project.get_weights()[0][0, 0] + means[0] - means[1]
    assert ((told - wanted) ** 2).mean() == pytest.approx(least, rel=0.05)


def test_a_later_block_makes_up_for_what_an_earlier_one_has_lost(shared_weights):
    """Half of six blocks' channels keep 0.91 of what all say of other images; 0.81 if it were not so."""
    yy, xx = np.mgrid[:64, :64]
    rng = np.random.default_rng(3)

    def waves(count):
        terms = rng.uniform(0.02, 0.6, (count, 3, 2, 1, 1)) * np.stack([yy, xx])
        return 127 + 40 * np.sin(terms.sum(2) + rng.uniform(0, 6, (count, 3, 1, 1))).sum(1)[..., None]

    source = WeightSource(str(shared_weights))
    whole, thin = (build_trunk("mobilenetv2", 6, part, (64, 64, 1), source, waves(64)) for part in (1, 0.5))
    images = waves(16)
    said, thin_said = (features(keras.Model(own.pixels, own.maps), images) for own in (whole, thin))
    assert ((thin_said - said) ** 2).sum() < 0.12 * ((said - said.mean((0, 1, 2))) ** 2).sum()


def test_a_channel_that_nothing_listens_to_is_left_out_first():
    network = block()
    project = network.get_layer("project")
    (kernel,) = project.get_weights()
    kernel[:, :, 3:11] = 0
    project.set_weights([kernel])
    thin = thinned(network, 0.5, IMAGES)
    (kept,) = thin.get_layer("expand").get_weights()
    (all_channels,) = network.get_layer("expand").get_weights()
    assert np.array_equal(kept, np.delete(all_channels, range(3, 11), axis=3))
    assert features(thin) == pytest.approx(features(network), abs=1e-4)


@pytest.mark.parametrize("offset", [0.0, 1.3])
def test_a_network_that_says_the_same_of_all_images_can_be_thinned(offset):
    """What varies by rounding alone is no variance to be divided by."""
    network = block()
    norm = network.get_layer("norm")
    norm.set_weights([np.zeros(16), offset + np.arange(16) / 16, np.zeros(16), np.ones(16)])
    thin = thinned(network, 0.5, IMAGES)
    assert features(thin) == pytest.approx(features(network), abs=1e-3)
    assert np.abs(thin.get_layer("project").get_weights()[0]).max() < 2


def test_a_channel_that_is_not_listened_to_is_left_out():
    """Neither by the kernel behind it, nor by the gain of what that makes."""
    network = block()
    kernel = np.zeros((1, 1, 16, 5), "float32")
    kernel[0, 0, :4, :4] = np.random.default_rng(4).uniform(0.1, 1, (4, 4))
    kernel[0, 0, 4:, 4] = 50
    network.get_layer("project").set_weights([kernel])
    last = network.layers[-1]
    last.set_weights([np.array([1, 1, 1, 1, 0.0]), *last.get_weights()[1:]])
    thin = thinned(network, 0.5, IMAGES)
    kernels = [model.get_layer("expand").get_weights()[0] for model in (network, thin)]
    assert np.array_equal(kernels[1][..., :4], kernels[0][..., :4])


def test_images_are_looked_at_a_few_at_a_time_and_all_of_them(monkeypatch):
    at_once = thinned(block(), 0.5, IMAGES).get_weights()
    monkeypatch.setattr(thin_module, "BATCH", 64)
    one_by_one = thinned(block(), 0.5, IMAGES).get_weights()
    first = thinned(block(), 0.5, IMAGES[:1]).get_weights()
    assert all(np.allclose(a, b, atol=1e-3) for a, b in zip(at_once, one_by_one, strict=True))
    assert not all(np.allclose(a, b, atol=1e-3) for a, b in zip(at_once, first, strict=True))


def test_the_images_of_a_run_reach_the_student():
    network = StudentNetwork("cut:mobilenetv2:4:0.5", 0.9, 0.0, 0)
    images = np.random.default_rng(5).integers(0, 256, (6, 32, 32, 1)).astype(np.uint8)
    split = Split(images, np.zeros(6, int), None, images)
    assert np.array_equal(fitting_images(split, network), images)
    assert fitting_images(split, StudentNetwork("cut:mobilenetv2:4", 0.9, 0.0, 0)) is None
    fitted, plain = (
        new_student(network, (32, 32, 1), 3, WeightSource("none"), own)[0].get_weights()
        for own in (images, None)
    )
    assert not all(np.array_equal(a, b) for a, b in zip(fitted, plain, strict=True))


def test_the_images_of_a_run_are_as_many_as_their_pixels_allow():
    """Reduced to the student's side, the rows alone that were drawn."""
    larger = np.random.default_rng(6).integers(0, 256, (5, 64, 64, 1)).astype(np.uint8)
    split = Split(larger, np.zeros(5, int), None, larger)
    network = StudentNetwork("cut:mobilenetv2:4:0.5", 0.9, 0.0, 0)
    assert fitting_images(split, replace(network, side=32)).shape == (5, 32, 32, 1)
    wide = np.broadcast_to(np.zeros((), np.uint8), (200, 256, 256, 1))
    assert len(fitting_images(Split(wide, np.zeros(200, int), None, wide), network)) == 32


@pytest.mark.parametrize("part, filters", [(0.01, 8), (0.4, 8), (0.6, 8), (0.8, 16), (1.0, 16)])
def test_channels_are_rounded_to_eights(part, filters):
    for images in (None, IMAGES):
        assert thinned(block(), part, images).get_layer("expand").filters == filters


@pytest.mark.parametrize("network", CUTTABLE)
def test_every_network_can_be_thinned(network):
    def cut(part):
        settings = {"momentum": 0.9, "dropout": 0.0, "seed": 0, "source": WeightSource("none")}
        settings["images"] = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 1))
        return build_cut(f"cut:{network}:4:{part}", (32, 32, 1), 3, **settings)[0]

    whole, thin = cut(1), cut(0.5)
    assert thin.count_params() < 0.8 * whole.count_params()
    assert [layer.name for layer in thin.layers] == [layer.name for layer in whole.layers]
    assert np.isfinite(thin(np.zeros((1, 32, 32, 1))).numpy()).all()
