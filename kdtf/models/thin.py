"""Pretrained networks made thinner: channels left out between one pointwise convolution and the next.

A depthwise convolution sees each of its channels alone, so the channels around it can be left out one by
one, and nothing else changes shape. Which are kept is fitted to images, block by block from the first (He et
al. 2017, arXiv 1707.06168; Luo et al. 2017, arXiv 1707.06342): one channel is taken after another, always the
one that tells most of what is read in the whole network and not yet told. The kernel that reads them is then
the least-squares one. It reads what the thin network has there, and so makes up for what was lost before.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..lazy_keras import keras, layers
from ..threads import one_thread

MULTIPLE = 8  # of channels, as MobileNets round theirs
BATCH = 32 * 128**2  # pixels in memory at once
RIDGE = 1e-2  # of a channel's mean variance: what pulls to the pretrained kernel where images tell little
ROUNDING = 1e-9  # of a mean square: no variance below it is more than rounding


class Inner(NamedTuple):
    """The layers around the channels inside a block, by name, and how many of them are kept."""

    making: str  # the pointwise convolution that makes the channels
    reading: str  # the one that reads them
    following: str  # the BatchNormalization behind it
    width: int


def thinned(network: keras.Model, part: float, images: np.ndarray | None) -> keras.Model:
    """The network with about `part` of the channels that pointwise convolutions make for depthwise ones.

    Channels are rounded to a multiple of 8, at least 8. `images` (N, H, W, C) are what the thin network is
    fitted to; with None, where its costs alone are asked for, the first channels are kept.
    """
    wiring = _wiring(network)
    inner = _inner_channels(wiring, part)
    kept = {own.making: np.arange(own.width) for own in inner}
    if images is not None:
        whole, network = network, keras.models.clone_model(network)
        network.set_weights(whole.get_weights())
        with one_thread():  # the same bits by any number of threads
            for own in inner:
                kept[own.making] = _fit(network, whole, own, images)

    def fewer(layer: keras.layers.Layer) -> keras.layers.Layer:
        settings = layer.get_config()
        if layer.name in kept:
            settings["filters"] = len(kept[layer.name])
        return type(layer).from_config(settings)

    thin = keras.models.clone_model(network, clone_function=fewer)
    for ours, theirs in zip(network.layers, thin.layers, strict=True):
        if ours.weights:
            read = kept.get(_maker(wiring.by_name[ours.name], wiring.before).name)
            theirs.set_weights(_slices(ours, read, kept.get(ours.name)))
    return thin


def _fit(network: keras.Model, whole: keras.Model, own: Inner, images: np.ndarray) -> np.ndarray:
    """The channels that are kept; `network` then reads no others, and from those what `whole` reads.

    What they cannot tell is put into the next mean on the average.
    """
    reading, following = (network.get_layer(name) for name in (own.reading, own.following))
    values, kernel = reading.get_weights(), whole.get_layer(own.reading).get_weights()[0][0, 0]
    gain, _, _, variance = following.get_weights()
    seen = _moments(network, whole, own, kernel, images)
    kept = _telling(seen, np.abs(gain) / np.sqrt(variance + following.epsilon), own.width)
    fitted = np.linalg.solve(seen.within[np.ix_(kept, kept)], seen.across[kept])
    values[0] = np.zeros_like(values[0])
    values[0][0, 0, kept] = fitted
    reading.set_weights(values)
    lost = seen.wanted_mean - seen.mean[kept] @ fitted
    following.moving_mean.assign(following.moving_mean - lost.astype(np.float32))
    return kept


@dataclass(frozen=True)
class Moments:
    """Means and covariances, over all places of all images, of n channels and of m outputs wanted of them."""

    mean: np.ndarray  # (n,)
    wanted_mean: np.ndarray  # (m,)
    within: np.ndarray  # (n, n), of the channels, with a ridge
    across: np.ndarray  # (n, m), with what that pulls to


def _moments(
    network: keras.Model, whole: keras.Model, own: Inner, kernel: np.ndarray, images: np.ndarray
) -> Moments:
    """Of the channels that a layer reads in a network, and of what it makes of them in the whole one."""
    taps = [keras.Model(model.input, model.get_layer(own.reading).input) for model in (network, whole)]
    count = 0
    totals: list[Any] = [0.0] * 4
    step = max(1, BATCH // (images.shape[1] * images.shape[2]))
    for start in range(0, len(images), step):
        pixels = images[start : start + step].astype(np.float32)
        given, all_given = (
            np.asarray(tap(pixels, training=False)).reshape(-1, len(kernel)).astype(float) for tap in taps
        )
        wanted = all_given @ kernel
        parts = (given.sum(0), wanted.sum(0), given.T @ given, given.T @ wanted)
        count += len(given)
        totals = [total + part for total, part in zip(totals, parts, strict=True)]
    mean, wanted_mean, within, across = (total / count for total in totals)
    within, across = within - np.outer(mean, mean), across - np.outer(mean, wanted_mean)
    ridge = RIDGE * np.diag(within).mean() + ROUNDING * (mean**2).mean() + np.finfo(np.float32).tiny
    return Moments(mean, wanted_mean, within + ridge * np.eye(len(within)), across + ridge * kernel)


def _telling(seen: Moments, weights: np.ndarray, count: int) -> np.ndarray:
    """(count,) in order: the channels from which the outputs, each with its weight, can be told best.

    Greedily: the channel that explains most of what is left, of which all others are then made independent.
    """
    within, across = seen.within.copy(), seen.across * weights
    left, kept = np.ones(len(within), bool), []
    for _ in range(count):
        own = np.maximum(np.diag(within), np.finfo(float).tiny)
        told = np.where(left, (across**2).sum(axis=1) / own, -1.0)
        best = int(told.argmax())
        left[best] = False
        kept.append(best)
        column = within[:, best] / own[best]
        across = across - np.outer(column, across[best])
        within = within - np.outer(column, within[best])
    return np.sort(kept)


class Wiring(NamedTuple):
    """Which layers of a network are before and behind which; a layer knows those of other networks, too."""

    by_name: dict[str, keras.layers.Layer]
    before: dict[str, list[keras.layers.Layer]]
    behind: dict[str, list[keras.layers.Layer]]


def _wiring(network: keras.Model) -> Wiring:
    before: defaultdict[str, list] = defaultdict(list)
    behind: defaultdict[str, list] = defaultdict(list)
    for node in (node for nodes in network._nodes_by_depth.values() for node in nodes):
        for tensor in node.input_tensors:
            source = tensor._keras_history.operation
            before[node.operation.name].append(source)
            behind[source.name].append(node.operation)
    return Wiring({layer.name: layer for layer in network.layers}, before, behind)


def _inner_channels(wiring: Wiring, part: float) -> list[Inner]:
    inner = []
    for layer in wiring.by_name.values():
        making, behind = _maker(layer, wiring.before), _chain(layer, wiring.behind)
        depthwise = isinstance(layer, layers.DepthwiseConv2D) and len(behind) == 4
        if not (depthwise and _is_pointwise(making) and _is_pointwise(behind[2])):
            continue  # the first block reads what a spatial convolution makes
        width = max(MULTIPLE, MULTIPLE * round(part * making.filters / MULTIPLE))
        inner.append(Inner(making.name, behind[2].name, behind[3].name, width))
    return inner


def _is_pointwise(layer: keras.layers.Layer) -> bool:
    return type(layer) is layers.Conv2D and layer.kernel_size == (1, 1)


def _maker(layer: keras.layers.Layer, before: dict[str, list[keras.layers.Layer]]) -> keras.layers.Layer:
    """The layer that makes the channels that `layer` reads, through those that see every channel alone."""
    alone = (layers.BatchNormalization, layers.ReLU, layers.ZeroPadding2D, layers.DepthwiseConv2D)
    while len(before.get(layer.name, ())) == 1:
        (layer,) = before[layer.name]
        if not isinstance(layer, alone):
            break
    return layer


def _chain(
    layer: keras.layers.Layer, behind: dict[str, list[keras.layers.Layer]]
) -> list[keras.layers.Layer]:
    """Up to four layers behind `layer`, each the only one behind the layer before it."""
    chain: list[keras.layers.Layer] = []
    while len(chain) < 4 and len(behind.get(layer.name, ())) == 1:
        (layer,) = behind[layer.name]
        chain.append(layer)
    return chain


def _slices(layer: keras.layers.Layer, read: np.ndarray | None, made: np.ndarray | None) -> list[np.ndarray]:
    """The weights of a layer for the channels that it reads and makes; None for all."""
    values = layer.get_weights()
    if type(layer) is layers.Conv2D:  # (h, w, read, made)
        values[0] = values[0] if read is None else values[0][:, :, read]
        return values if made is None else [value[..., made] for value in values]
    if read is None:
        return values
    if isinstance(layer, layers.DepthwiseConv2D):  # (h, w, channels, 1)
        return [values[0][:, :, read], *(value[read] for value in values[1:])]
    return [value[read] for value in values]
