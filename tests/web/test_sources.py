"""The page's own files: no other origin is asked, and images are resized as Pillow does."""

import base64
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from page_parts import WEB
from PIL import Image

from kdtf.predictor import SETS, fits, members, set_in_words
from kdtf.web.build import SOURCES

NODE = shutil.which("node")


def test_the_lock_file_pins_by_hash_and_names_no_host():
    lock = json.loads((WEB / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert set(packages) == {"node_modules/@litertjs/core", "node_modules/@litertjs/wasm-utils"}
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    assert "://" not in json.dumps(lock)


def test_the_pages_files_name_no_other_origin():
    for file in (*SOURCES.glob("*.js"), *SOURCES.glob("*.html"), *SOURCES.glob("*.css")):
        assert not re.search("://|innerHTML|url\\(", file.read_text()), file.name


RESIZE = """
import {resize} from "./resize.js";
const cases = JSON.parse((await import("node:fs")).readFileSync(0, "utf8"));
const made = cases.map(([data, from, to]) =>
  Buffer.from(resize(Buffer.from(data, "base64"), from, to)).toString("base64"));
console.log(JSON.stringify(made));
"""


@pytest.mark.skipif(NODE is None, reason="no Node on this machine")
def test_the_page_resizes_as_pillow_does():
    """Random images, larger, smaller and of one pixel, grey and RGB: the same bytes.

    At most 1 of 255 apart where Pillow 13 may take the vertical pass first.
    """
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
    for made, wanted, (_, (height, width, _), to) in zip(
        json.loads(done.stdout), expected, cases, strict=True
    ):
        got = np.frombuffer(base64.b64decode(made), np.uint8).astype(int)
        assert np.abs(got - wanted).max() <= (height / to[0] > width / to[1])


SET_CASES = """
import {fits, predictionSet, setInWords} from "./sets.js";
const cases = JSON.parse((await import("node:fs")).readFileSync(0, "utf8"));
console.log(JSON.stringify(cases.map(({probs, sets, names}) => {
  const inside = predictionSet(probs, sets);
  return [fits(probs, sets.method), inside, setInWords(inside, names)];
})));
"""


@pytest.mark.skipif(NODE is None, reason="no Node on this machine")
def test_the_page_makes_the_predictors_sets_to_the_last_bit():
    """Of floats and of steps of 1/256, with quantiles at a fit itself and a bit above it, or none."""
    rng, cases, expected = np.random.default_rng(0), [], []
    for i in range(600):
        names = tuple(f"n{k}" for k in range(rng.integers(1, 13)))
        probs = rng.dirichlet(np.full(len(names), 0.4), 1)
        probs = np.rint(256 * probs) / 256 if i % 3 else probs.astype(np.float32)
        method = SETS[i % 2]
        own = fits(probs, method)[0]
        at = np.nextafter(rng.permutation(own), rng.integers(0, 3, len(names)))  # some towards 0, some up
        quantiles = {name: float(q) for name, q in zip(names, at, strict=True) if rng.random() < 0.8}
        inside = np.flatnonzero(members(probs, names, {"method": method, "quantiles": quantiles})[0])
        sets = {"method": method, "quantiles": [quantiles.get(name) for name in names]}
        cases.append({"probs": [float(p) for p in probs[0]], "sets": sets, "names": names})
        words = set_in_words(tuple(names[k] for k in inside), names, why=True)
        expected.append([own.tolist(), inside.tolist(), words])
    done = subprocess.run(
        [NODE, "--input-type=module", "-e", SET_CASES],
        input=json.dumps(cases), cwd=SOURCES, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == expected
    assert len({len(inside) for _, inside, _ in expected}) > 5
