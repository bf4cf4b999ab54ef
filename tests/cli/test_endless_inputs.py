"""A pipe or a device in the place of any input is refused in one line: reading it might never end."""

import os
import shutil
import signal

import numpy as np
import pytest

from kdtf.cli.entry import main

SECONDS = 20


@pytest.fixture(autouse=True)
def in_time():
    """What waits for a pipe is ended."""

    def ended(number, frame):
        raise AssertionError(f"waits for {SECONDS} s")

    before = signal.signal(signal.SIGALRM, ended)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def inputs(bundle, tmp_path, monkeypatch):
    """The working folder: a pipe, sound data, results, a bundle and an image."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4), ("test", 4)):
        np.save(tmp_path / "data" / f"X_{split}.npy", rng.integers(0, 256, (count, 8, 8), dtype=np.uint8))
        np.save(tmp_path / "data" / f"y_{split}.npy", np.arange(count) % 2)
    np.save("image.npy", np.zeros((16, 16, 3), np.uint8))
    bundle()
    (tmp_path / "results").mkdir()
    os.mkfifo("pipe")


def refused(capsys, *argv):
    code = main([*argv])
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1, error
    return error


@pytest.mark.parametrize("path, kind", [("pipe", "a pipe"), ("/dev/zero", "a device")])
@pytest.mark.parametrize(
    "argv, name",
    [
        (["audit", "--data", "?"], "--data"),
        (["--data", "?"], "--data"),
        (["audit", "--config", "?"], "--config"),
        (["predict", "?", "image.npy"], "FILE.tflite"),
        (["predict", "s.tflite", "image.npy", "?"], "IMAGE"),
        (["c-array", "?"], "FILE.tflite"),
        (["page", "?", "--out", "page"], "BUNDLE"),
        (["reports", "?"], "FILE.csv"),
    ],
    ids=" ".join,
)
def test_it_is_told_what_kind_of_thing_it_is(inputs, capsys, argv, name, path, kind):
    text = refused(capsys, *(path if own == "?" else own for own in argv))
    assert text.startswith(f"Error: {name} must be a file that ends. Got '{path}'. It is {kind}: ")


@pytest.mark.parametrize(
    "argv",
    [
        ["audit", "--data", "data", "--unlabelled", "pipe"],
        ["--data", "data", "--weights", "pipe"],
        ["bench", "pipe"],
    ],
    ids=" ".join,
)
def test_where_a_file_is_asked_for_it_is_none(inputs, capsys, argv):
    assert "Got 'pipe'." in refused(capsys, *argv)


@pytest.mark.parametrize(
    "place, argv",
    [
        ("data/classes.txt", ["audit", "--data", "data"]),
        ("data/provenance.json", ["audit", "--data", "data"]),
        ("s.json", ["predict", "s.tflite", "image.npy"]),
        ("results/manifest.json", ["report", "--results", "results"]),
        ("results/summary.csv", ["report", "--results", "results"]),
    ],
)
def test_a_pipe_where_a_command_looks_by_itself_is_told(inputs, capsys, place, argv):
    shutil.move("pipe", place)
    assert f"must be a file that ends. Got '{place}'. It is a pipe: " in refused(capsys, *argv)


def test_a_table_does_not_replace_a_device(inputs, capsys):
    text = refused(capsys, "predict", "s.tflite", "image.npy", "--csv", "pipe")
    assert text == "Error: --csv must be a file in a folder that exists. Got 'pipe'.\n"
    assert not os.path.isfile("pipe")
