"""The page that runs students in a browser: made whole or not at all, and true to the predictor."""

import base64
import functools
import http.server
import io
import json
import re
import shutil
import subprocess
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdtf.browser import fixed_batch
from kdtf.checks import UserError
from kdtf.cli import main
from kdtf.evidence import tempered
from kdtf.page import MODULES, SOURCES, build, names
from kdtf.predictor import Interpreter, Predictor

RECIPES = ("int8", "float32", "float16", "dynamic")
NODE, DRIVER = shutil.which("node"), shutil.which("chromedriver")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_litert = pytest.mark.skipif(not MODULES.is_dir(), reason="no LiteRT.js: run `npm ci` in web/")


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    """RGB students of both input types, after a few steps on noise."""
    import keras

    from kdtf.quantize import calibration, card, convert
    from kdtf.students import build_student, exported

    folder, shape = tmp_path_factory.mktemp("rgb"), (32, 32, 3)
    views = np.random.default_rng(0).integers(0, 256, (1, 40, *shape), dtype=np.uint8)
    model = build_student("cnn3", shape, 3, momentum=0.5, dropout=0.5, seed=0)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    model.fit(views[0].astype("float32"), np.arange(40) % 3, epochs=2, verbose=0)
    for recipe in ("int8", "float32"):
        content = convert(exported(model), recipe, calibration(views, 40, 0))
        facts = card(content, recipe, classes="abc", shape=shape, made_by={}, synthetic=False)
        facts |= {"temperature": 1.7, "thresholds": {"a": 0.4, "b": 0.5, "c": 0.99}}
        (folder / f"rgb_{recipe}.tflite").write_bytes(content)
        (folder / f"rgb_{recipe}.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture(scope="module")
def bundles(finished, colour):
    grey = [finished / f"mobilenet_Student_{recipe}.tflite" for recipe in RECIPES]
    return [*grey, *sorted(colour.glob("*.tflite"))]


def refused(capsys, *argv):
    assert main(["page", *map(str, argv)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    return err


# the command


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda f: f.with_suffix(".json").unlink(), "A bundle must be a .tflite and a .json file."),
        (lambda f: f.write_bytes(b"x" + f.read_bytes()), "must be the file its .json was written for"),
        (lambda f: edit(f, classes=["a"]), "classes must be one an output. Got ['a']."),
        (lambda f: edit(f, temperature=0), "temperature must be positive. Got 0."),
        (lambda f: edit(f, thresholds={"a": 2}), "thresholds must be between 0 and 1, by class."),
        (lambda f: edit(f, thresholds=[1]), "must be a card as kdtf wrote it. It is not."),
        (lambda f: edit(f, test={"auc": None}), "must be a card as kdtf wrote it. It is not."),
    ],
)
def test_a_bad_bundle_is_told_and_leaves_nothing(colour, tmp_path, capsys, change, text):
    for file in colour.glob("rgb_int8.*"):
        shutil.copy(file, tmp_path)
    change(tmp_path / "rgb_int8.tflite")
    assert text in refused(capsys, tmp_path / "rgb_int8.tflite", "--out", tmp_path / "page")
    assert {p.suffix for p in tmp_path.iterdir()} <= {".tflite", ".json"}


def edit(file, **facts):
    path = file.with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def test_what_else_cannot_be_used_is_told(colour, tmp_path, capsys):
    bundle, out = colour / "rgb_int8.tflite", tmp_path / "page"
    assert "A bundle must be a .tflite file with its .json" in refused(
        capsys, bundle.with_suffix(".json"), "--out", out
    )
    assert "Run `npm ci` in web/ once." in refused(capsys, bundle, "--out", out, "--node-modules", tmp_path)
    assert "Got one of them twice." in refused(capsys, bundle, bundle, "--out", out)
    assert "--out" in refused(capsys, bundle)
    assert not any(tmp_path.iterdir())


def test_students_are_called_by_what_tells_them_apart():
    assert names([Path("r/a.tflite"), Path("r/b.tflite")]) == ["a", "b"]
    assert names([Path("r/a.tflite"), Path("s/a.tflite")]) == ["r/a", "s/a"]


