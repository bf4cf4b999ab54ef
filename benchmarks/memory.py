"""Memory and time of a command and all processes it starts, sampled from /proc while it runs.

`private` is `Private_*` of `smaps_rollup`, summed over the processes: what they alone hold, pages of mapped
files among it. `anonymous` is the part of it that no file backs. CPU seconds are those of the whole tree.
"""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

EVERY = 0.2  # seconds between two samples
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Usage:
    """What a command, or a part of it, took."""

    private: float = 0.0  # MiB at the peak
    anonymous: float = 0.0  # MiB at the peak
    cpu: float = 0.0  # seconds
    wall: float = 0.0  # seconds


@dataclass
class Measured:
    """What a command took in all and by part, and how it ended."""

    code: int = 0
    whole: Usage = field(default_factory=Usage)
    parts: dict[str, Usage] = field(default_factory=dict)


def measured(
    command: Sequence[str | Path], part: Callable[[], str] = lambda: "", log: Path | None = None
) -> Measured:
    """Run a command; `part` is asked which part of its work it is at. Its output goes to `log`."""
    result, start = Measured(), time.perf_counter()
    with open(log or os.devnull, "wb") as out:
        process = subprocess.Popen(list(map(str, command)), stdout=out, stderr=subprocess.STDOUT)
        ended: dict[int, float] = {}  # CPU seconds of each process when last seen
        before, moment = 0.0, start
        while process.poll() is None:
            own, now = part(), time.perf_counter()
            tree = processes(process.pid)
            private, anonymous = map(sum, zip(*map(memory, tree), strict=True))
            ended |= {pid: cpu_seconds(pid, ended.get(pid, 0.0)) for pid in tree}
            cpu = sum(ended.values())
            for usage in (result.whole, result.parts.setdefault(own, Usage())):
                usage.private, usage.anonymous = max(usage.private, private), max(usage.anonymous, anonymous)
                usage.cpu, usage.wall = usage.cpu + cpu - before, usage.wall + now - moment
            before, moment = cpu, now
            time.sleep(EVERY)
    result.code = process.returncode
    return result


def processes(pid: int) -> list[int]:
    """A process and all that it and its children started and that still run."""
    found = [pid]
    for task in _listed(Path(f"/proc/{pid}/task")):
        for child in _read(task / "children").split():
            found += processes(int(child))
    return found


def memory(pid: int) -> tuple[float, float]:
    """(private, anonymous) MiB of a process; zeros of one that has ended."""
    fields = dict(line.split(":", 1) for line in _read(Path(f"/proc/{pid}/smaps_rollup")).splitlines()[1:])
    values = {name: int(text.split()[0]) / 1024 for name, text in fields.items()}
    private = sum(value for name, value in values.items() if name in ("Private_Clean", "Private_Dirty"))
    return private, values.get("Pss_Anon", 0.0)


def cpu_seconds(pid: int, known: float) -> float:
    """User and system seconds of a process so far; what is `known` of one that has ended."""
    stat = _read(Path(f"/proc/{pid}/stat"))
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS if fields else known


def folder_bytes(folder: Path) -> int:
    """What the files of a folder take."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _read(path: Path) -> str:
    """A file of /proc; nothing where its process has ended."""
    try:
        return path.read_text()
    except OSError:
        return ""
