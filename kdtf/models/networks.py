"""Networks that Keras Applications lacks, as functions from an input tensor to feature maps.

Channels last, no preprocessing and no head: `teachers` and `students` put those on.
"""

from __future__ import annotations

from collections.abc import Callable

from ..lazy_keras import KerasTensor, keras, layers
from .efficientnet_lite import efficientnetlite0, load_published


def conv_bn_relu(
    x: KerasTensor,
    filters: int,
    kernel: int = 3,
    strides: int = 1,
    momentum: float = 0.99,
    number: int | None = None,
) -> KerasTensor:
    """Conv (same padding, no bias), BatchNormalization, ReLU; with a `number` named by it."""
    conv, norm, relu = (number and f"{layer}{number}" for layer in ("conv", "norm", "relu"))
    x = layers.Conv2D(filters, kernel, strides, padding="same", use_bias=False, name=conv)(x)
    return layers.ReLU(name=relu)(layers.BatchNormalization(momentum=momentum, name=norm)(x))


def cnn5(
    x: KerasTensor, widths: tuple[int, ...] = (32, 64, 128, 256, 512), momentum: float = 0.99
) -> KerasTensor:
    """Five Conv-BN-ReLU blocks with max pooling between them.

    Learns from random weights in minutes, where the large networks need pretrained ones or much data.
    """
    for block, filters in enumerate(widths):
        x = layers.MaxPooling2D(name=f"pool{block}")(x) if block else x
        x = conv_bn_relu(x, filters, momentum=momentum, number=block + 1)
    return x


def resnet18(x: KerasTensor) -> KerasTensor:
    """ResNet-18 (He et al. 2015, arXiv 1512.03385): 11,689,512 trainable weights with 1,000 classes."""
    x = layers.ZeroPadding2D(3)(x)
    x = layers.Conv2D(64, 7, 2, use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    for stage, filters in enumerate((64, 128, 256, 512)):
        for block in range(2):
            x = _basic_block(x, filters, strides=2 if stage and not block else 1)
    return x


def _basic_block(x: KerasTensor, filters: int, strides: int) -> KerasTensor:
    shortcut = x
    if strides != 1 or x.shape[-1] != filters:
        shortcut = layers.Conv2D(filters, 1, strides, use_bias=False)(x)
        shortcut = layers.BatchNormalization()(shortcut)
    x = conv_bn_relu(x, filters, strides=strides)
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.Add()([layers.BatchNormalization()(x), shortcut]))


def squeezenet(x: KerasTensor) -> KerasTensor:
    """SqueezeNet 1.1 (Iandola et al. 2016, arXiv 1602.07360): 1,235,496 weights with 1,000 classes.

    Pools with "same" padding, which at 224 px keeps a row more than the original does and lets images
    of 28 px through.
    """
    x = layers.Conv2D(64, 3, 2, activation="relu", name="conv1")(x)
    squeezes = {2: 16, 4: 32, 6: 48, 8: 64}
    for fire in range(2, 10):
        if fire in (2, 4, 6):
            x = layers.MaxPooling2D(3, 2, padding="same", name=f"pool{fire // 2}")(x)
        x = _fire(x, fire, squeezes[fire - fire % 2])
    return x


def _fire(x: KerasTensor, number: int, squeeze: int) -> KerasTensor:
    x = layers.Conv2D(squeeze, 1, activation="relu", name=f"fire{number}_squeeze1x1")(x)
    left = layers.Conv2D(4 * squeeze, 1, activation="relu", name=f"fire{number}_expand1x1")(x)
    right = layers.Conv2D(4 * squeeze, 3, padding="same", activation="relu", name=f"fire{number}_expand3x3")(
        x
    )
    return layers.Concatenate(name=f"fire{number}_concat")([left, right])


__all__ = ["as_application", "cnn5", "conv_bn_relu", "efficientnetlite0", "resnet18", "squeezenet"]


def as_application(features: Callable[[KerasTensor], KerasTensor]) -> Callable[..., keras.Model]:
    """One of the functions above with the signature of a `keras.applications` class without its top.

    `weights` is a `.weights.h5` or `.h5` file of the same network, an `.npz` as EfficientNet-Lite's are
    published, or None.
    """

    def build(
        input_shape: tuple[int, int, int],
        weights: str | None = None,
        include_top: bool = False,
        input_tensor: KerasTensor | None = None,
    ) -> keras.Model:
        pixels = keras.Input(input_shape) if input_tensor is None else input_tensor
        model = keras.Model(pixels, features(pixels), name=features.__name__)
        if weights and weights.endswith(".npz"):
            load_published(model, weights)
        elif weights:
            model.load_weights(weights)
        return model

    return build
