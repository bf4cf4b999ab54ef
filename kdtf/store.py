"""One results folder: every output path, whole files or none, and the stages that stand.

A stage is a folder `work/NAME-KEY/` that appears only when it is complete; its key is that of its task, so
a stale one is never met. Whoever makes a stage works in a folder of his own and renames it: two makers of
one stage never share one, and the second finds the first one's. Knows nothing of models or data.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .digests import SHA256, Digests, State, file_state
from .errors import require
from .files import PART, aside, discard, disk_errors, file_digest, flush, written_aside
from .leases import HINT, is_elsewhere, leased, touched
from .predictor import cell
from .stage_folders import (
    CHECKPOINT,
    NOTE,
    RUNNING,
    changed_files,
    clear,
    clear_last_try,
    damaged_files,
    goes_with_the_last_try,
    in_work,
    is_ours,
    locked,
    new_part,
    publish,
    read_note,
    remove_leftovers,
)
from .tasks import Task
from .versions import versions

OUTPUTS = "outputs.json"  # of a stage whose files lie in the results folder itself
READERS_WAIT = (0.02, 0.1, 0.2, 0.0)  # seconds, for `is_running`, which holds a lock for a moment
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


class Store:
    """The results folder `root`, made if need be. Raises `UserError` where it cannot be written to.

    Its folder `work` is made with the first stage, or when the folder is locked. `warn` hears of a finished
    stage that was found damaged and is made again. A file that did not change since it was read is not read
    again, but with `verify`.
    """

    def __init__(
        self, root: str | Path, warn: Callable[[str], None] = lambda text: None, *, verify: bool = False
    ):
        self.root, self.warn = Path(root), warn
        self.work = self.root / "work"
        self.digests = Digests(self.work, verify=verify)
        self.outputs: dict[str, str] = {}  # files of the results folder and their digests
        self._sound: set[str] = set()  # stages whose digests this process has compared, or made
        with disk_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            self._probe(self.work if self.work.is_dir() else self.root)

    @staticmethod
    def _probe(folder: Path) -> None:
        """Raise `OSError` where nothing can be written into a folder."""
        probe = aside(folder / "probe")
        probe.write_bytes(b"")
        probe.unlink()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out of this folder. The lock dies with the process. Raises `UserError`.

        What a run that was killed left half written is taken away.
        """
        with disk_errors(self.root):
            self.work.mkdir(exist_ok=True)
            folder = os.open(self.work, os.O_RDONLY)  # locked itself: a lock file would be left behind
        try:
            free = _is_locked(folder)
            require(free, "--results", "a folder that no other run is using", str(self.root), HINT)
            with leased(self.work, self.root):
                for own in (self.root, self.work):
                    remove_leftovers(own)
                yield
        finally:
            self.digests.save()
            os.close(folder)

    def forget_stages(self) -> None:
        """Remove every stage, finished or begun. What this program did not make stays.

        Raises `UserError` where `work` is a link: whose stages lie where it leads is not known.
        """
        rule = "given where work/ is a folder of these results, not a link to another one"
        hint = "Remove the link, or choose another --results."
        require(not self.work.is_symlink(), "--fresh", rule, str(self.work), hint)
        with disk_errors(self.root):
            for folder in filter(is_ours, list(self.work.iterdir())):
                discard(folder)
        self._sound.clear()

    # Outputs

    def path(self, name: str) -> Path:
        """Where an output of this name is."""
        return self.root / name

    def write(self, name: str, content: bytes | str) -> Path:
        """Write a whole file or none: aside, flushed, then renamed over `name`.

        Text is UTF-8; what of it is none, as bytes of a file's name may be, is written as JSON escapes it.
        """
        content = content.encode(errors="backslashreplace") if isinstance(content, str) else content
        with disk_errors(self.root), written_aside(self.path(name)) as file:
            file.write(content)
        self.outputs[name] = file_digest(self.path(name))
        return self.path(name)

    def write_csv(
        self, name: str, rows: Iterable[dict[str, Any]], columns: Iterable[str] | None = None
    ) -> Path:
        """Rows of records as CSV, floats to six significant digits; `columns` where there may be no row.

        Texts and names of columns are written as by `predictor.cell`, which `report.csv_files` undoes.
        """
        import pandas as pd

        lines = [{cell(column): cell(value) for column, value in row.items()} for row in rows]
        table = pd.DataFrame(lines, columns=columns and [cell(column) for column in columns])
        return self.write(name, table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))

    def write_json(self, name: str, value: Any) -> Path:
        """A value as indented JSON."""
        return self.write(name, json.dumps(value, indent=1, ensure_ascii=False) + "\n")

    # Stages

    def find(self, task: Task) -> Stage | None:
        """The finished stage of a task, if it is there and as it was written; a damaged one is removed."""
        folder = self.work / task.folder
        if folder.name not in self._sound and folder.is_dir():
            damaged = damaged_files(folder, self.digests.of)
            if damaged and self._removed_damaged(folder):
                self.warn(f"{folder.name} was damaged ({damaged[0]}) and is made again.")
                return None
        try:
            stage = Stage(folder, task.key, True, read_note(folder)["seconds"])
        except FileNotFoundError:  # never made, or taken away by another process meanwhile
            self._sound.discard(folder.name)
            return None
        except ValueError:  # edited since it was looked at
            self._sound.discard(folder.name)
            return self.find(task)
        if folder.name not in self._sound:
            with suppress(OSError):
                clear_last_try(folder)
        self._sound.add(folder.name)
        return stage

    def refresh(self) -> None:
        """Ask for the names of stages anew: over NFS what another host made may be unseen for a minute."""
        with suppress(OSError), os.scandir(self.work) as names:
            next(names, None)

    def _removed_damaged(self, folder: Path) -> bool:
        """Take a damaged stage away, unless another process has put a good one in its place meanwhile."""
        taken = aside(folder)
        with suppress(FileNotFoundError):
            os.replace(folder, taken)
            if not damaged_files(taken):
                with suppress(OSError):  # and yet another one
                    os.replace(taken, folder)
                    return False
            with suppress(OSError):
                discard(taken)
        return True

    def remove(self, task: Task) -> None:
        """Take a finished stage away: at once by a rename, then its files."""
        folder = self.work / task.folder
        self._sound.discard(folder.name)
        with suppress(FileNotFoundError):
            taken = aside(folder)
            os.replace(folder, taken)
            with suppress(OSError):
                discard(taken)

    def content(self, task: Task) -> str | None:
        """16 hex digits over the files of a task's finished stage; None where there is none."""
        if not self.find(task):
            return None
        digests = json.dumps(read_note(self.work / task.folder)["sha256"], sort_keys=True)
        return hashlib.sha256(digests.encode()).hexdigest()[:16]

    def is_stale(self, task: Task) -> bool:
        """Whether an input of a finished stage has been made again since, and came out otherwise.

        Trainings need not give the same bits twice: what was made of the first ones goes with them. An
        input that is not there says nothing.
        """
        made_of = read_note(self.work / task.folder).get("made_of", {})
        now = {role: self.content(needed) for role, needed in task.inputs.items()}
        return any(content and content != made_of.get(role, content) for role, content in now.items())

    def stage(self, task: Task, make: Callable[[Path], None]) -> Stage:
        """The finished stage of a task: found under `work/`, or made by `make(folder)` and kept.

        `make` writes into a folder that is renamed only when it returns, so that an interrupted stage
        leaves nothing that could be taken for a finished one. Files named `CHECKPOINT`* stay for the
        next try and go with the last one. Where another process makes the same stage, this one waits.
        """
        while True:
            finished = self.find(task)
            if finished:
                return finished
            if not self._waited_for_another(task):
                break
        started = time.perf_counter()
        with disk_errors(self.root), self._part(task) as part:
            make(part)
            seconds = round(time.perf_counter() - started, 3)
            states = self._write_note(part, task, seconds)
            self._publish(part, task)
            digests = read_note(self.work / task.folder)["sha256"]
            for name, state in states.items():
                self.digests.learn(self.work / task.folder / name, SHA256, [digests.get(name)], state)
        self._sound.add(task.folder)
        return Stage(self.work / task.folder, task.key, False, seconds)

    def _parts(self, task: Task) -> list[Path]:
        """The folders in which a task's stage is made, or was; no links, where nothing is to be written."""
        parts = sorted(self.work.glob(f".{task.folder}.*{PART}"))
        return [part for part in parts if not part.is_symlink()]

    def _waited_for_another(self, task: Task) -> bool:
        """Wait until a process that makes the same stage has ended, well or not; whether there was one."""
        for part in self._parts(task):
            if is_elsewhere(part):  # no lock tells of its end: both make the stage, one of them is kept
                continue
            with suppress(FileNotFoundError):
                descriptor = os.open(part / RUNNING, os.O_RDONLY)
                try:
                    if in_work(part):
                        fcntl.flock(descriptor, fcntl.LOCK_EX)  # held until the maker lets go or dies
                        return True
                finally:
                    os.close(descriptor)
        return False

    @contextmanager
    def _part(self, task: Task) -> Iterator[Path]:
        """A folder of this process alone to make a stage in, with the checkpoint of an earlier try."""
        self.work.mkdir(exist_ok=True)
        part = aside(self.work / task.folder)
        lock = self._adopt(task, part)
        if lock is None:
            lock = new_part(part)
        try:
            clear(part, keep=(CHECKPOINT, RUNNING))
            with touched(lock):
                yield part
        finally:
            if part.exists():
                clear(part, keep=(CHECKPOINT, RUNNING))
                (part / RUNNING).unlink(missing_ok=True)  # last: from here on another process may adopt it
                with suppress(OSError):  # a checkpoint is in it
                    part.rmdir()
            os.close(lock)

    def _adopt(self, task: Task, part: Path) -> int | None:
        """Make `part` of a folder that a process left which is no more; the descriptor of its lock."""
        for left in self._parts(task):
            cut_off = (left / RUNNING).exists()
            if is_elsewhere(left) and in_work(left):
                continue
            if not cut_off and not any(left.glob(f"{CHECKPOINT}*")):
                continue  # what `remove` and `replace_folder` are taking away
            lock = locked(left / RUNNING, create=not cut_off)
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

    def _write_note(self, part: Path, task: Task, seconds: float) -> dict[str, State | None]:
        """What a stage was made of, beside what it holds; {file: its state before it was read}."""
        items = sorted(own for own in part.rglob("*") if not goes_with_the_last_try(own, part))
        files = [own for own in items if own.is_file()]
        named = {file.relative_to(part).as_posix(): file for file in files}
        states = {name: file_state(file) for name, file in named.items()}
        digests = {name: file_digest(file) for name, file in named.items()}
        packages = [name for name in task.environment if name != "deterministic"]
        made_of = {role: self.content(needed) for role, needed in task.inputs.items()}
        note = {**task.note(), "made_with": versions(packages), "made_of": made_of}
        note |= {"seconds": seconds, "sha256": digests}
        (part / NOTE).write_text(json.dumps(note, indent=1) + "\n")
        for own in (*items, part / NOTE, part):
            flush(own)
        return states

    def _publish(self, part: Path, task: Task) -> None:
        """Rename a complete stage into its place; where another process was first, its own is kept.

        Checkpoints go once it is there on the disk: a power cut costs either nothing or what they spare.
        """
        final = self.work / task.folder
        publish(part, final)  # locked until it is there
        with suppress(FileNotFoundError):  # another process found it damaged meanwhile
            clear_last_try(final)
        for left in self._parts(task):
            with suppress(OSError):
                if not in_work(left):  # of tries that died
                    discard(left)

    def receive(self, name: str, unpack: Callable[[Path], None]) -> None:
        """Put a stage that another machine made in its place; `unpack(folder)` writes its files and note.

        Where a sound one stands, that is kept. Raises `OSError`.
        """
        self.work.mkdir(exist_ok=True)
        final = self.work / name
        part = aside(final)
        part.mkdir()
        try:
            unpack(part)
            for own in (*part.rglob("*"), part):
                flush(own)
            publish(part, final)
        finally:
            discard(part)

    def written(self, task: Task, make: Callable[[], object], reads: Iterable[Path]) -> Stage:
        """A stage whose `make()` writes files of the results folder itself, by `write`.

        It stands while they, and the files it `reads`, are as they were, and until another stage of its
        name overwrites them.
        """
        digests = [self.digests.of(path) for path in reads]
        task = replace(task, settings={**task.settings, "reads": digests})

        def noting(folder: Path) -> None:
            for other in self.work.glob(f"{task.name}-{'[0-9a-f]' * 16}"):
                discard(other)
            others, self.outputs = self.outputs, {}
            try:
                make()
                (folder / OUTPUTS).write_text(json.dumps(self.outputs))
            finally:
                self.outputs = {**others, **self.outputs}

        stage = self.stage(task, noting)
        if stage.reused:
            outputs = json.loads((stage.path / OUTPUTS).read_text())
            changed = changed_files(self.root, outputs, self.digests.of)
            if changed:
                self.warn(f"{changed[0]} is not as it was written and is made again.")
                self.remove(task)
                return self.stage(task, noting)
            self.outputs |= outputs
        return stage


def _is_locked(folder: int) -> bool:
    """Lock an open folder for this process alone, unless another one holds it for longer than a moment."""
    for seconds in READERS_WAIT:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(seconds)
        except OSError:  # a file system without locks: the signs of other runs tell
            return True
        else:
            return True
    return False
