"""A Ray cluster that performs the tasks of a run, over a folder that its machines share or without one.

Nothing is reported to Ray's makers, no dashboard is started, and a cluster of other machines is used only
with token authentication: who reaches one without may run what he likes on it.
"""

import os
import secrets
import socket
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..config import RunConfig
from ..data.dataset import Dataset
from ..errors import UserError, require
from ..native_log import native_lines, set_environment
from ..store import Store
from ..tasks import Task
from .parcels import needed, packed, unpacked
from .pool import Done, Event, Failed, LoggingPool
from .relay import Note
from .worker import Worker

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
DEFAULT_TOKEN = Path(".ray", "auth_token")  # under the home folder
NO_TOKEN = (
    "Set RAY_AUTH_MODE=token here and on every node, with the token of the cluster in RAY_AUTH_TOKEN or in "
    "the file that RAY_AUTH_TOKEN_PATH names: see docs/scale.md."
)
PATIENCE = 10.0  # seconds, for a cluster to answer
CANCELLED = 60.0  # seconds that a training may take to write its state
_workers: dict[str, Worker] = {}  # by run, in a process of the cluster: the data are opened once


@dataclass(frozen=True)
class Answer:
    """What comes back of a task; where no folder is shared, with its stage or its log."""

    outcome: Done | Failed
    notes: tuple[Note, ...]
    parcel: bytes | None = None
    log: str = ""


def is_this_host(address: str) -> bool:
    """Whether HOST:PORT is of this machine: a socket can be bound to the host's own addresses alone."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        places = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except OSError:
        return False
    for family, kind, protocol, _, place in places:
        with socket.socket(family, kind, protocol) as probe:
            try:
                probe.bind(place)
            except OSError:
                return False
    return True


def checked_address(address: str | None) -> str:
    """The address as Ray takes it. Raises `UserError` for another host's without token authentication."""
    named = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    if not named:
        return address or "local"
    good = named.rpartition(":")[2].isdecimal() and "/" not in named
    require(good, "--address", "HOST:PORT of a Ray cluster, or auto", named)
    home = Path.home() / DEFAULT_TOKEN
    token = os.environ.get(TOKEN) or os.environ.get(TOKEN_PATH) or home.is_file()
    authenticated = os.environ.get(MODE, "").lower() == "token" and token
    rule = "of this host, or of a cluster with token authentication"
    require(is_this_host(named) or authenticated, "--address", rule, named, NO_TOKEN)
    return named


