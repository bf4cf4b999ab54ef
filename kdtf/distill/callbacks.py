"""What happens at the end of an epoch: a row of history, and the choice of the weights to keep."""

import time

import keras
import numpy as np

from ..errors import UserError
from ..evidence.choose import val_order
from ..progress import Advance

LOST = 1e20  # numbers up to 3e38 are finite, but files multiply in another order and meet that end earlier
LOWER = "Try a lower learning rate."
MOMENT = 0.5  # seconds between two words about the batches of an epoch


def check_weights(model: keras.Model, phase: str) -> None:
    """Raise `UserError` where a weight that was trained is not finite, or nearly so.

    Val does not always show it: int8 in the loop clips what such weights make of an image.
    """
    for variable in model.trainable_variables:
        largest = float(np.max(np.abs(np.asarray(variable)), initial=0.0))
        if not largest < LOST:
            raise UserError(
                f"The weights of {phase} must stay {_rule(largest)}. One became {largest}. {LOWER}"
            )


def _rule(value: float) -> str:
    return f"below {LOST:g}" if np.isfinite(value) else "finite"


class History(keras.callbacks.Callback):
    """Keeps a history row an epoch, tells the progress bar, and stops on a loss that is not a number."""

    def __init__(self, advance: Advance, phase: str, rows: list[dict]):
        super().__init__()
        self.advance, self.phase, self.rows = advance, phase, rows
        self.epoch, self.told = 0, 0.0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Note which one it is."""
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Tell the bar what part of an epoch is done, now and then: one of a teacher may take minutes."""
        if time.monotonic() - self.told > MOMENT:
            self.told = time.monotonic()
            self.advance(self.epoch + (batch + 1) / max(self.params.get("steps") or 1, batch + 1))

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Keep the row of an epoch. Raises `UserError` where a loss is not finite, or nearly so.

        On train it is of the weights before each update, so that what the last one did is seen on val alone.
        """
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        values = {name: float(value) for name, value in logs.items()}
        self.rows.append({"epoch": epoch + 1, "phase": self.phase, **values, "learning_rate": rate})
        for name, where in (("loss", ""), ("val_loss", " on val")):
            loss = values.get(name, 0.0)
            if not abs(loss) < LOST:
                when = f"in epoch {epoch + 1} of {self.phase}"
                raise UserError(f"The loss{where} must stay {_rule(loss)}. It became {loss} {when}. {LOWER}")
        self.advance(epoch + 1, self.rows[-1])


class KeepBest(keras.callbacks.Callback):
    """Finds the weights of the best epoch on val, by `choose.val_order`.

    Stops after `patience` epochs without a better one. Not `EarlyStopping`: on small val splits many
    epochs tie in accuracy, and the loss alone prefers early, timid weights (docs/design.md).
    """

    def __init__(self, patience: int):
        super().__init__()
        self.patience, self.waited = patience, 0
        self.best: tuple[float, float] | None = None  # as `val_order` has it
        self.weights: list[np.ndarray] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Keep the weights where they are better than all before."""
        score = val_order(logs["val_accuracy"], logs["val_loss"])
        self.waited += 1
        if self.best is None or score > self.best:
            self.best, self.weights, self.waited = score, self.model.get_weights(), 0
        if self.over():
            self.model.stop_training = True

    def over(self) -> bool:
        """Whether it has waited long enough."""
        return self.waited >= self.patience

    def restore(self) -> None:
        """Give the model its best weights."""
        self.model.set_weights(self.weights)
