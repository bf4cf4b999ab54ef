"""Tasks on a Ray cluster and on Slurm: who may be asked, and the stages of a local process byte for byte.

`benchmarks/ray_faults.py` kills processes, nodes and runs.
"""

import os
import re
import signal
import socket
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from test_perform import digests, source, student_task

from kdtf.config import RunConfig
from kdtf.data.load import open_source
from kdtf.errors import UserError
from kdtf.extras import EXTRAS
from kdtf.progress import Progress
from kdtf.runs import slurm_pool
from kdtf.runs.parcels import needed, packed, unpacked
from kdtf.runs.perform import perform
from kdtf.runs.pool import Done, Failed, Returned
from kdtf.runs.ray_pool import RayPool, checked_address, is_this_host
from kdtf.runs.slurm_pool import SlurmPool
from kdtf.runs.worker import Worker
from kdtf.store import Store
from kdtf.tasks import Task

BROKEN = Task("ensemble-labels", "no-settings")  # a fault of the program


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """A user without a token."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)


def test_addresses_of_this_host_are_those_a_socket_can_be_bound_to():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        assert is_this_host(f"127.0.0.1:{listener.getsockname()[1]}")
    assert is_this_host("localhost:6379") and not is_this_host("203.0.113.9:6379")
    assert not is_this_host("no.such.host.invalid:6379")


@pytest.mark.parametrize("token", [None, "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "home"])
@pytest.mark.parametrize("mode", [None, "disabled", "token"])
def test_a_cluster_elsewhere_needs_token_authentication(nobody, monkeypatch, tmp_path, mode, token):
    if mode:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    if token == "home":
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text("secret")
    elif token:
        monkeypatch.setenv(token, "secret")
    assert checked_address("127.0.0.1:6379") == "127.0.0.1:6379" and checked_address(None) == "local"
    if mode == "token" and token:
        assert checked_address("203.0.113.9:6379") == "203.0.113.9:6379"
        return
    rule = r"--address must be of this host, or of a cluster with token authentication\. Got '203\.0\.113\.9:"
    with pytest.raises(UserError, match=rule):
        checked_address("203.0.113.9:6379")
    monkeypatch.setenv("RAY_ADDRESS", "203.0.113.9:6379")
    with pytest.raises(UserError, match=rule):
        checked_address("auto")


@pytest.mark.parametrize("address", ["ray://203.0.113.9:10001", "203.0.113.9", "http://host:8265"])
def test_what_is_no_host_and_port_is_refused(nobody, address):
    with pytest.raises(UserError, match="--address must be HOST:PORT"):
        checked_address(address)


@pytest.mark.parametrize("settings", [{"address": "auto"}, {"slurm": ("time=1",), "engine": "ray"}])
def test_settings_of_another_engine_are_refused(settings):
    with pytest.raises(UserError, match=r"must be given with --engine (ray|slurm)"):
        RunConfig(**settings)


@pytest.mark.parametrize("engine, package", [("ray", "ray"), ("slurm", "submitit")])
def test_an_engine_whose_package_is_missing_names_its_extra(engine, package, monkeypatch):
    from kdtf.runs.hands import check_engine

    monkeypatch.setattr("kdtf.extras.find_spec", lambda module: None if module == package else module)
    with pytest.raises(UserError, match=rf"package {package} must .* '\.\[{EXTRAS[package][1]}\]'"):
        check_engine(RunConfig(engine=engine))
    check_engine(RunConfig())


def test_a_stage_that_is_sent_is_the_same_and_the_second_one_is_dropped(tmp_path):
    here, there, task = Store(tmp_path / "here"), Store(tmp_path / "there"), Task("views", "x")

    def fill(folder):
        (folder / "sub").mkdir()
        (folder / "sub" / "a.bin").write_bytes(bytes(999))

    stage = here.stage(task, fill)
    for _ in range(2):
        unpacked(packed(stage.path), there, task.folder)
        found = there.find(task)
        assert found.seconds == stage.seconds and (found.path / "sub" / "a.bin").read_bytes() == bytes(999)
        assert [own.name for own in there.work.iterdir()] == [task.folder]


def test_of_an_input_that_does_not_stand_what_it_is_made_of_is_sent(tmp_path):
    store, views, audit = Store(tmp_path), Task("views", "views"), Task("audit", "audit")
    labels = Task("labels", "labels", inputs={"views": views, "audit": audit})
    student = Task("student", "student", inputs={"views": views, "labels": labels})
    for task in (views, audit):
        store.stage(task, lambda folder: None)
    assert needed(student, store) == [views.folder, audit.folder]
    store.stage(labels, lambda folder: None)
    assert needed(student, store) == [views.folder, labels.folder]


# With the packages


@pytest.fixture(scope="module")
def expected(tiny, tmp_path_factory):
    """(the data, tasks of which each needs the one before, the results folder of this process)."""
    folder = tmp_path_factory.mktemp("expected")
    data = open_source(source(tiny), folder / "d")
    student = student_task(data.digest)
    tasks = [student.inputs["views"], student]
    store = Store(folder / "r")
    for task in tasks:
        perform(task, store, data, Progress())
    return data, tasks, folder / "r"


@pytest.fixture(scope="module")
def cluster():
    """The address of a cluster of two nodes on this host, with token authentication."""
    if not find_spec("ray"):  # which reads how it authenticates when it is imported
        pytest.skip("no Ray: pip install '.[ray]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 1, "object_store_memory": 100 << 20}
        own = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        own.add_node(**node)
        yield own.address
        own.shutdown()


@pytest.fixture(scope="module")
def submitit():
    return pytest.importorskip("submitit", reason="no submitit: pip install '.[slurm]'")


def outcome(pool, tasks):
    """What came of tasks that are begun together."""
    pool.begin(tasks)
    outcomes = []
    while len(outcomes) < len(tasks):
        outcomes += [what for _, what in pool.events(True) if isinstance(what, Done | Failed | Returned)]
    return outcomes


@pytest.mark.parametrize("shared", [True, False])
def test_a_cluster_makes_the_stages_of_a_local_process(cluster, expected, tmp_path, monkeypatch, shared):
    data, tasks, here = expected
    if not shared:
        monkeypatch.setattr(RayPool, "_is_shared", lambda pool, nodes: False)
    store = Store(tmp_path / "r")
    settings = RunConfig(engine="ray", address=cluster)
    pool = RayPool(Worker(str(store.root), data.origin), data, settings, store, store.work / "logs")
    try:
        for task in tasks:
            (done,) = outcome(pool, [task])
            assert isinstance(done, Done) and store.find(task)
            assert digests(store.root, task) == digests(here, task)
        (failed,) = outcome(pool, [BROKEN])
        assert "TypeError" in failed.reason and "TypeError" in pool.log_of(BROKEN).read_text()
    finally:
        pool.close()


def test_a_process_of_the_cluster_that_is_killed_is_told(cluster, expected, tmp_path):
    data, tasks, _ = expected
    store = Store(tmp_path / "r")
    settings = RunConfig(engine="ray", address=cluster)
    pool = RayPool(Worker(str(store.root), data.origin), data, settings, store, store.work / "logs")
    try:
        pool.begin([tasks[1]])
        while not (parts := list(store.work.glob(".alone-student-*.part"))):
            time.sleep(0.01)
        os.kill(int(re.search(r"-(\d+)-\w{8}\.part$", parts[0].name)[1]), signal.SIGKILL)
        failed = []
        while not failed:
            failed = [what for _, what in pool.events(True) if isinstance(what, Failed)]
        assert "died" in failed[0].reason and not store.find(tasks[1])
        assert isinstance(outcome(pool, [tasks[1]])[0], Done)
    finally:
        pool.close()


def test_a_job_performs_a_chain_and_gives_back_what_it_did_not_begin(
    submitit, expected, tmp_path, monkeypatch
):
    """On this machine, by submitit's own executor: Slurm's differs in how a job is begun."""
    data, tasks, here = expected
    monkeypatch.setattr(slurm_pool, "CLUSTER", "local")
    store = Store(tmp_path / "r")
    pool = SlurmPool(
        Worker(str(store.root), data.origin), RunConfig(engine="slurm"), store, store.work / "logs"
    )
    try:
        chain = [tasks[0], BROKEN, tasks[1]]
        done, failed, returned = outcome(pool, chain)
        assert isinstance(done, Done) and isinstance(failed, Failed) and isinstance(returned, Returned)
        assert digests(store.root, tasks[0]) == digests(here, tasks[0]) and not store.find(tasks[1])
        assert "TypeError" in pool.log_of(chain[1]).read_text()
    finally:
        pool.close()


def test_a_job_that_slurm_lost_is_a_failure_where_no_accounts_are_kept(
    submitit, expected, tmp_path, monkeypatch
):
    data, tasks, _ = expected
    monkeypatch.setattr(slurm_pool, "CLUSTER", "local")
    monkeypatch.setattr(slurm_pool, "LOOK", 0.0)
    monkeypatch.setattr(slurm_pool, "queued_jobs", lambda: queue)
    store = Store(tmp_path / "r")
    pool = SlurmPool(
        Worker(str(store.root), data.origin), RunConfig(engine="slurm"), store, store.work / "logs"
    )
    pool.begin(tasks[:2])
    (job,) = pool._jobs
    job.submitted.cancel()
    queue = None  # Slurm does not answer: that is no loss
    pool._look()
    queue = {str(job.submitted.job_id)}
    pool._look()
    assert job.missed == 0
    queue = set()
    outcomes = []
    while len(outcomes) < 2:
        outcomes += [what for _, what in pool.events(True) if isinstance(what, Failed | Returned)]
    assert outcomes[0].reason == f"its job {job.submitted.job_id} ended without a result"
    assert isinstance(outcomes[1], Returned)
    pool.close()


@pytest.mark.parametrize(
    "squeue, expected_jobs",
    [("printf '3\\n14\\n'", {"3", "14"}), ("true", set()), ("exit 1", None), (None, None)],
    ids=["two jobs", "no job", "no controller", "no Slurm"],
)
def test_the_queue_of_slurm_is_asked_what_is_left(squeue, expected_jobs, tmp_path, monkeypatch):
    if squeue:
        command = tmp_path / "squeue"
        command.write_text(f"#!/bin/sh\n{squeue}\n")
        command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm_pool.queued_jobs() == expected_jobs


def test_no_slurm_is_told(submitit, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    store = Store(tmp_path / "r")
    with pytest.raises(UserError, match="--engine slurm must find Slurm"):
        SlurmPool(Worker(str(store.root), None), RunConfig(engine="slurm"), store, store.work / "logs")
