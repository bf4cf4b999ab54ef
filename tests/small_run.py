"""What tests of small finished runs share: settings, how each is made once, how to look into a folder."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

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


@contextmanager
def pictures_of_one_pixel() -> Iterator[None]:
    """Figures are drawn and not rendered, which takes a third of a small run."""

    def save(figure: Figure, out: Path, **unused: object) -> None:
        Image.new("L", (1, 1)).save(out, "png")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save)
        yield


def table(results: Path, name: str) -> pd.DataFrame:
    """A CSV file of a results folder."""
    return pd.read_csv(results / name)


def stages(results: Path) -> dict[str, int]:
    """{finished stage: when it was made}, to see whether one was made again."""
    return {note.parent.name: note.stat().st_mtime_ns for note in (results / "work").glob("*/stage.json")}
