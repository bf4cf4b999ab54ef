"""The results folder: outputs whole or not at all, stages that stand, and many makers of one stage."""

import errno
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest

from kdtf.errors import UserError
from kdtf.files import file_digest
from kdtf.stage_folders import EARLIER, list_stages, read_note
from kdtf.store import Store
from kdtf.tasks import Task

ROOT = Path(__file__).parents[2]
TASK = Task("views", "x", {"n": 1}, data="digest", environment={"numpy": "1", "deterministic": True})
OTHER = replace(TASK, settings={"n": 2})


def fill(folder):
    (folder / "a.bin").write_bytes(b"x" * 100)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def states(root):
    return [row["state"] for row in list_stages(root)]


def start_python(code, root):
    """Start Python code in a process of its own, with `root` and TASK as `task`."""
    before = (
        "import os, sys; from kdtf.store import Store; from kdtf.tasks import Task\nroot = sys.argv[1]\n"
        f"task = Task('views', 'x', {{'n': 1}}, data='digest', environment={dict(TASK.environment)!r})\n"
    )
    argv = [sys.executable, "-c", before + code, str(root)]
    return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run_python(code, root):
    """`start_python`, and its end."""
    process = start_python(code, root)
    out, error = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


# outputs


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.write("a.csv", "old")

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"^--results must be on a disk with room left\. Got .*No space left"):
        store.write("a.csv", "new")
    assert (tmp_path / "a.csv").read_text() == "old" and names(tmp_path) == ["a.csv"]


def test_tables_have_a_header_and_replace_what_was_there(tmp_path):
    store = Store(tmp_path)
    for _ in range(2):
        store.write_csv("t.csv", [{"a": 1, "b": None}, {"a": 2, "b": 0.123456789}])
    assert (tmp_path / "t.csv").read_text() == "a,b\n1,\n2,0.123457\n"
    store.write_csv("empty.csv", [], ["a", "b"])
    assert pd.read_csv(tmp_path / "empty.csv").columns.tolist() == ["a", "b"]
    store.write_json("v.json", {"ü": [1, None]})
    assert json.loads((tmp_path / "v.json").read_text()) == {"ü": [1, None]}


def test_outputs_are_known_with_their_digests(tmp_path):
    store = Store(tmp_path)
    store.write("a.csv", "x\n")
    store.write("b.bin", b"y")
    assert store.outputs == {name: file_digest(tmp_path / name) for name in ("a.csv", "b.bin")}


def test_a_results_folder_that_is_a_file_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^--results must be a folder\. Got .*file"):
        Store(tmp_path / "file")


# stages


def test_a_stage_is_made_once_and_read_back(tmp_path):
    first, again = (Store(tmp_path).stage(TASK, fill) for _ in range(2))
    assert (first.reused, again.reused) == (False, True) and first.path == again.path
    assert (again.path / "a.bin").read_bytes() == b"x" * 100 and again.seconds == first.seconds
    assert Store(tmp_path).find(TASK).path == first.path and Store(tmp_path).find(OTHER) is None
    assert not Store(tmp_path).stage(OTHER, fill).reused


def test_a_stage_says_how_it_was_made(tmp_path):
    task = replace(TASK, inputs={"views": OTHER}, version=3)
    stage = Store(tmp_path).stage(task, fill)
    assert read_note(stage.path) == {
        **task.note(),
        "made_with": {"numpy": version("numpy")},
        "made_of": {"views": None},  # it does not stand
        "seconds": stage.seconds,
        "sha256": {"a.bin": file_digest(stage.path / "a.bin")},
    }


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_stage_leaves_nothing(tmp_path, error):
    def make(folder):
        (folder / "half.txt").write_text("half")
        (folder / "folder").mkdir()
        raise error

    store = Store(tmp_path)
    with pytest.raises(error):
        store.stage(TASK, make)
    assert names(store.work) == []


