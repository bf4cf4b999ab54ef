"""Where the real data lie, for the tests that use them."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    path = Path(os.environ.get("KDTF_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not path.is_dir():
        pytest.skip("no real data: set KDTF_DATA to the folder that holds chest_ct_32")
    return path


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    path = Path(os.environ.get("KDTF_WEIGHTS", Path(__file__).parents[2] / "shared" / "weights"))
    if not path.is_dir():
        pytest.skip("no pretrained weights: set KDTF_WEIGHTS to the folder that holds mobilenet_*_no_top.h5")
    return path
