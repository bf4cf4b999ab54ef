"""Where the real data lie, and small finished runs that several tests look at."""

import functools
import gc
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_run import (
    CLASSES,
    QUICK,
    SHAPE,
    SMALL,
    made_once,
    pictures_without_drawings,
    teachers_of_one_convolution,
)

from kdtf.cli.entry import main
from kdtf.data import phantom

if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # as many workers as cores: more threads would only wait for each other
    for library in ("TF_NUM_INTRAOP", "TF_NUM_INTEROP", "OMP_NUM"):
        os.environ.setdefault(f"{library}_THREADS", "1")

LONG = (
    "runs",
    "project",
    "cli",
    "distill",
)  # packages of tests that take longest: begun first, to end together


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than cores: some tests wait, for a server's time limit or for a run that another makes."""
    return 1 + (os.cpu_count() or 1)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.parent.name, len(LONG)))


@pytest.fixture(autouse=True)
def _no_teacher_of_another_test() -> None:
    """A process keeps the base that it built last: networks that a test patches are not another's."""
    if teacher := sys.modules.get("kdtf.runs.teacher"):
        teacher._built.clear()


@functools.cache  # once a moment: only to count what is frozen takes 70 ms
def freeze_tensorflow(moment: str) -> None:
    """Spare the garbage collector the million objects of TensorFlow, which live as long as the process."""
    gc.collect()
    gc.freeze()


def pytest_collection_finish() -> None:
    if "tensorflow" in sys.modules:  # imported at the head of some modules of tests
        freeze_tensorflow("imported")


def pytest_runtest_teardown() -> None:
    if "tensorflow" in sys.modules:
        freeze_tensorflow("used")


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


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """The data of the small runs."""
    sizes = {"train": 48, "val": 16, "test": 24, "side": 32, "teacher_side": 64}
    return made_once(tmp_path_factory, "tiny", lambda folder: phantom.write(folder, **sizes, seed=1))


@pytest.fixture(scope="session")
def finished(tiny, tmp_path_factory) -> Path:
    """The results folder of a whole run, which no test may change: all of them look at it."""

    def run(folder: Path) -> None:
        assert main(["--data", str(tiny), "--results", str(folder), *QUICK]) == 0

    return made_once(tmp_path_factory, "finished", run)


@pytest.fixture(scope="session")
def _small(tiny, tmp_path_factory) -> Path:
    def run(folder: Path) -> None:
        with (
            pytest.MonkeyPatch.context() as patch,
            pictures_without_drawings(),
            teachers_of_one_convolution(),
        ):
            patch.chdir(folder)
            assert main(["--data", str(tiny), "--results", "r", *SMALL]) == 0

    return made_once(tmp_path_factory, "small", run)


@pytest.fixture
def small(_small, tmp_path, monkeypatch) -> Iterator[Path]:
    """A results folder to change: a copy of a smaller run than `finished`, `r` in the working folder.

    The run was told "r" too, which its report and manifest quote. Its teacher is a single convolution, which
    is what a test builds too that goes on with it.
    """
    shutil.copytree(_small / "r", tmp_path / "small" / "r")
    monkeypatch.chdir(tmp_path / "small")
    with teachers_of_one_convolution():
        yield Path("r")


@pytest.fixture
def blank() -> Iterator[None]:
    """Pictures without drawings, for a run of whose pictures the test asks nothing."""
    with pictures_without_drawings():
        yield


@pytest.fixture(scope="session")
def files():
    """{recipe: bytes} of a small network of every kind of layer that students have: SHAPE to CLASSES."""
    import keras
    import numpy as np

    from kdtf.models.seeding import initial_weights_from
    from kdtf.tflite.quantize import convert, representative_images

    layers = keras.layers
    biased = {"bias_initializer": "random_normal"}  # the converter leaves biases of zero out
    with initial_weights_from(0):
        pixels = layers.Input(SHAPE)
        x = layers.Rescaling(1 / 255)(pixels)
        x = layers.Conv2D(8, 3, padding="same", activation="relu", **biased)(x)
        x = layers.DepthwiseConv2D(3, strides=2, padding="same", **biased)(x)
        x = layers.Flatten()(layers.Conv2D(4, 1, **biased)(x))
        network = keras.Model(pixels, layers.Dense(len(CLASSES), activation="softmax", **biased)(x))
    views = np.random.default_rng(0).integers(0, 256, (1, 8, *SHAPE))
    images = representative_images(views, 8, seed=0)
    return {recipe: convert(network, recipe, images) for recipe in ("float32", "int8")}


@pytest.fixture
def bundle(tmp_path, files):
    """Writes a bundle with the least card that runs into a folder; `changes` to the card come on top."""
    from kdtf.tflite.card import runnable_card
    from kdtf.tflite.quantize import file_facts

    def write(recipe="float32", /, folder=tmp_path, **changes):
        card = runnable_card(file_facts(files[recipe], recipe), len(CLASSES), SHAPE)
        card |= {"classes": list(CLASSES), "recipe": recipe}
        (folder / "s.tflite").write_bytes(files[recipe])
        changes["input"] = {**card["input"], **changes.get("input", {})}
        (folder / "s.json").write_text(json.dumps({**card, **changes}))
        return folder / "s.tflite"

    return write


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    if not (CHROMIUM and DRIVER):
        pytest.skip("no Chromium with its driver on this machine")
    webdriver = pytest.importorskip("selenium.webdriver", reason="no Selenium: see requirements-dev.txt")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync"):
        options.add_argument(f"--{flag}")
    for flag in ("background-networking", "component-update"):
        options.add_argument(f"--disable-{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(60)
    yield driver
    driver.quit()
