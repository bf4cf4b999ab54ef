"""SIGINT and SIGTERM: a training finishes its batch and writes its state, all else stops at once."""

import os
import signal
import threading

import pytest
from trainings import EPOCHS, same, student, undisturbed

from kdtf.distill.checkpoint import Checkpoint
from kdtf.distill.interruption import INTERRUPTION, Interruption

ERRORS = [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]


@pytest.fixture(autouse=True)
def handlers():
    """A command in the background of a shell ignores SIGINT, and so would these tests."""
    old = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGTERM: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    }
    yield
    for number, handler in old.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number, error", ERRORS)
def test_a_signal_waits_for_the_batch_and_leaves_the_state(number, error, tmp_path, monkeypatch):
    batch_end = Checkpoint.on_train_batch_end

    def signalled(self, batch, logs=None):
        if self.epoch == 1 and self.step == 1:
            os.kill(os.getpid(), number)
        batch_end(self, batch, logs)

    monkeypatch.setattr(Checkpoint, "on_train_batch_end", signalled)
    with pytest.raises(error) as caught:
        student(tmp_path / "state.npz")
    assert error is KeyboardInterrupt or caught.value.code == 128 + number
    monkeypatch.setattr(Checkpoint, "on_train_batch_end", batch_end)
    assert (tmp_path / "state.npz").exists() and INTERRUPTION.signal is None
    assert same(student(tmp_path / "state.npz"), undisturbed(student))


def test_a_signal_after_the_last_batch_is_not_lost(tmp_path, monkeypatch):
    epoch_end = Checkpoint.on_epoch_end

    def signalled(self, epoch, logs=None):
        epoch_end(self, epoch, logs)
        if epoch == EPOCHS - 1:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Checkpoint, "on_epoch_end", signalled)
    with pytest.raises(KeyboardInterrupt):
        student(tmp_path / "state.npz")
    assert INTERRUPTION.signal is None
    monkeypatch.setattr(Checkpoint, "on_epoch_end", epoch_end)
    assert same(student(tmp_path / "state.npz"), undisturbed(student))


@pytest.mark.parametrize("number, error", ERRORS)
def test_without_a_training_a_signal_is_obeyed_at_once(number, error):
    with pytest.raises(error):
        Interruption()(number, None)


@pytest.mark.parametrize("number, error", ERRORS)
def test_the_second_signal_does_not_wait(number, error):
    interruption = Interruption()
    with interruption.deferred():
        interruption(signal.SIGINT, None)
        assert interruption.signal == signal.SIGINT  # heard and put off
        with pytest.raises(error):
            interruption(number, None)
    interruption.obey()  # nothing is left to obey


def test_handlers_are_put_back_and_what_is_ignored_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interruption = Interruption()
    with interruption.deferred():
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is interruption
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL and interruption.trainings == 0


def test_in_another_thread_no_handler_is_touched():
    handlers, interruption = [], Interruption()

    def train():
        with interruption.deferred():
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert handlers == [signal.SIG_DFL]
