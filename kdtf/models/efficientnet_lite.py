"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation, ReLU6 for swish, fixed stem and head.

Made by EfficientNet's authors for devices (tensorflow/tpu, models/official/efficientnet/lite, 2020), with
4,694,024 weights for its 1,000 classes. Keras Applications lacks it. Layers are named as the arrays of its
published weights, but for the underscore that those begin with.
"""

from __future__ import annotations

import numpy as np

from ..lazy_keras import KerasTensor, keras, layers

EPSILON = 1e-3  # of BatchNormalization
# repeats, kernel, stride of the first, expansion, filters (Tan and Le 2019, arXiv 1905.11946, table 1)
STAGES = (
    *((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)),
    *((3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)),
)
STEM, HEAD = 32, 1280  # filters
NORM = ("weight", "bias", "running_mean", "running_var")  # gain, offset, mean, variance
CONV = {"padding": "same", "use_bias": False}


def efficientnetlite0(x: KerasTensor) -> KerasTensor:
    """Pixels (N, H, W, 3), scaled as x / 128 - 127 / 128, to maps (N, H / 32, W / 32, 1280)."""
    x = _normed(layers.Conv2D(STEM, 3, 2, **CONV, name="conv_stem")(x), "bn0")
    number = 0
    for repeats, kernel, stride, expansion, filters in STAGES:
        for repeat in range(repeats):
            x = _block(x, f"blocks.{number}.", kernel, 1 if repeat else stride, expansion, filters)
            number += 1
    return _normed(layers.Conv2D(HEAD, 1, **CONV, name="conv_head")(x), "bn1")


def _block(
    x: KerasTensor, prefix: str, kernel: int, strides: int, expansion: int, filters: int
) -> KerasTensor:
    """A mobile inverted bottleneck (Sandler et al. 2018, arXiv 1801.04381)."""
    short, channels = x, x.shape[-1]
    if expansion > 1:
        x = layers.Conv2D(expansion * channels, 1, **CONV, name=f"{prefix}_expand_conv")(x)
        x = _normed(x, f"{prefix}_bn0")
    x = layers.DepthwiseConv2D(kernel, strides, **CONV, name=f"{prefix}_depthwise_conv")(x)
    x = _normed(x, f"{prefix}_bn1")
    x = layers.Conv2D(filters, 1, **CONV, name=f"{prefix}_project_conv")(x)
    x = _normed(x, f"{prefix}_bn2", relu=False)
    same = strides == 1 and channels == filters
    return layers.Add(name=f"{prefix}add")([short, x]) if same else x


def _normed(x: KerasTensor, name: str, relu: bool = True) -> KerasTensor:
    """BatchNormalization, and ReLU6 unless the output stays linear."""
    x = layers.BatchNormalization(epsilon=EPSILON, name=name)(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if relu else x


def load_published(model: keras.Model, path: str) -> None:
    """Give `model` the weights of an .npz in which every array is called `_LAYER.weight`, `.bias`, ...

    Raises what NumPy raises for a damaged file, `KeyError` for an array that is not there and `ValueError`
    for one of another shape.
    """
    with np.load(path, allow_pickle=False) as arrays:
        for layer in model.layers:
            if layer.weights:
                names = NORM if isinstance(layer, layers.BatchNormalization) else ("weight",)
                layer.set_weights([arrays[f"_{layer.name}.{name}"] for name in names])
