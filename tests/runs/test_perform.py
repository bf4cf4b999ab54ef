"""A task is a value that any process can perform, once."""

import multiprocessing
import pickle
import shutil

import pytest

from kdtf.config import ViewConfig
from kdtf.data.dataset import DataSource
from kdtf.data.load import open_source
from kdtf.errors import UserError
from kdtf.progress import Progress
from kdtf.records import Rule, StudentNetwork, Training
from kdtf.runs.kinds import PACKAGES
from kdtf.runs.perform import perform
from kdtf.runs.plan import phantom_task, plan
from kdtf.runs.records import Facts
from kdtf.runs.worker import Worker
from kdtf.stage_folders import read_note
from kdtf.store import Store
from kdtf.tasks import Task
from kdtf.versions import versions


def source(folder):
    return DataSource(str(folder), (), None, 0.1, 0)


def student_task(digest, epochs=1):
    """A student trained alone over two views: the smallest task that trains."""
    views = Task("views", "views", {"policy": ViewConfig(views=2), "seed": 0}, data=digest)
    settings = {
        "network": StudentNetwork("baseline", 0.9, 0.5, 0),
        "training": Training(epochs, 16, 1e-3),
        "rule": None,
    }
    return Task("student", "alone-student", settings, {"views": views}, digest)


def perform_elsewhere(pickled, results, data):
    """What a worker does: it is sent bytes and names of folders, and opens the rest itself."""
    Worker(results, source(data)).perform(pickle.loads(pickled))


@pytest.fixture(scope="module")
def elsewhere(tiny, tmp_path_factory):
    """(a task, the results folder that two processes left which performed it at once, their exit codes)."""
    folder = tmp_path_factory.mktemp("elsewhere")
    task = student_task(open_source(source(tiny), folder / "d").digest)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["keras"])  # once for both
    argv = (pickle.dumps(task), str(folder / "r"), str(tiny))
    workers = [context.Process(target=perform_elsewhere, args=argv) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    return task, folder / "r", [worker.exitcode for worker in workers]


@pytest.fixture(scope="module")
def here(tiny, tmp_path_factory):
    """(a results folder in which this process performed the task and first its input, the stages)."""
    folder = tmp_path_factory.mktemp("here")
    data = open_source(source(tiny), folder / "d")
    task, store = student_task(data.digest), Store(folder / "r")
    return folder / "r", [perform(own, store, data, Progress()) for own in (task.inputs["views"], task)]


def digests(results, task):
    return {
        name: sha
        for name, sha in read_note(results / "work" / task.folder)["sha256"].items()
        if name != "student.h5"  # HDF5 holds no date, but the order of its pages is its own
    }


def test_another_process_makes_the_same_stage(elsewhere, here):
    task, there, codes = elsewhere
    assert 0 in codes
    for own in (task, task.inputs["views"]):
        assert digests(here[0], own) == digests(there, own)


def test_two_processes_with_one_task_leave_one_whole_stage(elsewhere):
    task, results, codes = elsewhere
    assert codes == [0, 0]
    store = Store(results)
    assert store.find(task) and store.find(task.inputs["views"])
    names = sorted(p.name for p in (results / "work").iterdir() if p.is_dir())
    assert names == sorted([task.folder, task.inputs["views"].folder])


def test_what_is_missing_is_made_and_what_stands_is_found(here, tiny, tmp_path):
    results, stages = here
    assert [stage.reused for stage in stages] == [False, False]
    shutil.copytree(results, tmp_path / "r")
    data = open_source(source(tiny), tmp_path / "d")
    task, store = student_task(data.digest), Store(tmp_path / "r")
    assert perform(task, store, data, Progress()).reused
    store.remove(task.inputs["views"])
    assert perform(task, store, data, Progress()).reused  # a finished stage needs its inputs no more


def test_a_task_of_other_data_is_refused(tiny, tmp_path):
    with pytest.raises(UserError, match="--data must be the images that views is made of"):
        Worker(str(tmp_path), source(tiny)).perform(student_task("another digest"))


def test_the_settings_of_a_task_are_all_that_reaches_its_function(tiny, tmp_path):
    data = open_source(source(tiny), tmp_path / "d")
    task = student_task(data.digest)
    wrong = Task(task.kind, task.name, {**task.settings, "extra": 1}, task.inputs, task.data)
    with pytest.raises(TypeError, match="extra"):
        perform(wrong, Store(tmp_path / "r"), data, Progress())
    assert not [p for p in (tmp_path / "r" / "work").iterdir() if p.name.startswith(".")]


def test_the_plan_of_a_run_names_the_stages_that_it_left(finished, tiny, tmp_path):
    """The plan alone, without performing anything, finds every stage of a finished run."""
    import json

    from kdtf.config import Config
    from kdtf.report.subjects import data_name
    from kdtf.runs.stages import read_origin

    manifest = json.loads((finished / "manifest.json").read_text())
    config = Config.from_dict(manifest["config"])
    (origin,) = (finished / "work").glob("mobilenet-origin-*")
    facts = Facts(
        manifest["data"]["digest"],
        data_name(tiny, True),
        tuple(manifest["data"]["classes"]),
        versions(PACKAGES),
        ("mobilenet",),
        synthetic=True,
        weight_files={"mobilenet": None},
        origins={("mobilenet", 0): read_origin(origin)},
        rules={"mobilenet": Rule(0.5, 2.0)},
    )
    planned = {task.folder for task in plan(config, facts).tasks() if not task.kind.endswith("-report")}
    standing = {p.name for p in (finished / "work").iterdir() if p.is_dir()}
    assert planned == {name for name in standing if "-report-" not in name}


def test_the_demo_is_a_task_too(tmp_path):
    task = phantom_task(0, versions(PACKAGES))
    assert task.name == "sample" and not task.data and pickle.loads(pickle.dumps(task)) == task
