"""The predictor's one file, copied beside a bundle: without TensorFlow, without kdtf, in constant memory."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from small_run import CLASSES

from kdtf import predictor as module
from kdtf.cli.entry import main
from kdtf.predictor import Predictor

ALONE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "keras", "kdtf", "tf_keras", "pandas", "sklearn", "scipy"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
from predictor import Predictor
import resource

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

predictor = Predictor("s.tflite")
for i, row in enumerate(predictor.rows(sys.argv[1:])):
    if i in (500, 9999):
        print(peak())
    elif i < 2:
        print(row.label, *(f"{p:.6f}" for p in row.probs))
"""

# as `python predictor.py ...`, without what it has to do without
PROGRAM = f"""
{ALONE.partition("from predictor")[0]}
import runpy
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_alone(folder, *argv):
    shutil.copy(module.__file__, folder / "predictor.py")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    argv = [sys.executable, "-c", ALONE, *map(str, argv)]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("recipe", ["float32", "int8"])
def test_it_works_without_tensorflow_and_without_kdtf(tmp_path, bundle, recipe):
    path = bundle(recipe, temperature=1.5)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", rng.integers(0, 256, (16, 16), dtype=np.uint8))
    rows = Predictor(path).rows([tmp_path / "a.png", tmp_path / "b.npy"])
    expected = [" ".join([row.label, *(f"{p:.6f}" for p in row.probs)]) for row in rows]
    assert run_alone(tmp_path, "a.png", "b.npy") == expected
    assert expected[0].split()[0] in CLASSES


def test_as_a_program_it_prints_what_the_command_prints(tmp_path, bundle, capfd):
    path = bundle("int8", training_images={"colour": [0, 0, 0]}, thresholds={"a": 1.0})
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "c.png").write_text("no image")
    argv = [str(tmp_path / name) for name in ("a.png", "c.png", "nothing.png", "b.png")]
    assert main(["predict", str(path), *argv]) == 2
    printed = capfd.readouterr()
    shutil.copy(module.__file__, tmp_path / "predictor.py")
    program = [sys.executable, "-c", PROGRAM, "predictor.py"]
    done = subprocess.run([*program, str(path), *argv], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == printed.out and "Warning: unlike" in done.stdout
    assert [line for line in done.stderr.splitlines() if not line.startswith("INFO: ")] == [
        line for line in printed.err.splitlines() if not line.startswith("Error: ")
    ]
    for argv, said in (([], "usage: python predictor.py"), ([str(path), "no.png"], "Error: no.png must be")):
        done = subprocess.run([*program, *argv], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2 and done.stdout == "" and said in done.stderr.splitlines()[-1]


def test_ten_thousand_images_in_constant_memory(tmp_path, bundle):
    bundle("int8")
    (tmp_path / "in").mkdir()
    for i in range(10):
        Image.fromarray(np.full((128, 128, 3), 20 * i, np.uint8)).save(tmp_path / f"{i}.png")
    for i in range(10_000):
        os.link(tmp_path / f"{i % 10}.png", tmp_path / "in" / f"{i:05}.png")
    early, late = map(int, run_alone(tmp_path, "in")[2:])
    assert late - early < 8 << 10  # KiB; 10,000 decoded images would be 470 MiB
