"""Trainings too short to be worth a graph."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def eagerly() -> Iterator[None]:
    """Inside the block models take their steps operation by operation: a few cost less than to trace one."""
    import keras

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "run_eagerly", property(lambda model: True, lambda model, value: None))
        yield
