import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from kdtf.errors import UserError
from kdtf.store import Run, disk_errors, file_digest, list_stages, stage_key


def test_a_key_names_everything_upstream():
    key = stage_key("teacher", {"rate": 0.1}, "views-key")
    assert key == stage_key("teacher", {"rate": 0.1}, "views-key")
    others = [
        stage_key("student", {"rate": 0.1}, "views-key"),
        stage_key("teacher", {"rate": 0.2}, "views-key"),
        stage_key("teacher", {"rate": 0.1}, "other-views"),
    ]
    assert len({key, *others}) == 4


def test_a_stage_is_made_once_and_read_back(tmp_path):
    made = []

    def make(folder):
        made.append(folder)
        (folder / "a.txt").write_text("done")

    first = Run(tmp_path).stage("x", {"n": 1}, make=make)
    again = Run(tmp_path).stage("x", {"n": 1}, make=make)
    assert len(made) == 1 and (first.reused, again.reused) == (False, True)
    assert (again.path / "a.txt").read_text() == "done"
    Run(tmp_path).stage("x", {"n": 2}, make=make)
    assert len(made) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_stage_leaves_nothing(tmp_path, error):
    def make(folder):
        (folder / "half.txt").write_text("half")
        raise error

    run = Run(tmp_path)
    with pytest.raises(error):
        run.stage("x", {}, make=make)
    assert list(run.work.iterdir()) == []


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    run = Run(tmp_path)
    run.write("a.csv", "old")

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"^--results must be on a disk with room left\. Got .*No space left"):
        run.write("a.csv", "new")
    assert (tmp_path / "a.csv").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "work"]


def test_tables_have_a_header_and_replace_what_was_there(tmp_path):
    run = Run(tmp_path)
    run.write_csv("t.csv", [{"a": 1, "b": None}, {"a": 2, "b": 0.123456789}])
    run.write_csv("t.csv", [{"a": 1, "b": None}, {"a": 2, "b": 0.123456789}])
    assert (tmp_path / "t.csv").read_text() == "a,b\n1,\n2,0.123457\n"
    run.write_csv("empty.csv", [], ["a", "b"])
    assert pd.read_csv(tmp_path / "empty.csv").columns.tolist() == ["a", "b"]


def test_the_manifest_knows_outputs_and_stages(tmp_path):
    run = Run(tmp_path)
    run.write("a.csv", "x\n")
    stage = run.stage("s", {"k": 1}, "up", make=lambda folder: (folder / "f").write_text("y"))
    run.write_manifest({"c": 1}, {"digest": "d"}, {"vgg16": "random weights"}, ["careful"])
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["outputs"] == {"a.csv": file_digest(tmp_path / "a.csv")}
    assert manifest["stages"]["s"]["key"] == stage.key
    assert manifest["stages"]["s"]["sha256"] == {"f": file_digest(stage.path / "f")}
    assert manifest["teacher_weights"] == {"vgg16": "random weights"}
    assert manifest["warnings"] == ["careful"] and manifest["config"] == {"c": 1}
    assert manifest["versions"]["keras"]


def test_a_results_folder_that_is_a_file_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^--results must be a folder\. Got .*file"):
        Run(tmp_path / "file")


@pytest.mark.parametrize(
    "number, rule",
    [(errno.EROFS, "writable"), (errno.EACCES, "writable"), (errno.EDQUOT, "on a disk with room")],
)
def test_what_the_disk_says_is_put_in_words(number, rule):
    with pytest.raises(UserError, match=f"^--results must be {rule}"), disk_errors("Results"):
        raise OSError(number, os.strerror(number))


def test_other_errors_of_the_system_pass():
    with pytest.raises(OSError, match="Bad file"), disk_errors("Results"):
        raise OSError(errno.EBADF, "Bad file descriptor")


def fill(folder):
    (folder / "a.bin").write_bytes(b"x" * 100)


@pytest.mark.parametrize("harm", ["flip", "truncate", "delete", "note"])
def test_a_damaged_stage_is_noticed_and_made_again(tmp_path, harm):
    heard = []
    stage = Run(tmp_path).stage("x", {}, make=fill)
    file = stage.path / ("stage.json" if harm == "note" else "a.bin")
    if harm == "delete":
        file.unlink()
    else:
        content = file.read_bytes()
        file.write_bytes(content[:50] if harm in ("truncate", "note") else b"y" + content[1:])
    assert [row["state"][:7] for row in list_stages(tmp_path)] == ["damaged"]
    again = Run(tmp_path, heard.append).stage("x", {}, make=fill)
    assert not again.reused and (again.path / "a.bin").read_bytes() == b"x" * 100
    assert heard == [f"{stage.path.name} was damaged ({file.name}) and is made again."]
    assert [row["state"] for row in list_stages(tmp_path)] == ["stands"]


def test_two_runs_in_one_folder_are_refused(tmp_path):
    refused = pytest.raises(UserError, match="that no other run is using")
    with Run(tmp_path).locked(), refused, Run(tmp_path).locked():
        pass
    with Run(tmp_path).locked():  # let go
        pass


def test_a_lock_does_not_outlive_its_process(tmp_path):
    code = (
        "import os, sys; from kdtf.run import Run\n"
        f"with Run({str(tmp_path)!r}).locked(): print('held', flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True)
    assert done.stdout == b"held\n" and done.returncode == -9
    with Run(tmp_path).locked():
        pass


def test_starting_over_forgets_the_stages(tmp_path):
    run = Run(tmp_path)
    run.write("kept.csv", "1")
    run.stage("x", {}, make=fill)
    run.start_over()
    assert list_stages(tmp_path) == [] and (tmp_path / "kept.csv").exists()


def test_a_checkpoint_survives_an_interrupted_stage_and_goes_with_a_finished_one(tmp_path):
    def killed(folder):
        (folder / "checkpoint.npz").write_bytes(b"state")
        (folder / "half.bin").write_bytes(b"half")
        raise KeyboardInterrupt

    def finished(folder):
        assert sorted(f.name for f in folder.iterdir()) == ["checkpoint.npz", "running"]
        fill(folder)

    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path).stage("x", {}, make=killed)
    (row,) = list_stages(tmp_path)
    assert row["name"].startswith("x-") and row["state"] == "begun, goes on from its checkpoint"
    stage = Run(tmp_path).stage("x", {}, make=finished)
    assert sorted(f.name for f in stage.path.iterdir()) == ["a.bin", "stage.json"]
    assert [f.name for f in (tmp_path / "work").iterdir()] == [stage.path.name]


def test_a_stage_that_was_cut_off_says_so_the_next_time(tmp_path):
    code = (
        "import os; from kdtf.run import Run\n"
        f"Run({str(tmp_path)!r}).stage('x', {{}}, make=lambda folder: os.kill(os.getpid(), 9))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    assert done.returncode == -9
    heard = []
    for _ in range(2):
        stage = Run(tmp_path, heard.append).stage("x", {}, make=fill)
    assert (
        len(heard) == 1 and heard[0].startswith("x was cut off the last time") and "--batch-size" in heard[0]
    )
    assert sorted(f.name for f in stage.path.iterdir()) == ["a.bin", "stage.json"]
