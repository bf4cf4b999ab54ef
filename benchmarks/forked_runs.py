"""A whole run in seconds, forked from a process that has imported everything, and what it does to the disk.

To start TensorFlow anew for each of a thousand runs would take most of their time. Keras is imported once and
does nothing in this process; every run is a child of it, in which TensorFlow starts. Teachers are a single
convolution, trainings take their steps operation by operation, and pictures are empty figures of one pixel.
All else, from the arguments to `report.html`, is the product's own lines.
"""

import contextlib
import hashlib
import json
import os
import re
import shlex
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
SMALL = shlex.split(
    "--teachers cnn5 --weights none --freeze --views 2 --epochs 2 --batch-size 8 --fine-tune-epochs 1 "
    "--scratch-epochs 1 --fine-tune-batch-size 8 --student baseline --recipes int8 --deterministic "
    "--threads 1"
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
EVENTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink")
OWN = re.compile(r"\.\w+-\d+-[0-9a-f]{8}\.part")  # in a name: host, process and number of who writes it
TIMED = re.compile("-(evaluation|report)-")  # stages that hold seconds, or are named after such
LINE = "Interrupted. What is finished is kept; the same command goes on from it."


def import_all() -> None:
    """Import once what runs and readers need; TensorFlow is not started."""
    from kdtf.native_log import native_noise, set_environment

    set_environment()
    with native_noise():
        import keras
        import matplotlib.figure
        import pandas
        import small_run
        import statsmodels.stats.contingency_tables

        import kdtf.cli.entry
        import kdtf.runs.engine
        import kdtf.tflite.compress
        from kdtf.runs.kinds import KINDS

        for kind in KINDS.values():
            if kind.function:
                kind.load()
    assert all((keras, matplotlib, pandas, small_run, statsmodels, kdtf))


Before = Callable[[], object] | None  # done in the forked process first


class Operation(NamedTuple):
    """Something that a run does to its results folder, told apart from the others by what and where."""

    what: str
    path: str  # in the results folder, without the parts of names that differ between processes
    time: int  # which one of this kind

    def __str__(self) -> str:
        return f"{self.what} {self.path}" + f" ({self.time})" * (self.time > 1)


class Shim:
    """Hears in this process of what is about to be done to files below a folder.

    Of opening for writing, renaming, removing, making folders and truncating by Python's own audit events,
    of `os.fsync` by taking its place. What native code writes, as HDF5 does, is not heard of.
    """

    def __init__(self, root: Path, hear: Callable[[Operation, tuple[Path, ...]], None]):
        self.root, self.hear, self.counts = str(root.resolve()), hear, Counter[tuple[str, str]]()
        self.silent = False
        sys.addaudithook(self._audit)
        fsync = os.fsync

        def heard_fsync(descriptor: int) -> None:
            self._tell("fsync", os.readlink(f"/proc/self/fd/{descriptor}"))
            fsync(descriptor)

        os.fsync = heard_fsync

    def _audit(self, event: str, args: tuple) -> None:
        if self.silent:
            return
        if event == "open":
            path, _, flags = args
            if isinstance(path, str | bytes) and flags & WRITING:
                self._tell("open", path)
        elif event in EVENTS:
            paths, folders = (
                (args[:2], args[2:]) if event in EVENTS[:1] + EVENTS[5:6] else (args[:1], args[-1:])
            )
            folder = next((f for f in folders if isinstance(f, int) and f >= 0), None)
            inside = f"/proc/self/fd/{folder}" if folder is not None and event != "os.mkdir" else ""
            self._tell(event.removeprefix("os."), *(os.path.join(inside, os.fsdecode(p)) for p in paths))

    def _tell(self, what: str, *paths: str | bytes) -> None:
        self.silent = True
        try:
            full = [
                os.path.join(os.path.realpath(d), n)
                for d, n in (os.path.split(os.fsdecode(p)) for p in paths)
            ]
            inner = [own[len(self.root) + 1 :] for own in full if own.startswith(self.root)]
            if inner:
                name = OWN.sub(".part", " to ".join(inner))
                self.counts[what, name] += 1
                self.hear(Operation(what, name, self.counts[what, name]), tuple(map(Path, full)))
        finally:
            self.silent = False


class End(NamedTuple):
    """How a forked process ended: its exit code, or minus the number of a signal; CPU seconds; stderr."""

    code: int
    seconds: float
    error: str
    out: str = ""  # stdout


class Forked:
    """The small data and the reference run on them, in a folder; other runs are children of this process."""

    def __init__(self, folder: Path, *changes: str):
        from kdtf.data import phantom

        self.folder, self.data, self.changes = folder, folder / "data", changes
        phantom.write(self.data, train=24, val=8, test=12, side=16, teacher_side=16, seed=1)
        self.reference = folder / "reference" / "r"
        self.reference.parent.mkdir()
        self.operations: list[Operation] = []
        log = folder / "operations"
        end = self.run(self.reference, before=lambda: list_operations(self.reference, log))
        assert end.code == 0, end.error
        self.seconds = end.seconds
        for line in log.read_text().splitlines():
            what, path, count = json.loads(line)
            self.operations.append(Operation(what, path, count))
        self.outputs = digests(self.reference)
        notes = self.reference.glob("work/*/stage.json")
        self.stages = {
            own.parent.name: content(own.parent) for own in notes if not TIMED.search(own.parent.name)
        }

    def command(self, results: Path) -> list[str]:
        """The run's arguments; the working folder is the one of the results, whose name the report quotes."""
        return ["--data", str(self.data), "--results", results.name, *SMALL, *self.changes]

    def start(
        self, results: Path, argv: list[str] | None = None, before: Callable[[], object] | None = None
    ) -> int:
        """Fork a process that gives a command of kdtf, the run's where none is given; its number."""
        if argv is None:
            argv = self.command(results)
        pid = os.fork()
        if pid:
            return pid
        code = 70
        try:
            code = in_child(results.parent, argv, before)
        except SystemExit as stop:  # a signal just before the command heard of it, or after
            code = int(stop.code or 0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)

    def finish(self, pid: int, results: Path, moment: float | None = None, number: int = 0) -> End:
        """Wait for a process; with `moment` send it a signal after so many CPU seconds of its own."""
        while moment is not None:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
            if cpu_seconds(pid) >= moment:
                os.kill(pid, number)
                break
            time.sleep(0.005)
        _, status, used = os.wait4(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        texts = [(results.parent / own).read_text(errors="replace") for own in ("stderr", "stdout")]
        return End(code, used.ru_utime + used.ru_stime, *texts)

    def run(
        self, results: Path, argv: list[str] | None = None, before: Callable[[], object] | None = None
    ) -> End:
        """A command in a process of its own, to its end."""
        return self.finish(self.start(results, argv, before), results)

    def harm(self, results: Path) -> str:
        """What stands in a results folder and is not as in the reference: "" or names.

        Every finished stage must be the reference's, byte for byte but for its note, which holds seconds;
        every output too, but for the manifest and the page, which are written twice.
        """
        wrong = []
        for path in results.glob("work/*-*/"):
            if path.name.startswith(".") or path.name not in self.stages:
                continue  # begun, or timed and so named after its times
            if content(path) != self.stages[path.name]:
                wrong.append(path.name)
        return ", ".join([*wrong, *(n for n, own in digests(results).items() if own != self.outputs.get(n))])[
            :300
        ]

    def same(self, results: Path) -> str:
        """What of a finished results folder differs from the reference: "" or names."""
        missing = set(self.outputs) - set(digests(results))
        missing |= set(self.stages) - {path.name for path in (results / "work").iterdir()}
        return self.harm(results) or ", ".join(sorted(missing))[:300]


def in_child(folder: Path, argv: list[str], before: Before) -> int:
    """`python main.py ARGV` in a forked process, in a folder, what it says in files; the exit code."""
    from eager_steps import eagerly
    from small_run import pictures_without_drawings, teachers_of_one_convolution

    from kdtf.__main__ import run

    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = ["main.py", *argv]
    with contextlib.ExitStack() as stack:
        for patch in (pictures_without_drawings, teachers_of_one_convolution, eagerly):
            stack.enter_context(patch())
        if before:
            before()
        code = run()
    for number in (signal.SIGINT, signal.SIGTERM):  # what comes now meets no run
        signal.signal(number, signal.SIG_IGN)
    sys.stdout.flush()
    return code


def list_operations(results: Path, log: Path) -> None:
    """Note every operation of this process in a file."""
    file = log.open("a")
    Shim(results, lambda operation, paths: print(json.dumps(operation), file=file, flush=True))


def cpu_seconds(pid: int) -> float:
    """What a process of ours has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def digests(results: Path) -> dict[str, str]:
    """{file: sha256} of the outputs in a results folder, but for the manifest, which holds seconds."""
    files = (
        p for p in results.glob("*") if p.is_file() and p.name != "manifest.json" and p.suffix != ".part"
    )
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def content(stage: Path) -> dict[str, str]:
    """{file: sha256} of a finished stage but for its note, which must say the same of them."""
    left = ("stage.json", "running")  # the latter where the process was killed as soon as the stage was there
    files = (p for p in stage.rglob("*") if p.is_file() and p.name not in left)
    found = {p.relative_to(stage).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    found = {n: sha for n, sha in found.items() if not n.startswith("checkpoint")}
    try:
        noted = json.loads((stage / "stage.json").read_text())["sha256"]
    except (OSError, ValueError, KeyError):
        return {"stage.json": "unreadable"}
    return found if noted == found else {"stage.json": "says otherwise"}
