"""Small trainings that several tests disturb: what goes in, and what an undisturbed one ends with."""

from contextlib import nullcontext
from functools import cache, partial

import keras
import numpy as np
import pytest
from eager_steps import eagerly

from kdtf.distill.batches import Examples
from kdtf.distill.fit import WHOLE
from kdtf.distill.train import train_classifier, train_student
from kdtf.models.seeding import initial_weights_from
from kdtf.progress import Progress
from kdtf.records import Rule, Training

EPOCHS = 3
RNG = np.random.default_rng(0)
PIXELS = {count: RNG.integers(0, 256, (count, 8, 8, 1), dtype=np.uint8) for count in (22, 8)}
VIEWS = np.stack([PIXELS[22], PIXELS[22][:, :, ::-1]])
LOGITS = RNG.normal(size=(2, 22, 2)).astype("float32")
EXAMPLES = Examples(VIEWS, np.arange(22) % 2, PIXELS[8], np.arange(8) % 2, LOGITS, LOGITS[0, :8])
FEATURES = RNG.exponential(size=(2, 22, 5)).astype("float32")


def network(dropout):
    """Pixels (N, 8, 8, 1) to logits (N, 2): as little as has BatchNormalization and dropout."""
    with initial_weights_from(1):
        x = pixels = keras.Input((8, 8, 1))
        x = keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 255)(x))
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization(momentum=0.9)(x))
        return keras.Model(pixels, keras.layers.Dense(2)(keras.layers.Dropout(dropout)(x)))


def hinted_student(checkpoint=None):
    """As below, with hints on features: a projector is trained, too."""
    examples = EXAMPLES._replace(features=FEATURES, val_features=FEATURES[0, :8])
    return student(checkpoint, examples=examples, rule=Rule(0.5, 2.0, "fitnet"))


def student(
    checkpoint=None,
    logits=LOGITS,
    examples=EXAMPLES,
    rule=Rule(0.5, 2.0),  # noqa: B008
    traced=False,
    most=1,
):
    """(weights, history) of a student distilled for 3 epochs of four steps, at most `most` at once."""
    model = network(dropout=0.5)
    with nullcontext() if traced else eagerly(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("kdtf.distill.train.MOST_OF_STUDENT", most)
        rows = train_student(
            model,
            examples._replace(logits=logits),
            Training(EPOCHS, batch_size=6, rate=1e-3),
            rule,
            seed=3,
            title="",
            progress=Progress(),
            checkpoint=checkpoint,
        )
    return model.get_weights(), rows


traced_student = partial(student, traced=True)  # as in a run: a step is a graph
grouped_student = partial(traced_student, most=3)  # two of the four steps of an epoch at once


def teacher(checkpoint=None):
    """(best weights, history) of a classifier with patience after 3 epochs of four steps."""
    model = network(dropout=0.3)
    with eagerly():
        rows = train_classifier(
            model,
            EXAMPLES,
            Training(EPOCHS, batch_size=6, rate=3e-4, patience=15),
            phase=WHOLE,
            seed=3,
            title="",
            progress=Progress(),
            checkpoint=checkpoint,
        )
    return model.get_weights(), rows


def head(checkpoint=None, short_steps=True):
    """(best weights, history) of a head as in a run: its four steps an epoch are taken two at once."""
    model = network(dropout=0.3)
    rows = train_classifier(
        model,
        EXAMPLES,
        Training(EPOCHS, batch_size=6, rate=3e-4, patience=15),
        phase="head",
        seed=3,
        title="",
        progress=Progress(),
        short_steps=short_steps,
        checkpoint=checkpoint,
    )
    return model.get_weights(), rows


@cache
def undisturbed(train):
    """What one of the above ends with where nothing happens to it."""
    return train()


def same(training, other):
    """Do two trainings have the same history and, bit for bit, the same weights?"""
    (weights, rows), (other_weights, other_rows) = training, other
    return rows == other_rows and all(
        np.array_equal(a, b) for a, b in zip(weights, other_weights, strict=True)
    )
