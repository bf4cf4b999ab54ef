"""Batch normalization in training by TensorFlow's fused kernel, which Keras' layer does not use.

Only how a training step is computed changes: the layers keep their variables and, outside the block, their
class, so that files, configs and whatever is traced later are those of `keras.layers.BatchNormalization`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import tensorflow as tf
from keras import ops


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras' layer (Ioffe and Szegedy 2015, arXiv 1502.03167), fused in training where that is the same."""

    def call(
        self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Maps (N, H, W, C) normalized; in training the moving statistics are updated as Keras does."""
        if not (training and self.trainable and mask is None and self._is_fusible(inputs)):
            return super().call(inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=ops.convert_to_tensor(self.gamma) if self.scale else tf.ones(channels),
            offset=ops.convert_to_tensor(self.beta) if self.center else tf.zeros(channels),
            mean=[],  # those of inference
            variance=[],
            epsilon=self.epsilon,
            is_training=True,
        )
        count = tf.cast(tf.size(inputs) / channels, tf.float32)  # N * H * W
        variance *= (count - 1) / count  # the kernel's is unbiased (Bessel), Keras' is not
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return outputs

    def _is_fusible(self, maps: tf.Tensor) -> bool:
        """Whether the kernel computes what Keras does. A map of one pixel may be all there is of a batch."""
        return (
            len(maps.shape) == 4
            and self.axis in (-1, 3)
            and keras.backend.standardize_dtype(maps.dtype) == self.compute_dtype == "float32"
            and not (self.synchronized or self.renorm)
            and None not in maps.shape[1:]
            and maps.shape[1] * maps.shape[2] > 1
        )


@contextmanager
def fused_batch_normalization(model: keras.Model) -> Iterator[None]:
    """Inside the block, every `BatchNormalization` of `model` and of the models in it trains fused.

    Subclasses stay as they are, and so do layers the kernel is not for: frozen or synchronized ones,
    renormalization, masks, other axes, ranks and types than (N, H, W, C) float32, and maps of one pixel. A
    training function traced before the block, or in it, is forgotten at its border; nothing should be saved
    inside.
    """
    norms = list(_batch_normalizations(model))
    _make(FusedBatchNormalization, model, norms)
    try:
        yield
    finally:
        _make(keras.layers.BatchNormalization, model, norms)


def _batch_normalizations(model: keras.Model) -> Iterator[keras.layers.BatchNormalization]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _batch_normalizations(layer)
        elif type(layer) is keras.layers.BatchNormalization:
            yield layer


def _make(kind: type, model: keras.Model, norms: list[keras.layers.BatchNormalization]) -> None:
    for norm in norms:
        object.__setattr__(norm, "__class__", kind)  # Keras' own __setattr__ would track the class as a state
    model.train_function = None  # as `compile` does: the next `fit` traces anew
