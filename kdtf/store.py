"""One results folder: every output path, whole files or none, and the stages that stand.

A stage is a folder `work/NAME-KEY/` that appears only when it is complete; its key is that of its task, so
a stale one is never met. Whoever makes a stage works in a folder of his own and renames it: two makers of
one stage never share one, and the second finds the first one's. Knows nothing of models or data.
"""

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .errors import require
from .files import PART, aside, disk_errors, file_digest, replace_folder, written_aside
from .tasks import Task
from .versions import versions

CHECKPOINT = "checkpoint"
NOTE = "stage.json"
RUNNING = "running"  # locked while a stage is made; only a process that died leaves it behind
OUTPUTS = "outputs.json"  # of a stage whose files lie in the results folder itself
STAGE = re.compile(r"(?P<name>.+)-(?P<key>[0-9a-f]{16})")
EARLIER = "of an earlier kdtf, not used; --fresh removes it"
CUT_OFF = (
    "{} was cut off the last time without a word: killed, or out of memory. If it was memory, try half of "
    "--batch-size or --fine-tune-batch-size."
)


@dataclass(frozen=True)
class Stage:
    """A complete stage: its folder, its key, whether it stood already, and what making it took."""

    path: Path
    key: str
    reused: bool
    seconds: float


def read_note(folder: Path) -> dict[str, Any]:
    """What a finished stage says of itself: kind, version, settings, inputs, made_with, seconds, sha256."""
    return json.loads((folder / NOTE).read_text())


def damaged_files(folder: Path) -> list[str]:
    """The files of a stage's folder that are missing or not what was written, its note among them."""
    try:
        note = read_note(folder)
        whole = isinstance(note["seconds"], int | float)
        if "kind" in note:  # of an earlier kdtf it has fewer parts
            whole = whole and isinstance(note["made_with"], dict) and isinstance(note["environment"], dict)
        return changed_files(folder, note["sha256"]) if whole else [NOTE]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return [NOTE]


def changed_files(folder: Path, digests: dict[str, str]) -> list[str]:
    """Which files of a folder are missing or have another digest than in `digests`."""
    return [n for n, sha in digests.items() if not (folder / n).is_file() or file_digest(folder / n) != sha]


def list_stages(root: Path) -> list[dict[str, Any]]:
    """What is under a results folder, the oldest first: `name seconds mebibytes state`.

    `state` is "stands", "damaged: FILE", of an earlier kdtf `EARLIER`, or, of a stage that is not finished,
    "begun" or "being made".
    """
    rows = []
    for folder in (root / "work").glob("*"):
        with suppress(FileNotFoundError):  # a run that goes on meanwhile has renamed it
            row = _row(folder) if folder.is_dir() else None
            rows += [(folder.stat().st_mtime, row)] if row else []
    return [row for _, row in sorted(rows, key=lambda pair: pair[0])]


def _row(folder: Path) -> dict[str, Any] | None:
    """What is said of a folder under `work/`; None of one that is no stage."""
    if folder.name.startswith("."):
        name = _stage_of_part(folder)
        return _unfinished_row(folder, name) if name else None
    if not STAGE.fullmatch(folder.name):
        return None
    damaged = damaged_files(folder)
    note = {} if NOTE in damaged else read_note(folder)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20
    state = f"damaged: {damaged[0]}" if damaged else "stands" if "kind" in note else EARLIER
    return {"name": folder.name, "seconds": note.get("seconds"), "mebibytes": size, "state": state}


def _unfinished_row(folder: Path, name: str) -> dict[str, Any]:
    """What is said of a folder in which a stage is made, or was."""
    checkpoints = [file for file in folder.iterdir() if file.name.startswith(CHECKPOINT)]
    size = sum(file.stat().st_size for file in checkpoints) / 2**20
    state = "begun, goes on from its checkpoint" if checkpoints else "begun, starts over"
    lock = _locked(folder / RUNNING, create=False)
    if lock is None and (folder / RUNNING).exists():
        state = "being made"
    elif lock is not None:
        os.close(lock)
    return {"name": name, "seconds": None, "mebibytes": size, "state": state}


def _stage_of_part(folder: Path) -> str | None:
    """NAME-KEY of a folder in which that stage is, or was, being made."""
    match = re.match(rf"\.({STAGE.pattern})(\..*)?{re.escape(PART)}$", folder.name)
    return match and match[1]


