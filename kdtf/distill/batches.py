"""Views and splits as batches: what a network is trained on, and what it is looked over with.

The student sees exactly the images the teacher labelled: views are fixed beforehand, nothing is drawn
inside the loop. Memory-mapped arrays are read a batch at a time.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ..data.arrays import forget
from ..data.dataset import UNLABELLED, PixelArray
from ..data.views import ViewArray

KEPT = 16 << 20  # bytes of a validation split that is kept: to start a generator takes as long as 200 images
Position = tuple[int, int]  # (epoch, step): where a training begins to read, or goes on
Stream = Callable[[Position], tuple[tf.data.Dataset, int]]  # to (batches from there, steps an epoch)


class UnlabelledExamples(NamedTuple):
    """Views (V, U, ...) of images without labels, and what a teacher said of them.

    Its logits (V, U, K), and for a loss that takes them its features (V, U, F).
    """

    views: ViewArray
    logits: np.ndarray
    features: np.ndarray | None = None


class Examples(NamedTuple):
    """What a network is fitted on and looked over with.

    Views (V, N, ...) of the training images with their labels (N,), one split for validation (n, ...) with
    its labels (n,), and of both, where a teacher labelled them, its logits (V, N, K) and (n, K), and for a
    loss that takes them its features (V, N, F) and (n, F). With a teacher there may be unlabelled images too.
    """

    views: ViewArray
    labels: np.ndarray
    val_inputs: PixelArray
    val_labels: np.ndarray
    logits: np.ndarray | None = None
    val_logits: np.ndarray | None = None
    unlabelled: UnlabelledExamples | None = None
    features: np.ndarray | None = None
    val_features: np.ndarray | None = None

    def without_teacher(self) -> "Examples":
        """The same labelled images without what a teacher said of them."""
        return Examples(self.views, self.labels, self.val_inputs, self.val_labels)


class _Cycle:
    """An endless sequence of views of images, each pass over the images in another order.

    In pass p image i shows its view (start_i + p) mod V, `start_i` drawn once: a pass costs N images
    whatever V is, mixes all views, and every image meets each of its views equally often.
    """

    def __init__(self, views: ViewArray, seed: list[int]):
        self.count, self.images = views.shape[:2]
        self.rng = np.random.default_rng(seed)
        self.view = self.rng.integers(self.count, size=self.images)  # (N,)
        self.order, self.used = self.rng.permutation(self.images), 0

    def skip(self, images: int) -> None:
        """Go past so many images."""
        passes, used = divmod(self.used + images, self.images)
        for _ in range(passes):
            self._next_pass()
        self.used = used

    def take(self, images: int) -> tuple[np.ndarray, np.ndarray]:
        """The views and the rows of the next so many images."""
        views, rows = [self.view[:0]], [self.order[:0]]
        while images:
            if self.used == self.images:
                self._next_pass()
            part = self.order[self.used : self.used + images]
            views.append(self.view[part])
            rows.append(part)
            self.used += len(part)
            images -= len(part)
        return np.concatenate(views), np.concatenate(rows)

    def _next_pass(self) -> None:
        self.order, self.used = self.rng.permutation(self.images), 0
        self.view = (self.view + 1) % self.count


def batch_sizes(images: int, batch_size: int) -> list[int]:
    """Images in each step of an epoch over so many training images."""
    whole, rest = divmod(images, batch_size)
    return [batch_size] * whole + ([rest] if rest else [])


def steps_per_epoch(views: ViewArray, batch_size: int) -> int:
    """Steps of an epoch over views (V, N, ...)."""
    return len(batch_sizes(views.shape[1], batch_size))


def view_batches(
    examples: Examples,
    *,
    batch_size: int,
    seed: int,
    unlabelled_share: float = 0.0,
    start: Position = (0, 0),
) -> tuple[tf.data.Dataset, int]:
    """An endless tf.data stream over views (V, N, ...), one view of every image an epoch.

    Yields (float32 view batch, labels), or ({"pixels", "teacher_logits"}, labels) with a teacher's logits,
    and "teacher_features" beside them where there are some. Of unlabelled images among the examples every
    batch holds `unlabelled_share`, with the label -1, in the place of labelled ones: an epoch has as many
    steps and images as without them. Starts at `start`. Returns (dataset, steps an epoch).
    """
    views, labels, unlabelled = examples.views, examples.labels, examples.unlabelled
    arrays = _by_name(views, examples.logits, examples.features)
    sizes = batch_sizes(views.shape[1], batch_size)
    share = unlabelled_share if unlabelled else 0.0
    # at least one of each where a batch has room for both
    without_label = [min(size - 1, max(1, round(share * size))) if share else 0 for size in sizes]

    def batches() -> Iterator[tuple]:
        labelled = _Cycle(views, [seed, 0xFEED])
        others = _Cycle(unlabelled.views, [seed, 0xFEED, 1]) if unlabelled else None
        step = start[1]
        images, few = (start[0] * sum(own) + sum(own[:step]) for own in (sizes, without_label))
        labelled.skip(images - few)
        if others:
            others.skip(few)
        while True:
            for size, few in zip(sizes[step:], without_label[step:], strict=True):
                view, rows = labelled.take(size - few)
                x, y = _floats(arrays, view, rows), labels[rows]
                if unlabelled and others and few:
                    more = _floats(_by_name(*unlabelled), *others.take(few))
                    x = {name: np.concatenate([x[name], more[name]]) for name in x}
                    y = np.concatenate([y, np.full(few, UNLABELLED, y.dtype)])
                yield _inputs(x), y
            step = 0

    specs = {name: tf.TensorSpec((None, *array.shape[2:]), tf.float32) for name, array in arrays.items()}
    signature = (_inputs(specs), tf.TensorSpec((None,), labels.dtype))
    stream = tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(2)
    return stream, len(sizes)


def _by_name(pixels: Any, logits: np.ndarray | None, features: np.ndarray | None) -> dict[str, Any]:
    """Images and what a teacher said of them, by the names that `Distiller` knows them by."""
    arrays = {"pixels": pixels, "teacher_logits": logits, "teacher_features": features}
    return {name: array for name, array in arrays.items() if array is not None}


def _floats(arrays: dict[str, Any], view: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The chosen views (n,) of the chosen images (n,) of each array (V, N, ...): (n, ...) float32."""
    chosen = {name: array[view, rows].astype(np.float32) for name, array in arrays.items()}
    for array in arrays.values():
        forget(array)
    return chosen


