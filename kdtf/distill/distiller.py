"""`Distiller`: a student that learns from labels and from what a teacher says.

Logits, and features where the loss takes them, come with the batch (cached: the quick way, and the only
consistent one when the images are augmented) or from a live teacher. It trains; what it exports is
the student.
"""

from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from ..errors import require
from ..records import Rule
from .hints import FeatureScale, with_features
from .losses import LOSSES, Array, check_rule, feature_distance

Inputs: TypeAlias = Array | dict[str, Array]  # pixels, or pixels and what the teacher says by name


class Outputs(NamedTuple):
    """What a network says of a batch: logits (N, K), and features (N, F) where hints are given."""

    logits: Array | None
    features: Array | None = None


@keras.saving.register_keras_serializable("kdtf")
class Distiller(keras.Model):
    """Minimise `alpha * CE(y, student) + (1 - alpha) * T^2 * KL(teacher || student)`, or another such rule.

    Args:
        student: model from pixels (N, H, W, C) to logits (N, K), K at least 2.
        teacher: the same for the teacher, only where logits do not come with the batch. It is run in
            inference mode and never trained; the model handed in is not changed.
        alpha: weight of the true label in [0, 1] for "kd", of the teacher for "soft-ce". Where the
            teacher's weight is 0 none is needed.
        temperature: softens both sets of logits, positive and finite.
        loss: a row of `losses.LOSSES`.
        options: that loss's own parameters by name, where they are not to have their defaults.
        feature_scale: for a loss on features, where the teacher's lie. Needed where features come with the
            batch; a live teacher's are taken as they are without it.

    Inputs are pixels, or `{"pixels": (N, H, W, C), "teacher_logits": (N, K)}`; labels are (N,) ints
    or one-hot. An image without a label has -1, or a row of zeros: it is learned from the teacher alone, by
    the teacher's part of the loss, and counts in neither `cross_entropy` nor `accuracy`. `compile(optimizer)`
    needs no loss. Logs `loss` (what is minimised, the student's own regularisation included),
    `cross_entropy`, `distillation` and `accuracy`; `sample_weight` and `class_weight` weigh every term per
    image, as Keras does: sum(weight * loss) / N. Keras looks `class_weight` up by label and has none for an
    image without one: `sample_weight` serves there. Under a `tf.distribute` strategy N counts the images of
    all replicas; what a loss takes of the other images of a batch (`dist`) it takes of those of its replica.

    A loss on features wants `"teacher_features": (N, F)` among the inputs, too, or a live teacher. It trains
    `projector`, a linear map of the student's last features (`hints.with_features`) to the teacher's, which
    is no part of the student, and logs how far it is off as `hint`.

    Raises `UserError` for an alpha or temperature out of range, for an unknown loss or option, and in
    training for a student of one logit and a teacher of another number of them; `ValueError` for a network
    without features, and in training when what is needed of a teacher is neither among the inputs nor to be
    had from a live one. TensorFlow raises `InvalidArgumentError` for a label that is no class and not -1.
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
        feature_scale: FeatureScale | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        require(0 <= alpha <= 1, "alpha", "between 0 and 1", alpha)
        require(temperature > 0, "temperature", "positive", temperature)
        require(np.isfinite(temperature), "temperature", "finite", temperature)
        self.rule = Rule(float(alpha), float(temperature), loss, tuple((options or {}).items()))
        check_rule(self.rule)
        self.student = student
        self.teacher = teacher
        self.teacher_weight = LOSSES[loss].teacher_weight(self.rule.alpha)
        self.feature_scale = feature_scale
        self.projector: keras.layers.Dense | None = None
        if LOSSES[loss].takes_features and self.teacher_weight:
            self._prepare_hints()
        names = ("cross_entropy", "distillation", "accuracy", *(("hint",) if self.projector else ()))
        self.trackers = [keras.metrics.Mean(name) for name in names]
        self.built = True  # both networks come built; nothing of its own is left to make

    def _prepare_hints(self) -> None:
        """The networks with their features, and the projector where it is known how many the teacher has."""
        if self.teacher:
            self.teacher_with_features = with_features(self.teacher)
            width = self.teacher_with_features.output[0].shape[-1]
        elif self.feature_scale:
            width = len(self.feature_scale.mean)
        else:
            return  # a student can be looked over without a teacher; `train_step` says what is missing
        self.student_with_features = with_features(self.student)
        # zeros know the mean alone; a random map pushes the student before it means anything
        self.projector = keras.layers.Dense(width, kernel_initializer="zeros", name="projector")
        self.projector.build(self.student_with_features.output[0].shape)

    # Only the student and the projector learn. Overridden rather than setting `teacher.trainable`, which
    # would change a model that belongs to the caller.
    @property
    def trainable_variables(self) -> list[keras.Variable]:
        return [v for network in self._learners() for v in network.trainable_variables]

    @property
    def trainable_weights(self) -> list[keras.Variable]:
        return [w for network in self._learners() for w in network.trainable_weights]

    def _learners(self) -> list[keras.Layer]:
        return [self.student, self.projector] if self.projector else [self.student]

    def call(self, inputs: Inputs, training: bool | None = None) -> Array:
        """Student logits (N, K)."""
        return self.student(_pixels(inputs), training=training)

    def _student_outputs(self, inputs: Inputs, training: bool) -> Outputs:
        if self.projector is None:
            return Outputs(self(inputs, training=training))
        features, logits = self.student_with_features(_pixels(inputs), training=training)
        return Outputs(logits, features)

    def _teacher_outputs(self, inputs: Inputs) -> Outputs:
        """What comes with the batch, and where that is not all, what a live teacher says."""
        named = inputs if isinstance(inputs, dict) else {}
        cached = Outputs(named.get("teacher_logits"), named.get("teacher_features"))
        has_all = cached.logits is not None and (cached.features is not None or self.projector is None)
        if has_all or self.teacher is None:
            return cached
        if self.projector is None:
            return Outputs(tf.stop_gradient(self.teacher(_pixels(inputs), training=False)))
        features, logits = map(tf.stop_gradient, self.teacher_with_features(_pixels(inputs), training=False))
        return Outputs(
            logits if cached.logits is None else cached.logits,
            features if cached.features is None else cached.features,
        )

    def _distance(self, student: Outputs, teacher: Outputs) -> Array | None:
        """How far the student's features (N, G) are from the teacher's (N, F), where there are both: (N,)."""
        if self.projector is None or teacher.features is None:
            return None
        features = ops.cast(teacher.features, "float32")
        features = self.feature_scale.apply(features) if self.feature_scale else features
        return feature_distance(ops.cast(self.projector(student.features), "float32"), features)

    def _check_lessons(self, inputs: Inputs, teacher: Outputs, distance: Array | None) -> None:
        """Raise `ValueError` where something is missing that a student is to learn from."""
        on_features = LOSSES[self.rule.loss].takes_features
        if teacher.logits is not None and (distance is not None or not on_features):
            return
        form = '{"pixels": ..., "teacher_logits": ...}'
        if on_features:
            form = 'a feature_scale and {"pixels": ..., "teacher_logits": ..., "teacher_features": ...}'
        raise ValueError(
            f"Distiller with loss {self.rule.loss} and alpha {self.rule.alpha} needs a teacher, or batches "
            f"of the form {form}. Got {', '.join(inputs) if isinstance(inputs, dict) else 'pixels'} alone."
        )

    def _loss(
        self, inputs: Inputs, labels: Array, student: Outputs, weight: Array | None, need_teacher: bool
    ) -> Array:
        """The scalar to minimise; updates the trackers on the way."""
        logits = ops.cast(student.logits, "float32")
        teacher = self._teacher_outputs(inputs) if self.teacher_weight else Outputs(None)
        _check_classes(logits, teacher.logits)
        distance = self._distance(student, teacher)
        if need_teacher and self.teacher_weight:
            self._check_lessons(inputs, teacher, distance)
        by_teacher = None if teacher.logits is None else ops.cast(teacher.logits, "float32")
        terms = LOSSES[self.rule.loss].terms(logits, labels, by_teacher, self.rule, distance)
        index = _as_index(labels, logits.shape[-1])
        _check_labels(index, logits.shape[-1])
        right = ops.cast(ops.equal(ops.argmax(logits, -1), index), "float32")
        weight = ops.ones_like(right) if weight is None else ops.reshape(ops.cast(weight, "float32"), (-1,))
        labelled = weight * ops.cast(index >= 0, "float32")
        parts = [(terms.cross_entropy, labelled), (terms.distillation, weight), (right, labelled)]
        parts += [] if distance is None else [(distance, weight)]  # its tracker is the last, if there is one
        for tracker, (value, own) in zip(self.trackers, parts, strict=False):
            tracker.update_state(value, sample_weight=own)
        return ops.mean(terms.mixture * weight) + sum(self.student.losses, start=0.0)

    def train_step(self, data: tuple) -> dict[str, Array]:
        """A step of training on (inputs, labels, weights of the images or nothing)."""
        inputs, labels, weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            student = self._student_outputs(inputs, training=True)
            loss = self._loss(inputs, labels, student, weight, need_teacher=True)
            scaled = self.optimizer.scale_loss(_share_of_replica(loss))
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables, strict=True))
        return self._log(inputs, labels, student, weight, loss)

    def test_step(self, data: tuple) -> dict[str, Array]:
        """As in training, without learning.

        Without a teacher's logits `loss` is the cross entropy, without its features it has no hint.
        """
        inputs, labels, weight = keras.utils.unpack_x_y_sample_weight(data)
        student = self._student_outputs(inputs, training=False)
        loss = self._loss(inputs, labels, student, weight, need_teacher=False)
        return self._log(inputs, labels, student, weight, loss)

    def _log(
        self, inputs: Inputs, labels: Array, student: Outputs, weight: Array | None, loss: Array
    ) -> dict[str, Array]:
        self._loss_tracker.update_state(loss, sample_weight=ops.shape(student.logits)[0])
        return self.compute_metrics(inputs, labels, student.logits, weight)

    def export(self, filepath: str | Path, *args: Any, **kwargs: Any) -> None:
        """The student as `keras.Model.export` writes it: from pixels (N, H, W, C) to logits (N, K)."""
        self.student.export(filepath, *args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Both networks and the settings, as `from_config` takes them."""
        scale = self.feature_scale
        return {
            **super().get_config(),
            "student": keras.saving.serialize_keras_object(self.student),
            "teacher": self.teacher and keras.saving.serialize_keras_object(self.teacher),
            "alpha": self.rule.alpha,
            "temperature": self.rule.temperature,
            "loss": self.rule.loss,
            "options": dict(self.rule.options),
            "feature_scale": scale and {"mean": scale.mean.tolist(), "rms": scale.rms},
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Distiller":
        """The inverse of `get_config`."""
        networks = {k: keras.saving.deserialize_keras_object(config[k]) for k in ("student", "teacher")}
        scale = config.get("feature_scale")
        scale = scale and FeatureScale(np.array(scale["mean"], np.float32), scale["rms"])
        return cls(**{**config, **networks, "feature_scale": scale})


def _pixels(inputs: Inputs) -> Array:
    return inputs["pixels"] if isinstance(inputs, dict) else inputs


def _as_index(labels: Array, classes: int) -> Array:
    """Labels (N,), (N, 1) or one-hot (N, K) as class indices (N,); -1 for a row of zeros."""
    if len(labels.shape) == 2 and labels.shape[-1] == classes:
        return ops.where(ops.any(labels > 0, axis=-1), ops.argmax(labels, axis=-1), -1)
    return ops.cast(ops.reshape(labels, (-1,)), "int64")


def _check_classes(student: Array, teacher: Array | None) -> None:
    """Raise `UserError` for logits (N, K) of one class, whose loss is 0, or of others than a teacher's."""
    classes = student.shape[-1]
    require(classes > 1, "student", "a network of at least 2 logits", classes)
    own = None if teacher is None else teacher.shape[-1]  # unknown of some streams
    require(own in (None, classes), "teacher", f"of as many logits as the student, {classes}", own)


def _check_labels(index: Array, classes: int) -> None:
    """Raise `InvalidArgumentError` in a step for class indices (N,) beyond the last, or below -1 for none."""
    rule = f"Labels must be classes from 0 to {classes - 1}, or -1 for an image without one."
    tf.debugging.assert_less(index, tf.constant(classes, index.dtype), rule)
    tf.debugging.assert_greater_equal(index, tf.constant(-1, index.dtype), rule)


def _share_of_replica(loss: Array) -> Array:
    """The mean over a replica's images as its part of the mean over all: gradients will be added up."""
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    return loss / replicas if replicas > 1 else loss