@pytest.mark.parametrize("harm", ["flip", "truncate", "delete", "note", "a key of the note"])
def test_a_damaged_stage_is_noticed_and_made_again(tmp_path, harm):
    heard = []
    stage = Store(tmp_path).stage(TASK, fill)
    file = stage.path / ("stage.json" if "note" in harm else "a.bin")
    content = file.read_bytes()
    if harm == "delete":
        file.unlink()
    elif harm == "a key of the note":
        file.write_bytes(content.replace(b'"seconds"', b'"secondz"'))
    else:
        file.write_bytes(content[:50] if harm in ("truncate", "note") else b"y" + content[1:])
    assert states(tmp_path) == [f"damaged: {file.name}"]
    again = Store(tmp_path, heard.append).stage(TASK, fill)
    assert not again.reused and (again.path / "a.bin").read_bytes() == b"x" * 100
    assert heard == [f"{stage.path.name} was damaged ({file.name}) and is made again."]
    assert states(tmp_path) == ["stands"] and names(tmp_path / "work") == [stage.path.name]


def test_a_stage_that_is_removed_is_gone(tmp_path):
    store = Store(tmp_path)
    store.stage(TASK, fill)
    other = store.stage(OTHER, fill)
    store.remove(TASK)
    store.remove(TASK)  # nothing to do
    assert store.find(TASK) is None and names(store.work) == [other.path.name]
    assert not store.stage(TASK, fill).reused


def test_stages_are_listed_the_oldest_first(tmp_path):
    store = Store(tmp_path)
    assert list_stages(tmp_path / "nowhere") == list_stages(tmp_path) == []
    stage, other = store.stage(TASK, fill), store.stage(OTHER, fill)
    os.utime(other.path, (0, 0))
    (store.work / "sample").mkdir()  # no stage
    first, second = list_stages(tmp_path)
    assert (first["name"], second["name"]) == (other.path.name, stage.path.name)
    assert second["seconds"] == stage.seconds and 100 < second["mebibytes"] * 2**20 < 2000


def test_a_stage_of_an_earlier_version_is_told_as_such(tmp_path):
    folder = tmp_path / "work" / "x-0123456789abcdef"
    folder.mkdir(parents=True)
    fill(folder)
    digests = {"a.bin": file_digest(folder / "a.bin")}
    note = {"settings": {}, "upstream": [], "seconds": 1.5, "sha256": digests}
    (folder / "stage.json").write_text(json.dumps(note))
    (row,) = list_stages(tmp_path)
    assert row["state"] == EARLIER and row["seconds"] == 1.5


def test_starting_over_forgets_what_this_program_made_and_nothing_else(tmp_path):
    store = Store(tmp_path / "r")
    store.write("kept.csv", "1")
    store.stage(TASK, fill)
    parts = [".x-0123456789abcdef.host-1-0.part", ".x-0123456789abcdef.part"]  # the second of an earlier kdtf
    for name in (*parts, "x-0123456789abcdef", "photos"):
        (store.work / name).mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    for folder in (outside, store.work / "photos"):
        (folder / "stage.json").write_text("{}")
    for name in ("linked-0123456789abcdef", ".linked-0123456789abcdef.host-1-0.part"):
        (store.work / name).symlink_to(outside)
    (store.work / "file-0123456789abcdef").write_text("")
    store.forget_stages()
    assert names(store.work) == [
        ".linked-0123456789abcdef.host-1-0.part",  # links are not followed, and not removed
        "file-0123456789abcdef",
        "linked-0123456789abcdef",
        "photos",
        "x-0123456789abcdef",  # holds no note of ours
    ]
    assert names(outside) == ["stage.json"] and (tmp_path / "r" / "kept.csv").exists()
    assert store.find(TASK) is None


# stages whose files lie in the results folder itself


@pytest.fixture
def reported(tmp_path):
    """(write the report of a task into a fresh store and return (store, stage), what the store warned of)."""
    source, heard = tmp_path / "scores.json", []
    source.write_text("1")

    def write(task=TASK):
        store = Store(tmp_path, heard.append)
        stage = store.written(task, lambda: store.write("report.csv", source.read_text()), [source])
        return store, stage

    return write, heard


def test_a_report_stands_while_what_it_reads_and_wrote_is_as_it_was(reported, tmp_path):
    write, heard = reported
    assert not write()[1].reused
    store, stage = write()
    assert stage.reused and store.outputs == {"report.csv": file_digest(tmp_path / "report.csv")}
    (tmp_path / "scores.json").write_text("2")
    store, stage = write()
    assert not stage.reused and (tmp_path / "report.csv").read_text() == "2" and heard == []
    assert [row["name"] for row in list_stages(tmp_path)] == [stage.path.name]


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_text("other")])
def test_a_report_that_was_changed_is_made_again(reported, tmp_path, harm):
    write, heard = reported
    write()
    harm(tmp_path / "report.csv")
    store, stage = write()
    assert not stage.reused and (tmp_path / "report.csv").read_text() == "1"
    assert heard == ["report.csv is not as it was written and is made again."]
    assert store.outputs == {"report.csv": file_digest(tmp_path / "report.csv")}


