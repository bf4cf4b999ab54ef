"""Tasks side by side: none before its inputs, none twice but after a failure, and results as of one job."""

import json
import os
import pickle
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from small_run import SMALL, stages
from test_plan import KNOWN
from toy_worker import Toy

from kdtf.cli.entry import main
from kdtf.config import Config, RunConfig
from kdtf.errors import UserError
from kdtf.progress import Progress
from kdtf.runs import hands, jobs, local_pool, plan_teachers
from kdtf.runs.forecast import guessed
from kdtf.runs.jobs import SideBySide, threads_of_a_job
from kdtf.runs.local_pool import LocalPool, environment_of, gpus_of_host
from kdtf.runs.plan import plan
from kdtf.runs.pool import Done, Event, Failed, Returned
from kdtf.runs.relay import Relay, Replay
from kdtf.stage_folders import read_note
from kdtf.store import Store
from kdtf.tasks import Task

BROKEN = Failed("RuntimeError: broken")


class Pool:
    """Performs what was begun last first; `failures` says how often a task of a name fails, and how."""

    def __init__(self, store, slots=2, chained=False, failures=()):
        self.store, self.slots, self.chained, self.failures = store, slots, chained, list(failures)
        self.begun, self.done, self.performed = [], set(), []

    @property
    def free(self):
        return self.slots - len(self.begun)

    def log_of(self, task):
        return Path(f"{task.name}.log")

    def begin(self, tasks):
        assert self.free and tasks
        self.begun.append(list(tasks))

    def events(self, wait_for_one):
        if not wait_for_one:
            return
        chain = self.begun.pop()
        failed = False
        for task in chain:
            if failed:
                yield Event(task, Returned())
                continue
            failure = next((own for own in self.failures if own[0] == task.name), None)
            if failure:
                self.failures.remove(failure)
                failed = True
                yield Event(task, failure[1])
                continue
            self.performed.append(task)
            self.done.add(task.folder)
            yield Event(task, Done(self.store.stage(task, lambda folder: None)))


@pytest.fixture
def side_by_side(tmp_path, monkeypatch):
    """Makes the hands of a run whose facts are all known, and says the tasks that it comes past."""
    monkeypatch.setattr(jobs, "learned", lambda config, facts, *others: facts)

    def make(settings=(), **pool):
        store, config = Store(tmp_path / "r"), Config().with_values(dict(settings))
        facts = guessed(config, KNOWN)
        own, progress = Pool(store, **pool), Progress()
        own.said = []
        progress.say = own.said.append
        tasks = [t for t in plan(config, facts).tasks() if not t.kind.endswith("-report")]
        return SideBySide(config, facts, store, None, progress, own), own, facts, tasks

    return make


def perform_all(hands, facts, tasks):
    finished = set()
    for task in tasks:
        hands.perform(facts, task, finished)
        finished.add(task.folder)


ENSEMBLE_OF_RULES = {"ensemble": True, "temperatures": (2.0, 4.0)}  # labels that are in no plan, only inputs


@pytest.mark.parametrize(
    "settings, chained",
    [({}, True), ({"alphas": (0.1, 0.5)}, False), (ENSEMBLE_OF_RULES, False), (ENSEMBLE_OF_RULES, True)],
)
def test_every_task_is_performed_once_and_after_its_inputs(side_by_side, settings, chained):
    hands, pool, facts, tasks = side_by_side(settings, slots=99, chained=chained)
    perform_all(hands, facts, tasks)
    folders, listed = [task.folder for task in pool.performed], {task.folder for task in tasks}
    assert sorted(folders) == sorted(listed)
    place = {folder: i for i, folder in enumerate(folders)}
    for task in pool.performed:
        needed = {own.folder for own in task.upstream()} & listed
        assert all(place[folder] < place[task.folder] for folder in needed), task.name
    assert folders != [task.folder for task in tasks]  # the pool goes ahead of the run


def test_a_chain_is_of_one_teacher_or_student(side_by_side):
    hands, pool, facts, tasks = side_by_side(slots=9, chained=True)
    begun = []
    begin = pool.begin
    pool.begin = lambda chain: (begun.append([own.name for own in chain]), begin(chain))
    perform_all(hands, facts, tasks)
    assert ["cnn5-whole", "cnn5-labels", "cnn5-evaluation"] in [[*own] for own in begun]
    assert all(len({name.split("-")[0] for name in own}) == 1 for own in begun)


