"""The state of a fine-tuning by tf_keras on disk, as `distill.checkpoint` keeps that of a training by Keras.

Written between epochs: a kill costs the epoch that it falls into, and what was done since the last state.
"""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..distill.checkpoint import DAMAGED
from ..distill.fit import SECONDS
from ..files import written_aside

Row = dict[str, Any]


class TuningState:
    """All that decides the rest of a fine-tuning: variables, among them those of generators, and history.

    `variables` are tf.Variables in an order that is the same in every process; `rows` is the history, a row
    of scores an epoch.
    """

    def __init__(self, path: Path | None, variables: Sequence[Any]):
        self.path, self.variables = path, variables
        self.rows: list[Row] = []
        self.written = time.monotonic()

    def restore(self) -> None:
        """Put the variables and the history where the file left them; one that does not fit is ignored."""
        if self.path is None or not self.path.exists():
            return
        with suppress(*DAMAGED):
            with np.load(self.path, allow_pickle=False) as stored:
                values = [stored[f"v{i}"] for i in range(len(stored.files) - 1)]
                rows = json.loads(str(stored["rows"]))
            if [value.shape for value in values] != [tuple(own.shape) for own in self.variables]:
                raise ValueError("another model's")
            for variable, value in zip(self.variables, values, strict=True):
                variable.assign(value)
            self.rows[:] = rows

    def callback(self, tf_keras: Any, advance: Callable[..., None]) -> Any:
        """What tf_keras calls at the end of an epoch, after all that belongs to the epoch was done."""

        def end(epoch: int, logs: Row) -> None:
            self.rows.append({name: float(value) for name, value in logs.items()})
            advance(epoch + 1, {"epoch": epoch + 1, **self.rows[-1]})
            if time.monotonic() - self.written > SECONDS:
                self.write()

        return tf_keras.callbacks.LambdaCallback(on_epoch_end=end)

    def write(self) -> None:
        """The state on disk, unless the loss is lost: then the last good one stays."""
        if self.path is None or not np.isfinite([row["loss"] for row in self.rows]).all():
            return
        arrays = {f"v{i}": own.numpy() for i, own in enumerate(self.variables)}
        with written_aside(self.path) as file:
            np.savez(file, allow_pickle=False, rows=np.array(json.dumps(self.rows)), **arrays)
        self.written = time.monotonic()
