"""A training that was killed anywhere and went on ends like one that never was."""

import numpy as np
import pytest
from trainings import LOGITS, hinted_student, same, student, teacher, undisturbed

from kdtf.distill.checkpoint import Checkpoint
from kdtf.errors import UserError


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


PLACES = [(1,), (3,), (4,), (6, 3), (11,)]  # within an epoch, at its end, after it, twice, in the last


@pytest.mark.parametrize(
    "train, batches",
    [*((train, own) for train in (student, teacher) for own in PLACES), (hinted_student, (6, 3))],
)
def test_it_goes_on_where_it_was_killed(train, batches, kill, tmp_path):
    for n in batches:
        kill(n)
        with pytest.raises(Killed):
            train(tmp_path / "state.npz")
    assert same(train(tmp_path / "state.npz"), undisturbed(train))


def test_a_finished_training_is_not_repeated(kill, tmp_path):
    student(tmp_path / "state.npz")
    kill(1)  # would raise
    assert same(student(tmp_path / "state.npz"), undisturbed(student))


@pytest.mark.parametrize("harm", ["truncated", "another model's", "text"])
def test_a_state_that_does_not_fit_is_ignored(harm, tmp_path):
    path = tmp_path / "state.npz"
    if harm == "another model's":
        teacher(path)
    else:
        student(path)
        path.write_bytes(path.read_bytes()[:5000] if harm == "truncated" else b"text")
    assert same(student(path), undisturbed(student))


def test_a_lost_loss_leaves_no_lost_state(tmp_path, kill):
    bad = LOGITS.copy()
    bad[1] = np.nan  # the second view of every image
    with pytest.raises(UserError, match=r"^The loss must stay finite\. It became nan in epoch 1 of student"):
        student(tmp_path / "state.npz", bad)
    assert not (tmp_path / "state.npz").exists()


def test_nothing_else_is_left_beside_the_state(kill, tmp_path):
    student(tmp_path / "state.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]


def test_the_projector_is_in_the_state_and_not_in_the_student(tmp_path):
    weights, rows = hinted_student(tmp_path / "state.npz")
    with np.load(tmp_path / "state.npz") as state:
        shapes = [state[name].shape for name in state.files if name.startswith("v")]
    assert shapes.count((256, 5)) == 3  # its kernel and what Adam knows of it
    assert [w.shape for w in weights] == [w.shape for w in undisturbed(student)[0]]
    assert {"hint", "val_hint"} <= rows[0].keys() and "hint" not in undisturbed(student)[1][0]
