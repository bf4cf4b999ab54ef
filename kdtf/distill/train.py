"""Fitting: a teacher, its logits over the views, and the student, alone or distilled.

The student sees exactly the images the teacher labelled: views are made beforehand and fed from
disk, nothing is drawn inside the loop. Sees train and val only; test data never comes here.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ..config import Config
from ..data.load import Dataset
from ..models.students import build_student
from ..progress import Progress
from .distiller import Distiller
from .fit import WHOLE, KeepBest, fit
from .optim import build_optimizer


class Trained(NamedTuple):
    """A fitted network: pixels in, logits out; one history row an epoch."""

    model: keras.Model
    history: list[dict]


def feed(views, labels, *, batch_size: int, seed: int, logits=None, start=(0, 0)):
    """An endless tf.data stream over views (V, N, ...), one view of every image an epoch.

    In epoch e image i shows its view (start_i + e) mod V, `start_i` drawn once: an epoch costs N
    images whatever V is, mixes all views, and every image meets each of its views equally often.
    Yields (float32 view batch, labels), or ({"pixels", "teacher_logits"}, labels) with `logits`
    (V, N, K). Starts at `start`, (epoch, step). Returns (dataset, steps an epoch). Memory-mapped views
    are read a batch at a time.
    """
    count, images = views.shape[:2]
    steps = steps_of(views, batch_size)

    def batches():
        rng = np.random.default_rng([seed, 0xFEED])
        view = rng.integers(count, size=images)  # (N,)
        for _ in range(start[0]):
            rng.permutation(images)
        view, skipped = (view + start[0]) % count, start[1]
        while True:
            order = rng.permutation(images)
            for rows in np.array_split(order, range(batch_size, images, batch_size))[skipped:]:
                x = views[view[rows], rows].astype(np.float32)
                if logits is not None:
                    x = {"pixels": x, "teacher_logits": logits[view[rows], rows].astype(np.float32)}
                yield x, labels[rows]
            view, skipped = (view + 1) % count, 0

    spec = tf.TensorSpec((None, *views.shape[2:]), tf.float32)
    if logits is not None:
        spec = {"pixels": spec, "teacher_logits": tf.TensorSpec((None, logits.shape[-1]), tf.float32)}
    signature = (spec, tf.TensorSpec((None,), labels.dtype))
    return tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(2), steps


def steps_of(views, batch_size: int) -> int:
    """Steps of an epoch over views (V, N, ...)."""
    return -(-views.shape[1] // batch_size)


def _stream(views, labels, start, **settings):
    """`feed` as `loop.fit` wants it."""
    return feed(views, labels, start=start, **settings)


def held(pixels, labels, *, batch_size: int, logits=None):
    """A finite tf.data pass over one split (pixels (N, ...), any dtype), in order, for validation."""
    x = pixels if logits is None else {"pixels": pixels, "teacher_logits": logits}
    data = tf.data.Dataset.from_tensor_slices((x, labels)).batch(batch_size)
    return data.map(lambda x, y: (tf.nest.map_structure(lambda t: tf.cast(t, tf.float32), x), y)).prefetch(1)


def _classify(model, optimizer):
    """Compile for integer labels and logits. XLA is slower than plain kernels on CPUs."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)


def batched(model: keras.Model, batch_size: int = 64) -> Callable[[np.ndarray], np.ndarray]:
    """`model` as a function from pixels (N, ...) of any length to its outputs (N, ...), traced once."""
    signature = [tf.TensorSpec((None, *model.input.shape[1:]), tf.float32)]
    run = tf.function(lambda x: model(x, training=False), input_signature=signature)

    def predict(pixels):
        parts = [
            run(pixels[i : i + batch_size].astype(np.float32)) for i in range(0, len(pixels), batch_size)
        ]
        return np.concatenate([np.asarray(part) for part in parts])

    return predict


def over_views(predict, views, out, progress: Progress, title: str):
    """`predict` over views (V, N, ...), kept at `out` as a .npy (V, N, D) float32; returns it mapped.

    A plain stream: a disk that fills up kills a process that writes through a map.
    """
    with progress.bar(title, len(views)) as advance, open(out, "wb") as file:
        for v, pixels in enumerate(views):
            values = np.ascontiguousarray(predict(pixels), "<f4")
            if not v:
                shape = (len(views), *values.shape)
                told = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_2_0(file, told)
            file.write(values.data)
            advance(v + 1)
    return np.load(out, mmap_mode="r")