def _inputs(arrays: dict[str, Any]) -> Any:
    """What a network is given: pixels alone as they are."""
    return arrays if len(arrays) > 1 else arrays["pixels"]


def training_stream(examples: Examples, batch_size: int, seed: int, unlabelled_share: float = 0.0) -> Stream:
    """`view_batches` of some examples as a function of where they start, as `fit` wants it."""

    def stream(start: Position) -> tuple[tf.data.Dataset, int]:
        return view_batches(
            examples,
            batch_size=batch_size,
            seed=seed,
            unlabelled_share=unlabelled_share,
            start=start,
        )

    return stream


def validation_batches(examples: Examples, batch_size: int) -> tf.data.Dataset:
    """A finite tf.data pass over the validation split, in order, as float32, read a batch at a time.

    Yields what `view_batches` yields. A small split is read once.
    """
    arrays = _by_name(examples.val_inputs, examples.val_logits, examples.val_features)
    labels = examples.val_labels

    def batches() -> Iterator[tuple]:
        for start in range(0, len(labels), batch_size):
            part = slice(start, start + batch_size)
            yield _inputs({name: np.asarray(array[part]) for name, array in arrays.items()}), labels[part]
            for array in arrays.values():
                forget(array)

    def as_floats(x: tf.Tensor | dict[str, tf.Tensor], y: tf.Tensor) -> tuple:
        return tf.nest.map_structure(lambda values: tf.cast(values, tf.float32), x), y

    specs = {name: tf.TensorSpec((None, *array.shape[1:]), array.dtype) for name, array in arrays.items()}
    signature = (_inputs(specs), tf.TensorSpec((None,), labels.dtype))
    stream = tf.data.Dataset.from_generator(batches, output_signature=signature)
    if sum(math.prod(array.shape) * array.dtype.itemsize for array in arrays.values()) <= KEPT:
        stream = stream.cache()
    steps = len(batch_sizes(len(labels), batch_size))
    return stream.map(as_floats).apply(tf.data.experimental.assert_cardinality(steps)).prefetch(1)
