"""A training that is lost by its last update says so: until then no loss on train shows it."""

import keras
import numpy as np
import pytest
from trainings import EXAMPLES, network

from kdtf.distill.callbacks import LOST, History, check_weights
from kdtf.distill.train import train_classifier, train_student
from kdtf.errors import UserError
from kdtf.progress import Progress
from kdtf.records import Training

ONE_STEP = Training(1, batch_size=22, rate=1e30, warmup=0.0, schedule="constant")
LOWER = r"Try a lower learning rate\.$"


@pytest.mark.parametrize("patience", [0, 15])
def test_a_student_lost_by_its_only_step_is_told(patience):
    training = Training(**{**vars(ONE_STEP), "patience": patience})
    with pytest.raises(UserError, match=rf"^The loss on val must stay .* in epoch 1 of student\. {LOWER}"):
        train_student(network(0.0), EXAMPLES, training, None, seed=0, title="", progress=Progress())


def test_a_teacher_lost_by_its_only_step_is_told():
    with pytest.raises(UserError, match=rf"^The loss on val must stay .* in epoch 1 of head\. {LOWER}"):
        train_classifier(
            network(0.0), EXAMPLES, ONE_STEP, phase="head", seed=0, title="", progress=Progress()
        )


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, -1e30])
def test_lost_weights_are_told_where_val_does_not_show_them(value):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False)])
    check_weights(model, "student")
    model.set_weights([np.array([[1.0, value], [0.5, 2.0]])])
    with pytest.raises(UserError, match=rf"^The weights of student must stay .* One became .*\. {LOWER}"):
        check_weights(model, "student")


@pytest.mark.parametrize("loss, lost", [(0.0, False), (LOST / 10, False), (LOST, True), (np.inf, True)])
def test_a_loss_on_val_is_lost_where_one_on_train_is(loss, lost):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.5), "mse")
    for name in ("loss", "val_loss"):
        rows = []
        history = History(lambda epoch, row: None, "student", rows)
        history.set_model(model)
        logs = {"loss": 1.0, "val_loss": 1.0, name: loss}
        if lost:
            with pytest.raises(UserError, match="must stay"):
                history.on_epoch_end(0, logs)
        else:
            history.on_epoch_end(0, logs)
        assert rows[0][name] == loss
