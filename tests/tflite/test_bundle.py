"""What goes with a .tflite: C source."""

import shutil
import subprocess

import pytest

from kdtf.cli.entry import main
from kdtf.predictor import read_bundle
from kdtf.tflite import bundle as bundles

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
