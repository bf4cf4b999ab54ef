"""The log of predictions: what a line holds, rotation, several writers, crashes, full disks."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from kdtf.drift import log as log_module
from kdtf.drift.log import CURRENT, PredictionLog, Recorder, log_files
from kdtf.drift.reading import TORN, read_log
from kdtf.predictor import Row

ROOT = Path(__file__).parents[2]
CLASSES = ("a", "b")
MODEL = "0123456789abcdef" * 4
NUMBERS = {"brightness": 62.251234567, "contrast": 20.0, "colour": 0.0, "layout": 7.5}
ROW = Row("/home/jane/scan.png", 3, "b", 0.75, True, "", "", np.array([0.25, 0.75]), NUMBERS)
UNREAD = Row("x.png", 0, "", np.nan, False, "", "not an image", np.zeros(0))


def lines_of(folder):
    """The lines of all files, in order; each must be whole."""
    return [json.loads(line) for path in log_files(folder) for line in path.read_text().splitlines()]


def test_a_line_holds_numbers_and_classes_and_no_path(tmp_path):
    log, now = PredictionLog(tmp_path, MODEL, CLASSES), datetime(2026, 11, 2, 8, 30, 0, 123456, tzinfo=UTC)
    expected = {
        "time": "2026-11-02T08:30:00.123Z",
        "model": MODEL,
        "class": "b",
        "probabilities": {"a": 0.25, "b": 0.75},
        "uncertain": True,
        "unlike": False,
        "warning": "",
        "statistics": {**NUMBERS, "brightness": 62.2512},
    }
    assert log.record(ROW, now) == expected
    with_paths = PredictionLog(tmp_path, MODEL, CLASSES, paths=True)
    assert with_paths.record(ROW, now) == {**expected, "file": ROW.file, "index": 3}
    assert log.record(ROW._replace(prediction_set=("b", "a")), now)["prediction_set"] == ["b", "a"]
    warned = log.record(ROW._replace(warning="tiny: 3 x 3 px; unlike the training images: colour 9"), now)
    assert warned["unlike"] and not log.record(ROW._replace(warning="tiny: 3 x 3 px"), now)["unlike"]


def test_an_image_that_cannot_be_read_has_a_line_that_quotes_nothing(tmp_path):
    recorder = Recorder(PredictionLog(tmp_path / "log", MODEL, CLASSES))
    assert list(recorder([UNREAD])) == [UNREAD] and (recorder.rows, recorder.error) == (1, None)
    (line,) = lines_of(tmp_path / "log")
    assert line == {"time": line["time"], "model": MODEL, "unread": True}
    with_paths = PredictionLog(tmp_path, MODEL, CLASSES, paths=True).record(UNREAD, datetime.now(UTC))
    assert (with_paths["file"], with_paths["index"]) == ("x.png", 0) and "class" not in with_paths


def test_a_full_file_gets_a_number_and_none_is_removed(tmp_path):
    for i in range(50):
        PredictionLog(tmp_path, MODEL, CLASSES, True, most_bytes=2000)(ROW._replace(index=i))
    files = log_files(tmp_path)
    assert [line["index"] for line in lines_of(tmp_path)] == list(range(50))
    assert len(files) > 5 and max(path.stat().st_size for path in files) <= 2000
    names = [f"predictions-{k:06}.jsonl" for k in range(1, len(files))]
    assert [path.name for path in files] == [*names, CURRENT]


def test_two_processes_at_once_lose_and_tear_no_line(tmp_path):
    code = (
        "import sys; from pathlib import Path; from kdtf.drift.log import PredictionLog, Row\n"
        "log = PredictionLog(Path(sys.argv[1]), 64 * 'a', ('a',), True, most_bytes=4000)\n"
        "for i in range(200): log(Row(sys.argv[2], i, 'a', 1.0, False, '', '', [1.0]))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    writers = [subprocess.Popen([*command, name], cwd=ROOT) for name in "xy"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    lines = lines_of(tmp_path)
    for name in "xy":
        assert [line["index"] for line in lines if line["file"] == name] == list(range(200))
    assert len(lines) == 400 and len(log_files(tmp_path)) > 20


def test_who_waited_while_the_file_got_its_number_writes_into_the_new_one(tmp_path, monkeypatch):
    log, real = PredictionLog(tmp_path, MODEL, CLASSES), fcntl.flock
    log(ROW)
    numbered = tmp_path / "predictions-000001.jsonl"

    def flock(descriptor, operation):
        if not numbered.exists():
            (tmp_path / CURRENT).rename(numbered)
        real(descriptor, operation)

    monkeypatch.setattr(log_module.fcntl, "flock", flock)
    log(ROW)
    assert [len(path.read_text().splitlines()) for path in (numbered, tmp_path / CURRENT)] == [1, 1]


def test_a_line_torn_by_a_crash_is_never_continued(tmp_path):
    log = PredictionLog(tmp_path, MODEL, CLASSES)
    log(ROW)
    whole = (tmp_path / CURRENT).read_bytes()
    (tmp_path / CURRENT).write_bytes(whole + whole[:100])
    log(ROW)
    assert (tmp_path / CURRENT).read_bytes().count(b"\n") == 3
    read = read_log(tmp_path, MODEL, CLASSES)
    assert len(read.times) == 2 and read.left_out == {TORN: 1}
    assert read.remarks == [f"1 line of the log cannot be used: 1 {TORN}."]


@pytest.mark.parametrize("reason", ["another process keeps the lock", "no locks on this file system"])
def test_without_a_lock_lines_are_written_and_no_file_gets_a_number(tmp_path, monkeypatch, reason):
    log = PredictionLog(tmp_path, MODEL, CLASSES, most_bytes=100)
    log.open_folder()
    monkeypatch.setattr(log_module, "PATIENCE", 0.01)
    with open(tmp_path / CURRENT) as other:
        if reason.startswith("another"):
            fcntl.flock(other, fcntl.LOCK_EX)
        else:
            monkeypatch.setattr(log_module.fcntl, "flock", refuse(errno.ENOLCK))
        log(ROW)
        log(ROW)
    assert len(lines_of(tmp_path)) == 2 and log_files(tmp_path) == [tmp_path / CURRENT]


def refuse(number):
    def call(*_):
        raise OSError(number, os.strerror(number))

    return call


def test_a_full_disk_leaves_no_half_line_and_rows_go_on(tmp_path, monkeypatch):
    log = PredictionLog(tmp_path, MODEL, CLASSES)
    log(ROW)
    before, write, calls = (tmp_path / CURRENT).read_bytes(), os.write, []

    def full(descriptor, content):
        calls.append(content)
        if len(calls) % 2:
            return write(descriptor, content[:50])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    recorder = Recorder(log)
    with monkeypatch.context() as patch:
        patch.setattr(log_module.os, "write", full)
        assert list(recorder([ROW, ROW])) == [ROW, ROW]
    assert (tmp_path / CURRENT).read_bytes() == before
    assert (recorder.rows, recorder.lost, recorder.error.errno) == (2, 2, errno.ENOSPC)


def test_a_pipe_is_no_log(tmp_path):
    os.mkfifo(tmp_path / CURRENT)
    with pytest.raises(OSError, match="not a file"):
        PredictionLog(tmp_path, MODEL, CLASSES)(ROW)
