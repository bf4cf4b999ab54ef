"""What goes with a .tflite: how training images looked, how they were made, C source."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from kdtf import bundle as bundles
from kdtf.cli import main
from kdtf.predictor import read_bundle
from kdtf.prepare import PrepareConfig, prepare
from kdtf.progress import Progress


def test_typical_images_are_quantiles_over_all_batches():
    levels = np.repeat(np.arange(201), 1)
    pixels = np.broadcast_to(levels[:, None, None, None], (201, 4, 4, 3)).astype(np.uint8)
    known = bundles.typical(pixels)
    assert known == {"brightness": [1, 100, 199], "contrast": [0, 0, 0], "colour": [0, 0, 0]}


def test_how_images_were_prepared_is_known_as_long_as_they_are_those(tmp_path):
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / "in" / name).mkdir(parents=True)
        noise = np.random.default_rng(0).integers(0, 256, (9, 9), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "in" / name / "0.png")
    out = tmp_path / "out"
    settings = PrepareConfig(out=str(out), size=8, keep_aspect=True, window=(40.0, 400.0))
    prepare(tmp_path / "in", settings, Progress())
    assert bundles.prepared(out) == {"side": 8, "keep_aspect": True, "window": [40.0, 400.0]}
    np.save(out / "X_train.npy", np.zeros((2, 8, 8, 3), np.uint8))  # arrays of another origin
    assert bundles.prepared(out) == {}
    (out / "provenance.json").write_text(json.dumps({"made_by": "someone"}))
    assert bundles.prepared(out) == bundles.prepared(tmp_path) == bundles.prepared(tmp_path / "x.npz") == {}


MAIN = r"""
#include <stdio.h>
#include <string.h>
#include "student.h"
int main(void) {
  fwrite(student_model, 1, student_model_len, stdout);
  for (int i = 0; i < STUDENT_CLASSES; ++i) fprintf(stderr, "%s\n", student_labels[i]);
  return ((unsigned long)student_model % 16) || STUDENT_HEIGHT != 16 || STUDENT_CHANNELS != 3;
}
"""


@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc")
def test_the_c_source_compiles_and_holds_the_very_bytes(bundle, tmp_path, capsys):
    classes = ["röntgen 胸", 'a "quote"\\', "??/ trigraph 7"]
    path, out = bundle("int8", classes=classes, recipe="int8\n#error"), tmp_path / "c"
    assert main(["c-array", str(path), "--out", str(out)]) == 0
    size = path.stat().st_size
    expected = f"Written: {out / 'student.h'} and student.cc, {size:,} bytes of model.\n"
    assert capsys.readouterr().out == expected
    (out / "main.c").write_text(MAIN)
    strict = ["gcc", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    subprocess.run([*strict, "-std=c++11", "-c", "student.cc"], cwd=out, check=True)
    subprocess.run([*strict, "-std=c99", "-c", "main.c"], cwd=out, check=True)
    subprocess.run(["gcc", "main.o", "student.o", "-o", "show"], cwd=out, check=True)
    shown = subprocess.run([out / "show"], capture_output=True, check=True)
    assert shown.stdout == path.read_bytes()
    assert shown.stderr.decode().splitlines() == classes


def test_the_same_bundle_gives_the_same_source(bundle):
    model, card = read_bundle(bundle())
    assert bundles.c_source(model, card) == bundles.c_source(model, card)
