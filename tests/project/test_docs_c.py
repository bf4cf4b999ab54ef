"""The C sample of the README, word for word, compiled and run on the library of TensorFlow Lite Micro.

The wheel `tflite-micro` has the library and no headers: `micro/` beside this file declares what the sample
uses. So interpreter, arena, kernels and parsers are the real ones; the declarations and the table of
operators, a template in a header, are not.
"""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kdtf.cli.entry import main
from kdtf.predictor import Predictor

HERE = Path(__file__).parent
README = (HERE.parents[1] / "README.md").read_text(encoding="utf-8")
[SAMPLE] = re.findall(r"```cpp\n(.*?)```", README, re.DOTALL)
COMPILER = shutil.which("g++") or shutil.which("clang++")
STRICT = ["-std=c++11", "-Wall", "-Wextra", "-Werror", "-O1", "-fPIC"]
CLASSIFY = "_Z8classifyPKh"  # int classify(const uint8_t *)
CALLS = 50
pytestmark = pytest.mark.skipif(not COMPILER, reason="no C++ compiler")

RUN = f"""
import ctypes, json, sys
import numpy as np

library, sample, images = sys.argv[1:]
micro = ctypes.CDLL(library, ctypes.RTLD_GLOBAL)
classify = getattr(ctypes.CDLL(sample), "{CLASSIFY}")
pixels = np.load(images)
print(json.dumps([classify(np.ascontiguousarray(image).ctypes.data_as(ctypes.c_char_p)) for image in pixels]))
"""


def micro_library():
    """The library inside the wheel; skips where it is not installed or not one that the headers fit."""
    found = importlib.util.find_spec("tflite_micro")
    if found is None:
        pytest.skip("no tflite-micro")
    [library] = Path(found.origin).parent.rglob("_runtime*.so")
    if b"_ZN6tflite5micro16MicroInterpreter15AllocateTensorsEv" not in library.read_bytes():
        pytest.skip("this tflite-micro has its classes elsewhere than in tflite::micro")
    return library


def answers(sample, folder, pixels):
    """What `classify` of a sample says of images, called on one after the other in one process."""
    library = micro_library()
    (folder / "sample.cc").write_text(sample)
    sources = ["sample.cc", "student.cc"]
    command = [COMPILER, *STRICT, "-shared", "-I", str(HERE / "micro"), *sources, "-o", "sample.so"]
    subprocess.run(command, cwd=folder, check=True)
    np.save(folder / "pixels.npy", pixels)
    argv = [sys.executable, "-c", RUN, str(library), str(folder / "sample.so"), str(folder / "pixels.npy")]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def student(finished, tmp_path):
    """A folder with student.h and student.cc, and the bundle they are made of."""
    path = finished / "mobilenet_Student_int8.tflite"
    assert main(["c-array", str(path), "--out", str(tmp_path)]) == 0
    return tmp_path, path


@pytest.fixture
def pixels(tiny):
    """As many images as calls: the library ate its arena in three."""
    return np.concatenate([np.load(tiny / f"X_{split}.npy") for split in ("train", "test")])[:CALLS]


def micro_classes(path, pixels):
    """The classes that the library's own Python interpreter finds."""
    runtime = pytest.importorskip("tflite_micro", reason="no tflite-micro").runtime
    interpreter = runtime.Interpreter.from_file(str(path), arena_size=1 << 20)
    for image in pixels:
        interpreter.set_input(image[None], 0)
        interpreter.invoke()
        yield int(interpreter.get_output(0).argmax())


def test_the_sample_says_of_fifty_images_what_others_say(student, pixels):
    folder, path = student
    predictor = Predictor(path)
    images = pixels.reshape(len(pixels), *predictor.shape)
    said = answers(SAMPLE, folder, images)
    assert said == list(micro_classes(path, images)) and len(said) == CALLS and len(set(said)) > 1
    # LiteRT's kernels round otherwise: classes that are one step of 1/256 apart may change places
    probs = predictor(images)
    assert (probs.max(axis=1) - probs[np.arange(CALLS), said]).max() < 2.5 / 256


BROKEN = {
    # eats the arena: what the README had before
    "allocates at every call": ("static bool ready", "bool ready"),
    "an operator is missing": ("ops.AddSoftmax(), ", ""),
    "room for too few operators": ("MicroMutableOpResolver<6>", "MicroMutableOpResolver<5>"),
    "too small an arena": ("arena[64 * 1024]", "arena[4 * 1024]"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_faulty_sample_is_noticed(student, pixels, fault):
    text, other = BROKEN[fault]
    folder, _ = student
    assert text in SAMPLE
    said = answers(SAMPLE.replace(text, other), folder, pixels)
    assert said[-1] == -1


def test_the_sample_compiles_where_the_classes_lie_in_tflite(student):
    """As they did until 2026."""
    folder, _ = student
    (folder / "sample.cc").write_text(SAMPLE)
    command = [
        COMPILER,
        *STRICT,
        "-fsyntax-only",
        "-DMICRO_IN_TFLITE",
        "-I",
        str(HERE / "micro"),
        "sample.cc",
    ]
    subprocess.run(command, cwd=folder, check=True)
