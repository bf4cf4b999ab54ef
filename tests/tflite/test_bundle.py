"""What goes with a .tflite: how training images looked, how they were made, C source."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from kdtf.cli.entry import main
from kdtf.predictor import likeness, patterns_of, read_bundle, statistics, thumbnails
from kdtf.prepare import PrepareConfig, prepare
from kdtf.progress import Progress
from kdtf.tflite import bundle as bundles


def test_typical_images_are_quantiles_over_all_batches():
    levels = np.repeat(np.arange(201), 1)
    pixels = np.broadcast_to(levels[:, None, None, None], (201, 4, 4, 3)).astype(np.uint8)
    known = bundles.typical(pixels)
    assert known == {"brightness": [1, 100, 199], "contrast": [0, 0, 0], "colour": [0, 0, 0]}


def faces(count, seed):
    """(N, 16, 16, 1): a bright disc of any size and brightness in the middle, and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:16, :16] - 7.5
    discs = np.hypot(x, y) < rng.uniform(3, 7, (count, 1, 1))
    pixels = discs * rng.uniform(60, 200, (count, 1, 1)) + rng.normal(30, 5, (count, 16, 16))
    return np.clip(pixels, 0, 255).astype(np.uint8)[..., None]


def test_layout_tells_other_pictures_of_the_same_grey_levels():
    train, val, test = faces(200, 0), faces(40, 1), faces(100, 2)
    stored, (low, median, high) = bundles.layout(train, val)
    patterns = patterns_of({"training_layout": stored})
    assert np.allclose(np.linalg.norm(patterns, axis=1), 1) and np.allclose(patterns.sum(axis=1), 0, atol=0.1)
    assert len(patterns) < 5 and 0 < low < median < high < 60
    most = likeness({"layout": [low, median, high]})["layout"][1]
    upside = np.roll(test, (8, 8), axis=(1, 2))  # the disc in the corners: the same histogram
    values = [statistics(pixels, patterns)["layout"] for pixels in (test, upside, test // 2, 255 - test)]
    assert [float((found > most).mean()) for found in values] == [0, 1, 0, 0]  # brightness is not its matter
    assert statistics(np.full((1, 16, 16, 1), 9, np.uint8), patterns)["layout"] == 100  # flat: nothing known


@pytest.mark.parametrize("shape", [(5, 5, 1), (9, 30, 3), (64, 64, 1)])
def test_thumbnails_are_means_of_their_cells(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (3, *shape)).astype(np.uint8)
    grey, made = pixels.mean(axis=3), np.zeros((3, 64))
    for i in range(64):
        cell = [
            (n * side // 8, max(n * side // 8 + 1, (n + 1) * side // 8))
            for n, side in zip(divmod(i, 8), shape[:2], strict=True)
        ]
        made[:, i] = grey[:, slice(*cell[0]), slice(*cell[1])].mean(axis=(1, 2))
    made -= made.mean(axis=1, keepdims=True)
    assert np.allclose(thumbnails(grey), made / np.linalg.norm(made, axis=1, keepdims=True), atol=1e-9)


def test_layout_of_few_images():
    for count in (1, 2, 4):
        stored, left = bundles.layout(faces(count, 0), faces(1, 1))
        assert np.isfinite(left).all() and len(patterns_of({"training_layout": stored})) >= 1


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
