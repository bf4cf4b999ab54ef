"""What lies under work/ beside sound stages: foreign folders, links, edited notes, what the dead left."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdtf.errors import UserError
from kdtf.files import aside
from kdtf.stage_folders import DAY, damaged_files, list_stages, new_part, read_note
from kdtf.store import Store
from kdtf.tasks import Task

TASK = Task("views", "x", {"n": 1}, data="digest", environment={"numpy": "1", "deterministic": True})
AFTER = Task("labels", "y", inputs={"views": TASK})


def fill(folder):
    (folder / "a.bin").write_bytes(b"x" * 100)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def store(tmp_path):
    """A store with a stage."""
    own = Store(tmp_path / "r")
    own.stage(TASK, fill)
    return own


@pytest.fixture
def outside(tmp_path):
    """A folder with something of somebody else's."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    return folder


# --fresh


@pytest.mark.parametrize("note", ["{}", "[]", "x", '{"seconds": 1}', '{"seconds": 1, "sha256": ["a"]}', None])
def test_starting_over_leaves_a_folder_that_bears_no_note_of_ours(store, note):
    """Also where it is called like a stage, and has a file called like a note."""
    foreign = store.work / "x-0123456789abcdef"
    foreign.mkdir()
    (foreign / "mine.txt").write_text("mine")
    if note is not None:
        (foreign / "stage.json").write_text(note)
    store.forget_stages()
    assert names(store.work) == [foreign.name] and (foreign / "mine.txt").read_text() == "mine"


def test_starting_over_refuses_a_work_folder_that_is_a_link(store, tmp_path):
    other = Store(tmp_path / "other")
    (tmp_path / "other").mkdir(exist_ok=True)
    other.work.symlink_to(store.work)
    with pytest.raises(UserError, match=r"^--fresh must be given where work/ is a folder of these results"):
        other.forget_stages()
    assert other.find(TASK) and names(store.work) == [TASK.folder]


# links


def test_a_stage_that_is_a_link_is_read_and_where_it_is_taken_away_what_it_leads_to_stays(store, tmp_path):
    moved = tmp_path / "disk"
    (store.work / TASK.folder).rename(moved)
    (store.work / TASK.folder).symlink_to(moved)
    assert Store(store.root, pytest.fail).find(TASK).reused
    Store(store.root).remove(TASK)
    assert names(store.work) == [] and names(moved) == ["a.bin", "stage.json"]


def test_a_damaged_stage_that_is_a_link_is_made_again_in_its_place(store, outside):
    Store(store.root).remove(TASK)
    (store.work / TASK.folder).symlink_to(outside)
    heard = []
    stage = Store(store.root, heard.append).stage(TASK, fill)
    assert (
        not stage.reused and not stage.path.is_symlink() and heard[0].startswith(f"{TASK.folder} was damaged")
    )
    assert names(store.work) == [TASK.folder] and names(outside) == ["mine.txt"]


def test_nothing_is_made_or_removed_where_a_part_that_is_a_link_leads(store, outside):
    store.remove(TASK)
    (outside / "checkpoint.npz").write_text("mine too")
    link = store.work / f".{TASK.folder}.host-1-01234567.part"
    link.symlink_to(outside)
    Store(store.root, pytest.fail).stage(TASK, fill)
    assert names(outside) == ["checkpoint.npz", "mine.txt"] and link.is_symlink()


def test_a_report_that_is_a_link_is_written_again(store, outside):
    report = Task("student-report", "report")
    (store.work / "report-0123456789abcdef").symlink_to(outside)
    store.written(report, lambda: store.write("t.csv", "a\n"), [])
    assert "report-0123456789abcdef" not in names(store.work) and names(outside) == ["mine.txt"]


# notes that were edited


def deep(note):
    return "[" * 100_000


EDITED = {
    "a list": lambda note: [note],
    "no seconds": lambda note: {**note, "seconds": "3"},
    "endless": lambda note: {**note, "seconds": float("inf")},
    "huge": lambda note: {**note, "seconds": 10**400},
    "digests in a list": lambda note: {**note, "sha256": list(note["sha256"])},
    "digests that are numbers": lambda note: {**note, "sha256": {"a.bin": 3}},
    "made_of in a list": lambda note: {**note, "made_of": ["views"]},
    "made_with a word": lambda note: {**note, "made_with": "numpy"},
    "no made_with": lambda note: {k: v for k, v in note.items() if k != "made_with"},
    "environment of lists": lambda note: {**note, "environment": {"numpy": ["2"]}},
    "inputs null": lambda note: {**note, "inputs": None},
    "no JSON": lambda note: "{",
    "nested": deep,
}


