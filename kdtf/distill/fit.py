"""One training loop for all: history, the best weights, and a state on disk to go on from after a kill.

`model.fit` does the work.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import tensorflow as tf

from ..errors import UserError
from ..models.fused_norm import fused_batch_normalization
from ..progress import Progress
from .batches import Stream
from .callbacks import History, KeepBest, check_weights
from .checkpoint import Checkpoint
from .interruption import INTERRUPTION

WHOLE = "whole network"  # the phase of a teacher that takes the most memory
SECONDS = 45  # between two states on disk: a kill costs at most a minute


@contextmanager
def memory_errors(phase: str) -> Iterator[None]:
    """Say what to do where memory runs out. Raises `UserError`."""
    try:
        yield
    except (MemoryError, tf.errors.ResourceExhaustedError):
        flag = "--fine-tune-batch-size" if phase == WHOLE else "--batch-size"
        raise UserError(
            f"Memory must hold a batch and the network in training ({phase}). It ran out. "
            f"Try half of {flag}; what is finished stays."
        ) from None


def fit(
    model: keras.Model,
    stream: Stream,
    epochs: int,
    *,
    phase: str,
    title: str,
    progress: Progress,
    validation: tf.data.Dataset,
    best: KeepBest | None = None,
    checkpoint: Path | None = None,
    seconds: float = SECONDS,
) -> list[dict]:
    """Train a compiled `model` in place and return its history, a row an epoch.

    With `best` the model ends with the best weights instead of the last. With `checkpoint`, a file, the
    training goes on from what that holds and leaves its end there; a state is written every `seconds`.

    Raises `UserError` where loss or weights do not stay finite or memory runs out, `KeyboardInterrupt` or
    `SystemExit` after a signal, once the state is written.
    """
    rows, steps = list[dict](), stream((0, 0))[1]
    state = Checkpoint(checkpoint, seconds, rows, best)
    state.restore(model, steps)
    if best:
        best.set_model(model)
    epoch, step = state.start
    fused = fused_batch_normalization(model)
    with progress.bar(title, epochs) as advance, INTERRUPTION.deferred(), memory_errors(phase), fused:
        advance(epoch)
        callbacks = [c for c in (best, History(advance, phase, rows), state) if c]
        while epoch < epochs and not (best and best.over()):
            last = epoch + 1 if step else epochs  # the epoch that was begun, then the others
            model.fit(
                stream((epoch, step))[0],
                initial_epoch=epoch,
                epochs=last,
                steps_per_epoch=steps - step,
                validation_data=validation,
                callbacks=callbacks,
                verbose=0,
                shuffle=False,  # `stream` shuffles
            )
            epoch, step = last, 0
        state.write((epochs, 0))
        INTERRUPTION.obey()  # a signal that came after the last batch
    if best:
        best.restore()
    check_weights(model, phase)
    return rows
