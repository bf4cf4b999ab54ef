"""Adam and AdamW by TensorFlow's fused kernel, which Keras' optimizers do not use.

Keras writes an update as some twenty operations on every weight, and works the learning rate out anew for
each: of a network of a hundred small weights that is a quarter of a step, and most of what is traced.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf


class FusedAdam(keras.optimizers.Adam):
    """Adam (Kingma and Ba 2015, arXiv 1412.6980) as Keras has it, each weight's update in one kernel.

    Weights decay as Loshchilov and Hutter 2019 (arXiv 1711.05101) have it. Where the kernel is not for
    the weights or gradients, or there are replicas, Keras' own operations are used.
    """

    def _backend_update_step(
        self,
        grads: Sequence[tf.Tensor],
        trainable_variables: Sequence[keras.Variable],
        learning_rate: tf.Tensor,
    ) -> None:
        if not self._is_fusible(grads, trainable_variables):
            super()._backend_update_step(grads, trainable_variables, learning_rate)
            return
        step = tf.cast(self.iterations + 1, tf.float32)
        powers = [tf.pow(tf.constant(beta, tf.float32), step) for beta in (self.beta_1, self.beta_2)]
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            index = self._get_variable_index(variable)
            tf.raw_ops.ResourceApplyAdam(
                var=variable.value.handle,
                m=self._momentums[index].value.handle,
                v=self._velocities[index].value.handle,
                beta1_power=powers[0],
                beta2_power=powers[1],
                lr=tf.cast(learning_rate, tf.float32),
                beta1=self.beta_1,
                beta2=self.beta_2,
                epsilon=self.epsilon,
                grad=gradient,
            )

    def _apply_weight_decay(self, variables: Sequence[keras.Variable]) -> None:
        if self.weight_decay is None or tf.distribute.has_strategy():
            super()._apply_weight_decay(variables)
            return
        decay = tf.cast(self.learning_rate, tf.float32) * self.weight_decay
        for variable in filter(self._use_weight_decay, variables):
            variable.assign_sub(variable * tf.cast(decay, variable.dtype))

    def _is_fusible(self, grads: Sequence[tf.Tensor], variables: Sequence[keras.Variable]) -> bool:
        """Whether the kernel computes what Keras does."""
        return (
            not self.amsgrad
            and not tf.distribute.has_strategy()
            and all(tf.is_tensor(g) and not isinstance(g, tf.IndexedSlices) for g in grads)
            and all(v.dtype == "float32" for v in variables)
        )


class FusedAdamW(FusedAdam, keras.optimizers.AdamW):
    """AdamW as Keras has it, fused likewise."""
