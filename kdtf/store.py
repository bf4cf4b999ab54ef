"""One results folder: every output path, whole files or none, and the stages that stand.

A stage is a folder `work/NAME-KEY/` that appears only when it is complete; its key is a hash of its
settings and of everything upstream, so a stale one is never met. Knows nothing of models or data.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from .errors import UserError, require

PACKAGES = (
    "tensorflow",
    "keras",
    "ai-edge-litert",
    "litert-quantizer",
    "tf-keras",
    "tensorflow-model-optimization",
    "numpy",
    "pandas",
    "scikit-learn",
    "seaborn",
    "matplotlib",
)


def stage_key(name: str, settings, *upstream: str) -> str:
    """16 hex digits over a stage's name, its settings (JSON values) and the keys of what it builds on."""
    text = json.dumps([name, settings, upstream], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def versions(packages=PACKAGES) -> dict[str, str]:
    """What is installed of `packages`, those that decide a run's result unless told otherwise."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


FULL, CLOSED, OCCUPIED = "on a disk with room left", "writable", "a folder"
REASONS = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: FULL,
    errno.EACCES: CLOSED,
    errno.EPERM: CLOSED,
    errno.EROFS: CLOSED,
    errno.ENOTDIR: OCCUPIED,
    errno.EEXIST: OCCUPIED,
}
CHECKPOINT = "checkpoint"
NOTE = "stage.json"
RUNNING = "running"  # what only a process that died leaves behind
CUT_OFF = (
    "{} was cut off the last time without a word: killed, or out of memory. If it was memory, try half of "
    "--batch-size or --fine-tune-batch-size."
)
GOES_ON = "What is finished there stays valid; the same command goes on from it."


@contextmanager
def disk_errors(folder, name: str = "--results", hint: str = GOES_ON):
    """Turn a full disk or a folder without permission into `UserError`; `name` is the folder's flag."""
    try:
        yield
    except OSError as error:
        rule = REASONS.get(error.errno)
        if rule is None:
            raise
        raise UserError(f"{name} must be {rule}. Got {str(folder)!r} ({error.strerror}). {hint}") from None


def make_room(folder: Path, size: int) -> None:
    """Raise `OSError` where `size` bytes do not fit: HDF5 ends the process where a disk fills under it."""
    if shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@dataclass(frozen=True)
class Stage:
    """A complete stage: its folder, its key, whether it stood already, and what making it took."""

    path: Path
    key: str
    reused: bool
    seconds: float


def _clear(folder: Path, keep: str | None = None, only: str | None = None) -> None:
    """Remove what is in a folder: all but names that start with `keep`, or those that start with `only`."""
    for item in list(folder.iterdir()):
        if item.name.startswith(keep or only) == bool(only):
            shutil.rmtree(item) if item.is_dir() else item.unlink()


def damaged(folder: Path) -> list[str]:
    """The files of a stage's folder that are missing or not what was written, its note among them."""
    try:
        written = json.loads((folder / NOTE).read_text())["sha256"]
        return _changed(folder, written)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return [NOTE]


def _changed(folder: Path, written: dict[str, str]) -> list[str]:
    """Which files of a folder are missing or have another digest than `written`."""
    return [n for n, sha in written.items() if not (folder / n).is_file() or file_digest(folder / n) != sha]


PART = ".part"  # a stage that is not finished: its name hidden by a dot


def list_stages(root: Path) -> list[dict]:
    """What is under a results folder, the oldest first: `name seconds mebibytes state`.

    `state` is "stands", "damaged: FILE" or, of a stage that was interrupted, "begun".
    """
    folders = [p for p in (root / "work").glob("*-*") if p.is_dir()]
    rows = []
    for folder in sorted(folders, key=lambda p: p.stat().st_mtime):
        if folder.name.startswith("."):
            kept = [f for f in folder.iterdir() if f.name.startswith(CHECKPOINT)]
            size = sum(f.stat().st_size for f in kept) / 2**20
            state = "begun, goes on from its checkpoint" if kept else "begun, starts over"
            name = folder.name.removeprefix(".").removesuffix(PART)
            rows.append({"name": name, "seconds": None, "mebibytes": size, "state": state})
            continue
        wrong = damaged(folder)
        size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 2**20
        note = {} if NOTE in wrong else json.loads((folder / NOTE).read_text())
        state = f"damaged: {wrong[0]}" if wrong else "stands"
        rows.append({"name": folder.name, "seconds": note.get("seconds"), "mebibytes": size, "state": state})
    return rows


class Run:
    """The results folder `root`, made if need be. Raises `UserError` where it cannot be written to.

    `warn` hears of a finished stage that was found damaged and is made again.
    """

    def __init__(self, root, warn: Callable[[str], None] = lambda text: None):
        self.root, self.warn = Path(root), warn
        self.work = self.root / "work"
        self.stages: dict[str, dict] = {}
        self.outputs: dict[str, str] = {}
        with disk_errors(self.root):
            self.work.mkdir(parents=True, exist_ok=True)
            probe = self.work / f".probe-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()

    @contextmanager
    def locked(self):
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

    def start_over(self) -> None:
        """Forget every finished stage."""
        for folder in self.work.iterdir():
            if folder.is_dir():
                shutil.rmtree(folder)

    def path(self, name: str) -> Path:
        return self.root / name

    def write(self, name: str, content: bytes | str) -> Path:
        """Write a whole file or none: aside, flushed, then renamed over `name`."""
        target = self.path(name)
        part = target.with_name(target.name + ".part")
        with disk_errors(self.root):
            try:
                with open(part, "wb") as f:
                    f.write(content.encode() if isinstance(content, str) else content)
                    f.flush()
                    os.fsync(f.fileno())
                os.replace(part, target)
            finally:
                part.unlink(missing_ok=True)
        self.outputs[name] = file_digest(target)
        return target

    def write_csv(self, name: str, rows: Iterable[dict], columns: Iterable[str] | None = None) -> Path:
        """Rows of records as CSV, floats to six significant digits; `columns` where there may be no row."""
        import pandas as pd

        table = pd.DataFrame(list(rows), columns=columns and list(columns))
        return self.write(name, table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))

    def write_json(self, name: str, value) -> Path:
        return self.write(name, json.dumps(value, indent=1, ensure_ascii=False) + "\n")

    def stage(self, name: str, settings, *upstream: str, make: Callable[[Path], None]) -> Stage:
        """The finished stage `name`: found under `work/`, or made by `make(folder)` and kept.

        `make` writes into a folder that is renamed only when it returns, so that an interrupted
        stage leaves nothing that could be taken for a finished one. Files named `CHECKPOINT`* stay for
        the next try and go with the last one.
        """
        key = stage_key(name, settings, *upstream)
        final = self.work / f"{name}-{key}"
        reused = final.is_dir() and self._stands(final)
        started = time.perf_counter()
        if not reused:
            with disk_errors(self.root):
                aside = self.work / f".{name}-{key}{PART}"
                aside.mkdir(exist_ok=True)
                if (aside / RUNNING).exists():
                    self.warn(CUT_OFF.format(name))
                try:
                    _clear(aside, keep=CHECKPOINT)
                    (aside / RUNNING).touch()
                    make(aside)
                    (aside / RUNNING).unlink()
                    _clear(aside, only=CHECKPOINT)
                    self._note(aside, settings, upstream, time.perf_counter() - started)
                    os.replace(aside, final)
                finally:
                    if aside.exists():
                        _clear(aside, keep=CHECKPOINT)
                        with suppress(OSError):  # a checkpoint is in it
                            aside.rmdir()
        note = json.loads((final / NOTE).read_text())
        self.stages[name] = {"key": key, **note}
        return Stage(final, key, reused, note["seconds"])

    def written(self, name: str, settings, *upstream: str, make: Callable[[], None]) -> Stage:
        """A stage whose `make()` writes files of the results folder itself, by `write`.

        It stands while they are as they were written, and until another stage of its name overwrites
        them.
        """

        def noting(folder):
            for other in self.work.glob(f"{name}-{'[0-9a-f]' * 16}"):
                shutil.rmtree(other)
            others, self.outputs = self.outputs, {}
            try:
                make()
                (folder / "outputs.json").write_text(json.dumps(self.outputs))
            finally:
                self.outputs = {**others, **self.outputs}

        stage = self.stage(name, settings, *upstream, make=noting)
        if stage.reused:
            made = json.loads((stage.path / "outputs.json").read_text())
            wrong = _changed(self.root, made)
            if wrong:
                self.warn(f"{wrong[0]} is not as it was written and is made again.")
                shutil.rmtree(stage.path)
                return self.stage(name, settings, *upstream, make=noting)
            self.outputs |= made
        return stage

    def _stands(self, folder: Path) -> bool:
        """Whether a finished stage is as it was written; a damaged one is removed, with a warning."""
        wrong = damaged(folder)
        if wrong:
            self.warn(f"{folder.name} was damaged ({wrong[0]}) and is made again.")
            shutil.rmtree(folder)
        return not wrong

    def _note(self, folder, settings, upstream, seconds):
        """What a stage was made of, beside what it made."""
        files = sorted(f for f in folder.rglob("*") if f.is_file())
        made = {f.relative_to(folder).as_posix(): file_digest(f) for f in files}
        note = {"settings": settings, "upstream": upstream, "seconds": round(seconds, 3), "sha256": made}
        (folder / NOTE).write_text(json.dumps(note, indent=1) + "\n")

    def write_manifest(self, config: dict, data: dict, teachers: dict, warnings: list[str]) -> Path:
        """`manifest.json`: config, data, where each teacher's weights came from, versions, warnings,
        stages with their seconds, outputs with their digests."""
        self.outputs.pop("manifest.json", None)
        return self.write_json(
            "manifest.json",
            {
                "config": config,
                "data": data,
                "teacher_weights": teachers,
                "versions": versions(),
                "warnings": warnings,
                "stages": self.stages,
                "outputs": dict(sorted(self.outputs.items())),
            },
        )
