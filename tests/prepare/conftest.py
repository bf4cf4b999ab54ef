"""Where the tests of `prepare` import from, and where to."""

import pytest
from sources import tree


@pytest.fixture
def source(tmp_path):
    """train, val and test with 3 images of each of 2 classes."""
    return tree(tmp_path / "in")


@pytest.fixture
def out(tmp_path):
    """A folder that is not there yet."""
    return tmp_path / "out"
