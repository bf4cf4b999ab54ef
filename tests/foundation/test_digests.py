"""What is remembered of files that did not change, and what makes one be read again."""

import json
import os
import shutil
import time

import pytest

from kdtf.digests import AT_REST, NOTE, SMALL, Digests
from kdtf.files import file_digest
from kdtf.stage_folders import list_stages
from kdtf.store import Store
from kdtf.tasks import Task

TASK = Task("views", "x", {"n": 1})
SIZE = SMALL + 1


@pytest.fixture(autouse=True)
def rested(monkeypatch):
    """Files count as at rest a moment after they were written."""
    monkeypatch.setattr("kdtf.digests.AT_REST", 0.0)


@pytest.fixture
def reads(monkeypatch):
    """The names of the files that were read to find their digests."""
    names = []

    def counted(path):
        names.append(path.name)
        return file_digest(path)

    monkeypatch.setattr("kdtf.digests.file_digest", counted)
    return names


@pytest.fixture
def store(tmp_path):
    """A results folder with a finished stage that has a large and a small file."""

    def fill(folder):
        (folder / "large.npy").write_bytes(b"x" * SIZE)
        (folder / "small.json").write_bytes(b"x")

    store = Store(tmp_path / "r")
    with store.locked():
        store.stage(TASK, fill)
    return store


def found(root, **how):
    """Whether a new process finds the stage, and remembers what it has read."""
    again = Store(root, **how)
    with again.locked():
        return again.find(TASK) is not None


def test_a_large_file_that_did_not_change_is_read_no_more_and_a_small_one_always(store, reads):
    assert found(store.root) and found(store.root)
    assert reads == ["small.json", "small.json"]
    assert [row["state"] for row in list_stages(store.root)] == ["stands"] and "large.npy" not in reads
    assert found(store.root, verify=True) and reads.count("large.npy") == 1
    list_stages(store.root, verify=True)
    assert reads.count("large.npy") == 2


def rewritten(file):
    file.write_bytes(b"y" + b"x" * (SIZE - 1))


def rewritten_with_its_old_times(file):
    times = file.stat()
    rewritten(file)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def replaced(file):
    other = file.with_name("other")
    rewritten(other)
    os.replace(other, file)


@pytest.mark.parametrize("harm", [rewritten, rewritten_with_its_old_times, replaced])
def test_a_file_that_changed_is_read_again_and_found_damaged(store, harm):
    harm(store.work / TASK.folder / "large.npy")
    assert [row["state"] for row in list_stages(store.root)] == ["damaged: large.npy"]
    assert not found(store.root)


def test_what_shows_in_no_time_of_change_is_seen_by_verify_alone(store):
    file = store.work / TASK.folder / "large.npy"
    rewritten(file)
    note = store.work / NOTE
    known = json.loads(note.read_text())
    ((name, (_, answers)),) = known.items()
    found_now = file.stat()
    state = [found_now.st_size, found_now.st_mtime_ns, found_now.st_ctime_ns, found_now.st_ino]
    note.write_text(json.dumps({name: [state, answers]}))
    assert [row["state"] for row in list_stages(store.root)] == ["stands"] and found(store.root)
    assert [row["state"] for row in list_stages(store.root, verify=True)] == ["damaged: large.npy"]
    assert not found(store.root, verify=True)


def test_a_touched_file_a_copied_folder_and_one_that_moved_stand(store, reads, tmp_path):
    os.utime(store.work / TASK.folder / "large.npy")
    assert found(store.root) and reads.count("large.npy") == 1
    assert found(store.root) and reads.count("large.npy") == 1
    shutil.copytree(store.root, tmp_path / "copy")  # with the times of its files
    assert found(tmp_path / "copy") and found(tmp_path / "copy") and reads.count("large.npy") == 2
    store.root.rename(tmp_path / "moved")
    assert found(tmp_path / "moved") and reads.count("large.npy") == 2


def test_a_folder_that_cannot_be_written_to_remembers_nothing(store, reads, monkeypatch):
    (store.work / NOTE).unlink()

    def refused(*args):
        raise PermissionError

    monkeypatch.setattr("kdtf.digests.written_aside", refused)
    assert found(store.root) and found(store.root) and reads.count("large.npy") == 2


NO_NOTES = ["[", "[]", '{"\\u0000": [[1, 2, 3, 4], {}]}', '{"x-KEY/large.npy": [["1", 2, 3, 4], {}]}']


@pytest.mark.parametrize("note", NO_NOTES)
def test_a_note_that_is_none_is_nothing_remembered(store, reads, note):
    (store.work / NOTE).write_text(note.replace("x-KEY", TASK.folder))
    assert found(store.root) and reads.count("large.npy") == 1
    assert found(store.root) and reads.count("large.npy") == 1  # which wrote a good one


def test_a_file_that_changes_while_it_is_read_or_did_a_moment_ago_is_not_remembered(tmp_path, monkeypatch):
    file, digests = tmp_path / "a.bin", Digests(tmp_path)

    def read():
        rewritten(file)
        return ["of what was there"]

    file.write_bytes(b"x" * SIZE)
    time.sleep(0.02)  # more than a tick of the file system's clock
    digests.recall(file, "sha256", read)
    monkeypatch.setattr("kdtf.digests.AT_REST", AT_REST)
    assert digests.of(file) == file_digest(file)
    digests.save()
    assert not (tmp_path / NOTE).exists()
    monkeypatch.setattr("kdtf.digests.AT_REST", 0.0)
    digests.save()  # later
    assert Digests(tmp_path).recall(file, "sha256", list) == [file_digest(file)]
