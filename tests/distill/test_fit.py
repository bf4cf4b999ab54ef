"""A training that was stopped anywhere and went on ends like one that never was."""

import os
import signal

import keras
import numpy as np
import pytest

from kdtf.config import Config
from kdtf.data.dataset import Dataset, Split
from kdtf.distill.fit import STOP, Checkpoint
from kdtf.distill.train import fine_tune, fit_student
from kdtf.errors import UserError
from kdtf.progress import Progress

RNG = np.random.default_rng(0)


def split(count):
    pixels = RNG.integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)
    return Split(pixels, np.arange(count) % 2, None, pixels)


DATA = Dataset(split(22), split(8), split(8), ("a", "b"), "digest", ())
VIEWS = np.stack([DATA.train.pixels, DATA.train.pixels[:, :, ::-1]])
LOGITS = RNG.normal(size=(2, 22, 2)).astype("float32")
CONFIG = Config().with_values(
    {"epochs": 3, "batch_size": 6, "fine_tune_epochs": 3, "fine_tune_batch_size": 6}
)  # four steps an epoch


class Killed(BaseException):
    pass


@pytest.fixture
def kill(monkeypatch):
    """`kill(n)`: the n-th batch from now on is the last one. The state is written after every batch."""
    batch_end, left = Checkpoint.on_train_batch_end, [None]

    def counted(self, batch, logs=None):
        self.seconds = -1
        batch_end(self, batch, logs)
        if left[0] is not None:
            left[0] -= 1
            if not left[0]:
                left[0] = None
                raise Killed

    monkeypatch.setattr(Checkpoint, "on_train_batch_end", counted)
    return lambda n: left.__setitem__(0, n)


def student(checkpoint=None, logits=LOGITS):
    found = fit_student(
        VIEWS,
        DATA,
        CONFIG,
        seed=3,
        title="",
        progress=Progress(),
        logits=logits,
        val_logits=LOGITS[0, :8],
        checkpoint=checkpoint,
    )
    return found.model.get_weights(), found.history


def teacher(checkpoint=None):
    keras.utils.set_random_seed(1)
    x = pixels = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 255)(x))
    x = keras.layers.Dropout(0.3)(keras.layers.BatchNormalization()(x))
    model = keras.Model(pixels, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
    how = {"pretrained": True, "seed": 3, "title": "", "progress": Progress(), "checkpoint": checkpoint}
    rows = fine_tune(model, VIEWS, DATA, CONFIG, **how)
    return model.get_weights(), rows


@pytest.fixture
def heard():
    """A command in the background of a shell ignores SIGINT, and so would these tests."""
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)


@pytest.fixture(scope="module")
def whole():
    return {train: train() for train in (student, teacher)}


def same(found, expected):
    weights, rows = found
    assert rows == expected[1]
    assert all(np.array_equal(a, b) for a, b in zip(weights, expected[0], strict=True))
    return True


@pytest.mark.parametrize("train", [student, teacher])
@pytest.mark.parametrize("batches", [(1,), (3,), (4,), (6, 3), (11,)])
def test_it_goes_on_where_it_was_killed(train, batches, kill, whole, tmp_path):
    for n in batches:
        kill(n)
        with pytest.raises(Killed):
            train(tmp_path / "state.npz")
    assert same(train(tmp_path / "state.npz"), whole[train])


def test_a_finished_training_is_not_repeated(kill, whole, tmp_path):
    student(tmp_path / "state.npz")
    kill(1)  # would raise
    assert same(student(tmp_path / "state.npz"), whole[student])


@pytest.mark.parametrize("harm", ["truncated", "another model's", "text"])
def test_a_state_that_does_not_fit_is_ignored(harm, whole, tmp_path):
    path = tmp_path / "state.npz"
    if harm == "another model's":
        teacher(path)
    else:
        student(path)
        path.write_bytes(path.read_bytes()[:5000] if harm == "truncated" else b"text")
    assert same(student(path), whole[student])


@pytest.mark.parametrize("number, error", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_waits_for_the_batch_and_leaves_the_state(
    number, error, whole, tmp_path, monkeypatch, heard
):
    batch_end = Checkpoint.on_train_batch_end

    def signalled(self, batch, logs=None):
        if self.epoch == 1 and self.done == 1:
            os.kill(os.getpid(), number)
        batch_end(self, batch, logs)

    monkeypatch.setattr(Checkpoint, "on_train_batch_end", signalled)
    with pytest.raises(error) as caught:
        student(tmp_path / "state.npz")
    assert error is KeyboardInterrupt or caught.value.code == 128 + number
    monkeypatch.setattr(Checkpoint, "on_train_batch_end", batch_end)
    assert (tmp_path / "state.npz").exists() and STOP.asked is None
    assert same(student(tmp_path / "state.npz"), whole[student])


def test_a_signal_after_the_last_batch_is_not_lost(whole, tmp_path, monkeypatch, heard):
    epoch_end = Checkpoint.on_epoch_end

    def signalled(self, epoch, logs=None):
        epoch_end(self, epoch, logs)
        if epoch == CONFIG.student.epochs - 1:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Checkpoint, "on_epoch_end", signalled)
    with pytest.raises(KeyboardInterrupt):
        student(tmp_path / "state.npz")
    assert STOP.asked is None
    monkeypatch.setattr(Checkpoint, "on_epoch_end", epoch_end)
    assert same(student(tmp_path / "state.npz"), whole[student])


def test_a_lost_loss_leaves_no_lost_state(tmp_path, kill):
    bad = LOGITS.copy()
    bad[1] = np.nan  # the second view of every image
    with pytest.raises(UserError, match=r"^The loss must stay finite\. It became nan in epoch 1 of student"):
        student(tmp_path / "state.npz", bad)
    assert not (tmp_path / "state.npz").exists()
