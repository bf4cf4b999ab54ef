"""Optimizers and learning-rate schedules by their Keras names, one registry row each."""

from __future__ import annotations

from typing import Any

from ..lazy_keras import keras

# of `keras.optimizers`, and the arguments that are always the same
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "Adam": {},
    "AdamW": {},
    "Nadam": {},
    "RMSprop": {},
    "SGD": {"momentum": 0.9},
}


def cosine(peak: float, steps: int, warmup: float) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear warm-up over a part of the steps, then a cosine to 0 (Loshchilov and Hutter 2017)."""
    rising = int(warmup * steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0 if rising else peak,
        max(1, steps - rising),
        warmup_target=peak if rising else None,
        warmup_steps=rising,
    )


def exponential(peak: float, steps: int, warmup: float) -> keras.optimizers.schedules.LearningRateSchedule:
    """From the peak to a hundredth of it; no warm-up."""
    return keras.optimizers.schedules.ExponentialDecay(peak, max(1, steps), 0.01)


def polynomial(peak: float, steps: int, warmup: float) -> keras.optimizers.schedules.LearningRateSchedule:
    """A straight line from the peak to 0; no warm-up."""
    return keras.optimizers.schedules.PolynomialDecay(peak, max(1, steps), 0.0)


def constant(peak: float, steps: int, warmup: float) -> float:
    """The peak from the first step to the last."""
    return peak


SCHEDULES = {
    "CosineDecay": cosine,
    "ExponentialDecay": exponential,
    "PolynomialDecay": polynomial,
    "constant": constant,
}


def build_optimizer(
    name: str,
    schedule: str,
    peak: float,
    steps: int,
    *,
    warmup: float,
    weight_decay: float = 0.0,
    clipnorm: float | None = None,
) -> keras.optimizers.Optimizer:
    """A Keras optimizer whose rate follows `schedule` over `steps`; Adam and AdamW are fused.

    `weight_decay` is decoupled from the gradient (Loshchilov and Hutter 2019, arXiv 1711.05101), for
    every optimizer; 0 turns it off. `clipnorm` is the largest norm that the gradient of one weight
    tensor may have; None leaves it as it is.
    """
    # AdamW decays by 0.004 unless told otherwise; the others take None for none
    decay = weight_decay if name == "AdamW" else weight_decay or None
    rate = SCHEDULES[schedule](peak, steps, warmup)
    from .fused_adam import FusedAdam, FusedAdamW

    fused = {"Adam": FusedAdam, "AdamW": FusedAdamW}
    kind = fused.get(name) or getattr(keras.optimizers, name)
    return kind(rate, weight_decay=decay, clipnorm=clipnorm, **OPTIMIZERS[name])