class RayPool(LoggingPool):
    """At most `settings.jobs` tasks at once on the nodes of a cluster. Raises `UserError`."""

    chained = False

    def __init__(self, worker: Worker, data: Dataset, settings: RunConfig, store: Store, logs: Path):
        super().__init__(logs)
        self.slots, self._store = settings.jobs, store
        address = checked_address(settings.address)
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        if address == "local" and MODE not in os.environ:  # else Ray keeps a token in the home folder
            os.environ |= {MODE: "token", TOKEN: secrets.token_hex(32)}
        import ray

        self._ray, self._tasks, self._events = ray, dict[Any, Task](), list[Event]()
        self._parcels: dict[str, Any] = {}  # references to stages that were sent
        own = {"num_cpus": settings.jobs * (settings.threads or 1)} if address == "local" else {}
        with _cluster_errors(settings.address), native_lines(lambda lines: None):
            _require_answer(address)
            ray.init(address, include_dashboard=False, log_to_driver=False, logging_level="ERROR", **own)
        try:
            nodes = [node for node in ray.nodes() if node["Alive"]]
            gpus = {"num_gpus": 1} if any(node["Resources"].get("GPU") for node in nodes) else {}
            self._remote = ray.remote(num_cpus=settings.threads or 1, max_retries=0, **gpus)(_perform)
            self._run, self._worker = uuid.uuid4().hex, ray.put(worker)
            self._dataset = None if self._is_shared(nodes) else ray.put(data)
        except BaseException:
            ray.shutdown()
            raise

    def _is_shared(self, nodes: list[dict[str, Any]]) -> bool:
        """Whether all nodes see the results folder under its name."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._store.work.mkdir(exist_ok=True)
        sign = (self._store.work / f".{uuid.uuid4().hex}.part").resolve()
        sign.touch()
        try:
            ask = self._ray.remote(num_cpus=0)(os.path.exists)
            places = (NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes)
            asked = [ask.options(scheduling_strategy=place).remote(str(sign)) for place in places]
            return all(self._ray.get(asked))
        finally:
            sign.unlink()

    @property
    def free(self) -> int:
        """How many tasks can be begun now."""
        return self.slots - len(self._tasks)

    def begin(self, tasks: Sequence[Task]) -> None:
        """Have a task performed on a node that has room."""
        (task,) = tasks
        parcels = {}
        if self._dataset is not None:
            parcels = {folder: self._sent(folder) for folder in needed(task, self._store)}
        log = self.log_of(task).resolve()
        arguments = (self._run, self._worker, task, str(log), os.getcwd(), self._dataset, tuple(parcels))
        self._tasks[self._remote.remote(*arguments, *parcels.values())] = task
        self._events.append(Event(task, ("stage", task.name)))

    def _sent(self, folder: str) -> Any:
        """A reference to the bytes of a finished stage."""
        if folder not in self._parcels:
            self._parcels[folder] = self._ray.put(packed(self._store.work / folder))
        return self._parcels[folder]

    def events(self, wait_for_one: bool) -> Iterator[Event]:
        """What has happened since; waits until something has, if so wanted."""
        events, self._events = self._events, []
        yield from events
        patience = None if wait_for_one and not events else 0
        ready, _ = self._ray.wait(list(self._tasks), timeout=patience) if self._tasks else ([], [])
        for reference in ready:
            task = self._tasks.pop(reference)
            try:
                answer: Answer = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                yield Event(task, Failed(_in_words(error)))
                continue
            yield from self._answered(task, answer)

    def _answered(self, task: Task, answer: Answer) -> Iterator[Event]:
        if answer.parcel is not None:
            unpacked(answer.parcel, self._store, task.folder)
        elif answer.log:
            self._logs.mkdir(parents=True, exist_ok=True)
            self.log_of(task).write_text(answer.log)
        else:
            self._store.refresh()
        for note in answer.notes or (("end",),):
            yield Event(task, note)
        yield Event(task, answer.outcome)

    def close(self) -> None:
        """Cancel what is being done, which lets a training write its state, and leave the cluster."""
        try:
            for reference in self._tasks:
                self._ray.cancel(reference, force=False)
            if self._tasks:
                self._ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=CANCELLED)
        finally:
            self._ray.shutdown()
            self._remove_empty_folder()


def _require_answer(address: str) -> None:
    """Raise `OSError` where nothing listens at HOST:PORT, for which Ray would look for minutes."""
    host, _, port = address.rpartition(":")
    if host:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()


def _perform(
    run: str,
    worker: Worker,
    task: Task,
    log: str,
    cwd: str,
    data: Dataset | None,
    names: tuple[str, ...],
    *parcels: bytes,
) -> Answer:
    """In a process of the cluster: perform a task; where `data` came along, in a folder of its own."""
    set_environment()
    notes: list[Note] = []
    if data is None:
        with suppress(OSError):  # relative names are those of the run
            os.chdir(cwd)
        own = _workers.setdefault(run, worker)
        outcome = own.logged_outcome(task, Path(log), notes.append)
        return Answer(outcome, tuple(notes[1:]))
    with tempfile.TemporaryDirectory(prefix="kdtf-") as folder:
        store = Store(Path(folder, "results"))
        for name, parcel in zip(names, parcels, strict=True):
            unpacked(parcel, store, name)
        own, file = replace(worker, results=str(store.root), data=data), Path(folder, "log")
        outcome = own.logged_outcome(task, file, notes.append)
        if isinstance(outcome, Done):
            return Answer(outcome, tuple(notes[1:]), packed(store.work / task.folder))
        return Answer(outcome, tuple(notes[1:]), log=file.read_text(errors="replace"))


def _in_words(error: Exception) -> str:
    """Why a task of the cluster ended without an answer."""
    first = " ".join(str(error).split()).partition(". ")[0]
    return f"{type(error).__name__}: {first}"[:200].rstrip(".")


@contextmanager
def _cluster_errors(address: str | None) -> Iterator[None]:
    from ray.exceptions import RayError

    try:
        yield
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise UserError(
            f"--address must be a Ray cluster that answers. Got {address!r}: {_in_words(error)}."
        ) from None
