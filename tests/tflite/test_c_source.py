"""A student as C source: it compiles, and holds the very bytes and labels."""

import shutil
import subprocess

import pytest

from kdtf.cli.entry import main
from kdtf.tflite.c_source import c_source
from kdtf.tflite.card import read_card

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
    output = subprocess.run([out / "show"], capture_output=True, check=True)
    assert output.stdout == path.read_bytes()
    assert output.stderr.decode().splitlines() == classes


def test_the_same_bundle_gives_the_same_source(bundle):
    path = bundle()
    model, card = path.read_bytes(), read_card(path.with_suffix(".json"))
    texts = c_source(model, card)
    assert texts == c_source(model, card) and set(texts) == {"student.h", "student.cc"}
    origin = f"// A kdtf student: recipe float32, sha256 {card.sha256}. Research only.\n"
    assert all(text.startswith(origin) for text in texts.values())
    assert "// Input: float32, row by row" in texts["student.h"]
    assert "#define STUDENT_WIDTH 16\n" in texts["student.h"]
    assert f"student_model_len = {len(model)};" in texts["student.cc"]