def test_a_report_falls_when_another_of_its_name_is_written(reported):
    write, heard = reported
    for task in (TASK, OTHER, TASK):
        assert not write(task)[1].reused
    assert write(replace(TASK, name="y"))[1].path.name.startswith("y-") and write()[1].reused and heard == []


# several processes


def test_two_runs_in_one_folder_are_refused(tmp_path):
    refused = pytest.raises(UserError, match="that no other run is using")
    with Store(tmp_path).locked(), refused, Store(tmp_path).locked():
        pass
    with Store(tmp_path).locked():  # let go
        pass


def test_a_lock_does_not_outlive_its_process(tmp_path):
    done = run_python(
        "with Store(root).locked(): print('held', flush=True); os.kill(os.getpid(), 9)", tmp_path
    )
    assert done.stdout == "held\n" and done.returncode == -9
    with Store(tmp_path).locked():
        pass


def test_a_checkpoint_survives_an_interrupted_stage_and_goes_with_a_finished_one(tmp_path):
    def interrupted(folder):
        (folder / "checkpoint.npz").write_bytes(b"state")
        (folder / "half.bin").write_bytes(b"half")
        raise KeyboardInterrupt

    def finishing(folder):
        assert names(folder) == ["checkpoint.npz", "running"]
        fill(folder)

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).stage(TASK, interrupted)
    (row,) = list_stages(tmp_path)
    assert row["name"] == TASK.folder and row["state"] == "begun, goes on from its checkpoint"
    stage = Store(tmp_path, pytest.fail).stage(TASK, finishing)
    assert names(stage.path) == ["a.bin", "stage.json"] and names(tmp_path / "work") == [stage.path.name]


def test_the_checkpoint_of_a_dead_process_is_adopted_and_said_once(tmp_path):
    code = (
        "def make(folder):\n"
        "    (folder / 'checkpoint.npz').write_text('state'); (folder / 'half.bin').write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
        "Store(root).stage(task, make)"
    )
    assert run_python(code, tmp_path).returncode == -9
    assert states(tmp_path) == ["begun, goes on from its checkpoint"]
    heard, contents = [], []

    def make(folder):
        contents.append({path.name: path.read_text() for path in folder.iterdir()})
        fill(folder)

    for _ in range(2):
        stage = Store(tmp_path, heard.append).stage(TASK, make)
    assert contents == [{"checkpoint.npz": "state", "running": ""}]
    (warning,) = heard
    assert warning.startswith("x was cut off the last time") and "--batch-size" in warning
    assert names(stage.path) == ["a.bin", "stage.json"] and names(tmp_path / "work") == [stage.path.name]


def test_another_stages_checkpoint_is_left_alone(tmp_path):
    def interrupted(folder):
        (folder / "checkpoint.npz").write_bytes(b"state")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).stage(TASK, interrupted)
    contents = []
    Store(tmp_path).stage(OTHER, lambda folder: contents.append(names(folder)) or fill(folder))
    assert contents == [["running"]]
    assert states(tmp_path) == ["begun, goes on from its checkpoint", "stands"]


def test_a_second_maker_waits_for_the_first_and_finds_its_stage(tmp_path):
    code = "print(Store(root, print).stage(task, lambda folder: print('made again')).reused)"
    started = []

    def make(folder):
        (folder / "checkpoint.npz").write_bytes(b"state")
        started.append(start_python(code, tmp_path))
        with pytest.raises(subprocess.TimeoutExpired):
            started[0].wait(timeout=2)
        assert states(tmp_path) == ["being made"] and names(folder) == ["checkpoint.npz", "running"]
        fill(folder)

    stage = Store(tmp_path, pytest.fail).stage(TASK, make)
    assert started[0].communicate(timeout=60)[0].split() == ["True"]
    assert names(stage.path) == ["a.bin", "stage.json"] and states(tmp_path) == ["stands"]
    assert names(tmp_path / "work") == [stage.path.name]


