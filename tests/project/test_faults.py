"""A run killed twice ends like one that was left alone. `benchmarks/faults.py` tries by the dozen."""

import shutil
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import faults


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return faults.Work(tmp_path_factory.mktemp("faults"))


def test_killed_twice_and_finished_it_is_byte_for_byte_the_same(work, tmp_path):
    results = tmp_path / "r"
    for part in (0.4, 0.7):
        process = work.start(results)
        time.sleep(part * work.seconds)
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
