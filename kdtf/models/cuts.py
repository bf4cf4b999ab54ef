"""Students cut from pretrained networks: the first blocks of a large one, pooled, and one Dense.

A name is `cut:NETWORK:BLOCK`, say `cut:mobilenetv2:10`; `cut:NETWORK` leaves the block to a budget. With
`cut:mobilenetv2:10:0.6` about 0.6 of the channels inside the blocks are kept, which is fitted to training
images (`thin`), and `cut:mobilenetv2::0.6` leaves the block of that to a budget. Grey images are folded
into the first kernel: its sum over the colours is what a grey picture in three equal channels would meet.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import require, require_known
from ..lazy_keras import keras, layers
from .cut_names import PREFIX, is_cut, parts_of
from .efficientnet_lite import STAGES
from .registry import row_of
from .seeding import initial_weights_from
from .thin import thinned
from .weights import WeightSource

MIN_SIDE = 32  # px
MOBILE = (1 / 127.5, -1.0)  # pixels 0..255 to -1..1


@dataclass(frozen=True)
class Cuttable:
    """A network of the registry of teachers that can be cut.

    `blocks` names the layer after each block, of several names the first that there is. `scaling` is a factor
    and an offset of pixels 0..255; `width`, where there are several, that of random weights, the smallest
    official one.
    """

    blocks: tuple[tuple[str, ...], ...]
    scaling: tuple[float, float]
    width: float | None = None


CUTTABLE = {  # by the name of the teacher
    "mobilenet": Cuttable(tuple((f"conv_pw_{i}_relu",) for i in range(1, 14)), MOBILE, 0.25),
    "mobilenetv2": Cuttable(
        tuple((f"block_{i}_add", f"block_{i}_project_BN") for i in range(1, 17)),
        MOBILE,
        0.35,
    ),
    # The minimalistic form: ReLU, 3 x 3 kernels, no squeeze-and-excitation. XNNPACK has no int8 hard-swish:
    # it takes the other form in pieces, five times as slowly, and that form's answers are further from float.
    "mobilenetv3small": Cuttable(
        tuple(
            (f"expanded_conv{i}_add", f"expanded_conv{i}_project_bn")
            for i in ("", *(f"_{i}" for i in range(1, 11)))
        ),
        MOBILE,
    ),
    "efficientnetlite0": Cuttable(
        tuple((f"blocks.{i}.add", f"blocks.{i}._bn2") for i in range(sum(stage[0] for stage in STAGES))),
        (1 / 128, -127 / 128),
    ),
}


def parse(name: str, flag: str = "--student") -> tuple[str, int | None, float]:
    """(network, block from 1 or None where a budget decides, part of its channels) of a name.

    Raises `UserError`, which names the setting `flag`.
    """
    network, block, part = parts_of(name)
    require_known(f"{flag} {PREFIX}", network, CUTTABLE)
    if not block:
        return network, None, _part(part, name, flag)
    last = len(CUTTABLE[network].blocks)
    whole = block.isdecimal()
    nearest = min(max(int(block), 1), last) if whole else last
    rule = f"{PREFIX}{network}:1 to {PREFIX}{network}:{last}"
    fits = whole and 1 <= int(block) <= last
    require(fits, flag, rule, name, f"Did you mean '{PREFIX}{network}:{nearest}'?")
    return network, int(block), _part(part, name, flag)


def is_thinned(name: str) -> bool:
    """Whether a student is a cut network of which a part of the channels is kept."""
    return is_cut(name) and parse(name)[2] < 1


def _part(text: str, name: str, flag: str) -> float:
    try:
        part = float(text or 1)
    except ValueError:
        part = math.nan
    rule = "cut:NETWORK:BLOCK:PART, the part of the channels above 0, at most 1"
    require(0 < part <= 1, flag, rule, name)
    return part


@dataclass(frozen=True)
class Trunk:
    """The blocks of a cut network, as maps of pixels, and where their weights came from, in words."""

    pixels: keras.KerasTensor
    maps: keras.KerasTensor
    pretrained: bool
    origin: str


def build_trunk(
    network: str,
    block: int,
    part: float,
    shape: tuple[int, int, int],
    source: WeightSource,
    images: np.ndarray | None,
) -> Trunk:
    """The first `block` blocks of a network on pixels (N, H, W, C), C 1 or 3, with weights from `source`.

    Of the channels inside the blocks `part` is kept, fitted to `images` (n, H, W, C) as in `thinned`. Raises
    `UserError` for weights that do not fit and images that are too small.
    """
    require(
        min(shape[:2]) >= MIN_SIDE, "image side", f"at least {MIN_SIDE} px for {PREFIX}{network}", shape[:2]
    )
    row, build = CUTTABLE[network], row_of(network).build
    width: dict[str, Any] = {"alpha": row.width} if row.width else {}

    def colour(weights: str | None, **arguments: Any) -> keras.Model:
        width.update(arguments)  # a file of weights knows its width
        return build(input_shape=(*shape[:2], 3), include_top=False, weights=weights, **width)

    trained, pretrained, origin = source.load(network, colour)
    pixels = keras.Input(shape, name="pixels")
    scaled = layers.Rescaling(*row.scaling, name="scale")(pixels)
    whole = build(input_tensor=scaled, input_shape=shape, include_top=False, weights=None, **width)
    _copy_weights(trained, whole)
    _name_by_place(whole)
    names = {layer.name for layer in whole.layers}
    end = next(name for name in row.blocks[block - 1] if name in names)
    trunk = keras.Model(pixels, whole.get_layer(end).output)
    if part < 1:
        trunk = thinned(trunk, part, images)
    return Trunk(trunk.input, trunk.output, pretrained, origin)


def _name_by_place(network: keras.Model) -> None:
    """Number the ReLUs without a name of their own from 1, where Keras counts what was built before."""
    unnamed = (layer for layer in network.layers if re.fullmatch(r"re_lu(_\d+)?", layer.name))
    for number, layer in enumerate(unnamed, 1):
        layer.name = f"relu_{number}"


def _copy_weights(source: keras.Model, target: keras.Model) -> None:
    """The weights of a network of colour images into the same one of grey images, or of colour ones."""
    with_weights = [[layer for layer in model.layers if layer.weights] for model in (source, target)]
    for ours, theirs in zip(*with_weights, strict=True):
        values = ours.get_weights()
        if values[0].shape != theirs.weights[0].shape:  # the first kernel (h, w, 3, F): a grey image thrice
            values[0] = values[0].sum(axis=2, keepdims=True)
        theirs.set_weights(values)


def build_cut(
    name: str,
    shape: tuple[int, int, int],
    classes: int,
    *,
    momentum: float,
    dropout: float,
    seed: int,
    source: WeightSource,
    images: np.ndarray | None,
) -> tuple[keras.Model, str, bool]:
    """A student `cut:NETWORK:BLOCK`: pixels (N, H, W, C) to logits (N, K).

    With where its weights came from, in words, and whether they are pretrained. The head is drawn from
    `seed`, and the trunk where its weights are random. A part of its channels is fitted to `images`
    (n, H, W, C); without them it is of use for its costs alone. Raises `UserError`.
    """
    network, block, part = parse(name)
    require(block, "--student", "cut after a block", name)
    with initial_weights_from(seed):
        trunk = build_trunk(network, block or 1, part, shape, source, images)
        x = layers.GlobalAveragePooling2D(name="average")(trunk.maps)
        x = layers.Dropout(dropout, name="dropout")(x)
        student = keras.Model(
            trunk.pixels, layers.Dense(classes, name="logits")(x), name=f"{network}_{block}"
        )
    for layer in student.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = momentum
    return student, trunk.origin, trunk.pretrained
