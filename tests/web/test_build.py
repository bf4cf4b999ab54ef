"""The page that runs students in a browser: made whole or not at all, and true to the predictor."""

import base64
import functools
import http.server
import io
import json
import re
import shutil
import struct
import subprocess
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from kdtf.cli.entry import main
from kdtf.data.typical import layout
from kdtf.predictor import Predictor, open_interpreter
from kdtf.web.build import MODULES, SOURCES, build, names
from kdtf.web.student import fixed_batch

RECIPES = ("int8", "float32", "float16", "dynamic")
NODE, DRIVER = shutil.which("node"), shutil.which("chromedriver")
needs_litert = pytest.mark.skipif(not MODULES.is_dir(), reason="no LiteRT.js: run `npm ci` in web/")


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    """RGB students of both input types, after a few steps on noise; one knows how to prepare images."""
    import keras

    from kdtf.models.students import build_student, exported
    from kdtf.tflite.quantize import calibration, card, convert

    folder, shape = tmp_path_factory.mktemp("rgb"), (32, 32, 3)
    views = np.random.default_rng(0).integers(0, 256, (1, 40, *shape), dtype=np.uint8)
    model = build_student("cnn3", shape, 3, momentum=0.5, dropout=0.5, seed=0)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    model.fit(views[0].astype("float32"), np.arange(40) % 3, epochs=2, verbose=0)
    known = {"brightness": [60, 80, 90], "contrast": [40, 50, 60], "colour": [0, 0, 0], "layout": [0, 10, 50]}
    ways = {"int8": {}, "float32": {"side": 57, "keep_aspect": True, "window": [300.0, 600.0]}}
    for recipe, prepared in ways.items():
        content = convert(exported(model), recipe, calibration(views, 40, 0))
        facts = card(content, recipe, classes="abc", shape=shape, made_by={}, synthetic=False)
        facts |= {"temperature": 1.7, "thresholds": {"a": 0.4, "b": 0.5, "c": 0.99}, "training_images": known}
        facts["training_layout"] = layout(views[0], views[0])[0]
        facts["input"]["prepared"] = prepared
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
        (lambda f: edit(f, classes=["a"]), "must have the input and classes its .json states."),
        (lambda f: edit(f, temperature=0), "must describe a kdtf student. It does not."),
        (lambda f: edit(f, thresholds={"a": 2}), "thresholds must be between 0 and 1, by class."),
        (lambda f: edit(f, thresholds=[1]), "must describe a kdtf student. It does not."),
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
        content = fixed_batch(path.read_bytes())
        fixed = open_interpreter(content, "the copy")
        fixed.allocate_tensors()
        details = fixed.get_input_details()[0]
        assert details["shape_signature"][0] == 1 and path.stat().st_size == len(
            fixed_batch(path.read_bytes())
        )
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
def test_neither_card_nor_page_tells_a_path(finished, tiny, tmp_path):
    bundle = finished / "mobilenet_Student_int8.tflite"
    told = (build([bundle], tmp_path / "page") / "students.json").read_text()
    for text in (told, bundle.with_suffix(".json").read_text()):
        assert str(tiny) not in text and str(finished) not in text
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


# in a browser


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address(bundles, tmp_path_factory):
    """The page of all bundles, served by `python -m http.server`'s handler."""
    folder = build(bundles, tmp_path_factory.mktemp("site") / "page")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture
def page(browser, address):
    browser.get("about:blank")
    for log in ("performance", "browser"):
        browser.get_log(log)  # of what came before
    browser.get(address)
    assert status(browser, "Ready|cannot").startswith("Ready.")
    return browser


def status(browser, pattern, seconds=90):
    """The status line once it matches."""
    for _ in range(10 * seconds):
        text = browser.find_element("id", "status").text
        if re.search(pattern, text):
            return text
        time.sleep(0.1)
    raise AssertionError(text)


def choose(page, files):
    """Choose files as a visitor does; the status line at the end."""
    page.find_element("id", "files").send_keys("\n".join(map(str, files)))
    return status(page, "classified")


READ = """
const all = (inside, found) => [...inside.querySelectorAll(found)];
return all(document, "article").map(image => all(image, "section").map(one => ({
  student: one.querySelector("h4").textContent,
  verdict: one.querySelector(".verdict").textContent,
  warnings: all(one, ".warn li").map(line => line.textContent),
  top: one.querySelector(".top th").textContent,
  probs: all(one, "tbody tr").map(row => row.cells[1].textContent),
})))
"""


def same(text):
    """A warning without its first letter, full stop and digits, which two decoders may round apart."""
    return re.sub(r"\d+", "#", text[1:].removesuffix("."))


