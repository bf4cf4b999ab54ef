"""--fresh forgets stages once every check has passed, and no copy of the data is used that was changed."""

import json
import shutil

import numpy as np
import pytest

from kdtf.cli.entry import main
from kdtf.store import Store
from kdtf.tasks import Task

STAGE = Task("views", "views", {"n": 1})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder: arrays in floats, results with a stage."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    rng = np.random.default_rng(0)
    for split, count in (("train", 20), ("val", 8), ("test", 8)):
        np.save(tmp_path / "data" / f"X_{split}.npy", rng.random((count, 32, 32, 3), dtype=np.float32))
        np.save(tmp_path / "data" / f"y_{split}.npy", np.arange(count) % 2)
    Store("r").stage(STAGE, lambda folder: (folder / "a").write_text("a"))
    return tmp_path


@pytest.mark.parametrize(
    "argv, code",
    [
        (["--data", "nowhere"], 2),
        (["--data", "data", "--student", "cnn33"], 2),
        (["--data", "data", "--sides", "64"], 2),
        (["--data", "data", "--teachers", "keras:NoSuch"], 2),
        (["--data", "leaking", "--strict"], 3),
    ],
    ids=["data", "student", "side", "teacher", "leakage"],
)
def test_a_run_that_is_refused_forgets_nothing(folder, capsys, argv, code):
    shutil.copytree("data", "leaking")
    np.save("leaking/X_test.npy", np.load("leaking/X_train.npy")[:8])
    assert main([*argv, "--results", "r", "--fresh", "--weights", "none"]) == code
    assert Store("r", pytest.fail).find(STAGE)


def test_a_run_that_is_not_refused_forgets(folder, capsys):
    foreign = folder / "r" / "work" / "photos-0123456789abcdef"
    foreign.mkdir()
    (foreign / "stage.json").write_text("{}")
    argv = ["--data", "data", "--results", "r", "--fresh", "--weights", "none", "--teachers", "cnn5"]
    assert main([*argv, "--epochs", "1", "--learning-rate", "1e30"]) == 2  # its first student is lost
    assert "must stay" in capsys.readouterr().err
    assert not Store("r").find(STAGE) and (foreign / "stage.json").read_text() == "{}"


def copies():
    work = Store("r").work
    return {path.name: path.read_bytes() for path in sorted(work.glob("*.npy"))}


def audit(capfd):
    assert main(["audit", "--data", "data", "--results", "r"]) == 0
    return [line for line in capfd.readouterr().err.splitlines() if "made again" in line]


@pytest.mark.parametrize("harm", ["flip", "cut"])
def test_a_copy_of_the_data_that_was_changed_is_made_again(folder, capfd, harm):
    assert audit(capfd) == []
    before = copies()
    noted = json.loads((folder / "r" / "work" / "copies.json").read_text())
    assert len(before) == 3 and noted.keys() == before.keys()
    name, content = next(iter(before.items()))
    changed = content[:-1] + bytes([content[-1] ^ 1]) if harm == "flip" else content[:50]
    (folder / "r" / "work" / name).write_bytes(changed)
    assert audit(capfd) == [f"Warning: {name} was damaged and is made again."]
    assert copies() == before
    assert audit(capfd) == []


def test_a_copy_of_which_nothing_is_noted_is_made_again(folder, capfd):
    """A run that was killed between the two leaves one; what bears another name is none."""
    audit(capfd)
    before, work = copies(), folder / "r" / "work"
    (work / "copies.json").unlink()
    (work / next(iter(before))).write_bytes(b"half")
    (work / "mine.npy").write_bytes(b"mine")
    assert audit(capfd) == [] and copies() == {**before, "mine.npy": b"mine"}
