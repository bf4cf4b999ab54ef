"""A run as a command: it says what it has to say, and stopped and damaged it ends like one left alone.

`benchmarks/faults.py` tries by the dozen.
"""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import faults

SHORT = ("--epochs", "6", "--fine-tune-epochs", "1", "--recipes", "int8")
# where each run is stopped, how, and its exit code
STOPS = (
    ("alone-student", signal.SIGINT, 130),
    ("cnn5-whole", signal.SIGTERM, 143),
    ("cnn5-student", signal.SIGKILL, -signal.SIGKILL),
)


class Work(faults.Work):
    """The reference run of `faults`, and what it said."""

    reference_run: subprocess.CompletedProcess

    def start(self, results, *more, **how):
        """As a user's shell would: this process has silenced TensorFlow, for itself and its children."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_CPP")}
        return super().start(results, *more, **{"env": environment, **how})

    def finish(self, results, *more, **how):
        done = super().finish(results, *more, **how)
        if results == self.reference:
            self.reference_run = done
        return done


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return Work(tmp_path_factory.mktemp("faults"), *SHORT)


def test_it_keeps_its_output_clean(work):
    """stdout holds the table and stderr nothing but what kdtf has to say: no noise, no bars in a pipe."""
    run = work.reference_run
    assert "Test scores on a synthetic phantom: not patient data" in run.stdout
    ours = (
        "Audit: no copies",
        "Every student sees",
        "On val the teacher cnn5",
        "Warning: On val the teacher cnn5",
        "--folds 5 compares",
        "Warning: cnn5, seed 0: int8 loses",  # one of 16 val images is enough
        "Warning: alone, seed 0: int8 loses",
        "The teacher sees",
        "The folder says that its images are synthetic",
    )
    lines = [line for line in run.stderr.splitlines() if not re.match(r"\d+ of \d+: ", line)]  # a stage
    assert [line for line in lines if not line.startswith(ours)] == []


@pytest.fixture(scope="module")
def server():
    """Forks processes in which Keras has been imported and has done nothing yet."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["keras"])
    return context


def run_in(folder: Path, argv: list[str], log: Path) -> None:
    """`python main.py ARGV` in a folder, its stderr in a file."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server ignores it
    os.chdir(folder)
    for number, path in ((1, os.devnull), (2, str(log))):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.argv = ["main.py", *argv]
    from kdtf.__main__ import run

    sys.exit(run())


def started(server, work: Work, results: Path, log: Path) -> BaseProcess:
    log.unlink(missing_ok=True)
    process = server.Process(target=run_in, args=(results.parent, work.command(results)[2:], log))
    process.start()
    return process


def damage(results: Path) -> None:
    """A file of a stage is cut short, a bit of another's is flipped; of a report, files are cut and gone."""
    (file,) = (results / "work").glob("alone-int8-????????????????/model.tflite")
    for path in (file, results / "alone_Student_int8.tflite"):
        path.write_bytes(b"short")
    (results / "alone_predictions.csv").unlink()
    (path,) = (results / "work").glob("alone-student-????????????????/student.keras")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_stopped_thrice_damaged_and_finished_it_is_byte_for_byte_the_same(work, server, tmp_path):
    """By Ctrl-C and politely, in one line, then not; what stood by then is harmed and made again."""
    results, log = tmp_path / "r", tmp_path / "stderr"
    for stage, number, code in STOPS:
        process, deadline = started(server, work, results, log), time.monotonic() + 120
        while not (parts := list((results / "work").glob(f".{stage}*"))):
            assert time.monotonic() < deadline and process.is_alive(), log.read_text()
            time.sleep(0.05)
        time.sleep(1)  # it builds its network, or trains it
        os.kill(process.pid, number)
        process.join(120)
        assert process.exitcode == code and "Traceback" not in log.read_text()
        if number != signal.SIGKILL:
            assert log.read_text().splitlines()[-1] == (
                "Interrupted. What is finished is kept; the same command goes on from it."
            )
            # nothing where the network was still being built
            assert {path.name for part in parts for path in part.glob("*")} <= {"checkpoint.npz"}
    for harm, lines in ((damage, 3), (lambda folder: (folder / "summary.csv").unlink(), 1)):
        harm(results)
        process = started(server, work, results, log)
        process.join(600)
        told = [line for line in log.read_text().splitlines() if "made again" in line]
        assert process.exitcode == 0 and len(told) == lines, log.read_text()
        assert work.same(results) == ""
