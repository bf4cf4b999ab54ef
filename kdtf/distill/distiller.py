"""`Distiller`: a student that learns from labels and from a teacher's logits.

The logits come with the batch (cached: the quick way, and the only consistent one when the images
are augmented) or from a live teacher. It trains; it neither exports nor saves anything of its own.
"""

from typing import Any, TypeAlias

import keras
import tensorflow as tf
from keras import ops

from ..errors import require
from ..records import Rule
from .losses import LOSSES, Array, check_rule

Inputs: TypeAlias = Array | dict[str, Array]  # pixels, or pixels and the teacher's logits by name


@keras.saving.register_keras_serializable("kdtf")
class Distiller(keras.Model):
    """Minimise `alpha * CE(y, student) + (1 - alpha) * T^2 * KL(teacher || student)`, or another such rule.

    Args:
        student: model from pixels (N, H, W, C) to logits (N, K).
        teacher: the same for the teacher, only where logits do not come with the batch. It is run in
            inference mode and never trained; the model handed in is not changed.
        alpha: weight of the true label in [0, 1] for "kd", of the teacher for "soft-ce". Where the
            teacher's weight is 0 none is needed.
        temperature: softens both sets of logits, > 0.
        loss: a row of `losses.LOSSES`.
        options: that loss's own parameters by name, where they are not to have their defaults.

    Inputs are pixels, or `{"pixels": (N, H, W, C), "teacher_logits": (N, K)}`; labels are (N,) ints
    or one-hot. `compile(optimizer)` needs no loss. Logs `loss` (what is minimised, the student's own
    regularisation included), `cross_entropy`, `distillation` and `accuracy`; `sample_weight` and
    `class_weight` weigh every term per image, as Keras does: sum(weight * loss) / N.

    Raises `UserError` for an alpha or temperature out of range and for an unknown loss or option,
    `ValueError` in training when there is neither a teacher nor cached logits and one is needed.
    """

    def __init__(
        self,
        student: keras.Model,
        teacher: keras.Model | None = None,
        *,
        alpha: float = 0.5,
        temperature: float = 2.0,
        loss: str = "kd",
        options: dict[str, float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        require(0 <= alpha <= 1, "alpha", "between 0 and 1", alpha)
        require(temperature > 0, "temperature", "positive", temperature)
        self.rule = Rule(float(alpha), float(temperature), loss, tuple((options or {}).items()))
        check_rule(self.rule)
        self.student = student
        self.teacher = teacher
        self.teacher_weight = LOSSES[loss].teacher_weight(self.rule.alpha)
        self.trackers = [keras.metrics.Mean(name) for name in ("cross_entropy", "distillation", "accuracy")]
        self.built = True  # both networks come built; nothing of its own is left to make

    # Only the student learns. Overridden rather than setting `teacher.trainable`, which would
    # change a model that belongs to the caller.
    @property
    def trainable_variables(self) -> list[keras.Variable]:
        return self.student.trainable_variables

    @property
    def trainable_weights(self) -> list[keras.Variable]:
        return self.student.trainable_weights

    def call(self, inputs: Inputs, training: bool | None = None) -> Array:
        """Student logits (N, K)."""
        pixels = inputs["pixels"] if isinstance(inputs, dict) else inputs
        return self.student(pixels, training=training)

    def _teacher_logits(self, inputs: Inputs) -> Array | None:
        if isinstance(inputs, dict) and "teacher_logits" in inputs:
            return inputs["teacher_logits"]
        if self.teacher is None:
            return None
        pixels = inputs["pixels"] if isinstance(inputs, dict) else inputs
        return tf.stop_gradient(self.teacher(pixels, training=False))

    def _loss(
        self, inputs: Inputs, labels: Array, logits: Array, weight: Array | None, need_teacher: bool
    ) -> Array:
        """The scalar to minimise; updates the trackers on the way."""
        logits = ops.cast(logits, "float32")
        teacher = self._teacher_logits(inputs) if self.teacher_weight else None
        if teacher is None and need_teacher and self.teacher_weight:
            raise ValueError(
                f"Distiller with alpha {self.rule.alpha} needs a teacher, or batches of the form "
                '{"pixels": ..., "teacher_logits": ...}. Got neither.'
            )
        teacher = None if teacher is None else ops.cast(teacher, "float32")
        hard, soft, per_image = LOSSES[self.rule.loss].terms(logits, labels, teacher, self.rule)
        right = ops.cast(ops.equal(ops.argmax(logits, -1), _as_index(labels, logits.shape[-1])), "float32")
        for tracker, value in zip(self.trackers, (hard, soft, right), strict=True):
            tracker.update_state(value, sample_weight=weight)
        if weight is not None:
            per_image = per_image * ops.reshape(ops.cast(weight, "float32"), (-1,))
        return ops.mean(per_image) + sum(self.student.losses, start=0.0)

    def train_step(self, data: tuple) -> dict[str, Array]:
        """A step of training on (inputs, labels, weights of the images or nothing)."""
        inputs, labels, weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            logits = self(inputs, training=True)
            loss = self._loss(inputs, labels, logits, weight, need_teacher=True)
            scaled = self.optimizer.scale_loss(loss)
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables, strict=True))
        return self._log(inputs, labels, logits, weight, loss)

    def test_step(self, data: tuple) -> dict[str, Array]:
        """As in training, without learning. Without a teacher's logits `loss` is the cross entropy."""
        inputs, labels, weight = keras.utils.unpack_x_y_sample_weight(data)
        logits = self(inputs, training=False)
        loss = self._loss(inputs, labels, logits, weight, need_teacher=False)
        return self._log(inputs, labels, logits, weight, loss)

    def _log(
        self, inputs: Inputs, labels: Array, logits: Array, weight: Array | None, loss: Array
    ) -> dict[str, Array]:
        self._loss_tracker.update_state(loss, sample_weight=ops.shape(logits)[0])
        return self.compute_metrics(inputs, labels, logits, weight)

    def get_config(self) -> dict[str, Any]:
        """Both networks and the settings, as `from_config` takes them."""
        return {
            **super().get_config(),
            "student": keras.saving.serialize_keras_object(self.student),
            "teacher": self.teacher and keras.saving.serialize_keras_object(self.teacher),
            "alpha": self.rule.alpha,
            "temperature": self.rule.temperature,
            "loss": self.rule.loss,
            "options": dict(self.rule.options),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Distiller":
        """The inverse of `get_config`."""
        networks = {k: keras.saving.deserialize_keras_object(config[k]) for k in ("student", "teacher")}
        return cls(**{**config, **networks})


def _as_index(labels: Array, classes: int) -> Array:
    """Labels (N,), (N, 1) or one-hot (N, K) as class indices (N,)."""
    if len(labels.shape) == 2 and labels.shape[-1] == classes:
        return ops.argmax(labels, axis=-1)
    return ops.cast(ops.reshape(labels, (-1,)), "int64")
