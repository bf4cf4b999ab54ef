"""One training loop for all: history, the best weights, and a state on disk to go on from after a kill.

`model.fit` does the work. What is kept on disk is everything that decides the rest: the variables of
the model (weights, BatchNormalization's statistics, the states of random generators, the metrics'
totals), those of its optimizer, the history, and how far the data were read. The data are a pure
function of that, so a training that went on ends like one that was never interrupted.
"""

import json
import os
import signal
import threading
import time
import zipfile
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from ..errors import UserError
from ..progress import Progress

WHOLE = "whole network"  # the phase of a teacher that takes the most memory
SECONDS = 45  # between two states on disk: a kill costs at most a minute
DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)


class Follow(keras.callbacks.Callback):
    """Keeps a history row an epoch, tells the progress bar, and stops on a loss that is not a number."""

    def __init__(self, advance: Callable[[int], None], phase: str, rows: list[dict]):
        super().__init__()
        self.advance, self.phase, self.rows = advance, phase, rows

    def on_epoch_end(self, epoch, logs=None):
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        row = {"epoch": epoch + 1, "phase": self.phase, **{k: float(v) for k, v in logs.items()}}
        self.rows.append({**row, "learning_rate": rate})
        if not np.isfinite(row["loss"]):
            raise UserError(
                f"The loss must stay finite. It became {row['loss']} in epoch {epoch + 1} of {self.phase}. "
                "Try a lower learning rate."
            )
        self.advance(epoch + 1)


class KeepBest(keras.callbacks.Callback):
    """Finds the weights of the epoch with the best val accuracy, the lower val loss among equals.

    Stops after `patience` epochs without a better one. Not `EarlyStopping`: on small val splits many
    epochs tie in accuracy, and the loss alone prefers early, timid weights (docs/design.md).
    """

    def __init__(self, patience: int):
        super().__init__()
        self.patience, self.best, self.weights, self.waited = patience, None, None, 0

    def on_epoch_end(self, epoch, logs=None):
        reached = (logs["val_accuracy"], -logs["val_loss"])
        self.waited += 1
        if self.best is None or reached > self.best:
            self.best, self.weights, self.waited = reached, self.model.get_weights(), 0
        if self.over():
            self.model.stop_training = True

    def over(self) -> bool:
        return self.waited >= self.patience

    def restore(self) -> None:
        """Give the model its best weights."""
        self.model.set_weights(self.weights)