def fit_head(
    head,
    features,
    data: Dataset,
    val_features,
    config: Config,
    *,
    seed: int,
    title: str,
    progress: Progress,
    checkpoint: Path | None = None,
) -> list[dict]:
    """Train a teacher's head in place on cached features (V, N, F) of the frozen base; its history rows.

    The same mathematics as training through the frozen base, at a hundredth of its cost. The best val
    weights are kept.
    """
    settings = config.student
    stream = partial(_stream, features, data.train.labels, batch_size=settings.batch_size, seed=seed)
    _classify(head, build_optimizer("Adam", "constant", config.teacher.head_rate, 1))
    return fit(
        head,
        stream,
        settings.epochs,
        phase="head",
        title=title,
        progress=progress,
        validation=held(val_features, data.val.labels, batch_size=settings.batch_size),
        best=KeepBest(settings.epochs),
        checkpoint=checkpoint,
    )


def scratch_rate(model) -> float:
    """The peak rate for random weights: without BatchNormalization VGGs stall at the usual 1e-3."""
    return 1e-3 if any("moving_variance" in weight.path for weight in model.weights) else 1e-4


def fine_tune(
    model,
    views,
    data: Dataset,
    config: Config,
    *,
    pretrained,
    seed: int,
    title,
    progress: Progress,
    checkpoint: Path | None = None,
) -> list[dict]:
    """Train the whole teacher in place over the views (V, N, H, W, C); returns its history rows.

    BatchNormalization adapts. Pretrained weights get `fine_tune_epochs` at a low rate, random ones
    `scratch_epochs` at a higher one; both stop early on val and keep the best val weights.
    """
    settings = config.teacher
    epochs = settings.fine_tune_epochs if pretrained else settings.scratch_epochs
    peak = settings.fine_tune_rate if pretrained else settings.scratch_rate or scratch_rate(model)
    batch_size = settings.fine_tune_batch_size
    stream = partial(_stream, views, data.train.labels, batch_size=batch_size, seed=seed)
    optimizer = build_optimizer(
        settings.teacher_optimizer,
        settings.teacher_schedule,
        peak,
        steps_of(views, batch_size) * epochs,
        weight_decay=settings.teacher_weight_decay,
    )
    _classify(model, optimizer)
    return fit(
        model,
        stream,
        epochs,
        phase=WHOLE,
        title=title,
        progress=progress,
        validation=held(data.val.teacher_pixels, data.val.labels, batch_size=64),
        best=KeepBest(settings.patience),
        checkpoint=checkpoint,
    )


def fit_student(
    pixels,
    data: Dataset,
    config: Config,
    *,
    seed: int,
    title,
    progress: Progress,
    logits=None,
    val_logits=None,
    checkpoint: Path | None = None,
) -> Trained:
    """A student over the views `pixels` (V, N, H, W, C): distilled from `logits` (V, N, K), or alone without.

    Same initial weights, batches, schedule and budget both ways. The last weights are kept: the
    cosine ends at rate 0, and over a small val split the best epoch is a matter of luck (measured in
    docs/design.md).
    """
    settings, distil = config.student, config.distil
    student = build_student(
        settings.student,
        pixels.shape[2:],
        len(data.classes),
        momentum=settings.student_momentum,
        dropout=settings.student_dropout,
        seed=seed,
    )
    rule = {"alpha": distil.alpha, "temperature": distil.temperature, "loss": distil.loss}
    distiller = Distiller(student, **(rule if logits is not None else {"alpha": 1.0}))
    taught = distiller.teacher_weight > 0
    soft = logits if taught else None
    batch_size = settings.batch_size
    stream = partial(_stream, pixels, data.train.labels, batch_size=batch_size, seed=seed, logits=soft)
    optimizer = build_optimizer(
        settings.optimizer,
        settings.schedule,
        settings.learning_rate,
        steps_of(pixels, batch_size) * settings.epochs,
        warmup=settings.warmup,
        weight_decay=settings.weight_decay,
    )
    distiller.compile(optimizer, jit_compile=False)
    val_logits = val_logits if taught else None
    rows = fit(
        distiller,
        stream,
        settings.epochs,
        phase="student",
        title=title,
        progress=progress,
        validation=held(data.val.pixels, data.val.labels, batch_size=batch_size, logits=val_logits),
        checkpoint=checkpoint,
    )
    return Trained(student, rows)