@pytest.mark.parametrize("edit", EDITED)
def test_a_stage_whose_note_was_edited_is_damaged_and_made_again(store, edit):
    file = store.work / TASK.folder / "stage.json"
    edited = EDITED[edit](json.loads(file.read_text()))
    file.write_text(edited if isinstance(edited, str) else json.dumps(edited))
    assert damaged_files(file.parent) == ["stage.json"]
    assert [row["state"] for row in list_stages(store.root)] == ["damaged: stage.json"]
    with pytest.raises(ValueError):
        read_note(file.parent)
    assert not store.find(TASK)  # which had found it sound in this process
    again = Store(store.root)
    assert not again.stage(TASK, fill).reused
    again.stage(AFTER, fill)
    assert read_note(again.work / TASK.folder)["settings"] == {"n": 1} and not again.is_stale(AFTER)


def test_a_note_that_is_a_pipe_is_not_waited_for(store):
    file = store.work / TASK.folder / "stage.json"
    file.unlink()
    os.mkfifo(file)
    assert damaged_files(file.parent) == ["stage.json"]
    assert not Store(store.root).stage(TASK, fill).reused


# what dead processes left


@pytest.fixture
def dead():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def part(folder, name, host=None, pid=None):
    """Something that a process wrote aside, or of this one."""
    own = aside(folder / name)
    text = own.name.replace(f"-{os.getpid()}-", f"-{pid}-") if pid else own.name
    here = text.split(".")[-2].split("-")[0]
    return own.with_name(text.replace(f".{here}-", f".{host}-") if host else text)


def age(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then), follow_symlinks=False)


def test_a_run_takes_away_what_dead_runs_left_half_written(store, dead):
    table, folder = part(store.root, "t.csv", pid=dead), part(store.work, "taken-0123456789abcdef", pid=dead)
    table.write_text("half")
    folder.mkdir()
    fill(folder)
    mine, theirs = part(store.root, "t.csv"), store.root / ".kept.part"
    mine.write_text("of a process that lives")
    theirs.write_text("no name of ours")
    with store.locked():
        pass
    assert names(store.root) == sorted([mine.name, theirs.name, "work"])
    assert names(store.work) == [TASK.folder]


def test_of_another_host_it_takes_what_was_left_for_a_day(store):
    fresh, old = (part(store.work, f"{n}-0123456789abcdef", host="elsewhere") for n in ("fresh", "old"))
    going = part(store.work, "going-0123456789abcdef", host="elsewhere")
    for folder in (fresh, old, going):
        folder.mkdir()
    (old / "running").write_text("")
    (going / "checkpoint.npz").write_text("state")
    for path in (old / "running", old, going):
        age(path, 2 * DAY)
    with store.locked():
        pass
    assert names(store.work) == sorted([fresh.name, going.name, TASK.folder])


def test_a_stage_that_was_cut_off_is_told_before_its_folder_is_left(store, dead):
    """What a kill left behind is kept for a day, because the next run says so."""
    cut_off = part(store.work, AFTER.folder, pid=dead)
    cut_off.mkdir()
    (cut_off / "running").write_text("")
    with store.locked():
        pass
    assert cut_off.name in names(store.work)
    heard = []
    Store(store.root, heard.append).stage(AFTER, fill)
    assert len(heard) == 1 and "was cut off the last time" in heard[0]
    assert names(store.work) == sorted([TASK.folder, AFTER.folder])


def test_a_folder_in_work_is_never_left(store):
    worked_in = part(store.work, "y-0123456789abcdef", host="elsewhere")
    lock = new_part(worked_in)
    age(worked_in, 2 * DAY)
    with store.locked():
        pass
    assert worked_in.name in names(store.work)
    os.close(lock)


# no more folders than there is something to keep in them


def test_work_is_made_with_the_first_stage(tmp_path):
    store = Store(tmp_path / "r")
    store.write("bench.csv", "a\n")
    assert store.find(TASK) is None and names(store.root) == ["bench.csv"]
    store.stage(TASK, fill)
    assert names(store.root) == ["bench.csv", "work"]


def test_text_that_is_no_utf8_is_written_as_json_escapes_it(tmp_path):
    store = Store(tmp_path)
    value = {"source": os.fsdecode(b"d\xff"), "name": "ü"}
    file = store.write_json("m.json", value)
    assert json.loads(Path(file).read_text(encoding="utf-8")) == value
