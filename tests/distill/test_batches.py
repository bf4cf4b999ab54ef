"""Views as batches: every image once an epoch, its own view, its own logits, from anywhere in the stream."""

import numpy as np
import pytest
import tensorflow as tf

from kdtf.distill.batches import (
    Examples,
    steps_per_epoch,
    training_stream,
    validation_batches,
    view_batches,
)

RNG = np.random.default_rng(0)
VIEWS = RNG.integers(0, 256, (2, 6, 4), dtype=np.uint8)
LOGITS = VIEWS[..., :2].astype("float32") * 10
EXAMPLES = Examples(VIEWS, np.arange(6), VIEWS[0], np.arange(6), LOGITS, LOGITS[0])


def arrays(stream, count):
    """The first batches of a stream, as one flat list of arrays."""
    return [part for batch in stream.take(count).as_numpy_iterator() for part in tf.nest.flatten(batch)]


def test_every_image_comes_once_an_epoch_and_every_view_equally_often():
    count, images = 3, 10
    views = (100 * np.arange(count)[:, None] + np.arange(images)[None])[..., None].astype(np.uint8)
    stream, steps = view_batches(views, np.arange(images), batch_size=4, seed=0)
    assert steps == 3
    batches = stream.take(steps * count).as_numpy_iterator()
    values = []
    for _ in range(count):
        epoch = [next(batches) for _ in range(steps)]
        assert [len(y) for _, y in epoch] == [4, 4, 2]
        x, y = (np.concatenate(part) for part in zip(*epoch, strict=True))
        assert sorted(y) == list(range(images))
        assert np.array_equal(x[:, 0] % 100, y)  # a label stays with its image
        values += x[:, 0].astype(int).tolist()
        assert len(set(x[:, 0] // 100)) > 1  # an epoch mixes the views
    assert sorted(values) == sorted(views.ravel().tolist())


def test_a_view_comes_with_its_own_logits_and_the_order_is_seeded():
    def batch(seed):
        stream, _ = view_batches(VIEWS, np.arange(6), batch_size=6, seed=seed, logits=LOGITS)
        return next(stream.as_numpy_iterator())

    x, _ = batch(0)
    assert np.array_equal(x["teacher_logits"], x["pixels"][:, :2] * 10)
    assert np.array_equal(x["pixels"], batch(0)[0]["pixels"])
    assert not np.array_equal(x["pixels"], batch(1)[0]["pixels"])


@pytest.mark.parametrize("epoch, step", [(0, 0), (0, 1), (1, 0), (3, 2)])
def test_a_stream_goes_on_anywhere_as_if_it_had_come_there(epoch, step):
    stream = training_stream(EXAMPLES, batch_size=2, seed=5)
    whole, steps = stream((0, 0))
    assert steps == steps_per_epoch(VIEWS, 2) == 3
    position = epoch * steps + step
    later = arrays(stream((epoch, step))[0], 4)
    parts = len(later) // 4
    for a, b in zip(arrays(whole, position + 4)[parts * position :], later, strict=True):
        assert np.array_equal(a, b)


def test_validation_keeps_the_order():
    batches = validation_batches(EXAMPLES.without_teacher(), batch_size=4)
    x, y = (np.concatenate(part) for part in zip(*batches.as_numpy_iterator(), strict=True))
    assert np.array_equal(x, VIEWS[0]) and np.array_equal(y, np.arange(6)) and x.dtype == np.float32


def test_validation_brings_the_teachers_logits_where_there_are_some():
    inputs, labels = next(validation_batches(EXAMPLES, batch_size=6).as_numpy_iterator())
    assert np.array_equal(inputs["pixels"], VIEWS[0]) and np.array_equal(labels, np.arange(6))
    assert np.array_equal(inputs["teacher_logits"], LOGITS[0])


def test_without_teacher_leaves_the_images():
    plain = EXAMPLES.without_teacher()
    assert plain.logits is None and plain.val_logits is None and EXAMPLES.logits is LOGITS
    assert plain.views is VIEWS and plain.val_inputs is EXAMPLES.val_inputs