def test_a_second_maker_goes_on_where_the_first_dies(tmp_path):
    def make(folder):
        (folder / "checkpoint.npz").write_bytes(b"state")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).stage(TASK, make)
    code = "Store(root).stage(task, lambda folder: print(sorted(os.listdir(folder))))"
    assert run_python(code, tmp_path).stdout.strip() == "['checkpoint.npz', 'running']"


def test_stages_in_work_survive_fresh(tmp_path):
    def make(folder):
        Store(tmp_path).forget_stages()
        fill(folder)

    assert names(Store(tmp_path).stage(TASK, make).path) == ["a.bin", "stage.json"]


def test_what_was_made_of_an_input_goes_with_it(tmp_path):
    store = Store(tmp_path)
    after = replace(TASK, name="after", kind="after", inputs={"before": TASK})
    store.stage(TASK, fill)
    store.stage(after, fill)
    assert not store.is_stale(after)
    store.remove(TASK)
    assert not store.is_stale(after)  # nothing is known of it
    store.stage(TASK, lambda folder: (folder / "a.bin").write_bytes(b"other bits"))
    assert store.is_stale(after) and store.content(TASK) != store.content(after)


def test_a_file_elsewhere_that_cannot_be_read_is_named(tmp_path):
    def make(folder):
        (tmp_path.parent / "elsewhere").read_bytes()

    with pytest.raises(UserError, match=r"elsewhere must be readable\. It is not \(No such file"):
        Store(tmp_path / "r").stage(TASK, make)


def make_many(root, barrier, warnings):
    """Make 40 stages, each at the same moment as another process."""
    store = Store(root, warnings.put)
    for i in range(40):
        barrier.wait(timeout=60)
        store.stage(replace(TASK, settings={"i": i}), fill)


def test_two_makers_of_one_stage_at_once_end_with_one_stage_and_no_leftovers(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, warnings = context.Barrier(2), context.Queue()
    makers = [context.Process(target=make_many, args=(tmp_path, barrier, warnings)) for _ in range(2)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join(timeout=100)
    assert [maker.exitcode for maker in makers] == [0, 0] and warnings.empty()
    assert states(tmp_path) == ["stands"] * 40
    assert names(tmp_path / "work") == sorted(row["name"] for row in list_stages(tmp_path))
    assert {tuple(names(folder)) for folder in (tmp_path / "work").iterdir()} == {("a.bin", "stage.json")}


def test_stages_can_be_listed_while_they_come_and_go(tmp_path):
    store, over = Store(tmp_path), threading.Event()

    def work():
        while not over.is_set():
            store.stage(TASK, fill)
            store.remove(TASK)

    thread, until = threading.Thread(target=work), time.monotonic() + 10
    thread.start()
    try:
        listed = set()
        while time.monotonic() < until and "stands" not in listed:
            listed |= set(states(tmp_path))
    finally:
        over.set()
        thread.join()
    assert "stands" in listed


def test_a_stage_is_on_the_disk_before_its_checkpoint_goes(tmp_path, monkeypatch):
    """A power cut costs nothing, or what the checkpoint spares: never both."""
    flushed, fsync = [], os.fsync

    def note(descriptor):
        flushed.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def fill_on(folder):
        (folder / "checkpoint.npz").write_bytes(b"state")
        fill(folder)

    monkeypatch.setattr(os, "fsync", note)
    unlink = Path.unlink

    def noted_unlink(path, missing_ok=False):
        flushed.append(f"-{path.name}")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", noted_unlink)
    stage = Store(tmp_path).stage(TASK, fill_on)
    part = next(name for name in flushed if name.startswith(f".{TASK.folder}."))
    order = [flushed.index(name) for name in ("a.bin", "stage.json", part, "work", "-checkpoint.npz")]
    assert order == sorted(order) and names(stage.path) == ["a.bin", "stage.json"]


def test_what_a_kill_left_in_a_finished_stage_goes_when_it_is_found(tmp_path):
    store = Store(tmp_path)
    stage = store.stage(TASK, fill)
    for name in ("checkpoint.npz", "running"):
        (stage.path / name).touch()
    assert Store(tmp_path).find(TASK) and names(stage.path) == ["a.bin", "stage.json"]
