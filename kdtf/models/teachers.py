"""Teachers: networks of the registry on pixels 0..255, with their weights and heads.

Preprocessing and resizing are layers of the graph, because `preprocess_input` overwrites the float
array it is given and is easily applied twice. Builds only: `distill` fits.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from ..records import TeacherHead
from .registry import HEADS, Teacher, row_of
from .seeding import initial_weights_from
from .weights import WeightSource

if TYPE_CHECKING:
    import keras


class Base(NamedTuple):
    """A headless network and where its weights came from.

    `model` maps pixels (N, H, W, C) to features (N, F), or to what the row's neck makes of the maps;
    `pretrained` says whether the weights are anybody's but the random generator's; `origin` is the
    phrase for the reports.
    """

    model: "keras.Model"
    pretrained: bool
    origin: str


def prepared(pixels: "keras.KerasTensor", row: Teacher, size: int | None = None) -> "keras.KerasTensor":
    """Pixels 0..255 (N, H, W, C), C 1 or 3, as the network wants them: three channels, square, scaled.

    `size` is the side in px; never less than the network's smallest side.
    """
    from keras import layers

    height, width, channels = pixels.shape[1:]
    side = max(size or max(height, width), row.min_side)
    x = layers.Concatenate()([pixels] * 3) if channels == 1 else pixels
    if (height, width) != (side, side):
        x = layers.Resizing(side, side)(x)
    return row.preprocess(x)


def build_base(
    name: str,
    shape: tuple[int, int, int],
    source: WeightSource,
    *,
    size: int | None = None,
    momentum: float = 0.9,
    seed: int = 0,
) -> Base:
    """The network `name` without its head, on pixels of `shape` (H, W, C), C 1 or 3.

    `momentum` replaces that of every BatchNormalization: at the usual 0.99 the statistics never
    catch up in a few hundred steps. Random weights are drawn from `seed`. Raises `UserError` for weights
    that do not fit.
    """
    import keras

    row = row_of(name)
    pixels = keras.Input(shape, name="pixels")
    x = prepared(pixels, row, size)

    def build(weights: str | None, **arguments: Any) -> keras.Model:
        return row.build(include_top=False, input_shape=x.shape[1:], weights=weights, **arguments)

    with initial_weights_from(seed):
        network, pretrained, origin = source.load(name, build)
        features = row.neck(network(x))
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = momentum
    return Base(keras.Model(pixels, features, name=name), pretrained, origin)


def build_head(
    name: str, features: tuple[int, ...], classes: int, seed: int = 0, head: TeacherHead | None = None
) -> "keras.Model":
    """A head for the network `name`, its own by default: features (N, *features) to logits (N, K)."""
    import keras

    inputs = keras.Input(features, name="features")
    with initial_weights_from(seed):
        if head is None or head.name == "own":
            logits = row_of(name).head(inputs, classes)
        else:
            logits = HEADS[head.name](inputs, classes, head.dropout)
        return keras.Model(inputs, logits, name="head")


def with_head(base: "keras.Model", head: "keras.Model") -> "keras.Model":
    """The whole teacher: pixels (N, H, W, C) to logits (N, K). Shares both parts' weights."""
    import keras

    return keras.Model(base.input, head(base.output), name=base.name)