def problems(page):
    return page.find_element("id", "problems").text


def requests(browser):
    heard = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [m["params"]["request"] for m in heard if m["method"] == "Network.requestWillBeSent"]


@needs_litert
def test_it_says_what_the_predictor_says_and_sends_nothing(page, address, bundles, shared_data):
    """50 real CT images, every recipe, grey and RGB, prepared or not.

    The same class, the same warnings, probabilities within 0.02.
    """
    files = sorted((shared_data / "chest_ct" / "test").glob("*/*"))[::6][:50]
    asked = requests(page)
    assert len(asked) > 8 and all(r["url"].startswith(address) and r["method"] == "GET" for r in asked)
    assert choose(page, files).startswith("50 of 50 classified.")
    assert requests(page) == []  # all was there before the first image
    shown = page.execute_script(READ)
    assert len(shown) == 50 and {len(image) for image in shown} == {len(bundles)}
    for k, path in enumerate(bundles):
        rows = list(Predictor(path).rows(files))
        for image, row in zip(shown, rows, strict=True):
            got = [float(p.strip("<>% \u00a0")) / 100 for p in image[k]["probs"]]
            assert image[k]["student"] == path.stem and image[k]["top"] == row.label
            assert np.abs(got - row.probs).max() < 0.02
            assert image[k]["verdict"].startswith("Uncertain") == row.uncertain
            assert [same(text) for text in image[k]["warnings"]] == list(
                map(same, filter(None, row.warning.split("; ")))
            )
        if path.stem.startswith("rgb"):
            assert {bool(row.warning) for row in rows} == {True, False}
            assert {"layout" in row.warning for row in rows} == {True, False}
    heard = [e for e in page.get_log("browser") if "litert" not in e["message"]]  # it logs to the console
    assert not [e for e in heard if "Content Security" in e["message"] or "javascript" in e["source"]]


