"""A run as a command: it says what it has to say, and killed twice it ends like one that was left alone.

`benchmarks/faults.py` tries by the dozen.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import faults


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
    return Work(tmp_path_factory.mktemp("faults"))


def test_it_keeps_its_output_clean(work):
    """stdout holds the table and stderr nothing but what kdtf has to say: no noise, no bars in a pipe."""
    run = work.reference_run
    assert "Test scores on a synthetic phantom: not patient data" in run.stdout
    ours = (
        "Audit: no copies",
        "Every student sees",
        "On val the teacher cnn5",
        "Warning: On val the teacher cnn5",
        "Warning: cnn5, seed 0: int8 loses",  # one of 16 val images is enough
        "Warning: alone, seed 0: int8 loses",
        "The teacher sees",
        "The folder says that its images are synthetic",
    )
    assert [line for line in run.stderr.splitlines() if not line.startswith(ours)] == []


def test_killed_twice_and_finished_it_is_byte_for_byte_the_same(work, tmp_path):
    results = tmp_path / "r"
    for stage in ("alone-student", "cnn5-student"):
        process, deadline = work.start(results), time.monotonic() + 120
        while not list((results / "work").glob(f".{stage}*")):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        time.sleep(1)  # it builds its network, or trains it
        process.kill()
        process.communicate()
    assert work.goes_on(results) == ""


def test_damaged_outputs_are_made_again(work, tmp_path):
    results = tmp_path / "r"
    shutil.copytree(work.reference, results)
    (results / "cnn5_Student_int8.tflite").write_bytes(b"short")
    (results / "summary.csv").unlink()
    (path,) = (results / "work").glob("alone-student-*/student.keras")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    done = work.finish(results)
    told = [line for line in done.stderr.splitlines() if "made again" in line]
    assert done.returncode == 0 and len(told) == 3 and work.same(results) == ""
