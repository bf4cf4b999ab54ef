"""Processes that run the student, one request each at a time; one that is late or dies is replaced."""

import asyncio
import json
import multiprocessing
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..errors import require
from ..predictor import read_bundle
from .worker import Record, work

GRACE = 0.05  # seconds between a worker's deadline and the answer: its replacement is not waited for
LOADING = 120.0  # seconds that a worker may take to load the student
GONE = {"error": "the program that decodes it ended: the image is damaged or harmful"}


class Late(Exception):
    """The answer did not come in time."""


class Busy(Exception):
    """As many requests are waiting as may."""


class Worker:
    """A process and this end of its pipe."""

    def __init__(self, bundle: Path, record: Record | None):
        spawn = multiprocessing.get_context("spawn")
        self._end: Connection
        self._end, other = spawn.Pipe()
        self.process = spawn.Process(target=work, args=(other, str(bundle), record), daemon=True)
        self.process.start()
        other.close()

    def is_ready(self, seconds: float) -> bool:
        """Wait until the student is loaded. Raises `EOFError` where the process ended instead."""
        return self._end.poll(seconds) and self._end.recv_bytes() == b"ready"

    def ask(self, content: bytes, deadline: float) -> dict[str, Any]:
        """What the student says of an image, until `deadline` of `time.monotonic`.

        Raises `Late`, and `OSError` or `EOFError` where the process has ended.
        """
        self._end.send_bytes(content)
        if not self._end.poll(max(0.0, deadline - time.monotonic())):
            raise Late
        return json.loads(self._end.recv_bytes())

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self._end.close()
        self.process.kill()
        self.process.join()


class Pool:
    """Workers of one bundle, which is copied first: a file that is replaced later changes no answer.

    `record`, which is carried to the workers, takes every answer. Raises `UserError` where the student
    cannot be loaded, and `BundleError` where the bundle is none.
    """

    def __init__(self, bundle: Path, *, workers: int, queue: int, record: Record | None = None):
        _, self.card = read_bundle(bundle)
        self._folder = TemporaryDirectory(prefix="kdtf-serve-")
        self._bundle = Path(self._folder.name, "student.tflite")
        for suffix in (".tflite", ".json"):
            shutil.copyfile(bundle.with_suffix(suffix), self._bundle.with_suffix(suffix))
        self.waiting, self.replaced, self._queue = 0, 0, queue
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="worker")
        self._record = record
        self._workers = [Worker(self._bundle, record) for _ in range(workers)]
        self._free: list[Worker] = []
        self._turn = asyncio.Semaphore(workers)
        for worker in self._workers:
            self._free.append(self._loaded(worker, bundle))

    def _loaded(self, worker: Worker, name: Path) -> Worker:
        ready = False
        with suppress(EOFError, OSError):
            ready = worker.is_ready(LOADING)
        if not ready:
            self.close()
        require(ready, "BUNDLE", "a student that a process of its own can load", str(name))
        return worker

    @property
    def alive(self) -> int:
        """Workers whose process runs."""
        return sum(worker.process.is_alive() for worker in self._workers)

    async def ask(self, content: bytes, deadline: float) -> dict[str, Any]:
        """What the student says of the bytes of an image, until `deadline` of `time.monotonic`.

        Raises `Busy` and `Late`.
        """
        if self.waiting >= self._queue + len(self._workers):
            raise Busy
        self.waiting += 1
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await self._turn.acquire()
            # a client that goes away ends the request; the worker is given back by the thread that asks it
            task = asyncio.get_running_loop().run_in_executor(self._threads, self._ask, content, deadline)
            task.add_done_callback(self._end_turn)
            async with asyncio.timeout(max(0.0, deadline - time.monotonic()) + GRACE):
                return await asyncio.shield(task)
        except TimeoutError:
            raise Late from None
        finally:
            self.waiting -= 1

    def _end_turn(self, task: "asyncio.Future[dict[str, Any]]") -> None:
        self._turn.release()
        if not task.cancelled():
            task.exception()  # of a request that nobody waits for any more

    def _ask(self, content: bytes, deadline: float) -> dict[str, Any]:
        """In a thread: `Worker.ask` of a worker that is free, which is replaced where it fails."""
        worker = self._free.pop()
        try:
            answer = worker.ask(content, deadline)
        except BaseException as error:
            worker = self._replace(worker)
            if isinstance(error, EOFError | OSError):
                return GONE
            raise
        finally:
            self._free.append(worker)
        return answer

    def _replace(self, worker: Worker) -> Worker:
        worker.end()
        new = Worker(self._bundle, self._record)
        self._workers[self._workers.index(worker)] = new
        self.replaced += 1
        with suppress(EOFError, OSError):
            new.is_ready(LOADING)
        return new

    def close(self) -> None:
        """End all workers and remove the copy of the bundle."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.end()
        self._folder.cleanup()