def test_parts_of_labels_are_no_chain(side_by_side, monkeypatch):
    """Several jobs of a cluster label at once, with one teacher."""
    monkeypatch.setattr(plan_teachers, "UNDIVIDED", 0)
    monkeypatch.setattr(f"{__name__}.KNOWN", replace(KNOWN, train_images=10))
    hands, pool, facts, tasks = side_by_side({"views": 3}, slots=99, chained=True)
    begun, begin = [], pool.begin
    pool.begin = lambda chain: (begun.append([own.name for own in chain]), begin(chain))
    perform_all(hands, facts, tasks)
    assert [own for own in begun if "cnn5-labels-part" in own[0]] == [
        [f"cnn5-labels-part{i}"] for i in range(3)
    ]
    assert ["cnn5-whole", "cnn5-evaluation"] in begun and not pool.begun


def test_what_stands_is_not_performed_again(side_by_side):
    hands, pool, facts, tasks = side_by_side()
    perform_all(hands, facts, tasks)
    again, other, *_ = side_by_side()
    perform_all(again, facts, tasks)
    assert pool.performed and not other.performed


@pytest.mark.parametrize("chained", [False, True])
def test_a_task_that_fails_is_performed_once_more(side_by_side, chained):
    failures = [("cnn5-whole", BROKEN), ("alone-student", BROKEN)]
    hands, pool, facts, tasks = side_by_side(failures=failures, chained=chained)
    perform_all(hands, facts, tasks)
    assert sorted(t.folder for t in pool.performed) == sorted(t.folder for t in tasks)
    told = "Warning: cnn5-whole is performed again: RuntimeError: broken. What it wrote is in cnn5-whole.log."
    assert len(pool.said) == 2 and told in pool.said


def test_a_task_that_fails_twice_is_told_with_its_log(side_by_side):
    hands, _, facts, tasks = side_by_side(failures=[("cnn5-whole", BROKEN)] * 2)
    with pytest.raises(
        UserError, match=r"^cnn5-whole must .* RuntimeError: broken\. .* in cnn5-whole\.log\."
    ):
        perform_all(hands, facts, tasks)


def test_what_the_user_can_mend_is_not_tried_again(side_by_side):
    failures = [("cnn5-whole", Failed("x", UserError("--weights must be a file.")))]
    hands, pool, facts, tasks = side_by_side(failures=failures)
    with pytest.raises(UserError, match=r"^--weights must be a file\.$"):
        perform_all(hands, facts, tasks)
    assert pool.said == []


def test_weights_are_looked_for_one_after_the_other(side_by_side):
    """Two teachers of one network would download them into one file."""
    hands, pool, facts, tasks = side_by_side({"teacher_seeds": True, "seeds": 2}, slots=9)
    most, begin = 0, pool.begin

    def count(chain):
        nonlocal most
        begin(chain)
        most = max(most, sum(own.kind == "origin" for tasks in pool.begun for own in tasks))

    pool.begin = count
    perform_all(hands, facts, tasks)
    assert most == 1


# Processes


@pytest.fixture
def local(tmp_path, monkeypatch):
    """A pool of toys; its server process imports no Keras before."""
    monkeypatch.setattr(local_pool, "PRELOADED", local_pool.PRELOADED[1:])
    pool = LocalPool(Toy(str(tmp_path)), 2, tmp_path / "logs")
    yield pool
    pool.close()


def ended(pool, count):
    """{name of a task: what came of it} of so many."""
    outcomes = {}
    while len(outcomes) < count:
        for task, what in pool.events(True):
            if isinstance(what, Done | Failed):
                outcomes[task.name] = what
    return outcomes


def test_processes_stay_and_one_that_dies_is_replaced(local):
    local.begin([Task("views", "dies")])
    local.begin([Task("views", "lives-1")])
    assert not local.free
    outcomes = ended(local, 2)
    assert outcomes["dies"] == Failed("its process ended by SIGKILL") and local.free == 2
    first = outcomes["lives-1"].stage[0]
    local.begin([Task("views", "lives-2")])
    local.begin([Task("views", "lives-3")])
    second = {name: own.stage[0] for name, own in ended(local, 2).items()}
    assert second["lives-2"] == first and second["lives-3"] not in (first, os.getpid())


