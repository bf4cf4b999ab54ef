"""Where the real data lie, and one small finished run that several tests look at."""

import os
from pathlib import Path

import pytest

from kdtf import sample
from kdtf.cli import main


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


QUICK = [
    "--teachers",
    "mobilenet",
    "--weights",
    "none",
    "--views",
    "2",
    "--epochs",
    "2",
    "--scratch-epochs",
    "1",
]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    sample.write(folder, train=48, val=16, test=24, side=32, teacher_side=64, seed=1)
    return folder


@pytest.fixture(scope="session")
def finished(tiny, tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    assert main(["--data", str(tiny), "--results", str(results), *QUICK]) == 0
    return results
