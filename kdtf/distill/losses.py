"""The mathematics of distillation, per image, by value.

Reduces nothing over the batch and weighs nothing: `Distiller` does. `keras.distillation` is not
used because `LogitsDistillation(temperature=T)` as shipped in Keras 3.15 takes the KL of raw
logits / T (its softmax and T^2 apply to a `KLDivergence` instance only).
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..errors import require, require_known
from ..lazy_keras import KerasTensor, ops
from ..records import Rule

Array: TypeAlias = KerasTensor | np.ndarray  # of numbers, as Keras' operations take them


def cross_entropy(logits: Array, labels: Array) -> KerasTensor:
    """-log softmax(logits)[label]: logits (N, K), labels (N,) or (N, 1) int or (N, K) one-hot -> (N,)."""
    return -ops.sum(_one_hot(labels, logits) * ops.log_softmax(logits), axis=-1)  # (N,)


def _one_hot(labels: Array, logits: Array) -> KerasTensor:
    """Labels as above, one-hot (N, K) in the type of the logits (N, K); a row of zeros for the label -1."""
    classes = logits.shape[-1]
    if len(labels.shape) == 2 and labels.shape[-1] == classes:
        return ops.cast(labels, logits.dtype)
    return ops.one_hot(ops.cast(ops.reshape(labels, (-1,)), "int32"), classes, dtype=logits.dtype)


def kd_loss(student: Array, teacher: Array, temperature: float) -> KerasTensor:
    """T^2 * KL(softmax(teacher / T) || softmax(student / T)), both logits (N, K). Returns (N,).

    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015 (arXiv 1503.02531).
    """
    log_q = ops.log_softmax(student / temperature)  # (N, K)
    log_p = ops.log_softmax(teacher / temperature)  # (N, K)
    return temperature**2 * _kl(log_p, log_q)  # (N,)


def _kl(log_p: KerasTensor, log_q: KerasTensor) -> KerasTensor:
    """KL(p || q) of logarithms of probabilities (N, K) each. Returns (N,)."""
    return ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)  # (N,)


def soft_cross_entropy(student: Array, teacher: Array, temperature: float) -> KerasTensor:
    """CE(student, softmax(teacher)), both logits (N, K). Returns (N,). The temperature plays no part."""
    return -ops.sum(ops.softmax(teacher) * ops.log_softmax(student), axis=-1)  # (N,)


EXCLUDED = -1e9  # added to a log probability: no softmax notices the class any more


def dkd_loss(
    student: Array, teacher: Array, temperature: float, *, labels: Array, target: float, beta: float
) -> KerasTensor:
    """T^2 * (target * TCKD + beta * NCKD), both logits (N, K), labels as in `cross_entropy`. Returns (N,).

    TCKD is the KL of the pair (label, any other class), NCKD that of the other classes among themselves.
    `kd_loss` is both with target = 1 and beta = 1 - p(label) of the teacher, image by image. With two
    classes NCKD is 0; for the label -1 TCKD is 0 and NCKD the KL of all classes.

    Zhao, Cui, Song, Qiu and Liang, "Decoupled Knowledge Distillation", 2022 (arXiv 2203.08679). The authors'
    code (megvii-research/mdistiller) takes the logarithm of summed probabilities, which is -inf where one is
    sure; here sums are of logarithms. Its warm-up over 20 epochs is no part of the loss and left out.
    """
    label = _one_hot(labels, student)  # (N, K)
    pair_q, others_q = _decoupled(ops.log_softmax(student / temperature), label)  # (N, 2), (N, K)
    pair_p, others_p = _decoupled(ops.log_softmax(teacher / temperature), label)  # (N, 2), (N, K)
    return temperature**2 * (target * _kl(pair_p, pair_q) + beta * _kl(others_p, others_q))  # (N,)


def _decoupled(log_p: KerasTensor, label: KerasTensor) -> tuple[KerasTensor, KerasTensor]:
    """Of log p (N, K) that of (label, any other class) (N, 2), and of every class given another (N, K)."""
    others = log_p + EXCLUDED * label  # (N, K)
    pair = [ops.sum(label * log_p, axis=-1), ops.logsumexp(others, axis=-1)]  # (N,) twice
    return ops.stack(pair, axis=-1), ops.log_softmax(others)


def dist_loss(
    student: Array, teacher: Array, temperature: float, *, beta: float, gamma: float
) -> KerasTensor:
    """T^2 * (beta * inter + gamma * intra), both logits (N, K). Returns (N,), whose mean is the paper's loss.

    With q and p the softmax of logits / T: `inter` is an image's own, 1 - r of its rows of q and p; `intra`
    is of the batch, the mean over classes of 1 - r of the columns, and every image is given the same. So it
    depends on the other images of the batch, whatever their weights; a batch of one image has none. With
    two classes r of a row is 1 or -1 and `inter` moves no weight: `intra` is all there is.

    Huang, You, Wang, Qian and Xu, "Knowledge Distillation from A Stronger Teacher", 2022 (arXiv 2205.10536).
    The authors' first code (hunto/DIST_KD) has no T; it enters here as in OpenMMLab's mmrazor.
    """
    q = ops.softmax(student / temperature)  # (N, K)
    p = ops.softmax(teacher / temperature)  # (N, K)
    inter = _pearson_distance(q, p, axis=-1)  # (N,)
    intra = ops.mean(_pearson_distance(q, p, axis=0))  # ()
    return temperature**2 * (beta * inter + gamma * intra)  # (N,)


def _pearson_distance(a: KerasTensor, b: KerasTensor, axis: int) -> KerasTensor:
    """1 - r along an axis. A constant vector is at 0 from a constant one, at 1 from any other.

    The authors add 1e-8 to the product of both norms: a constant vector is then at 1 from itself, and the
    slope beside it as steep as 1e8. Here both vectors get one more element, 1e-5, once their means are
    taken off: what is equal stays at 0, and slopes are at most 1e5.
    """
    a = a - ops.mean(a, axis=axis, keepdims=True)
    b = b - ops.mean(b, axis=axis, keepdims=True)
    ab, aa, bb = (ops.sum(product, axis=axis) + 1e-10 for product in (a * b, a * a, b * b))
    return 1 - ab / ops.sqrt(aa * bb)


def logit_mse(student: Array, teacher: Array, temperature: float) -> KerasTensor:
    """Mean over classes of (student - teacher)^2, both logits (N, K). Returns (N,). No part for temperature.

    Kim, Oh, Kim, Cho and Yun, "Comparing Kullback-Leibler Divergence and Mean Squared Error Loss in Knowledge
    Distillation", 2021 (arXiv 2105.08919). The paper writes the sum over classes; this is the mean of the
    authors' code (jhoon-oh/kd_data), K times less.
    """
    return ops.mean(ops.square(student - teacher), axis=-1)  # (N,)


def feature_distance(projected: Array, features: Array) -> KerasTensor:
    """Mean over F of (projected - features)^2, both (N, F). Returns (N,)."""
    return ops.mean(ops.square(projected - features), axis=-1)  # (N,)


def fitnet_loss(
    student: Array, teacher: Array, temperature: float, *, hint: float, distance: Array | None = None
) -> KerasTensor:
    """`kd_loss` + hint * distance: logits (N, K), distance (N,) as `feature_distance` has it. Returns (N,).

    Where no features are at hand (fine-tuning for a file, a pass over pixels and logits) it is `kd_loss`.

    Romero, Ballas, Kahou, Chassang, Gatta and Bengio, "FitNets: Hints for Thin Deep Nets", 2015 (arXiv
    1412.6550). As in the paper a projection of the student's features is trained with it and thrown away.
    Unlike there hints and labels are learned together, not one after the other; features are those that
    logits are made of, not maps halfway; and they are on a common scale (`hints.FeatureScale`), so that the
    distance is the part of their variance that the projection misses: 1 where it knows their mean alone, as
    it does at first, of zeros. A hint of 5 then moves a student's layers about as much as `kd_loss` does: its
    gradient was 0.1 to 0.4 of that one's after 20 steps, 0.4 to 1.4 after 80, 0.6 to 2 after 200 (cnn3 and a
    cut MobileNetV2, three teachers each, chest CT).
    """
    soft = kd_loss(student, teacher, temperature)  # (N,)
    return soft if distance is None else soft + hint * distance


class Terms(NamedTuple):
    """What a student is trained on, per image (N,): both parts of the loss and their mixture."""

    cross_entropy: KerasTensor
    distillation: KerasTensor
    mixture: KerasTensor


class Loss(NamedTuple):
    """`(1 - w) * cross_entropy + w * signal(student, teacher, temperature, **options)`, w of alpha.

    `options` are parameters of its own with their defaults; they are set by --loss-options NAME=VALUE and
    reach `signal` by name, as do the `labels` where `takes_labels` and the `distance` of features where
    `takes_features`. Without `takes_temperature` it plays no part.
    """

    signal: Callable[..., KerasTensor]
    teacher_weight: Callable[[float], float]
    formula: str
    options: Mapping[str, float] = MappingProxyType({})
    takes_labels: bool = False
    takes_temperature: bool = True
    takes_features: bool = False

    def terms(
        self,
        student: Array,
        labels: Array,
        teacher: Array | None,
        rule: Rule,
        distance: Array | None = None,
    ) -> Terms:
        """The formula by value: logits (N, K), labels (N,) or (N, K), the teacher's logits (N, K) or None.

        `distance` (N,) is that of `feature_distance`, where there are features. Without a teacher, or where
        it has no weight, the distillation is 0 and the mixture the cross entropy.
        """
        hard = cross_entropy(student, labels)  # (N,)
        weight = self.teacher_weight(rule.alpha)
        if teacher is None or not weight:
            return Terms(hard, ops.zeros_like(hard), hard)
        parameters: dict[str, Any] = {**self.options, **dict(rule.options)}
        parameters |= {"labels": labels} if self.takes_labels else {}
        parameters |= {"distance": distance} if self.takes_features else {}
        soft = self.signal(student, teacher, rule.temperature, **parameters)
        return Terms(hard, soft, (1 - weight) * hard + weight * soft)


LOSSES = {
    "kd": Loss(kd_loss, lambda alpha: 1 - alpha, "alpha * CE(y, s) + (1 - alpha) * T^2 * KL(t / T || s / T)"),
    # alpha is the teacher's weight here, as in the system this row reproduces
    "soft-ce": Loss(
        soft_cross_entropy,
        lambda alpha: alpha,
        "alpha * CE(softmax(t), s) + (1 - alpha) * CE(y, s)",
        takes_temperature=False,
    ),
    "dkd": Loss(
        dkd_loss,
        lambda alpha: 1 - alpha,
        "alpha * CE(y, s) + (1 - alpha) * T^2 * (target * TCKD + beta * NCKD)",
        MappingProxyType({"target": 1.0, "beta": 8.0}),
        takes_labels=True,
    ),
    "dist": Loss(
        dist_loss,
        lambda alpha: 1 - alpha,
        "alpha * CE(y, s) + (1 - alpha) * T^2 * (beta * inter + gamma * intra)",
        MappingProxyType({"beta": 1.0, "gamma": 1.0}),
    ),
    "logit-mse": Loss(
        logit_mse,
        lambda alpha: 1 - alpha,
        "alpha * CE(y, s) + (1 - alpha) * mean((s - t)^2)",
        takes_temperature=False,
    ),
    "fitnet": Loss(
        fitnet_loss,
        lambda alpha: 1 - alpha,
        "alpha * CE(y, s) + (1 - alpha) * (T^2 * KL(t / T || s / T) + hint * mean((P(f_s) - f_t)^2))",
        MappingProxyType({"hint": 5.0}),
        takes_features=True,
    ),
}


def check_rule(rule: Rule) -> None:
    """Raise `UserError` for an unknown loss, and an option that is not the loss's own or not finite."""
    require_known("loss", rule.loss, LOSSES)
    for name, value in rule.options:
        options = LOSSES[rule.loss].options
        named = f"options of {rule.loss} ({', '.join(options) or 'none'})"
        require(name in options, "--loss-options", named, name)
        require(np.isfinite(value), "--loss-options", f"a finite {name}", value)
