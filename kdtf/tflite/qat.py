"""int8 in the loop: a student trained on while its weights and activations are rounded as in its file.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
2018 (arXiv 1712.05877). The simulation shares the student's layers: what is trained is the student itself,
and `quantize` makes the file by the recipe it has for every student.

Kernels are rounded per output channel before BatchNormalization is folded into them. That is what the file
does after folding: folding multiplies a channel by one number, and its scale with it.
"""

from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from ..distill.batches import Examples
from ..distill.losses import LOSSES, Array
from ..distill.train import train_student
from ..progress import Progress
from ..records import Rule, Training, Tuning

AT_ONCE = 16  # images whose activations are in memory
WITH_KERNEL = (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)
FUSED = (layers.BatchNormalization, layers.ReLU, layers.Activation)  # into the operator before them
UNCHANGED = (layers.InputLayer, layers.Dropout, layers.ZeroPadding2D, layers.Flatten, layers.Reshape)


class RoundedActivations(layers.Layer):
    """What enters, as 8 bits between `low` and `high` hold it; gradients pass within these bounds."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        """The bounds: they are set by `Simulation.calibrate` and not trained."""
        self.low = self.add_weight(shape=(), initializer="zeros", trainable=False, name="low")
        self.high = self.add_weight(shape=(), initializer="ones", trainable=False, name="high")

    def call(self, x: Array) -> Array:
        """(N, ...) to the same shape."""
        return tf.quantization.fake_quant_with_min_max_vars(x, self.low, self.high, num_bits=8)


class RoundedKernel(layers.Layer):
    """Another layer, a convolution or Dense, with its kernel as 8 bits a channel hold it."""

    def __init__(self, layer: layers.Layer, name: str):
        super().__init__(name=name)
        self.layer = layer

    def call(self, x: Array) -> Array:
        """What the layer makes of its input (N, ...) with its kernel rounded."""
        own = self.layer
        if isinstance(own, layers.Dense):
            y = ops.matmul(x, rounded(own.kernel, (0,)))
        else:
            deep = isinstance(own, layers.DepthwiseConv2D)
            convolve = ops.depthwise_conv if deep else ops.conv
            kernel = rounded(own.kernel, (0, 1) if deep else (0, 1, 2))
            y = convolve(x, kernel, strides=own.strides, padding=own.padding, dilation_rate=own.dilation_rate)
        return own.activation(y + own.bias if own.use_bias else y)


class FixedStatistics(layers.Layer):
    """A BatchNormalization that keeps its statistics in training, too, as the file does."""

    def __init__(self, layer: layers.Layer, name: str):
        super().__init__(name=name)
        self.layer = layer

    def call(self, x: Array) -> Array:
        """(N, ...) to the same shape. A model would tell the layer itself that it is being trained."""
        return self.layer(x, training=False)


def rounded(kernel: Array, axes: tuple[int, ...]) -> Array:
    """A kernel in steps of its largest absolute value over `axes` / 127; its gradient is its own."""
    step = ops.maximum(ops.max(ops.abs(kernel), axis=axes, keepdims=True) / 127, 1e-12)
    return kernel + ops.stop_gradient(ops.round(kernel / step) * step - kernel)


class Simulation(NamedTuple):
    """A student as its int8 file computes: from pixels (N, H, W, C) to logits (N, K).

    `probe` gives the activations of the student itself, each in the order of `points`, where the simulation
    rounds them.
    """

    model: keras.Model
    probe: keras.Model
    points: list[RoundedActivations]

    def calibrate(self, images: np.ndarray) -> None:
        """Set the bounds of activations to their extremes over images (n, H, W, C)."""
        bounds = np.zeros((len(self.points), 2), np.float32)  # zero is among them, and exact, as in a file
        for start in range(0, len(images), AT_ONCE):
            outputs = self.probe(images[start : start + AT_ONCE], training=False)
            for own, values in zip(bounds, outputs, strict=True):
                own[:] = min(own[0], np.min(values)), max(own[1], np.max(values))
        for point, (low, high) in zip(self.points, bounds, strict=True):
            point.low.assign(low)
            point.high.assign(high)


def simulation(student: keras.Model) -> Simulation:
    """A student that gives logits with int8 in the loop; BatchNormalization keeps its statistics."""
    points: list[RoundedActivations] = []
    probed: list[keras.KerasTensor] = []

    def call(layer: keras.Layer, *args: Array, **kwargs: object) -> Array:
        if isinstance(layer, WITH_KERNEL):
            y = RoundedKernel(layer, name=f"int8_{layer.name}")(*args)
        elif isinstance(layer, layers.BatchNormalization):
            y = FixedStatistics(layer, name=f"fixed_{layer.name}")(*args)
        else:
            y = layer(*args, **kwargs)
        if isinstance(layer, UNCHANGED) or _is_fused(layer, student):
            return y
        points.append(RoundedActivations(name=f"rounded_{layer.name}"))
        probed.append(layer.output)
        return points[-1](y)

    model = keras.models.clone_model(student, call_function=call, clone_function=lambda layer: layer)
    return Simulation(model, keras.Model(student.input, probed), points)


def _is_fused(layer: keras.Layer, student: keras.Model) -> bool:
    """Whether the file has no output of this layer, but of what follows it in the same operator."""
    followers = [other for other in student.layers if _takes(other, layer.output)]
    return len(followers) == 1 and isinstance(followers[0], FUSED)


def _takes(layer: keras.Layer, tensor: keras.KerasTensor) -> bool:
    if isinstance(layer, layers.InputLayer):
        return False
    return any(own is tensor for own in keras.tree.flatten(layer.input))


def fine_tune(
    student: keras.Model,
    examples: Examples,
    tuning: Tuning,
    *,
    images: np.ndarray,
    seed: int,
    title: str,
    progress: Progress,
    checkpoint: Path | None = None,
) -> list[dict]:
    """Train a finished student that gives logits in place, int8 in the loop; returns a history row an epoch.

    Over the labelled views (V, N, H, W, C) of `examples`, with the loss it was trained with; of a loss on
    features the part on logits is left, `kd` of `fitnet`. `images` (n, H, W, C) float32 set the ranges of
    activations, once, before the first step. The last weights are kept. Raises `UserError` where the loss
    does not stay finite.
    """
    simulated = simulation(student)
    simulated.calibrate(images)
    rule = tuning.rule
    if rule and LOSSES[rule.loss].takes_features:
        rule = Rule(rule.alpha, rule.temperature)
    training = Training(tuning.epochs, tuning.batch_size, tuning.rate)
    rows = train_student(
        simulated.model,
        examples._replace(features=None, val_features=None, unlabelled=None),
        training,
        rule,
        seed=seed,
        title=title,
        progress=progress,
        checkpoint=checkpoint,
    )
    return [{**row, "phase": tuning.method} for row in rows]
