"""Initial weights from a seed, without a trace in anybody else's random numbers."""

import random
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def initial_weights_from(seed: int) -> Iterator[None]:
    """In this block Keras layers without a seed of their own take theirs from `seed`.

    Keras draws them from Python's generator, whose state is put back afterwards: building a network
    changes nothing for whoever else draws random numbers in this process.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
