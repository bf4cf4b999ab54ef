"""How many threads small products of matrices are computed by."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Products of matrices by one thread: small ones take longest where two threads wait for each other.

    The pairs of 100,000 images took 57 CPU seconds by two threads of BLAS on cores that others used as well,
    and 4.4 by one.
    """
    from threadpoolctl import threadpool_limits  # it looks through all libraries that are loaded

    with threadpool_limits(1, "blas"):
        yield
