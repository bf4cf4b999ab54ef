"""What a run on a Ray cluster survives, on two nodes of this machine.

    python benchmarks/ray_faults.py [FAULT ...] [--data DIR]

Every file of the results folder but manifest and report, which tell the settings of a run, must be byte for
byte that of a run on this machine alone with `--deterministic`.

    none         nothing
    before       SIGKILL of the process that trains a teacher
    after        the same, when its stage has just been published
    coordinator  SIGKILL of the run, then the same command again
    together     a second run in the same results folder, which must be refused
    node         the node is lost that performs a task

Needs the extra `ray`. Prints a line a fault; exit code 1 if one of them changed a file.
"""

import argparse
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
RUN = shlex.split(
    "--teachers cnn5 --student baseline --weights none --views 2 --epochs 2 --scratch-epochs 1 "
    "--recipes int8 --deterministic"
)
SETTINGS_TOLD = ("manifest.json", "report.html")
NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}
PATIENCE = 300.0  # seconds


class Tries:
    """Runs in folders under `work`, on a cluster of two nodes."""

    def __init__(self, work: Path, data: Path):
        from ray.cluster_utils import Cluster

        self.work, self.data = work, data
        assert self.start("reference").wait() == 0
        self.cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        self.second = self.cluster.add_node(**NODE)
        self.engine = ["--engine", "ray", "--address", self.cluster.address, "--jobs", "2"]

    def start(self, name: str, *more: str) -> "subprocess.Popen[bytes]":
        """Begin a run into the folder `name`; what it says goes into a file beside it."""
        command = [sys.executable, "main.py", "--data", str(self.data), "--results", str(self.work / name)]
        with open(self.work / f"{name}.log", "ab") as log:
            return subprocess.Popen([*command, *RUN, *more], cwd=ROOT, stdout=log, stderr=log)

    def maker(self, name: str, stage: str) -> int:
        """Wait until a stage is being made; the process that does."""
        for _ in patiently():
            for part in (self.work / name / "work").glob(f".{stage}-*.part"):
                match = re.search(r"-(\d+)-[0-9a-f]{8}\.part$", part.name)
                if match and (part / "running").exists():
                    return int(match[1])
        raise SystemExit(f"{name}: nobody makes {stage}")

    def published(self, name: str, stage: str) -> None:
        """Wait until a stage is finished."""
        for _ in patiently():
            if any((self.work / name / "work").glob(f"{stage}-{'[0-9a-f]' * 16}")):
                return

    def changed(self, name: str) -> list[str]:
        """The files that are not those of the reference."""
        files = [own for own in (self.work / "reference").iterdir() if own.is_file()]
        others = {own.name: self.work / name / own.name for own in files if own.name not in SETTINGS_TOLD}
        return [
            file
            for file, other in sorted(others.items())
            if not other.is_file() or other.read_bytes() != (self.work / "reference" / file).read_bytes()
        ]

    # Faults: each returns the exit code of the run

    def none(self, name: str) -> int:
        return self.start(name, *self.engine).wait()

    def before(self, name: str) -> int:
        run = self.start(name, *self.engine)
        os.kill(self.maker(name, "cnn5-whole"), signal.SIGKILL)
        return run.wait()

    def after(self, name: str) -> int:
        run = self.start(name, *self.engine)
        maker = self.maker(name, "cnn5-whole")
        self.published(name, "cnn5-whole")
        os.kill(maker, signal.SIGKILL)
        return run.wait()

    def coordinator(self, name: str) -> int:
        run = self.start(name, *self.engine)
        self.maker(name, "cnn5-whole")
        run.kill()
        run.wait()
        return self.start(name, *self.engine).wait()

    def together(self, name: str) -> int:
        run = self.start(name, *self.engine)
        self.maker(name, "cnn5-whole")
        second = self.start("second", *self.engine, "--results", str(self.work / name)).wait()
        return run.wait() or int(second != 2)

    def node(self, name: str) -> int:
        run, raylet = self.start(name, *self.engine), self.second.all_processes["raylet"][0].process.pid
        for _ in patiently():
            stat = Path(f"/proc/{self.maker(name, '*')}/stat")
            if stat.exists() and int(stat.read_text().rpartition(")")[2].split()[1]) == raylet:
                break
        self.cluster.remove_node(self.second, allow_graceful=False)
        code = run.wait()
        self.second = self.cluster.add_node(**NODE)
        return code


FAULTS: dict[str, Callable[[Tries, str], int]] = {
    own.__name__: own
    for own in (Tries.none, Tries.before, Tries.after, Tries.coordinator, Tries.together, Tries.node)
}


def patiently() -> Any:
    """Moments, until patience ends."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        yield
        time.sleep(0.005)


def main() -> int:
    """Try the faults; 1 if one of them changed a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("faults", nargs="*", choices=[*FAULTS, []], metavar="FAULT")
    parser.add_argument("--data", type=Path, help="folder of arrays [a small phantom]")
    arguments = parser.parse_args()
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data or Path(folder, "data")
        if not arguments.data:
            from kdtf.data import phantom

            phantom.write(data, train=48, val=16, test=24, side=32, teacher_side=64, seed=1)
        tries = Tries(Path(folder), data.resolve())
        try:
            for name in arguments.faults or FAULTS:
                started = time.monotonic()
                code, changed = FAULTS[name](tries, name), tries.changed(name)
                failed += bool(code or changed)
                seconds = time.monotonic() - started
                told = f"exit code {code}, {seconds:.0f} s, changed: {', '.join(changed) or 'none'}"
                print(f"{name}: {told}", flush=True)
        finally:
            tries.cluster.shutdown()
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