@needs_litert
def test_what_is_no_whole_image_of_bearable_size_gets_a_message(page, tmp_path):
    buffer = {"png": io.BytesIO(), "jpeg": io.BytesIO()}
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 90), dtype=np.uint8))
    for kind, stream in buffer.items():
        noise.save(stream, kind)
    png, jpeg = (stream.getvalue() for stream in buffer.values())
    frames, deep = io.BytesIO(), io.BytesIO()
    noise.save(frames, "png", save_all=True, append_images=[noise.rotate(180)])
    Image.fromarray(np.zeros((40, 40), np.uint16)).save(deep, "png")
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 0xFF
    bad = {
        "cut.png": (png[:-400], "is cut short"),
        "cut.jpg": (jpeg[: len(jpeg) // 2], "is cut short"),
        "flipped.png": (bytes(flipped), "is damaged"),
        "head.jpg": (jpeg[:3] + b"\x00" * 200, "is damaged"),
        "empty.png": (b"", "is empty"),
        "notes.png": (b"no image at all", "is not a PNG or JPEG image"),
        "scan.dcm": (b"\0" * 128 + b"DICM", "is a DICOM file; export it as PNG or JPEG"),
        "wide.png": (header(20000, 10), "at most 64 million, and 16384 a side, are read"),
        "bomb.png": (header(16000, 16000), "has 16000 × 16000 pixels; at most 64 million"),
        "none.png": (header(0, 7), "has no pixels"),
        "frames.png": (frames.getvalue(), "holds several images"),
        "deep.png": (deep.getvalue(), "is grey in 16 bits, which rgb_float32 reads through a window"),
    }
    for name, (content, _) in bad.items():
        (tmp_path / name).write_bytes(content)
    with open(tmp_path / "large.png", "wb") as f:
        f.truncate(64 * 2**20 + 1)
    (tmp_path / "<img src=x>.png").write_bytes(png)
    files = [*(tmp_path / name for name in bad), tmp_path / "large.png", tmp_path / "<img src=x>.png"]
    assert choose(page, files) == f"1 of {len(files)} classified, {len(files) - 1} not."
    told = problems(page).splitlines()
    for name, (_, reason) in bad.items():
        assert any(line.startswith(f"{name} ") and reason in line for line in told), name
    assert "large.png is larger than 64 MB." in told
    assert "<img src=x>.png" in page.find_element("css selector", "article h3").text


def header(width, height):
    """A PNG that says it has so many pixels, of which none is there."""
    first = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", first), (b"IDAT", b""), (b"IEND", b"")]
    made = [struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


PIXELS = """
const [data, sides, done] = arguments;
const file = new File([Uint8Array.from(atob(data), c => c.charCodeAt(0))], "f");
import(new URL("picture.js", document.baseURI)).then(async ({decode, pixelsOf}) =>
  done([...pixelsOf(await decode(file), sides)])).catch(error => done(String(error)));
"""


def stored(kind):
    """(bytes of a file, the image they mean)."""
    rng, buffer = np.random.default_rng(1), io.BytesIO()
    smooth = Image.fromarray(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)).resize((300, 211))
    if kind == "16 bits":
        values = rng.integers(0, 65536, (70, 50)).astype(np.uint16)
        Image.fromarray(values).save(buffer, "png")
        return buffer.getvalue(), Image.fromarray(np.rint(values / 257).astype(np.uint8))
    if kind == "transparent":
        smooth.putalpha(Image.fromarray(rng.integers(0, 256, (211, 300), dtype=np.uint8)))
        smooth.save(buffer, "png")
        return buffer.getvalue(), Image.alpha_composite(
            Image.new("RGBA", smooth.size, (0, 0, 0, 255)), smooth
        )
    if kind in ("turned jpeg", "turned png"):
        exif = Image.Exif()
        exif[0x0112] = 6
        smooth.save(buffer, kind.split()[1], exif=exif, **({"quality": 95} if "jpeg" in kind else {}))
        return buffer.getvalue(), ImageOps.exif_transpose(Image.open(buffer))
    if kind == "large":
        smooth = smooth.resize((4100, 2300))
    smooth.convert({"grey": "L", "palette": "P"}.get(kind, "RGB")).save(buffer, "png")
    return buffer.getvalue(), Image.open(buffer)


@needs_litert
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "kind",
    ["RGB", "grey", "palette", "16 bits", "transparent", "turned jpeg", "turned png", "large"],
)
def test_every_kind_of_image_is_read_as_pillow_reads_it(page, kind, channels):
    content, image = stored(kind)
    sides = {"height": 32, "width": 28, "channels": channels}
    got = page.execute_async_script(PIXELS, base64.b64encode(content).decode(), sides)
    flat = image.convert("RGB").convert("L" if channels == 1 else "RGB")
    wanted = np.asarray(flat.resize((28, 32), Image.Resampling.BILINEAR)).ravel().astype(int)
    assert not isinstance(got, str), got
    assert np.abs(np.array(got) - wanted).max() <= 1


@needs_litert
def test_a_device_that_answers_otherwise_does_not_get_to_use_a_student(bundles, browser, tmp_path):
    folder = build(bundles[:2], tmp_path / "page")
    listed = json.loads((folder / "students.json").read_text())
    listed["students"][0]["check"] = listed["students"][0]["check"][::-1]
    (folder / "students.json").write_text(json.dumps(listed))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    browser.get(f"http://127.0.0.1:{server.server_port}/")
    assert status(browser, "Ready|cannot").startswith("Ready.")
    first = bundles[0].stem
    assert browser.find_element("id", "unused").text.startswith(f"{first} is not used: its probabilities on")
    (folder / "students" / "2.tflite").unlink()
    browser.refresh()
    assert status(browser, "cannot") == "The page cannot start: no student runs in this browser."
    assert not browser.find_element("id", "files").is_enabled()
    server.shutdown()


def press(page, keys):
    from selenium.webdriver import ActionChains

    ActionChains(page).send_keys(keys).perform()


DROP = """
const files = new DataTransfer();
files.items.add(new File([Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0))], "dropped.png"));
document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: files, bubbles: true, cancelable: true}));
"""


@needs_litert
def test_it_works_by_drop_by_keyboard_and_on_a_phone(page, tmp_path):
    metrics = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.execute_script(DROP, base64.b64encode(stored("RGB")[0]).decode())
    assert "classified" in status(page, "classified")
    assert page.execute_script("return document.documentElement.scrollWidth") == 360
    assert page.find_element("css selector", "article h3").text.startswith("dropped.png 300 × 211 px")
    named = "e => e.ariaLabel || e.labels?.[0]?.textContent || e.textContent"
    seen = "[...document.querySelectorAll('input, button, canvas, summary')]"
    assert all(page.execute_script(f"return {seen}.map({named})"))
    reached = []
    for _ in range(4):
        press(page, "\ue004")  # Tab
        reached.append(page.switch_to.active_element)
    assert [e.tag_name for e in reached] == ["input", "button", "summary", "summary"]
    for key in ("\ue008\ue004", "\ue007"):  # Shift and Tab, back to the first card; Enter
        press(page, key)
    assert "Intended use" in page.find_element("id", "cards").text
    reached[1].send_keys("\ue007")
    assert page.switch_to.active_element.get_attribute("id") == "files"
    assert not page.find_elements("css selector", "article")
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
