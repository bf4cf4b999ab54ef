"""The loop itself: which weights it ends with, and what it says where memory runs out."""

import keras
import pytest
import tensorflow as tf
from trainings import EPOCHS, EXAMPLES, student, teacher, undisturbed

from kdtf.distill.batches import training_stream, validation_batches
from kdtf.distill.fit import WHOLE, fit, memory_errors
from kdtf.errors import UserError
from kdtf.progress import Progress


@pytest.mark.parametrize("train, phase", [(student, "student"), (teacher, WHOLE)])
def test_history_has_a_row_an_epoch(train, phase):
    rows = undisturbed(train)[1]
    assert [row["epoch"] for row in rows] == list(range(1, EPOCHS + 1))
    assert {row["phase"] for row in rows} == {phase}
    assert all({"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"} <= set(row) for row in rows)


def test_the_bar_counts_epochs():
    bars = []

    class Counted(Progress):
        def bar(self, title, total):
            bars.append((title, total))
            return super().bar(title, total)

    pixels = keras.Input((8, 8, 1))
    model = keras.Model(pixels, keras.layers.Dense(2)(keras.layers.Flatten()(pixels)))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    examples = EXAMPLES.without_teacher()
    stream, validation = training_stream(examples, 6, 0), validation_batches(examples, 8)
    fit(model, stream, 2, phase="head", title="its title", progress=Counted(), validation=validation)
    assert bars == [("its title", 2)]


@pytest.mark.parametrize(
    "error", [MemoryError(), tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")]
)
@pytest.mark.parametrize(
    "phase, flag", [(WHOLE, "--fine-tune-batch-size"), ("head", "--batch-size"), ("student", "--batch-size")]
)
def test_where_memory_runs_out_the_batch_size_to_halve_is_named(error, phase, flag):
    with pytest.raises(UserError) as caught, memory_errors(phase):
        raise error
    assert str(caught.value) == (
        f"Memory must hold a batch and the network in training ({phase}). It ran out. "
        f"Try half of {flag}; what is finished stays."
    )


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), memory_errors(WHOLE):
        raise ZeroDivisionError
