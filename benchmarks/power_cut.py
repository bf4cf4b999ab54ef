"""What a power cut leaves of a run: what it flushed, and of the rest what the disk happened to write.

A run is recorded: each change of names (opening a new file, renaming, removing, making folders), each flush
(`fsync`) and what is in a file whenever that changed. A cut is then played at a moment of the record, in the
manner of SQLite's own crash tests, by one of two disks:

    ordered   changes of names reach it in their order, and all before a flush with it, as journals of file
              systems keep them; what was written and not flushed is old, empty, cut short, or torn: some
              sectors new, the others zeros or noise
    free      besides, each change of names since the last flush of its folder may be lost alone

A moment is looked at for what no later run could mend: a stage or an output that is not the reference's and
yet bears a note that says it is. Some moments are resumed by the same command, to the reference's results.
"""

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from forked_runs import Forked, Operation, Shim, digests

SECTOR = 512
RESUMED = 25  # one of so many cuts is resumed


class Step(NamedTuple):
    """A step of a record: what was done, to which paths below the results folder; of data their number."""

    what: str  # an operation of `Shim`, or "data"
    paths: tuple[str, ...]
    blob: int = -1


class Recorder:
    """Writes the record of a run, in the process of that run."""

    def __init__(self, results: Path, out: Path):
        self.results, self.out, self.count = results.resolve(), out, 0
        self.seen: dict[int, tuple[int, int]] = {}  # {inode: size and time}
        out.mkdir()
        self.steps = (out / "steps").open("a")

    def __call__(self) -> None:
        """Begin to listen."""
        Shim(self.results, self.hear)

    def hear(self, operation: Operation, paths: tuple[Path, ...]) -> None:
        """What is about to be done, after what has been written since the last time."""
        if operation.what == "rename":  # how else a name would look new after it
            self._look()
        elif operation.what in ("fsync", "remove"):
            self._look_at(paths[0])
        inner = [os.path.relpath(own, self.results) for own in paths]
        self._write(Step(operation.what, tuple(inner)))

    def _look(self) -> None:
        for folder, _, names in os.walk(self.results):
            for name in names:
                self._look_at(Path(folder, name))

    def _look_at(self, path: Path) -> None:
        try:
            status = path.lstat()
            mark = (status.st_size, status.st_mtime_ns)
            if not path.is_file() or path.is_symlink() or self.seen.get(status.st_ino) == mark:
                return
            content = path.read_bytes()
        except OSError:
            return
        self.seen[status.st_ino] = mark
        (self.out / str(self.count)).write_bytes(content)
        self._write(Step("data", (os.path.relpath(path, self.results),), self.count))
        self.count += 1

    def _write(self, step: Step) -> None:
        self.steps.write(json.dumps(step) + "\n")
        self.steps.flush()


class File:
    """A file of the played disk: what is surely in it, and what was written since."""

    def __init__(self) -> None:
        self.flushed, self.content = b"", b""


