"""The state of a training on disk: everything that decides the rest of it.

The variables of the model (weights, BatchNormalization's statistics, the states of random generators, the
metrics' totals), those of its optimizer, the history, and how far the data were read. The data are a pure
function of that, so a training that went on ends like one that was never interrupted.
"""

import json
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import keras
import numpy as np

from ..files import written_aside
from .batches import Position
from .callbacks import KeepBest
from .interruption import INTERRUPTION

DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)


class Checkpoint(keras.callbacks.Callback):
    """Keeps the state of a training in one file, written aside and renamed.

    `start` is (epoch, step): where the data go on. A file that does not fit is ignored.
    """

    def __init__(self, path: Path | None, seconds: float, rows: list[dict], best: KeepBest | None):
        super().__init__()
        self.path, self.seconds, self.rows, self.best = path, seconds, rows, best
        self.start: Position = (0, 0)
        self.totals: list[np.ndarray] = []  # of the metrics, of an epoch that was begun
        self.epoch, self.step, self.written = 0, 0, time.monotonic()
        self.first = 0  # step of the epoch that the data go on with

    def restore(self, model: keras.Model, steps: int) -> None:
        """Put `model`, the history and the best weights back where the file left them, if there is one."""
        self.set_model(model)
        self.steps = steps
        model.optimizer.build(model.trainable_variables)
        if self.path is None or not self.path.exists():
            return
        with suppress(*DAMAGED):
            with np.load(self.path, allow_pickle=False) as stored:
                state = json.loads(str(stored["state"]))
                if state["start"][1] % model.steps_per_execution:
                    raise ValueError("within a group of steps")
                values = [stored[f"v{i}"] for i in range(state["variables"])]
                totals = [stored[f"m{i}"] for i in range(state["totals"])]
                weights = [stored[f"b{i}"] for i in range(state["best"])]
            variables = self._variables()
            if [v.shape for v in values] != [tuple(v.shape) for v in variables]:
                raise ValueError("another model's")
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
            self.start = tuple(state["start"])
            self.totals = totals if self.start[1] else []
            self.rows[:] = state["rows"]
            if self.best and weights:
                self.best.best, self.best.waited = tuple(state["reached"]), state["waited"]
                self.best.weights = weights

    def _variables(self) -> list[keras.Variable]:
        variables = {id(v): v for v in (*self.model.variables, *self.model.optimizer.variables)}
        for v in self.model.metrics_variables:
            variables.pop(id(v), None)
        return list(variables.values())

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Count the batches of the epoch, or of what is left of it."""
        self.first = self.start[1] if self.totals else 0
        self.epoch, self.step = epoch, self.first
        if len(self.model.metrics_variables) == len(self.totals):
            self._go_on_with_totals()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Write the state when it is time to."""
        if self.totals:  # whose variables were built only now
            self._go_on_with_totals()
        self.step = self.first + batch + 1
        if self.step == self.steps:
            return  # the end of the epoch comes next
        self._pause((self.epoch, self.step))

    def _go_on_with_totals(self) -> None:
        """Add the sums of the batches of an epoch that was begun before."""
        for variable, value in zip(self.model.metrics_variables, self.totals, strict=True):
            variable.assign(variable + value)
        self.totals = []

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Write the state when it is time to."""
        self._pause((epoch + 1, 0))

    def _pause(self, start: Position) -> None:
        """Write the state when it is time to or a signal asks for it, and then do as it says."""
        if INTERRUPTION.signal or (self.path and time.monotonic() - self.written > self.seconds):
            self.write(start)
            INTERRUPTION.obey()

    def write(self, start: Position) -> None:
        """The state on disk, unless the loss is lost: then the last good one stays."""
        totals = [np.asarray(v) for v in self.model.metrics_variables]
        if self.path is None or not all(np.isfinite(v).all() for v in totals):
            return
        best = self.best.weights if self.best else []
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
        with written_aside(self.path) as file:
            np.savez(file, allow_pickle=False, state=np.array(json.dumps(state)), **arrays)
        self.written = time.monotonic()