def test_a_fixed_batch_changes_no_probability(bundles):
    for path in bundles:
        fixed = Interpreter(model_content=fixed_batch(path.read_bytes()))
        fixed.allocate_tensors()
        details = fixed.get_input_details()[0]
        assert details["shape_signature"][0] == 1 and path.stat().st_size == len(fixed_batch(path.read_bytes()))
        pixels = np.random.default_rng(0).integers(0, 256, details["shape"]).astype(details["dtype"])
        fixed.set_tensor(details["index"], pixels)
        fixed.invoke()
        raw = fixed.get_tensor(fixed.get_output_details()[0]["index"])
        assert np.allclose(raw / raw.sum(), Predictor(path)(pixels), atol=1e-6)


@needs_litert
def test_a_page_replaces_an_earlier_page_and_nothing_else(colour, tmp_path, capsys):
    bundle, out = colour / "rgb_int8.tflite", tmp_path / "page"
    for _ in range(2):
        assert main(["page", str(bundle), "--out", str(out)]) == 0
    assert "--out must be" not in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["page"]
    (out / "notes.txt").write_text("mine")
    assert "It holds notes.txt." in refused(capsys, bundle, "--out", out)
    assert (out / "notes.txt").read_text() == "mine" and (out / "index.html").exists()
    assert "It holds page." in refused(capsys, bundle, "--out", tmp_path)
    assert "--out must be a new folder" in refused(capsys, bundle, "--out", bundle)


@needs_litert
def test_the_page_tells_no_path_and_no_setting_of_the_run(finished, tmp_path):
    bundle = finished / "mobilenet_Student_int8.tflite"
    told = (build([bundle], tmp_path / "page") / "students.json").read_text()
    config = json.loads(bundle.with_suffix(".json").read_text())["made_by"]["config"]
    assert config["data"]["data"] not in told and config["run"]["results"] not in told
    (entry,) = json.loads(told)["students"]
    assert entry["levels"] == list(range(256)) and entry["card"]["synthetic"] is True


# its sources


def test_the_lock_file_pins_by_hash_and_names_no_host():
    lock = json.loads((MODULES.parent / "package-lock.json").read_text())
    packages = {name: facts for name, facts in lock["packages"].items() if name}
    assert set(packages) == {"node_modules/@litertjs/core", "node_modules/@litertjs/wasm-utils"}
    assert all(facts["integrity"].startswith("sha512-") for facts in packages.values())
    assert "://" not in json.dumps(lock)


def test_the_pages_files_name_no_other_origin():
    for file in SOURCES.glob("*.*"):
        text = file.read_text().replace("http://www.w3.org/2000/svg", "").replace("http://localhost:8000/", "")
        assert "://" not in text and "innerHTML" not in text, file.name


RESIZE = """
import {resize} from "./resize.js";
const cases = JSON.parse((await import("node:fs")).readFileSync(0, "utf8"));
const made = cases.map(([data, from, to]) =>
  Buffer.from(resize(Buffer.from(data, "base64"), from, to)).toString("base64"));
console.log(JSON.stringify(made));
"""


@pytest.mark.skipif(NODE is None, reason="no Node on this machine")
def test_the_page_resizes_as_pillow_does():
    """Random images, larger, smaller and of one pixel, grey and RGB: at most 1 of 255 apart; 0 was measured."""
    rng, cases, expected = np.random.default_rng(0), [], []
    sides = [((128, 173), (32, 32)), ((7, 300), (28, 28)), ((20, 20), (32, 32)), ((1, 1), (5, 4))]
    sides += [((int(a), int(b)), (int(c), int(d))) for a, b, c, d in rng.integers(1, 200, (40, 4))]
    for (height, width), to in sides:
        for channels in (1, 3):
            pixels = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
            cases.append([base64.b64encode(pixels.tobytes()).decode(), pixels.shape, to])
            small = Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels).resize(
                to[::-1], Image.Resampling.BILINEAR
            )
            expected.append(np.asarray(small).ravel())
    done = subprocess.run(
        [NODE, "--input-type=module", "-e", RESIZE],
        input=json.dumps(cases), cwd=SOURCES, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    for made, wanted in zip(json.loads(done.stdout), expected, strict=True):
        got = np.frombuffer(base64.b64decode(made), np.uint8).astype(int)
        assert np.abs(got - wanted).max() <= 1
