"""Readers beside a run that writes: nothing half, no error, nothing of the run's own overwritten."""

import fcntl
import json
import os
import threading
from contextlib import contextmanager

import pytest

from kdtf import predictor
from kdtf.cli import main
from kdtf.predictor import BundleError, read_bundle
from kdtf.stage_folders import is_running, list_stages
from kdtf.store import Store
from kdtf.tasks import Task


@contextmanager
def running(root):
    """What a run in another process does first."""
    (root / "work").mkdir(parents=True, exist_ok=True)
    folder = os.open(root / "work", os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(folder)


def test_a_report_leaves_the_page_to_a_run_that_writes(tmp_path, capsys):
    """Its tables may be of two runs, or not there yet."""
    with running(tmp_path):
        assert is_running(tmp_path)
        assert main(["report", "--results", str(tmp_path)]) == 0
    assert capsys.readouterr().out == (
        f"A run is writing into {tmp_path}: it makes report.html itself when it is finished. "
        "Nothing was written.\n"
    )
    assert not (tmp_path / "report.html").exists() and not is_running(tmp_path)
    assert main(["report", "--results", str(tmp_path)]) == 2


def test_a_run_waits_for_a_moment_for_who_asks_whether_it_runs(tmp_path):
    store = Store(tmp_path)
    (tmp_path / "work").mkdir()
    folder = os.open(tmp_path / "work", os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_SH)
    threading.Timer(0.05, os.close, [folder]).start()
    with store.locked():
        assert is_running(tmp_path)


def test_a_bundle_of_which_one_file_is_replaced_is_waited_for(bundle, monkeypatch):
    path = bundle("float32")
    card = path.with_suffix(".json")
    old, new = card.read_text(), json.loads(card.read_text())
    new["sha256"] = "0" * 64
    card.write_text(json.dumps(new))
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        if len(waits) == 2:
            card.write_text(old)

    monkeypatch.setattr(predictor.time, "sleep", sleep)
    assert read_bundle(path)[1]["sha256"] == json.loads(old)["sha256"] and len(waits) == 2
    card.write_text(json.dumps(new))
    with pytest.raises(BundleError, match="Their sha256 differ"):
        read_bundle(path)


def test_a_stage_that_is_replaced_while_it_is_looked_at_is_not_called_damaged(tmp_path, monkeypatch):
    store, task = Store(tmp_path), Task("views", "x", {"n": 1})
    store.stage(task, lambda folder: (folder / "a.bin").write_bytes(b"a"))
    looked = __import__("kdtf.stage_folders", fromlist=["damaged_files"]).damaged_files

    def taken_away(folder, digest):
        store.remove(task)
        return looked(folder, digest)

    monkeypatch.setattr("kdtf.stage_folders.damaged_files", taken_away)
    assert list_stages(tmp_path) == []
