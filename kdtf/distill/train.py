"""Fitting by recipe: a classifier (a teacher, or its head) on labels, a student alone or distilled."""

import math
from collections.abc import Callable
from pathlib import Path

import keras

from ..progress import Progress
from ..records import Rule, Training
from .batches import Examples, steps_per_epoch, training_stream, validation_batches
from .callbacks import KeepBest
from .distiller import Distiller
from .fit import fit
from .hints import feature_scale
from .losses import Array
from .optim import build_optimizer

# Steps between two looks at signals and the clock: a tenth of a second of a head's, a third of a student's
MOST_OF_HEAD, MOST_OF_STUDENT = 32, 16
SHORT_BATCH = 1 << 17  # numbers: 32 grey images of 64 px. The steps of larger ones are long themselves


def default_rate(model: keras.Model) -> float:
    """The peak rate where none is set: without BatchNormalization VGGs stall at the usual 1e-3."""
    return 1e-3 if any("moving_variance" in weight.path for weight in model.weights) else 1e-4


def train_classifier(
    model: keras.Model,
    examples: Examples,
    training: Training,
    *,
    phase: str,
    seed: int,
    title: str,
    progress: Progress,
    validation_batch: int = 64,
    short_steps: bool = False,
    checkpoint: Path | None = None,
) -> list[dict]:
    """Train a network that gives logits in place, on labels alone; returns its history, a row an epoch.

    A teacher's head is trained so on cached features of its frozen base: the mathematics of training
    through the frozen base at a hundredth of its cost. With `short_steps`, for a head, several are taken
    between two looks at the outside, which would cost as much as they do. `phase` names the rows of the
    history. Raises `UserError` where the loss does not stay finite or memory runs out.
    """
    optimizer = _optimizer(training, model, examples)
    loss = _classification_loss(training.label_smoothing)
    at_once = steps_at_once(examples, training, MOST_OF_HEAD) if short_steps else 1
    # XLA is slower than plain kernels on CPUs
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False, steps_per_execution=at_once)
    examples = examples.without_teacher()
    return fit(
        model,
        training_stream(examples, training.batch_size, seed),
        training.epochs,
        phase=phase,
        title=title,
        progress=progress,
        validation=validation_batches(examples, validation_batch),
        best=KeepBest(training.patience) if training.patience else None,
        checkpoint=checkpoint,
    )


def train_student(
    student: keras.Model,
    examples: Examples,
    training: Training,
    rule: Rule | None,
    *,
    seed: int,
    title: str,
    progress: Progress,
    checkpoint: Path | None = None,
) -> list[dict]:
    """Train a student that gives logits in place; returns its history, a row an epoch.

    Distilled by `rule` from what the teacher says among the examples, or alone where it is None: the same
    batches, schedule and budget both ways. The last weights are kept: the cosine ends at rate 0, and
    over a small val split the best epoch is a matter of luck (measured in docs/design.md). Raises
    `UserError` as `train_classifier` does.
    """
    settings = {**vars(rule), "options": dict(rule.options)} if rule else {"alpha": 1.0}
    scale = None if examples.features is None else feature_scale(examples.features)
    distiller = Distiller(student, feature_scale=scale, **settings)
    if not distiller.teacher_weight:
        examples = examples.without_teacher()
    short = training.batch_size * math.prod(examples.views.shape[2:]) <= SHORT_BATCH
    at_once = steps_at_once(examples, training, MOST_OF_STUDENT if short else 1)
    optimizer = _optimizer(training, student, examples)
    distiller.compile(optimizer, jit_compile=False, steps_per_execution=at_once)
    return fit(
        distiller,
        training_stream(examples, training.batch_size, seed, training.unlabelled_share),
        training.epochs,
        phase="student",
        title=title,
        progress=progress,
        validation=validation_batches(examples, training.batch_size),
        best=KeepBest(training.patience) if training.patience else None,
        checkpoint=checkpoint,
    )


def steps_at_once(examples: Examples, training: Training, most: int) -> int:
    """The largest divisor of an epoch's steps that is at most `most`: Keras takes whole groups."""
    steps = steps_per_epoch(examples.views, training.batch_size)
    return max(group for group in range(1, most + 1) if steps % group == 0)


def _classification_loss(smoothing: float) -> Callable[[Array, Array], Array]:
    """The cross entropy of labels (N,) and logits (N, K), a part of each label spread over all classes.

    Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016 (arXiv 1512.00567).
    """
    if not smoothing:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def smoothed_cross_entropy(labels: Array, logits: Array) -> Array:
        one_hot = keras.ops.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
        return keras.losses.categorical_crossentropy(
            one_hot, logits, from_logits=True, label_smoothing=smoothing
        )

    return smoothed_cross_entropy


def _optimizer(training: Training, model: keras.Model, examples: Examples) -> keras.optimizers.Optimizer:
    return build_optimizer(
        training.optimizer,
        training.schedule,
        training.rate or default_rate(model),
        steps_per_epoch(examples.views, training.batch_size) * training.epochs,
        warmup=training.warmup,
        weight_decay=training.weight_decay,
        clipnorm=training.clipnorm,
    )