class Checkpoint(keras.callbacks.Callback):
    """Keeps the state of a training in one file, written aside and renamed.

    `start` is (epoch, step): where the data go on. A file that does not fit is ignored.
    """

    def __init__(self, path: Path | None, seconds: float, rows: list[dict], best: KeepBest | None):
        super().__init__()
        self.path, self.seconds, self.rows, self.best = path, seconds, rows, best
        self.start, self.totals, self.epoch, self.written = (0, 0), None, 0, time.monotonic()

    def restore(self, model, steps: int) -> None:
        """Put `model`, the history and the best weights back where the file left them, if there is one."""
        self.set_model(model)
        self.steps = steps
        model.optimizer.build(model.trainable_variables)
        if self.path is None or not self.path.exists():
            return
        with suppress(*DAMAGED):
            with np.load(self.path, allow_pickle=False) as kept:
                state = json.loads(str(kept["state"]))
                values = [kept[f"v{i}"] for i in range(state["variables"])]
                totals = [kept[f"m{i}"] for i in range(state["totals"])]
                weights = [kept[f"b{i}"] for i in range(state["best"])]
            variables = self._variables()
            if [v.shape for v in values] != [tuple(v.shape) for v in variables]:
                raise ValueError("another model's")
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
            self.start = tuple(state["start"])
            self.totals = totals if self.start[1] else None
            self.rows[:] = state["rows"]
            if self.best and weights:
                self.best.best, self.best.waited, self.best.weights = (
                    tuple(state["reached"]),
                    state["waited"],
                    weights,
                )

    def _variables(self) -> list:
        found = {id(v): v for v in (*self.model.variables, *self.model.optimizer.variables)}
        for v in self.model.metrics_variables:
            found.pop(id(v), None)
        return list(found.values())

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.done = epoch, self.start[1] if self.totals else 0

    def on_train_batch_end(self, batch, logs=None):
        if self.totals:  # of an epoch that was begun: sums, and built only now
            for variable, value in zip(self.model.metrics_variables, self.totals, strict=True):
                variable.assign(variable + value)
            self.totals = None
        self.done += 1
        if self.done == self.steps:
            return  # the end of the epoch comes next
        self._pause((self.epoch, self.done))

    def on_epoch_end(self, epoch, logs=None):
        self._pause((epoch + 1, 0))

    def _pause(self, start: tuple[int, int]) -> None:
        """Write the state when it is time to or a signal asks for it, and then do as it says."""
        if STOP.asked or (self.path and time.monotonic() - self.written > self.seconds):
            self.write(start)
            STOP.obey()

    def write(self, start: tuple[int, int]) -> None:
        """The state on disk, unless the loss is lost: then the last good one stays."""
        totals = [np.asarray(v) for v in self.model.metrics_variables]
        if self.path is None or not all(np.isfinite(v).all() for v in totals):
            return
        best = self.best.weights if self.best and self.best.weights else []
        arrays = {f"v{i}": np.asarray(v) for i, v in enumerate(self._variables())}
        arrays |= {f"m{i}": v for i, v in enumerate(totals)} | {f"b{i}": w for i, w in enumerate(best)}
        state = {
            "variables": len(self._variables()),
            "totals": len(totals),
            "best": len(best),
            "start": start,
            "rows": self.rows,
            "reached": self.best and self.best.best,
            "waited": self.best.waited if self.best else 0,
        }
        aside = self.path.with_suffix(".part")
        with open(aside, "wb") as f:
            np.savez(f, state=json.dumps(state), **arrays)
            f.flush()
            os.fsync(f.fileno())
        os.replace(aside, self.path)
        self.written = time.monotonic()


class Stop:
    """SIGINT and SIGTERM: a training finishes its batch and writes its state, all else stops at once."""

    def __init__(self):
        self.asked, self.training = None, 0

    def __call__(self, number, frame):
        again, self.asked = self.asked, number
        if again or not self.training:
            self.obey()

    def obey(self) -> None:
        """Raise what the signal asked for, if one came."""
        number, self.asked = self.asked, None
        if number:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    @contextmanager
    def waits(self):
        """In this block signals wait for the end of a batch."""
        old = {}
        if threading.current_thread() is threading.main_thread():
            heard = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]
            old = {n: signal.signal(n, self) for n in heard}  # what is ignored, as SIGINT by `&`, stays so
        self.training += 1
        try:
            yield
        finally:
            self.training -= 1
            for number, handler in old.items():
                signal.signal(number, handler)


STOP = Stop()


@contextmanager
def memory_errors(phase: str):
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
    stream: Callable,
    epochs: int,
    *,
    phase: str,
    title: str,
    progress: Progress,
    validation,
    best: KeepBest | None = None,
    checkpoint: Path | None = None,
    seconds: float = SECONDS,
) -> list[dict]:
    """Train a compiled `model` in place and return its history, a row an epoch.

    `stream(start)` gives (an endless dataset from `start`, steps an epoch), `start` being (epoch, step).
    With `best` the model ends with the best weights instead of the last. With `checkpoint`, a file, the
    training goes on from what that holds and leaves its end there.
    """
    rows: list[dict] = []
    steps = stream((0, 0))[1]
    keeper = Checkpoint(checkpoint, seconds, rows, best)
    keeper.restore(model, steps)
    if best:
        best.set_model(model)
    epoch, step = keeper.start
    with progress.bar(title, epochs) as advance, STOP.waits(), memory_errors(phase):
        advance(epoch)
        callbacks = [c for c in (best, Follow(advance, phase, rows), keeper) if c]
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
        keeper.write((epochs, 0))
        STOP.obey()  # a signal that came after the last batch
    if best:
        best.restore()
    return rows
