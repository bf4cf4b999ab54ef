"""A network as a function of arrays, and what it says of every view, kept on disk."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import keras
import numpy as np
import tensorflow as tf

from ..data.arrays import forget, write_npy_header
from ..data.dataset import PixelArray
from ..data.views import ViewArray
from ..progress import Progress
from .views_done import ViewsDone

AT_ONCE = 512  # images in memory, a multiple of the batch size
Inference = Callable[[PixelArray], np.ndarray]  # (N, ...) to (N, ...)
Inferences = Callable[[PixelArray], list[np.ndarray]]  # (N, ...) to some (N, ...)


def inference_of(model: keras.Model, batch_size: int = 64) -> Inference:
    """`model` as a function from pixels (N, ...) of any length to its output (N, ...), traced once."""
    outputs = inferences_of(model, batch_size)
    return lambda pixels: outputs(pixels)[0]


def inferences_of(model: keras.Model, batch_size: int = 64) -> Inferences:
    """`model` as a function from pixels (N, ...) of any length to a list of its outputs, traced once."""
    signature = [tf.TensorSpec((None, *model.input.shape[1:]), tf.float32)]
    run = tf.function(lambda x: tf.nest.flatten(model(x, training=False)), input_signature=signature)
    return in_batches(lambda pixels: [np.asarray(own) for own in run(pixels)], batch_size)


def in_batches(run: Callable[[np.ndarray], list[np.ndarray]], batch_size: int) -> Inferences:
    """`run` on float32 pixels of at most a batch as a function of pixels (N, ...) of any length."""

    def outputs(pixels: PixelArray) -> list[np.ndarray]:
        parts = [
            run(pixels[i : i + batch_size].astype(np.float32)) for i in range(0, len(pixels), batch_size)
        ]
        return [np.concatenate(own) for own in zip(*parts, strict=True)]

    return outputs


def infer_views(
    inferences: Inferences,
    views: ViewArray,
    outs: Sequence[Path],
    progress: Progress,
    title: str,
    checkpoint: Path | None = None,
) -> None:
    """What is inferred from views (V, N, ...), each output kept as a .npy (V, N, D) float32 at its path.

    A plain stream: a disk that fills up kills a process that writes through a map. With `checkpoint`, the
    beginning of names, the streams bear it until they are whole, and what whole views left is gone on from.
    """
    count, images = views.shape[:2]
    with progress.bar(title, count) as advance, ExitStack() as stack:
        state = ViewsDone(checkpoint, outs)
        files = [stack.enter_context(own) for own in state.opened()]
        stack.enter_context(_kept(state, files))
        advance(state.views)
        for v in range(state.views, count):
            for start in range(0, images, AT_ONCE):
                outputs = inferences(views[v, start : start + AT_ONCE])
                forget(views)
                for i, (file, output) in enumerate(zip(files, outputs, strict=True)):
                    values = np.ascontiguousarray(output, "<f4")
                    if not v and not start:
                        write_npy_header(state.hashed(i, file), (count, images, *values.shape[1:]), "<f4")
                    state.hashed(i, file).write(values.data)
            state.advance(files)
            advance(v + 1)
    state.publish()


def infer_images(inferences: Inferences, pixels: PixelArray, outs: Sequence[Path]) -> None:
    """What is inferred from images (N, ...), each output kept as a .npy (N, D) float32 at its path."""
    with ExitStack() as stack:
        files = [stack.enter_context(out.open("wb")) for out in outs]
        for start in range(0, len(pixels), AT_ONCE):
            for file, output in zip(files, inferences(pixels[start : start + AT_ONCE]), strict=True):
                if not start:
                    write_npy_header(file, (len(pixels), *output.shape[1:]), "<f4")
                file.write(np.ascontiguousarray(output, "<f4").data)
            forget(pixels)


@dataclass(frozen=True)
class InferredViews:
    """What a network makes of views (V, N, ...), inferred where it is looked at: (V, N, ...) float32."""

    views: ViewArray
    inference: Inference
    output: tuple[int, ...]  # the shape of what it makes of one

    @property
    def shape(self) -> tuple[int, ...]:
        """(V, N, ...)."""
        return (*self.views.shape[:2], *self.output)

    def __getitem__(self, at: tuple[int | np.ndarray, slice | np.ndarray]) -> np.ndarray:
        return self.inference(self.views[at])


@contextmanager
def _kept(state: ViewsDone, files: Sequence[IO[bytes]]) -> Iterator[None]:
    """Keep what is whole where the block is interrupted, unless that is just what the disk refuses."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            state.keep(files)
        raise
