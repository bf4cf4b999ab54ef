"""What tests of small finished runs share: settings, how each is made once, how to look into a folder."""

import fcntl
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

# a run of seconds
QUICK = ["--teachers", "mobilenet", "--weights", "none", "--views", "2", "--epochs", "2"]
QUICK += ["--scratch-epochs", "1"]
SMALL = [*QUICK, "--teachers", "cnn5", "--student", "baseline"]  # half as long
SHAPE, CLASSES = (16, 16, 3), ("a", "b", "c")  # of the small networks of the fixture `files`


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder `name` of this session of pytest, filled by whichever worker needs it first.

    The others wait for it and read it too: whoever changes something works in a copy.
    """
    session = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each worker has a folder of its own below the session's
        session = session.parent
    folder, finished = session / name, session / f"{name}.finished"
    with open(session / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
            folder.mkdir()
            make(folder)
            finished.touch()
    return folder


def one_convolution(pixels: object) -> object:
    """The feature maps of a teacher that costs no time."""
    from keras import layers

    return layers.Conv2D(8, 3, strides=4, activation="relu")(pixels)


@contextmanager
def teachers_of_one_convolution(
    maps: Callable[[object], object] = one_convolution, whole: Collection[str] = ()
) -> Iterator[None]:
    """Every teacher on a single convolution, or on other `maps`, its preprocessing, neck and head kept.

    But those networks that are to stay `whole`, by their builders' names.
    """
    from kdtf.models import networks
    from kdtf.models.registry import Teacher

    build, build_whole = networks.as_application(maps), Teacher.build

    def small(row: Teacher, **arguments: Any) -> object:
        return build_whole(row, **arguments) if row.builder in whole else build(arguments["input_shape"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Teacher, "build", small)
        yield


@contextmanager
def pictures_of_one_pixel() -> Iterator[None]:
    """Figures are drawn and not rendered, which takes a third of a small run."""

    def save(figure: Figure, out: Path, **unused: object) -> None:
        Image.new("L", (1, 1)).save(out, "png")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save)
        yield


@contextmanager
def pictures_without_drawings() -> Iterator[None]:
    """Every picture has its record computed and is an empty figure of one pixel: to draw takes a second more.

    Which run draws what: `finished` all that a teacher and its students have, a run with a frontier, one
    with an ensemble and one with rules that were tried and a baseline what these add.
    """
    from kdtf.report import gallery

    def draw(record: object, *, synthetic: bool = False) -> Figure:
        return Figure()

    with pytest.MonkeyPatch.context() as patch, pictures_of_one_pixel():
        patch.setattr(gallery, "GALLERY", tuple(replace(row, draw=draw) for row in gallery.GALLERY))
        yield


def table(results: Path, name: str) -> pd.DataFrame:
    """A CSV file of a results folder."""
    return pd.read_csv(results / name)


def stages(results: Path) -> dict[str, int]:
    """{finished stage: when it was made}, to see whether one was made again."""
    return {note.parent.name: note.stat().st_mtime_ns for note in (results / "work").glob("*/stage.json")}


def events(folder: Path) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """{stage: {tag: [(step, value)]}} of all event files, as TensorBoard reads them."""
    import tensorflow as tf

    scalars = {}
    for path in sorted(folder.rglob("events*")):
        tags = scalars.setdefault(path.parent.name, {})
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                tags.setdefault(value.tag, []).append((event.step, float(tf.make_ndarray(value.tensor))))
    return scalars
