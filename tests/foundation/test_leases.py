"""Several machines in one results folder, where no lock can be relied on."""

import errno
import fcntl
import os
import time

import pytest

from kdtf import leases
from kdtf.errors import UserError
from kdtf.leases import SILENT, is_elsewhere, runs_elsewhere, touched
from kdtf.stage_folders import in_work, is_running, publish
from kdtf.store import Store
from kdtf.tasks import Task

TASK = Task("views", "x", {"n": 1})
ELSEWHERE = f".{TASK.folder}.another_host-1-01234567.part"


def fill(folder):
    (folder / "a.bin").write_bytes(b"x")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def begun_elsewhere(store, age):
    """The folder in which another machine makes the stage; its process touched it `age` seconds ago."""
    part = store.work / ELSEWHERE
    part.mkdir(parents=True)
    for name in ("checkpoint.npz", "running"):
        (part / name).write_text("state")
        os.utime(part / name, (time.time() - age,) * 2)
    return part


@pytest.fixture
def no_locks(monkeypatch):
    """A file system on which files cannot be locked."""

    def flock(*arguments):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)


def test_an_open_file_is_touched_whatever_it_is_called(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "BEAT", 0.01)
    (tmp_path / "a").touch()
    descriptor = os.open(tmp_path / "a", os.O_RDWR)
    os.rename(tmp_path / "a", tmp_path / "b")
    os.utime(tmp_path / "b", (0, 0))
    with touched(descriptor):
        while not (tmp_path / "b").stat().st_mtime:
            time.sleep(0.005)
    os.utime(tmp_path / "b", (0, 0))
    time.sleep(0.03)
    assert not (tmp_path / "b").stat().st_mtime
    os.close(descriptor)


def test_what_another_machine_makes_is_neither_waited_for_nor_taken(tmp_path):
    store = Store(tmp_path, pytest.fail)
    part = begun_elsewhere(store, age=SILENT / 2)
    contents = []
    store.stage(TASK, lambda folder: (contents.append(names(folder)), fill(folder)))
    assert contents == [["running"]] and is_elsewhere(part) and in_work(part)
    assert names(store.work) == [part.name, TASK.folder] and names(part) == ["checkpoint.npz", "running"]


def test_the_second_maker_drops_his(tmp_path):
    store = Store(tmp_path, pytest.fail)
    store.stage(TASK, fill)
    made = (store.work / TASK.folder / "stage.json").stat().st_mtime_ns
    part = begun_elsewhere(store, age=0)
    publish(part, store.work / TASK.folder)
    assert names(store.work) == [TASK.folder] and names(store.work / TASK.folder) == ["a.bin", "stage.json"]
    assert (store.work / TASK.folder / "stage.json").stat().st_mtime_ns == made


def test_what_another_machine_has_long_not_touched_is_gone_on_from(tmp_path):
    heard, contents = [], []
    store = Store(tmp_path, heard.append)
    begun_elsewhere(store, age=2 * SILENT)
    store.stage(TASK, lambda folder: (contents.append(names(folder)), fill(folder)))
    assert contents == [["checkpoint.npz", "running"]] and len(heard) == 1
    assert names(store.work) == [TASK.folder]


def test_a_run_on_another_machine_keeps_others_out_until_it_is_silent(tmp_path):
    store = Store(tmp_path)
    store.work.mkdir()
    sign = store.work / ".run.another_host-1-01234567.part"
    sign.touch()
    assert runs_elsewhere(store.work) == ["another_host"] and is_running(tmp_path)
    with pytest.raises(UserError, match=r"no other run is using\. .* in use on another_host"), store.locked():
        pytest.fail("locked")
    os.utime(sign, (time.time() - 2 * SILENT,) * 2)
    with store.locked():
        (own,) = set(names(store.work)) - {sign.name}
        assert own.startswith(".run.") and not is_elsewhere(store.work / own)
    assert names(store.work) == [sign.name] and not is_running(tmp_path)


def test_stages_are_made_where_there_are_no_locks(tmp_path, no_locks):
    store = Store(tmp_path, pytest.fail)
    with store.locked():
        assert not store.stage(TASK, fill).reused and store.stage(TASK, fill).reused
    assert names(store.work) == [TASK.folder]


def test_without_locks_the_name_of_a_part_tells_its_process(tmp_path, no_locks):
    store = Store(tmp_path, pytest.fail)
    other = Task("views", "y")
    contents = []

    def make(folder):
        assert in_work(folder)
        store.stage(other, fill)  # beside it
        contents.extend(names(folder))

    store.stage(TASK, make)
    assert contents == ["running"]
