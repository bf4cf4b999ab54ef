"""Views as batches: every image once an epoch, its own view, its own logits, from anywhere in the stream."""

import numpy as np
import pytest
import tensorflow as tf

from kdtf.data.dataset import UNLABELLED
from kdtf.distill import batches
from kdtf.distill.batches import (
    Examples,
    UnlabelledExamples,
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
    stream, steps = view_batches(Examples(views, np.arange(images), views[0], None), batch_size=4, seed=0)
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
        stream, _ = view_batches(EXAMPLES, batch_size=6, seed=seed)
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


def test_unlabelled_images_take_their_share_of_every_batch_and_the_budget_stays():
    views = VIEWS.astype(int)[..., None].repeat(1, -1)
    others = UnlabelledExamples(255 - VIEWS[:, :5], -LOGITS[:, :5])
    stream, steps = view_batches(
        EXAMPLES._replace(unlabelled=others), batch_size=4, seed=0, unlabelled_share=0.5
    )
    assert steps == steps_per_epoch(views, 4) == 2
    batches = list(stream.take(6 * steps).as_numpy_iterator())
    assert [len(y) for _, y in batches] == [4, 2] * 6  # as many images as without them
    assert [sum(y == UNLABELLED) for _, y in batches] == [2, 1] * 6
    labelled = np.concatenate([y[y != UNLABELLED] for _, y in batches])
    assert sorted(labelled) == sorted(list(range(6)) * 3)  # each image as often as the others
    for x, y in batches:
        without = y == UNLABELLED
        assert np.array_equal(x["teacher_logits"][~without], x["pixels"][~without, :2] * 10)
        assert np.array_equal(x["teacher_logits"][without], (x["pixels"][without, :2] - 255) * 10)


@pytest.mark.parametrize("epoch, step", [(0, 1), (2, 0), (3, 2)])
def test_a_stream_with_unlabelled_images_goes_on_anywhere(epoch, step):
    examples = EXAMPLES._replace(unlabelled=UnlabelledExamples(VIEWS[:, :5], LOGITS[:, :5]))
    stream = training_stream(examples, batch_size=2, seed=5, unlabelled_share=0.5)
    whole, steps = stream((0, 0))
    later, position = arrays(stream((epoch, step))[0], 4), 3 * (epoch * steps + step)
    for a, b in zip(arrays(whole, position // 3 + 4)[position:], later, strict=True):
        assert np.array_equal(a, b)


def test_features_come_with_their_view_of_unlabelled_images_too():
    features = VIEWS[..., 1:].astype("float16") / 2
    others = UnlabelledExamples(255 - VIEWS, -LOGITS, -features)
    examples = EXAMPLES._replace(features=features, val_features=features[1], unlabelled=others)
    stream, steps = view_batches(examples, batch_size=4, seed=0, unlabelled_share=0.5)
    for x, y in stream.take(3 * steps).as_numpy_iterator():
        signed = np.where((y == UNLABELLED)[:, None], x["pixels"] - 255, x["pixels"])
        assert x["teacher_features"].dtype == np.float32
        assert np.array_equal(x["teacher_features"] * 2, signed[:, 1:])
    inputs, _ = next(validation_batches(examples, batch_size=6).as_numpy_iterator())
    assert np.array_equal(inputs["teacher_features"], features[1].astype("float32"))


@pytest.mark.parametrize("share, expected", [(0.95, [3, 1]), (0.01, [1, 1]), (0.5, [2, 1])])
def test_a_batch_holds_at_least_one_image_of_each(share, expected):
    others = UnlabelledExamples(VIEWS[:, :5], LOGITS[:, :5])
    examples = EXAMPLES._replace(unlabelled=others)
    stream, steps = view_batches(examples, batch_size=4, seed=0, unlabelled_share=share)
    batches = stream.take(steps).as_numpy_iterator()
    assert [sum(y == UNLABELLED) for _, y in batches] == expected


def test_without_a_share_unlabelled_images_change_nothing():
    examples = EXAMPLES._replace(unlabelled=UnlabelledExamples(VIEWS, LOGITS))
    plain, mixed = (
        arrays(training_stream(own, batch_size=4, seed=1)((0, 0))[0], 5) for own in (EXAMPLES, examples)
    )
    assert all(np.array_equal(a, b) for a, b in zip(plain, mixed, strict=True))


def test_validation_keeps_the_order():
    stream = validation_batches(EXAMPLES.without_teacher(), batch_size=4)
    x, y = (np.concatenate(part) for part in zip(*stream.as_numpy_iterator(), strict=True))
    assert np.array_equal(x, VIEWS[0]) and np.array_equal(y, np.arange(6)) and x.dtype == np.float32


class Read:
    """An array that notes how many images it was asked for at once."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.counts = array, array.shape, array.dtype, []

    def __getitem__(self, part):
        self.counts.append(len(self.array[part]))
        return self.array[part]


@pytest.mark.parametrize("kept, counts", [(VIEWS[0].nbytes, [4, 2]), (VIEWS[0].nbytes - 1, [4, 2, 4, 2])])
def test_validation_is_read_a_batch_at_a_time_and_kept_where_it_is_small(kept, counts, monkeypatch):
    monkeypatch.setattr(batches, "KEPT", kept)
    val = Read(VIEWS[0])
    stream = validation_batches(EXAMPLES.without_teacher()._replace(val_inputs=val), batch_size=4)
    assert int(stream.cardinality()) == 2  # Keras warns of a stream that ends without its knowing
    first, second = (list(stream.as_numpy_iterator()) for _ in range(2))
    assert len(first) == 2 and all(np.array_equal(a[0], b[0]) for a, b in zip(first, second, strict=True))
    assert val.counts == counts


def test_validation_brings_the_teachers_logits_where_there_are_some():
    inputs, labels = next(validation_batches(EXAMPLES, batch_size=6).as_numpy_iterator())
    assert np.array_equal(inputs["pixels"], VIEWS[0]) and np.array_equal(labels, np.arange(6))
    assert np.array_equal(inputs["teacher_logits"], LOGITS[0])


def test_without_teacher_leaves_the_images():
    plain = EXAMPLES._replace(features=LOGITS, val_features=LOGITS[0]).without_teacher()
    assert plain.features is None and plain.val_features is None
    assert plain.logits is None and plain.val_logits is None and EXAMPLES.logits is LOGITS
    assert EXAMPLES._replace(unlabelled=UnlabelledExamples(VIEWS, LOGITS)).without_teacher() == plain
    assert plain.views is VIEWS and plain.val_inputs is EXAMPLES.val_inputs
