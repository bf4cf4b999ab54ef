"""The page in a browser: it says what the predictor says, and sends nothing."""

import base64
import functools
import http.server
import io
import json
import re
import struct
import threading
import time
import zlib

import numpy as np
import pytest
from page_parts import LIMITS, MODULES, RECIPES, needs_litert
from PIL import Image, ImageOps

from kdtf.predictor import Predictor, fits, set_in_words
from kdtf.tflite.card import read_card
from kdtf.web.build import build


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address(bundles, tmp_path_factory):
    """The page of all bundles, served by `python -m http.server`'s handler."""
    folder = build(bundles, tmp_path_factory.mktemp("site") / "page", MODULES)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture
def site(browser, address):
    """The page as the test before left it, for what uses its modules alone: students take seconds to load."""
    if browser.current_url != address:
        browser.get(address)
        assert status(browser, "Ready|cannot").startswith("Ready.")
    return browser


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
  set: one.querySelector(".set").textContent,
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

    The same class, the same warnings, probabilities within 0.02, and the same verdict and set unless that is
    a tie: engines differ in the last bits of a probability.
    """
    files = sorted((shared_data / "chest_ct" / "test").glob("*/*"))[::6][:50]
    asked = requests(page)
    assert len(asked) > 8 and all(r["url"].startswith(address) and r["method"] == "GET" for r in asked)
    assert choose(page, files).startswith("50 of 50 classified.")
    assert requests(page) == []  # all was there before the first image
    shown = page.execute_script(READ)
    assert len(shown) == 50 and {len(image) for image in shown} == {len(bundles)}
    for k, path in enumerate(bundles):
        predict = Predictor(path)
        limits, rule = predict.card["thresholds"], predict.card["prediction_sets"]
        promised = f"Prediction set ({100 * rule['coverage']:g}\u00a0%): "
        rows = list(predict.rows(files))
        for image, row in zip(shown, rows, strict=True):
            got = [float(p.strip("<>% \u00a0")) / 100 for p in image[k]["probs"]]
            assert image[k]["student"] == path.stem and image[k]["top"] == row.label
            assert np.abs(got - row.probs).max() < 0.02
            tie = abs(row.probability - limits[row.label]) < 1e-4
            assert tie or image[k]["verdict"].startswith("Uncertain") == row.uncertain
            own = fits(row.probs[None], rule["method"])[0]
            ends = [rule["quantiles"].get(name, -1) for name in predict.classes]
            words = set_in_words(row.prediction_set, predict.classes, why=True)
            assert np.abs(own - ends).min() < 1e-3 or image[k]["set"] == f"{promised}{words}."
            assert [same(text) for text in image[k]["warnings"]] == list(
                map(same, filter(None, row.warning.split("; ")))
            )
        if path.stem.startswith("rgb"):
            assert {bool(row.warning) for row in rows} == {True, False}
            assert {"layout" in row.warning for row in rows} == {True, False}
    assert len({own["set"] for image in shown for own in image}) > 1
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


@functools.cache
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
def test_every_kind_of_image_is_read_as_pillow_reads_it(site, kind, channels):
    content, image = stored(kind)
    sides = {"height": 32, "width": 28, "channels": channels}
    got = site.execute_async_script(PIXELS, base64.b64encode(content).decode(), sides)
    flat = image.convert("RGB").convert("L" if channels == 1 else "RGB")
    wanted = np.asarray(flat.resize((28, 32), Image.Resampling.BILINEAR)).ravel().astype(int)
    assert not isinstance(got, str), got
    assert np.abs(np.array(got) - wanted).max() <= 1


@needs_litert
def test_limits_stand_under_each_card_as_plain_text(page, bundles, finished):
    all_texts = "(inside, what) => [...inside.querySelectorAll(what)].map(line => line.textContent)"
    each_card = "[...document.querySelectorAll('details')].map(card => texts(card, '.limits li'))"
    limits = page.execute_script(f"const texts = {all_texts}; return {each_card}")
    own = [read_card(finished / f"mobilenet_Student_{recipe}.json").limits for recipe in RECIPES]
    assert limits == [*own, *[LIMITS] * (len(bundles) - len(RECIPES))]
    assert not page.find_elements("css selector", ".limits b")


@needs_litert
def test_only_students_of_the_same_classes_are_compared(page, bundles, tmp_path):
    """And the phantom's note stands beside those alone that learnt from it."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    choose(page, [tmp_path / "noise.png"])
    [image] = page.execute_script(READ)
    tops = [own["top"].removesuffix("\u200b") for own in image]
    names = [own["student"] for own in image]
    said = page.find_element("css selector", ".agree").text
    for some in (slice(0, len(RECIPES)), slice(len(RECIPES), None)):
        same_class = "agree" if len(set(tops[some])) == 1 else "disagree"
        assert f"Of the same classes, {', '.join(names[some])}: they {same_class}." in said
    assert said.count("Of the same classes") == 2 and "The students" not in said
    assert not page.find_element("id", "synthetic").is_displayed()
    phantom = "!!one.querySelector('.phantom')"
    for what in ("details", "article section"):
        marked = page.execute_script(f"return [...document.querySelectorAll('{what}')].map(one => {phantom})")
        assert marked == [True] * len(RECIPES) + [False] * (len(bundles) - len(RECIPES))
    lines = page.execute_script("return [...document.querySelectorAll('.headline')].map(l => l.textContent)")
    assert all(line.startswith("Accuracy ") for line in lines[: len(RECIPES)])


@needs_litert
def test_a_device_that_answers_otherwise_does_not_get_to_use_a_student(bundles, browser, tmp_path):
    folder = build(bundles[:2], tmp_path / "page", MODULES)
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
    assert "It was trained on a synthetic phantom and says nothing" in page.find_element("id", "cards").text
    reached[1].send_keys("\ue007")
    assert page.switch_to.active_element.get_attribute("id") == "files"
    assert not page.find_elements("css selector", "article")
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