def _locked(path: Path, *, create: bool) -> int | None:
    """A descriptor that holds the lock of a file, or None where another process does or there is none."""
    flags = os.O_RDWR | os.O_CREAT if create else os.O_RDONLY  # to ask is allowed on a read-only disk
    try:
        descriptor = os.open(path, flags, 0o644)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _new_part(part: Path) -> int:
    """Make a folder to make a stage in, locked before it bears its name; the descriptor of the lock."""
    hidden = aside(part)
    hidden.mkdir()
    try:
        lock = os.open(hidden / RUNNING, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.replace(hidden, part)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    return lock


def _clear(folder: Path, keep: tuple[str, ...]) -> None:
    """Remove what is in a folder, but for names that begin with one of `keep`."""
    for item in list(folder.iterdir()):
        if not item.name.startswith(keep):
            shutil.rmtree(item) if item.is_dir() else item.unlink()


class Store:
    """The results folder `root`, made if need be. Raises `UserError` where it cannot be written to.

    `warn` hears of a finished stage that was found damaged and is made again.
    """

    def __init__(self, root: str | Path, warn: Callable[[str], None] = lambda text: None):
        self.root, self.warn = Path(root), warn
        self.work = self.root / "work"
        self.outputs: dict[str, str] = {}  # files of the results folder and their digests
        self._sound: set[str] = set()  # stages whose digests this process has compared, or made
        with disk_errors(self.root):
            self.work.mkdir(parents=True, exist_ok=True)
            probe = aside(self.work / "probe")
            probe.write_bytes(b"")
            probe.unlink()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out of this folder. The lock dies with the process. Raises `UserError`."""
        folder = os.open(self.work, os.O_RDONLY)  # locked itself: a lock file would be left behind
        try:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                hint = "Wait for the other run, or choose another folder."
                require(False, "--results", "a folder that no other run is using", str(self.root), hint)
            yield
        finally:
            os.close(folder)

    def forget_stages(self) -> None:
        """Remove every stage, finished or begun. What this program did not make stays."""
        for folder in self.work.iterdir():
            finished = STAGE.fullmatch(folder.name) and (folder / NOTE).is_file()
            if folder.is_dir() and not folder.is_symlink() and (finished or _stage_of_part(folder)):
                shutil.rmtree(folder)
        self._sound.clear()

    # Outputs

    def path(self, name: str) -> Path:
        """Where an output of this name is."""
        return self.root / name

    def write(self, name: str, content: bytes | str) -> Path:
        """Write a whole file or none: aside, flushed, then renamed over `name`."""
        with disk_errors(self.root), written_aside(self.path(name)) as file:
            file.write(content.encode() if isinstance(content, str) else content)
        self.outputs[name] = file_digest(self.path(name))
        return self.path(name)

    def write_csv(
        self, name: str, rows: Iterable[dict[str, Any]], columns: Iterable[str] | None = None
    ) -> Path:
        """Rows of records as CSV, floats to six significant digits; `columns` where there may be no row."""
        import pandas as pd

        table = pd.DataFrame(list(rows), columns=columns and list(columns))
        return self.write(name, table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))

    def write_json(self, name: str, value: Any) -> Path:
        """A value as indented JSON."""
        return self.write(name, json.dumps(value, indent=1, ensure_ascii=False) + "\n")

    # Stages

    def find(self, task: Task) -> Stage | None:
        """The finished stage of a task, if it is there and as it was written; a damaged one is removed."""
        folder = self.work / task.folder
        if not folder.is_dir():
            return None
        if folder.name not in self._sound:
            damaged = damaged_files(folder)
            if damaged:
                self.warn(f"{folder.name} was damaged ({damaged[0]}) and is made again.")
                self.remove(task)
                return None
            self._sound.add(folder.name)
        return Stage(folder, task.key, True, read_note(folder)["seconds"])

    def remove(self, task: Task) -> None:
        """Take a finished stage away: at once by a rename, then its files."""
        folder = self.work / task.folder
        self._sound.discard(folder.name)
        with suppress(FileNotFoundError):
            doomed = aside(folder)
            os.replace(folder, doomed)
            shutil.rmtree(doomed, ignore_errors=True)

    def stage(self, task: Task, make: Callable[[Path], None]) -> Stage:
        """The finished stage of a task: found under `work/`, or made by `make(folder)` and kept.

        `make` writes into a folder that is renamed only when it returns, so that an interrupted stage
        leaves nothing that could be taken for a finished one. Files named `CHECKPOINT`* stay for the
        next try and go with the last one.
        """
        finished = self.find(task)
        if finished:
            return finished
        started = time.perf_counter()
        with disk_errors(self.root), self._part(task) as part:
            make(part)
            _clear_checkpoints(part)
            seconds = round(time.perf_counter() - started, 3)
            self._write_note(part, task, seconds)
            self._publish(part, task)
        self._sound.add(task.folder)
        return Stage(self.work / task.folder, task.key, False, seconds)

    @contextmanager
    def _part(self, task: Task) -> Iterator[Path]:
        """A folder of this process alone to make a stage in, with the checkpoint of an earlier try."""
        part = aside(self.work / task.folder)
        lock = self._adopt(task, part)
        if lock is None:
            lock = _new_part(part)
        try:
            _clear(part, keep=(CHECKPOINT, RUNNING))
            yield part
        finally:
            if part.exists():
                _clear(part, keep=(CHECKPOINT, RUNNING))
                (part / RUNNING).unlink(missing_ok=True)  # last: from here on another process may adopt it
                with suppress(OSError):  # a checkpoint is in it
                    part.rmdir()
            os.close(lock)

    def _adopt(self, task: Task, part: Path) -> int | None:
        """Make `part` of a folder that a process left which is no more; the descriptor of its lock."""
        for left in sorted(self.work.glob(f".{task.folder}.*{PART}")):
            cut_off = (left / RUNNING).exists()
            if not cut_off and not any(left.glob(f"{CHECKPOINT}*")):
                continue  # what `remove` and `replace_folder` are taking away
            lock = _locked(left / RUNNING, create=not cut_off)
            if lock is None:
                continue
            try:
                os.replace(left, part)
            except OSError:  # another process was quicker
                os.close(lock)
                continue
            if cut_off:
                self.warn(CUT_OFF.format(task.name))
            return lock
        return None

    def _write_note(self, part: Path, task: Task, seconds: float) -> None:
        """What a stage was made of, beside what it holds."""
        files = sorted(file for file in part.rglob("*") if file.is_file() and file != part / RUNNING)
        digests = {file.relative_to(part).as_posix(): file_digest(file) for file in files}
        packages = [name for name in task.environment if name != "deterministic"]
        note = {**task.note(), "made_with": versions(packages), "seconds": seconds, "sha256": digests}
        (part / NOTE).write_text(json.dumps(note, indent=1) + "\n")

    def _publish(self, part: Path, task: Task) -> None:
        """Rename a complete stage into its place; where another process was first, its own is kept."""
        (part / RUNNING).unlink(missing_ok=True)
        final = self.work / task.folder
        try:
            os.replace(part, final)
        except OSError:
            if not final.is_dir():
                raise
            if damaged_files(final):
                replace_folder(part, final)
            else:
                shutil.rmtree(part)

    def written(self, task: Task, make: Callable[[], object], reads: Iterable[Path]) -> Stage:
        """A stage whose `make()` writes files of the results folder itself, by `write`.

        It stands while they, and the files it `reads`, are as they were, and until another stage of its
        name overwrites them.
        """
        digests = [file_digest(path) for path in reads]
        task = replace(task, settings={**task.settings, "reads": digests})

        def noting(folder: Path) -> None:
            for other in self.work.glob(f"{task.name}-{'[0-9a-f]' * 16}"):
                shutil.rmtree(other)
            others, self.outputs = self.outputs, {}
            try:
                make()
                (folder / OUTPUTS).write_text(json.dumps(self.outputs))
            finally:
                self.outputs = {**others, **self.outputs}

        stage = self.stage(task, noting)
        if stage.reused:
            outputs = json.loads((stage.path / OUTPUTS).read_text())
            changed = changed_files(self.root, outputs)
            if changed:
                self.warn(f"{changed[0]} is not as it was written and is made again.")
                self.remove(task)
                return self.stage(task, noting)
            self.outputs |= outputs
        return stage


def _clear_checkpoints(folder: Path) -> None:
    for item in folder.glob(f"{CHECKPOINT}*"):
        item.unlink()