def test_the_end_of_a_run_ends_what_is_done_tidily(local, tmp_path):
    local.begin([Task("views", "waits")])
    while not any(what == ("say", "waiting") for _, what in local.events(True)):
        pass
    local.close()
    assert (tmp_path / "waits").read_text() == "tidy"


def test_each_process_has_a_gpu_of_its_own(local, monkeypatch):
    local._gpus = ["4", "7"]
    for i in range(2):
        local.begin([Task("views", f"lives-{i}")])
    shown = [own.stage[1] for own in ended(local, 2).values()]
    assert sorted(own["CUDA_VISIBLE_DEVICES"] for own in shown) == ["4", "7"]


def test_gpus_are_those_of_the_machine_or_those_that_are_named(tmp_path):
    for name in ("nvidia0", "nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert gpus_of_host({}, tmp_path) == ["0", "2", "10"]
    for named, gpus in {"": [], "-1": [], "1, GPU-ab": ["1", "GPU-ab"], "2,-1,3": ["2"]}.items():
        assert gpus_of_host({"CUDA_VISIBLE_DEVICES": named}, tmp_path) == gpus
    taken = [environment_of(i, ["0", "2"]).get("CUDA_VISIBLE_DEVICES") for i in range(3)]
    assert taken == ["0", "2", "0"] and environment_of(1, []) == {}


def test_threads_are_divided_but_where_results_would_depend_on_their_number():
    def threads(**settings):
        return threads_of_a_job(RunConfig(**settings), 8)

    assert (threads(), threads(threads=3), threads(jobs=3), threads(jobs=9)) == (None, 3, 2, 1)
    assert {threads(jobs=jobs, deterministic=True) for jobs in (2, 3, 9)} == {8}
    assert threads(jobs=4, threads=2, deterministic=True) == 2
    assert threads(jobs=4, engine="ray") == 1


# Progress


def test_progress_of_another_process_is_shown_as_if_it_were_here():
    heard, notes = [], []
    here, there = Progress(), Relay(lambda note: notes.append(pickle.loads(pickle.dumps(note))))
    here.watchers.append(lambda stage, epoch: heard.append((stage, epoch)))
    here.say = heard.append
    with there.stage("cnn5-whole"), there.bar("cnn5", 3) as advance:
        advance(1, {"epoch": 1, "loss": 0.5})
        there.say("in between")
        advance(2, {"epoch": 2, "loss": 0.25})
        there.warn("worse")
    side = here.beside()
    replay = Replay(side, None)
    for note in notes[:4]:
        replay.hear(note)
    assert side.stages == ["cnn5-whole"] and here.stages == []
    for note in notes[4:]:
        replay.hear(note)
    epochs = [("cnn5-whole", {"epoch": i, "loss": 1 / 2**i}) for i in (1, 2)]
    assert heard == [epochs[0], "in between", epochs[1]] and side.stages == []
    assert there.warnings == ["worse"] and here.warnings == []


# A run


def test_a_stage_made_by_other_processes_of_which_one_is_killed_is_that_of_one_job(
    small, blank, monkeypatch, capfd
):
    notes = {own: read_note(own)["sha256"] for own in (small / "work").glob("cnn5-conversion-*")}
    before = {file: file.read_bytes() for file in (*small.glob("*.csv"), *small.glob("*.tflite"))}
    stood, killed = set(stages(small)), []
    for folder in notes:
        shutil.rmtree(folder)

    class Killing(LocalPool):
        def begin(self, tasks):
            super().begin(tasks)
            if tasks[0].name == "cnn5-conversion" and not killed:
                killed.extend(own.process.pid for own in self._processes if own.task is tasks[0])
                os.kill(killed[0], signal.SIGKILL)

    monkeypatch.setattr(hands, "LocalPool", Killing)
    told = json.loads((small / "manifest.json").read_text())["config"]["data"]["data"]
    assert main(["--data", told, "--results", "r", *SMALL, "--jobs", "2"]) == 0
    again = "Warning: cnn5-conversion is performed again: its process ended by SIGKILL."
    assert killed and again in capfd.readouterr().err
    assert len(notes) == 1 and {own: read_note(own)["sha256"] for own in notes} == notes
    assert {file: file.read_bytes() for file in before} == before and set(stages(small)) == stood
    assert not (small / "work" / "logs").exists()
