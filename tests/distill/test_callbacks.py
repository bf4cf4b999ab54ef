"""The end of an epoch: which weights are kept, when it is enough, and a loss that is lost."""

import keras
import numpy as np
import pytest

from kdtf.distill.callbacks import History, KeepBest
from kdtf.errors import UserError


def best_epoch(scores, patience):
    """(epoch whose weights are kept, last epoch) over (val_accuracy, val_loss) an epoch."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    keep = KeepBest(patience)
    keep.set_model(model)
    model.stop_training = False
    for epoch, (accuracy, loss) in enumerate(scores):
        model.set_weights([np.full((1, 1), float(epoch))])
        keep.on_epoch_end(epoch, {"val_accuracy": accuracy, "val_loss": loss})
        if model.stop_training:
            break
    keep.restore()
    return model.get_weights()[0].item(), epoch


@pytest.mark.parametrize(
    "scores, best, last",
    [
        ([(0.5, 1.0), (0.8, 0.9), (0.8, 0.7), (0.7, 0.1)], 2, 3),  # a tie goes to the lower loss
        ([(0.9, 1.0), (0.8, 0.1), (0.8, 0.1), (0.8, 0.1), (1.0, 0.0)], 0, 3),  # patience ends it
    ],
)
def test_the_best_epoch_on_val_is_kept(scores, best, last):
    assert best_epoch(scores, patience=3) == (best, last)


def history(rows, progress):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.5), "mse")
    callback = History(lambda epoch, row: progress.append((epoch, row)), "student", rows)
    callback.set_model(model)
    return callback


def test_an_epoch_leaves_a_row_and_moves_the_bar():
    rows, progress = [], []
    history(rows, progress).on_epoch_end(4, {"loss": np.float32(2), "val_accuracy": 0.25})
    row = {"epoch": 5, "phase": "student", "loss": 2.0, "val_accuracy": 0.25, "learning_rate": 0.5}
    assert rows == [row] and progress == [(5, row)]


def test_a_loss_that_is_not_a_number_stops_with_advice():
    rows, progress = [], []
    with pytest.raises(UserError, match=r"became nan in epoch 3 of student\. Try a lower learning rate\.$"):
        history(rows, progress).on_epoch_end(2, {"loss": float("nan")})
    assert len(rows) == 1 and progress == []
