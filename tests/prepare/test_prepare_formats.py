"""One image file to its pixels, format by format, and a format of somebody else's."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sources import noise, read, refused, run, save, tree, truncated

from kdtf.predictor import DICOM, IMAGES, Picture, Unusable
from kdtf.prepare.formats import FORMATS, Format, format_of, layouts
from kdtf.prepare.images import square


def decoded(path, window=()):
    """The picture in a file, by the row of `FORMATS` that its name belongs to."""
    return FORMATS[format_of(path)].read(path, window)


def squared(path, window=(), grey=False, keep_aspect=False, side=None):
    """The square of an image, by default as large as it is wide."""
    image = decoded(path, window).image
    return square(image, side or image.width, keep_aspect=keep_aspect, grey=grey)


def filled(*value):
    return np.full((4, 4, len(value)), value, np.uint8)


OPAQUE = {  # mode: (image, what is seen)
    "1": (Image.fromarray(filled(255)[..., 0] > 0), (255, 255, 255)),
    "L": (Image.fromarray(filled(70)[..., 0]), (70, 70, 70)),
    "LA": (Image.fromarray(filled(200, 51)), (40, 40, 40)),
    "RGB": (Image.fromarray(filled(9, 80, 200)), (9, 80, 200)),
    "RGBA": (Image.fromarray(filled(100, 200, 50, 51)), (20, 40, 10)),
    "CMYK": (Image.new("CMYK", (4, 4), (255, 0, 0, 51)), (0, 204, 204)),
}


@pytest.mark.parametrize("mode", OPAQUE)
def test_modes(tmp_path, mode):
    image, colour = OPAQUE[mode]
    image.save(tmp_path / "a.tiff")
    assert np.array_equal(squared(tmp_path / "a.tiff"), filled(*colour))
    grey = round(0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2])
    assert np.array_equal(squared(tmp_path / "a.tiff", grey=True), filled(grey))


PILLOWS = [ending for name, row in FORMATS.items() if name != "DICOM" for ending in sorted(row.endings)]


@pytest.mark.parametrize("ending", PILLOWS)
@pytest.mark.parametrize("value", [(70,), (9, 80, 200)])
def test_grey_and_colour_in_every_format(tmp_path, ending, value):
    pixels = filled(*value)
    save(tmp_path / f"a{ending}", pixels[..., 0] if len(value) == 1 else pixels)
    off = squared(tmp_path / f"a{ending}").astype(int) - pixels
    assert np.abs(off).max() <= (2 if ending.startswith(".j") else 0)


def test_what_is_prepared_is_what_the_predictor_reads():
    assert set().union(*(row.endings for row in FORMATS.values())) == IMAGES | DICOM


def test_a_picture_has_the_hash_of_its_file(tmp_path):
    path = save(tmp_path / "a.png", noise(0))
    assert decoded(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("transparent, red", [(None, 180), (1, 0)])
def test_palettes_with_and_without_transparency(tmp_path, transparent, red):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([10, 20, 30, 180, 90, 60])
    image.save(tmp_path / "a.png", **({} if transparent is None else {"transparency": transparent}))
    assert Image.open(tmp_path / "a.png").mode == "P"
    assert np.array_equal(squared(tmp_path / "a.png"), filled(red, red // 2, red // 3))


def test_a_palette_is_blended_by_colour_and_not_by_index(tmp_path):
    image = Image.fromarray(np.tile([0, 2], (2, 1)).astype(np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 255, 255, 255, 100, 100, 100])
    image.save(tmp_path / "a.png")
    assert squared(tmp_path / "a.png", side=1).ravel().tolist() == [50, 50, 50]


LEVELS = np.array([[0, 257], [257 * 99, 65535]], np.uint16)


@pytest.mark.parametrize("name, form", [("a.png", "<u2"), ("a.tiff", "<u2"), ("a.tiff", ">u2")])
def test_16_bits_are_the_full_range_or_a_window(tmp_path, name, form):
    Image.fromarray(LEVELS.astype(form)).save(tmp_path / name)
    assert squared(tmp_path / name, grey=True)[..., 0].tolist() == [[0, 1], [99, 255]]
    # center 258, width 256: 130 is black, 385 is white, one level a grey level
    assert squared(tmp_path / name, (258, 256), grey=True)[..., 0].tolist() == [[0, 127], [255, 255]]
    assert decoded(tmp_path / name).peak == 65535 and decoded(tmp_path / name, (9, 9)).peak is None


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_32_bits_are_minimum_to_maximum_or_a_window(tmp_path, kind):
    values = np.array([[-1000, 0], [-500, 1550]], kind)
    Image.fromarray(values).save(tmp_path / "a.tiff")
    assert squared(tmp_path / "a.tiff", grey=True)[..., 0].tolist() == [[0, 100], [50, 255]]
    assert squared(tmp_path / "a.tiff", (0.5, 256), grey=True)[..., 0].tolist() == [[0, 128], [0, 255]]
    Image.fromarray(np.full((2, 2), 7, kind)).save(tmp_path / "flat.tiff")
    assert not squared(tmp_path / "flat.tiff").any()


def test_not_a_number_is_unusable(tmp_path):
    Image.fromarray(np.array([[0, np.nan]], np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(Unusable, match="NaN or infinity"):
        decoded(tmp_path / "a.tiff")


@pytest.mark.parametrize(
    "name, kind",
    [("a.jpg", np.uint8), *((name, kind) for name in ("a.png", "a.tiff") for kind in (np.uint8, np.uint16))],
)
def test_exif_rotation_is_applied(tmp_path, name, kind):
    values = np.zeros((16, 32), kind)
    values[:, 16:] = np.iinfo(kind).max
    image, exif = Image.fromarray(values), Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise: what is right comes to the bottom
    image.save(tmp_path / name, exif=exif)
    upright = decoded(tmp_path / name).image
    assert upright.size == (16, 32)
    assert np.asarray(upright)[:16].max() < 9 and np.asarray(upright)[16:].min() > 246


@pytest.mark.parametrize("width, height", [(40, 20), (20, 40), (33, 1)])
def test_the_aspect_is_kept_between_black_bars(tmp_path, width, height):
    save(tmp_path / "a.png", np.full((height, width), 255, np.uint8))
    padded = squared(tmp_path / "a.png", keep_aspect=True, side=10)
    rows, columns = (padded[..., 0] > 0).any(axis=1), (padded[..., 0] > 0).any(axis=0)
    wide, high = (10, max(1, round(10 * height / width))) if width > height else (5, 10)
    assert (
        columns.sum() == wide and rows.sum() == high and padded.max() == padded[rows][:, columns].min() == 255
    )
    assert abs(int(rows.argmax()) - int(rows[::-1].argmax())) <= 1
    assert squared(tmp_path / "a.png", side=10).min() == 255


# Images that cannot be used


def damaged(path):
    save(path, noise(0, (64, 64)))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 255
    path.write_bytes(raw)


def pages(path):
    Image.fromarray(noise(0)).save(path, save_all=True, append_images=[Image.fromarray(noise(1))] * 2)


UNUSABLE = {
    "cut.jpg": (truncated, "image file is truncated"),
    "cut.png": (lambda p: (save(p, noise(0)), p.write_bytes(p.read_bytes()[:70])), "truncated"),
    "flip.png": (damaged, "broken"),
    "text.png": (lambda p: p.write_text("hello"), "not a PNG, JPEG, TIFF or BMP image"),
    "empty.bmp": (lambda p: p.write_bytes(b""), "not a PNG, JPEG, TIFF or BMP image"),
    "gif.png": (lambda p: Image.fromarray(noise(0)).save(p, "GIF"), "not a PNG, JPEG, TIFF or BMP image"),
    "pages.tiff": (pages, "3 images in one file"),
    "pages.png": (pages, "3 images in one file"),
    "bomb.png": (lambda p: save(p, noise(0, (100, 100))), "more than 9,000 pixels: it may be a decomp"),
    "large bomb.png": (lambda p: save(p, noise(0, (200, 100))), "more than 9,000 pixels: it may be a decomp"),
    "folder.png": (lambda p: p.mkdir(), "^Is a directory$"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # `prepare` does so itself
@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_with_a_reason_that_names_no_path(tmp_path, monkeypatch, name):
    make, reason = UNUSABLE[name]
    make(tmp_path / name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9000)
    with pytest.raises(Unusable, match=reason) as caught:
        decoded(tmp_path / name)
    assert str(tmp_path) not in str(caught.value) and "\n" not in str(caught.value)


# A format of somebody else's: one row


def read_pgm(path, window):
    """A portable grey map of 8 bits: "P5 WIDTH HEIGHT 255" and a byte a pixel."""
    magic, width, height, most, values = path.read_bytes().split(maxsplit=4)
    if (magic, most) != (b"P5", b"255") or len(values) != int(width) * int(height):
        raise Unusable("not a grey map of 8 bits")
    return Picture(Image.frombytes("L", (int(width), int(height)), values), None)


def pgm(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = pixels.shape
    path.write_bytes(f"P5 {width} {height} 255 ".encode() + pixels.tobytes())


PGM = Format(frozenset({".pgm"}), read_pgm, has_magic=lambda path: path.read_bytes().startswith(b"P5 "))


def test_a_new_format_is_one_row(tmp_path, monkeypatch):
    monkeypatch.setitem(FORMATS, "PGM", PGM)
    source, out = tree(tmp_path / "in", ("train", "test")), tmp_path / "out"
    pixels = np.maximum(noise(50), 33)  # no byte of white space: the header ends at one
    pgm(source / "train/a/8.PGM", pixels)
    pgm(source / "train/a/9", 255 - pixels // 2)
    (source / "train/b/8.pgm").write_bytes(b"P5 8 8 255 cut")
    summary = run(source, out, grey=True)
    assert summary.counts == {"train": 8, "test": 6} and summary.skipped == 1
    assert np.array_equal(read(out, "X_train")[3:5, ..., 0], [pixels, 255 - pixels // 2])
    note = json.loads((out / "provenance.json").read_text())
    assert note["skipped"] == [{"file": "train/b/8.pgm", "reason": "not a grey map of 8 bits"}]
    assert "of PNG, JPEG, TIFF, BMP, DICOM or PGM images, or an .npz file" in layouts()


def test_without_the_row_it_is_left_out(tmp_path):
    source, out = tree(tmp_path / "in", ("train", "test")), tmp_path / "out"
    pgm(source / "train/a/8.pgm", noise(50))
    assert run(source, out).counts["train"] == 6
    assert json.loads((out / "provenance.json").read_text())["ignored"] == {"of other kinds": 1}


def test_a_library_that_a_row_needs_is_asked_for(tmp_path, monkeypatch):
    row = Format(PGM.endings, read_pgm, library="no_such_library")
    monkeypatch.setitem(FORMATS, "PGM", row)
    source = tree(tmp_path / "in", ("train", "test"))
    run(source, tmp_path / "without")
    pgm(source / "train/a/8.pgm", noise(50))
    message = "PGM files must be read by no_such_library. It is missing: pip install no_such_library."
    refused(source, tmp_path / "out", message)
    monkeypatch.setitem(FORMATS, "PGM", replace(row, extra="pgm"))
    refused(source, tmp_path / "out", message[:-1] + ", or kdtf with its extra 'pgm'.")
