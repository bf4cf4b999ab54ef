"""How the tests of this folder train."""

import pytest
from eager_steps import eagerly


@pytest.fixture
def eager_steps():
    """Trainings of a step or two, which are not worth a graph."""
    with eagerly():
        yield
