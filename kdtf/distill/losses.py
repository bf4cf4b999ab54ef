"""The mathematics of distillation, per image, by value.

Reduces nothing over the batch and weighs nothing: `Distiller` does. `keras.distillation` is not
used because `LogitsDistillation(temperature=T)` as shipped in Keras 3.15 takes the KL of raw
logits / T (its softmax and T^2 apply to a `KLDivergence` instance only).
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import numpy as np
from keras import KerasTensor, ops

from ..errors import require, require_known
from ..records import Rule

Array: TypeAlias = KerasTensor | np.ndarray  # of numbers, as Keras' operations take them


def cross_entropy(logits: Array, labels: Array) -> KerasTensor:
    """-log softmax(logits)[label]: logits (N, K), labels (N,) or (N, 1) int or (N, K) one-hot -> (N,)."""
    classes = logits.shape[-1]
    if len(labels.shape) == 2 and labels.shape[-1] == classes:
        p = ops.cast(labels, logits.dtype)  # (N, K)
    else:
        p = ops.one_hot(ops.cast(ops.reshape(labels, (-1,)), "int32"), classes, dtype=logits.dtype)
    return -ops.sum(p * ops.log_softmax(logits), axis=-1)  # (N,)


def kd_loss(student: Array, teacher: Array, temperature: float) -> KerasTensor:
    """T^2 * KL(softmax(teacher / T) || softmax(student / T)), both logits (N, K). Returns (N,).

    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015 (arXiv 1503.02531).
    """
    log_q = ops.log_softmax(student / temperature)  # (N, K)
    log_p = ops.log_softmax(teacher / temperature)  # (N, K)
    return temperature**2 * ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)  # (N,)


def soft_cross_entropy(student: Array, teacher: Array, temperature: float) -> KerasTensor:
    """CE(student, softmax(teacher)), both logits (N, K). Returns (N,). The temperature plays no part."""
    return -ops.sum(ops.softmax(teacher) * ops.log_softmax(student), axis=-1)  # (N,)


class Terms(NamedTuple):
    """What a student is trained on, per image (N,): both parts of the loss and their mixture."""

    cross_entropy: KerasTensor
    distillation: KerasTensor
    mixture: KerasTensor


class Loss(NamedTuple):
    """`(1 - w) * cross_entropy + w * signal(student, teacher, temperature, **options)`, w of alpha.

    `options` are parameters of its own with their defaults; they are set by --loss-options NAME=VALUE and
    reach `signal` by name.
    """

    signal: Callable[..., KerasTensor]
    teacher_weight: Callable[[float], float]
    formula: str
    options: Mapping[str, float] = MappingProxyType({})

    def terms(self, student: Array, labels: Array, teacher: Array | None, rule: Rule) -> Terms:
        """The formula by value: logits (N, K), labels (N,) or (N, K), the teacher's logits (N, K) or None.

        Without a teacher, or where it has no weight, the distillation is 0 and the mixture the cross entropy.
        """
        hard = cross_entropy(student, labels)  # (N,)
        weight = self.teacher_weight(rule.alpha)
        if teacher is None or not weight:
            return Terms(hard, ops.zeros_like(hard), hard)
        soft = self.signal(student, teacher, rule.temperature, **{**self.options, **dict(rule.options)})
        return Terms(hard, soft, (1 - weight) * hard + weight * soft)


LOSSES = {
    "kd": Loss(kd_loss, lambda alpha: 1 - alpha, "alpha * CE(y, s) + (1 - alpha) * T^2 * KL(t / T || s / T)"),
    # alpha is the teacher's weight here, as in the system this row reproduces
    "soft-ce": Loss(
        soft_cross_entropy, lambda alpha: alpha, "alpha * CE(softmax(t), s) + (1 - alpha) * CE(y, s)"
    ),
}


def check_rule(rule: Rule) -> None:
    """Raise `UserError` for a loss that is not known, or an option that is not the loss's own."""
    require_known("loss", rule.loss, LOSSES)
    for name, _ in rule.options:
        options = LOSSES[rule.loss].options
        named = f"options of {rule.loss} ({', '.join(options) or 'none'})"
        require(name in options, "--loss-options", named, name)
