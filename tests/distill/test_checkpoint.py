"""A training that was killed anywhere and went on ends like one that never was."""

import shutil

import numpy as np
import pytest
from trainings import (
    LOGITS,
    grouped_student,
    head,
    hinted_student,
    same,
    student,
    teacher,
    traced_student,
    undisturbed,
)

from kdtf.distill.checkpoint import Checkpoint
from kdtf.distill.distiller import Distiller
from kdtf.errors import UserError


class Killed(BaseException):
    pass


class Kill:
    """`kill(n)`: the n-th end of a batch or an epoch from now on is the last one. Counts all batches."""

    def __init__(self):
        self.left, self.batches = None, 0

    def __call__(self, ends):
        self.left = ends

    def after(self, end):
        """A callback that writes the state at every end and dies at the last one."""

        def dying(state, number, logs=None):
            state.seconds = -1
            end(state, number, logs)
            self.batches += end.__name__ == "on_train_batch_end"
            if self.left is not None:
                self.left -= 1
                if not self.left:
                    self.left = None
                    raise Killed

        return dying


@pytest.fixture
def kill(monkeypatch):
    kill = Kill()
    for name in ("on_train_batch_end", "on_epoch_end"):
        monkeypatch.setattr(Checkpoint, name, kill.after(getattr(Checkpoint, name)))
    return kill


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """{train: the folder with the state of its finished training}, and what that ended with."""
    folders = {train: tmp_path_factory.mktemp(train.__name__) for train in (student, hinted_student)}
    return {train: (folder, train(folder / "state.npz")) for train, folder in folders.items()}


# of three epochs of four batches: within one, after the fourth batch, which is lost since its epoch did not
# end, at the end of one, within the next, before the very last batch
PLACES = (1, 3, 2, 2, 6)
WITHIN = (7, 4)  # the second epoch, and the third


@pytest.fixture
def two_at_once(monkeypatch):
    monkeypatch.setattr("kdtf.distill.train.MOST_OF_HEAD", 3)  # 2 divides the four steps of an epoch


def test_steps_taken_at_once_change_nothing(two_at_once):
    assert same(head(), head(short_steps=False))
    assert same(grouped_student(), undisturbed(traced_student))


@pytest.mark.parametrize("train", [head, grouped_student], ids=["head", "student"])
def test_it_goes_on_between_groups_of_steps(train, two_at_once, kill, tmp_path):
    for n in (1, 3):  # within the first epoch, within the second
        kill(n)
        with pytest.raises(Killed):
            train(tmp_path / "state.npz")
    assert kill.batches == 3
    training = train(tmp_path / "state.npz")
    assert kill.batches == 6  # two groups in each of three epochs
    assert same(training, undisturbed(train))


def test_a_state_within_a_group_of_steps_is_ignored(kill, tmp_path):
    """Of an earlier kdtf, which took them one by one."""
    kill(3)
    with pytest.raises(Killed):
        traced_student(tmp_path / "state.npz")
    assert same(grouped_student(tmp_path / "state.npz"), undisturbed(traced_student))


def test_steps_of_large_batches_are_taken_one_by_one(monkeypatch):
    taken, made = [], Distiller.compile

    def compiled(distiller, *arguments, **settings):
        taken.append(settings["steps_per_execution"])
        made(distiller, *arguments, **settings)

    monkeypatch.setattr(Distiller, "compile", compiled)
    for batch in (6 * 8 * 8, 6 * 8 * 8 - 1):  # numbers in a batch of the student
        monkeypatch.setattr("kdtf.distill.train.SHORT_BATCH", batch)
        student(most=8)
    assert taken == [4, 1]


@pytest.mark.parametrize(
    "train, ends, batches",
    [
        (teacher, PLACES, 13),
        (student, PLACES, 13),
        (hinted_student, WITHIN, 12),
        (traced_student, WITHIN, 12),
    ],
    ids=["teacher", "student", "hinted student", "traced student"],
)
def test_it_goes_on_where_it_was_killed(train, ends, batches, kill, tmp_path):
    for n in ends:
        kill(n)
        with pytest.raises(Killed):
            train(tmp_path / "state.npz")
    training = train(tmp_path / "state.npz")
    assert kill.batches == batches  # none but the lost one is repeated
    assert same(training, undisturbed(train))


def test_a_finished_training_is_not_repeated(kill, finished, tmp_path):
    folder, training = finished[student]
    assert same(training, undisturbed(student))
    shutil.copy(folder / "state.npz", tmp_path)
    kill(1)  # would raise
    assert same(student(tmp_path / "state.npz"), training) and not kill.batches


@pytest.mark.parametrize("harm", ["truncated", "another model's", "text"])
def test_a_state_that_does_not_fit_is_ignored(harm, finished, tmp_path):
    path = tmp_path / "state.npz"
    folder, _ = finished[hinted_student if harm == "another model's" else student]
    state = (folder / "state.npz").read_bytes()
    path.write_bytes({"truncated": state[: len(state) // 2], "text": b"text"}.get(harm, state))
    assert same(student(path), undisturbed(student))


def test_a_lost_loss_leaves_no_lost_state(tmp_path, kill):
    bad = LOGITS.copy()
    bad[1] = np.nan  # the second view of every image
    with pytest.raises(UserError, match=r"^The loss must stay finite\. It became nan in epoch 1 of student"):
        student(tmp_path / "state.npz", bad)
    assert not (tmp_path / "state.npz").exists()


def test_nothing_else_is_left_beside_the_state(finished):
    folder, _ = finished[student]
    assert [path.name for path in folder.iterdir()] == ["state.npz"]


def test_the_projector_is_in_the_state_and_not_in_the_student(finished):
    folder, (weights, rows) = finished[hinted_student]
    with np.load(folder / "state.npz") as state:
        shapes = [state[name].shape for name in state.files if name.startswith("v")]
    assert shapes.count((4, 5)) == 3  # its kernel and what Adam knows of it
    assert [w.shape for w in weights] == [w.shape for w in undisturbed(student)[0]]
    assert {"hint", "val_hint"} <= rows[0].keys() and "hint" not in undisturbed(student)[1][0]
