"""Views and splits as batches: what a network is trained on, and what it is looked over with.

The student sees exactly the images the teacher labelled: views are fixed beforehand, nothing is drawn
inside the loop. Memory-mapped arrays are read a batch at a time.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

Position = tuple[int, int]  # (epoch, step): where a training begins to read, or goes on
Stream = Callable[[Position], tuple[tf.data.Dataset, int]]  # to (batches from there, steps an epoch)


class Examples(NamedTuple):
    """What a network is fitted on and looked over with.

    Views (V, N, ...) of the training images with their labels (N,), one split for validation (n, ...) with
    its labels (n,), and of both, where a teacher labelled them, its logits (V, N, K) and (n, K).
    """

    views: np.ndarray
    labels: np.ndarray
    val_inputs: np.ndarray
    val_labels: np.ndarray
    logits: np.ndarray | None = None
    val_logits: np.ndarray | None = None

    def without_teacher(self) -> "Examples":
        """The same images without a teacher's logits."""
        return self._replace(logits=None, val_logits=None)


def steps_per_epoch(views: np.ndarray, batch_size: int) -> int:
    """Steps of an epoch over views (V, N, ...)."""
    return -(-views.shape[1] // batch_size)


def view_batches(
    views: np.ndarray,
    labels: np.ndarray,
    *,
    batch_size: int,
    seed: int,
    logits: np.ndarray | None = None,
    start: Position = (0, 0),
) -> tuple[tf.data.Dataset, int]:
    """An endless tf.data stream over views (V, N, ...), one view of every image an epoch.

    In epoch e image i shows its view (start_i + e) mod V, `start_i` drawn once: an epoch costs N
    images whatever V is, mixes all views, and every image meets each of its views equally often.
    Yields (float32 view batch, labels), or ({"pixels", "teacher_logits"}, labels) with `logits`
    (V, N, K). Starts at `start`. Returns (dataset, steps an epoch).
    """
    count, images = views.shape[:2]

    def batches() -> Iterator[tuple]:
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
    stream = tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(2)
    return stream, steps_per_epoch(views, batch_size)


def training_stream(examples: Examples, batch_size: int, seed: int) -> Stream:
    """`view_batches` of some examples as a function of where they start, as `fit` wants it."""

    def stream(start: Position) -> tuple[tf.data.Dataset, int]:
        return view_batches(
            examples.views,
            examples.labels,
            batch_size=batch_size,
            seed=seed,
            logits=examples.logits,
            start=start,
        )

    return stream


def validation_batches(examples: Examples, batch_size: int) -> tf.data.Dataset:
    """A finite tf.data pass over the validation split, in order, as float32.

    Yields what `view_batches` yields.
    """

    def as_floats(x: tf.Tensor | dict[str, tf.Tensor], y: tf.Tensor) -> tuple:
        return tf.nest.map_structure(lambda values: tf.cast(values, tf.float32), x), y

    x: Any = examples.val_inputs
    if examples.val_logits is not None:
        x = {"pixels": x, "teacher_logits": examples.val_logits}
    batches = tf.data.Dataset.from_tensor_slices((x, examples.val_labels)).batch(batch_size)
    return batches.map(as_floats).prefetch(1)