class Disk:
    """The names and files of a results folder as a record makes them, without what a cut loses."""

    def __init__(self, rng: random.Random, *, free: bool):
        self.rng, self.free = rng, free
        self.tree: dict[str, File | None] = {".": None}  # None: a folder
        self.opened = set[str]()

    def play(self, steps: list[Step], blobs: Path) -> None:
        """What of the steps reaches the disk."""
        barrier = max((i for i, own in enumerate(steps) if own.what == "fsync"), default=0)
        last = self.rng.randint(barrier, len(steps))  # changes of names after it are lost, in their order
        flushed = {own.paths[0]: i for i, own in enumerate(steps) if own.what == "fsync"}
        for i, step in enumerate(steps):
            if step.what == "open":
                self.opened.add(step.paths[0])
            if step.what == "data":
                self._file(step.paths[0]).content = (blobs / str(step.blob)).read_bytes()
            elif step.what == "fsync":
                file = self.tree.get(step.paths[0])
                if file:
                    file.flushed = file.content
            elif i < last and not self._is_lost(step, i, flushed):
                self._change(step)

    def _is_lost(self, step: Step, i: int, flushed: dict[str, int]) -> bool:
        """Whether a free disk loses this change of names: its folder was not flushed after it."""
        if not self.free:
            return False
        folders = [os.path.dirname(own) or "." for own in step.paths]
        return any(flushed.get(own, -1) < i for own in folders) and self.rng.random() < 0.5

    def _file(self, path: str) -> File:
        file = self.tree.get(path)
        if file is None:  # native code made it; or its name is lost, and so is what is written to it
            file = File()
            if path not in self.opened and os.path.dirname(path) in {"", *self.tree}:
                self.tree[path] = file
        return file

    def _change(self, step: Step) -> None:
        """A change of names; where what it needs is lost, it is lost too."""
        tree, first = self.tree, step.paths[0]
        if step.what == "open":
            if os.path.dirname(first) in {"", *tree} and first not in tree:
                tree[first] = File()
        elif step.what == "mkdir":
            tree.setdefault(first, None)
        elif step.what in ("remove", "rmdir"):
            if not any(own.startswith(f"{first}/") for own in tree):
                tree.pop(first, None)
        elif step.what == "rename" and first in tree:
            moved = {own: tree.pop(own) for own in list(tree) if own == first or own.startswith(f"{first}/")}
            tree |= {step.paths[1] + own[len(first) :]: file for own, file in moved.items()}

    def write(self, folder: Path) -> None:
        """The disk after the cut, as a folder."""
        for path, file in sorted(self.tree.items()):
            if file is None:
                (folder / path).mkdir(parents=True, exist_ok=True)
        for path, file in self.tree.items():
            if file is not None and (folder / path).parent.is_dir():
                (folder / path).write_bytes(self._left_of(file))

    def _left_of(self, file: File) -> bytes:
        """What is read of a file after the cut."""
        new, rng = file.content, self.rng
        if new == file.flushed:
            return new
        match rng.randrange(6):
            case 0:
                return file.flushed
            case 1:
                return b""
            case 2:
                return new[: rng.randrange(len(new) + 1)]
            case 3:
                return new
            case kind:
                torn = bytearray(new)
                for start in range(0, len(torn), SECTOR):
                    if rng.random() < 0.5:
                        size = len(torn[start : start + SECTOR])
                        torn[start : start + size] = rng.randbytes(size) if kind == 4 else bytes(size)
                return bytes(torn)


def tries(work: Forked, rng: random.Random, count: int, share: tuple[int, int]) -> Iterator[tuple[str, str]]:
    """(kind of cut, "" or what was wrong) of so many power cuts of a run that is recorded first."""
    base = work.folder / f"power{share[0]}"
    results, record = base / "recorded" / "r", base / "record"
    results.parent.mkdir(parents=True)
    end = work.run(results, before=Recorder(results, record))
    yield "recorded runs", work.same(results) if end.code == 0 else end.error[-300:]
    steps = [Step(*json.loads(line)) for line in (record / "steps").read_text().splitlines()]
    for i in range(count):
        moment, kind = rng.randrange(len(steps) + 1), ("ordered", "free")[i % 2]
        folder = base / "cut" / "r"
        folder.mkdir(parents=True)
        disk = Disk(rng, free=kind == "free")
        disk.play(steps[:moment], record)
        disk.write(folder)
        wrong = taken_for_good(work, folder)
        if not wrong and i % RESUMED < 2:
            again = work.run(folder)
            wrong = work.same(folder) if again.code == 0 else f"exit code {again.code}: {again.error[-300:]}"
            kind += " and resumed"
        if not wrong:
            shutil.rmtree(folder.parent)
        else:
            folder.parent.rename(base / f"wrong{i}")
        yield kind, wrong and f"after step {moment}: {wrong}"


def taken_for_good(work: Forked, folder: Path) -> str:
    """What the store would go on from and is not the reference's: "" or names."""
    from kdtf.stage_folders import changed_files, damaged_files

    wrong = []
    outputs = digests(folder)
    for stage in folder.glob("work/*-*/"):
        if stage.name.startswith(".") or damaged_files(stage):
            continue  # it is made again
        if stage.name in work.stages:
            own = json.loads((stage / "stage.json").read_text())["sha256"]
            wrong += [] if own == work.stages[stage.name] else [stage.name]
        elif "-report-" in stage.name:
            noted = json.loads((stage / "outputs.json").read_text())
            if not changed_files(folder, noted):
                wrong += [own for own in noted if own in outputs and outputs[own] != work.outputs.get(own)]
    return ", ".join(wrong)[:300]
