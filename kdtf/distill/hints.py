"""Hints: what networks make of an image just before their logits, and the scale on which it is compared.

Builds views of networks that share their layers; trains nothing.
"""

from typing import Any, NamedTuple

import keras
import numpy as np

from ..models.registry import pooled
from .losses import Array


class FeatureScale(NamedTuple):
    """Where a teacher's features lie: their mean (F,), and the root mean square of what is left without it.

    On it the features of every teacher have the mean 0 and the mean square 1. Pooled features are positive:
    of their mean square 0.64 to 0.90 is that of their mean (four pretrained networks on chest CT), which a
    projector's bias knows at once. So their plain root mean square would leave a hint of 0.36 from one
    teacher and of 0.10 from another. One factor for all F keeps the sizes that they have to one another, and
    does not blow up what hardly varies.
    """

    mean: np.ndarray
    rms: float

    def apply(self, features: Array) -> Array:
        """Features (N, F) on this scale."""
        return (features - self.mean) / self.rms


def feature_scale(features: np.ndarray) -> FeatureScale:
    """The scale of a teacher's features (V, N, F) of all training views; they are read a view at a time."""
    mean = np.mean([view.mean(axis=0, dtype=np.float64) for view in features], axis=0)  # (F,)
    power = np.mean([np.square(view - mean).mean() for view in features])
    return FeatureScale(mean.astype(np.float32), float(np.sqrt(power)) or 1.0)


def as_vectors(features: keras.KerasTensor) -> keras.KerasTensor:
    """Features as (N, F): maps (N, h, w, F) are pooled."""
    return pooled(features) if len(features.shape) == 4 else features


def with_features(model: keras.Model) -> keras.Model:
    """`model`, from pixels to logits (N, K), with its last features as an output before these: (N, F).

    They are what enters the last layer with weights, without the dropout before it; maps are pooled. A
    network that is the last layer of another, as the head of a teacher is, counts as one layer. The layers
    are the same objects. Raises `ValueError` where no layer with weights comes before that one.
    """
    entering: list[keras.KerasTensor] = []
    before_dropout: dict[int, keras.KerasTensor] = {}

    def call(layer: keras.Operation, *args: Any, **kwargs: Any) -> keras.KerasTensor:
        out, entered = layer(*args, **kwargs), before_dropout.get(id(args[0]), args[0])
        if isinstance(layer, keras.layers.Dropout):
            before_dropout[id(out)] = entered
        if getattr(layer, "weights", None):  # an operation such as preprocessing has no such thing
            entering.append(entered)
        return out

    graph = keras.Model(model.inputs[0], model.outputs[0])  # of a Sequential model too
    copy = keras.models.clone_model(graph, call_function=call, clone_function=lambda layer: layer)
    if len(entering) < 2:
        raise ValueError(f"{model.name} must have a layer with weights before the one that makes its logits.")
    return keras.Model(copy.input, [as_vectors(entering[-1]), copy.output])
