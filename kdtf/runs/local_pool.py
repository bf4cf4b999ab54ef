"""Processes of this machine that perform the tasks of a run, one each at a time; one that dies is replaced.

They live as long as the run, so that TensorFlow starts once in each. A server process has imported it
before and is forked for every new one.
"""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from ..native_log import set_environment
from ..tasks import Task
from .pool import Done, Event, Failed, LoggingPool
from .relay import Note
from .worker import Worker, serve

PRELOADED = ["keras", f"{__package__}.worker"]  # by the server process
VISIBLE = "CUDA_VISIBLE_DEVICES"


def gpus_of_host(environment: dict[str, str] | os._Environ[str], devices: Path = Path("/dev")) -> list[str]:
    """The GPUs that tasks may use, as CUDA_VISIBLE_DEVICES names them."""
    named = environment.get(VISIBLE)
    if named is not None:
        listed = [own.strip() for own in named.split(",")]
        return listed[: listed.index("-1")] if "-1" in listed else [own for own in listed if own]
    return sorted((own.name[6:] for own in devices.glob("nvidia[0-9]*")), key=int)


def environment_of(number: int, gpus: list[str]) -> dict[str, str]:
    """The environment of a process: where there are GPUs, one of them in turn."""
    return {VISIBLE: gpus[number % len(gpus)]} if gpus else {}


@dataclass
class _Process:
    """A process, this end of its pipe, and what it is doing."""

    process: Any
    connection: Connection
    environment: dict[str, str]
    task: Task | None = None

    def lost(self) -> Failed:
        """Why nothing more comes from it."""
        self.process.join()
        code = self.process.exitcode or 0
        named = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return Failed(f"its process ended by {named}")


class LocalPool(LoggingPool):
    """At most `slots` processes; `log_of` names the file of what a task writes to stdout and stderr."""

    chained = False

    def __init__(self, worker: Worker, slots: int, logs: Path):
        super().__init__(logs)
        self.slots, self._worker = slots, worker
        self._context = multiprocessing.get_context("forkserver")
        self._processes: list[_Process] = []
        self._gpus = gpus_of_host(os.environ)

    @property
    def free(self) -> int:
        """How many tasks can be begun now."""
        return self.slots - sum(own.task is not None for own in self._processes)

    def begin(self, tasks: Sequence[Task]) -> None:
        """Have a task performed by a process that is free, or by a new one."""
        (task,) = tasks
        process = next((own for own in self._processes if own.task is None), None) or self._new()
        process.task = task
        with suppress(OSError):  # it has died: `events` says so
            process.connection.send((task, str(self.log_of(task))))

    def _new(self) -> _Process:
        taken = [own.environment for own in self._processes]
        ways = (environment_of(number, self._gpus) for number in range(self.slots))
        environment = next((own for own in ways if own not in taken), environment_of(0, self._gpus))
        set_environment()
        self._context.set_forkserver_preload(PRELOADED)
        own, other = self._context.Pipe()
        process = self._context.Process(target=serve, args=(other, self._worker, environment), daemon=True)
        with _no_stderr():  # what TensorFlow says when it is imported
            process.start()
        other.close()
        self._processes.append(_Process(process, own, environment))
        return self._processes[-1]

    def events(self, wait_for_one: bool) -> Iterator[Event]:
        """What has happened since, (task, note or outcome); waits until something has, if so wanted."""
        busy = {own.connection: own for own in self._processes if own.task}
        for connection in wait(list(busy), None if wait_for_one else 0.0):
            yield from self._heard(busy[connection])  # type: ignore[index]

    def _heard(self, process: _Process) -> Iterator[Event]:
        task = process.task
        if task is None:
            return
        try:
            while process.connection.poll():
                what: Note | Done | Failed = process.connection.recv()
                ended = isinstance(what, Done | Failed)
                if ended:
                    process.task = None
                yield Event(task, what)
                if ended:
                    return
        except (EOFError, OSError):
            self._processes.remove(process)
            process.connection.close()
            yield Event(task, process.lost())

    def close(self) -> None:
        """End all processes; a training writes its state first, unless a second signal comes meanwhile."""
        try:
            for own in self._processes:
                (own.process.terminate if own.task else own.process.kill)()
            for own in self._processes:
                own.process.join()
        finally:
            for own in self._processes:
                own.process.kill()
                own.process.join()
                own.connection.close()
            self._processes.clear()
            self._remove_empty_folder()


@contextmanager
def _no_stderr() -> Iterator[None]:
    """In this block a process that is started writes to no terminal."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
