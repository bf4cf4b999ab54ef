import csv
import json
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from kdtf.data import load as data
from kdtf.errors import UserError
from kdtf.prepare import PrepareConfig, outbox, prepare
from kdtf.prepare.images import Unusable, read_image, square
from kdtf.prepare.split import cut
from kdtf.prepare.write import ArrayStream, Writer, in_order
from kdtf.progress import Progress

SIDE = 8  # px: squares of this size come back unresized


class Heard(Progress):
    """Keeps what is said."""

    def __init__(self):
        super().__init__()
        self.said = []

    def say(self, text):
        self.said.append(text)


def noise(seed, shape=(SIDE, SIDE)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def tree(root, splits=("train", "val", "test"), classes=("a", "b"), each=3):
    """SPLIT/CLASS/N.png of noise, or CLASS/N.png with `splits` of one empty name."""
    for i, (split, name, n) in enumerate((s, c, n) for s in splits for c in classes for n in range(each)):
        save(root / split / name / f"{n}.png", noise(i))
    return root


def run(source, out, heard=None, **settings):
    return prepare(source, PrepareConfig(out=str(out), **{"size": SIDE, **settings}), heard or Progress())


def read(out, name):
    return np.load(out / f"{name}.npy", allow_pickle=False)


def content(folder):
    """{relative path: bytes} of all there is, folders as None."""
    return {p.relative_to(folder): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def refused(source, out, message, **settings):
    """`prepare` ends with `message` (`*` for anything), in one line, and leaves everything as it was."""
    before = content(source.parent)
    with pytest.raises(UserError, match=re.escape(message).replace(r"\*", ".*")) as caught:
        run(source, out, **settings)
    assert "\n" not in str(caught.value) and content(source.parent) == before


@pytest.fixture
def source(tmp_path):
    return tree(tmp_path / "in")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


# What comes of a folder


def test_a_folder_of_splits(source, out):
    summary = run(source, out)
    assert summary == (out, {"train": 6, "val": 6, "test": 6}, ("a", "b"), 0)
    assert read(out, "X_val").dtype == np.uint8 and read(out, "y_val").dtype == np.int64
    assert read(out, "y_val").tolist() == [0, 0, 0, 1, 1, 1]
    for row in range(6):  # val holds images 6 to 11 of the tree
        assert np.array_equal(read(out, "X_val")[row], np.stack([noise(6 + row)] * 3, axis=-1))
    assert not list(out.glob("groups*")) and not (out / "teacher").exists()
    lines = (out / "files_val.csv").read_text().splitlines()
    assert lines[0] == "row,file,class,group,sha256" and lines[4].startswith("3,val/b/0.png,b,,")
    note = json.loads((out / "provenance.json").read_text())
    assert note["source"] == "in" and note["splits"]["test"] == {"images": 6, "classes": {"a": 3, "b": 3}}
    assert set(note["sha256"]) == {p.name for p in out.iterdir()} - {"provenance.json"}
    assert str(out.parent) not in json.dumps(note) and "out" not in note["settings"]


def test_the_door_reads_it(source, out, tmp_path):
    run(source, out, teacher_size=16, group_regex=r"\d")
    loaded = data.load(out, tmp_path / "work")
    assert loaded.classes == ("a", "b") and loaded.train.groups.tolist() == ["0", "1", "2"] * 2
    assert loaded.train.pixels.shape == (6, 8, 8, 3) and loaded.train.teacher_pixels.shape == (6, 16, 16, 3)
    large = Image.fromarray(noise(0)).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(loaded.train.teacher_pixels[0, ..., 0], np.asarray(large))


@pytest.mark.parametrize("name", ["valid", "validation", "Val"])
def test_names_of_val_and_a_source_without_one(tmp_path, out, name):
    assert run(tree(tmp_path / "a", ("train", "test", name)), out).counts["val"] == 6
    heard = Heard()
    assert "val" not in run(tree(tmp_path / "b", ("train", "test")), tmp_path / "other", heard).counts
    assert heard.said == ["The source has no val: a run splits it off train."]


def test_short_names_merge_classes_and_set_the_order(tmp_path, out):
    source = tree(tmp_path / "in", ("train",), ("b_left", "b_right", "a_T2"), each=1)
    tree(source, ("test",), ("b", "a"), each=1)
    assert run(source, out, short_names=True).classes == ("a", "b")
    assert read(out, "y_train").tolist() == [0, 1, 1] and (out / "classes.txt").read_text() == "a\nb\n"
    refused(source, tmp_path / "other", "a class of train too. * --short-names would make them the same.")


def test_nested_folders_are_searched_and_the_rest_is_counted(source, out):
    save(source / "train/b/deep/er/9.PNG", noise(99))
    save(source / "loose.png", noise(1))
    save(source / "train/a/.hidden.png", noise(1))
    save(source / "__MACOSX/train/a/0.png", noise(1))
    save(source / "other/a/0.png", noise(1))
    (source / "train/a/notes.txt").write_text("no image")
    os.mkfifo(source / "train/a/pipe.png")
    heard = Heard()
    assert run(source, out, heard).counts["train"] == 7
    assert np.array_equal(read(out, "X_train")[6, ..., 0], noise(99))
    expected = "Files left out: 6 (2 hidden, 2 of other kinds, 2 outside the folders of classes)."
    assert heard.said == [expected]
    ignored = json.loads((out / "provenance.json").read_text())["ignored"]
    assert ignored == {"hidden": 2, "of other kinds": 2, "outside the folders of classes": 2}


def test_links_are_followed_inside_the_source_alone(source, out, tmp_path):
    save(tmp_path / "secret/7.png", noise(77))
    (source / "train/a/out.png").symlink_to(tmp_path / "secret/7.png")
    (source / "train/a/folder").symlink_to(tmp_path / "secret")
    (source / "train/a/circle").symlink_to(source / "train")
    (source / "train/a/broken.png").symlink_to(source / "nothing.png")
    (source / "train/a/itself.png").symlink_to(source / "train/a/itself.png")
    (source / "train/a/same.png").symlink_to(source / "train/b/0.png")
    heard = Heard()
    assert run(source, out, heard).counts["train"] == 7
    assert np.array_equal(read(out, "X_train")[3, ..., 0], noise(3))
    assert heard.said == ["Files left out: 5 (5 links that lead outside or in circles)."]


def test_odd_names(tmp_path, out):
    names = ["a b.png", "zwei\nZeilen.png", "röntgen 胸.png", 'comma, "quote".png', os.fsdecode(b"\xff.png")]
    source = tree(tmp_path / "in", ("val", "test"), ("sain", "malade é"))
    for i, name in enumerate(names):
        for folder in ("sain", "malade é"):
            save(source / "train" / folder / name, noise(i))
    assert run(source, out, group_regex="^(..)").counts["train"] == 10
    with open(out / "files_train.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = [*sorted(names[:4]), r"\udcff.png"]
    assert [row["file"] for row in rows[5:]] == [f"train/sain/{name}" for name in wanted]
    assert rows[0]["class"] == "malade é" and data.load(out, tmp_path / "work").classes[0] == "malade é"


def test_real_chest_ct_comes_out_as_the_shared_arrays(shared_data, out):
    source, wanted = shared_data / "chest_ct", shared_data / "chest_ct_32"
    run(source, out, size=32, short_names=True)
    added = set((source / "SUPPLEMENT.txt").read_text().splitlines())  # put behind the others of test there
    assert (out / "classes.txt").read_text().split() == (wanted / "classes.txt").read_text().split()
    for split in ("train", "val", "test"):
        files = [line.split(",")[1] for line in (out / f"files_{split}.csv").read_text().splitlines()[1:]]
        order = np.argsort([split == "test" and file[5:] in added for file in files], kind="stable")
        assert np.array_equal(read(out, f"X_{split}")[order], read(wanted, f"X_{split}"))
        assert np.array_equal(read(out, f"y_{split}")[order], read(wanted, f"y_{split}").argmax(axis=1))


# Pixels


def shown(path, window=(), grey=False, keep_aspect=False, side=None):
    """The square of an image, by default as large as it is wide."""
    image = read_image(path, window).image
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
    image, seen = OPAQUE[mode]
    image.save(tmp_path / "a.tiff")
    assert np.array_equal(shown(tmp_path / "a.tiff"), filled(*seen))
    grey = round(0.299 * seen[0] + 0.587 * seen[1] + 0.114 * seen[2])
    assert np.array_equal(shown(tmp_path / "a.tiff", grey=True), filled(grey))


@pytest.mark.parametrize("ending", ["png", "jpg", "jpeg", "tif", "bmp"])
@pytest.mark.parametrize("value", [(70,), (9, 80, 200)])
def test_formats(tmp_path, ending, value):
    pixels = filled(*value)
    save(tmp_path / f"a.{ending}", pixels[..., 0] if len(value) == 1 else pixels)
    off = shown(tmp_path / f"a.{ending}").astype(int) - pixels
    assert np.abs(off).max() <= (2 if ending.startswith("j") else 0)


@pytest.mark.parametrize("transparent, seen", [(None, 180), (1, 0)])
def test_palettes_with_and_without_transparency(tmp_path, transparent, seen):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([10, 20, 30, 180, 90, 60])
    image.save(tmp_path / "a.png", **({} if transparent is None else {"transparency": transparent}))
    assert Image.open(tmp_path / "a.png").mode == "P"
    assert np.array_equal(shown(tmp_path / "a.png"), filled(seen, seen // 2, seen // 3))


def test_a_palette_is_blended_by_colour_and_not_by_index(tmp_path):
    image = Image.fromarray(np.tile([0, 2], (2, 1)).astype(np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 255, 255, 255, 100, 100, 100])
    image.save(tmp_path / "a.png")
    assert shown(tmp_path / "a.png", side=1).ravel().tolist() == [50, 50, 50]


LEVELS = np.array([[0, 257], [257 * 99, 65535]], np.uint16)


@pytest.mark.parametrize("name, form", [("a.png", "<u2"), ("a.tiff", "<u2"), ("a.tiff", ">u2")])
def test_16_bits_are_the_full_range_or_a_window(tmp_path, name, form):
    Image.fromarray(LEVELS.astype(form)).save(tmp_path / name)
    assert shown(tmp_path / name, grey=True)[..., 0].tolist() == [[0, 1], [99, 255]]
    # center 258, width 256: 130 is black, 385 is white, one level a grey level
    assert shown(tmp_path / name, (258, 256), grey=True)[..., 0].tolist() == [[0, 127], [255, 255]]
    assert read_image(tmp_path / name).peak == 65535 and read_image(tmp_path / name, (9, 9)).peak is None


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_32_bits_are_minimum_to_maximum_or_a_window(tmp_path, kind):
    values = np.array([[-1000, 0], [-500, 1550]], kind)
    Image.fromarray(values).save(tmp_path / "a.tiff")
    assert shown(tmp_path / "a.tiff", grey=True)[..., 0].tolist() == [[0, 100], [50, 255]]
    assert shown(tmp_path / "a.tiff", (0.5, 256), grey=True)[..., 0].tolist() == [[0, 128], [0, 255]]
    Image.fromarray(np.full((2, 2), 7, kind)).save(tmp_path / "flat.tiff")
    assert not shown(tmp_path / "flat.tiff").any()


def test_not_a_number_is_unusable(tmp_path):
    Image.fromarray(np.array([[0, np.nan]], np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(Unusable, match="NaN or infinity"):
        read_image(tmp_path / "a.tiff")


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
    got = read_image(tmp_path / name).image
    assert got.size == (16, 32) and np.asarray(got)[:16].max() < 9 and np.asarray(got)[16:].min() > 246


@pytest.mark.parametrize("width, height", [(40, 20), (20, 40), (33, 1)])
def test_the_aspect_is_kept_between_black_bars(tmp_path, width, height):
    save(tmp_path / "a.png", np.full((height, width), 255, np.uint8))
    got = shown(tmp_path / "a.png", keep_aspect=True, side=10)
    rows, columns = (got[..., 0] > 0).any(axis=1), (got[..., 0] > 0).any(axis=0)
    wide, high = (10, max(1, round(10 * height / width))) if width > height else (5, 10)
    assert columns.sum() == wide and rows.sum() == high and got.max() == got[rows][:, columns].min() == 255
    assert abs(int(rows.argmax()) - int(rows[::-1].argmax())) <= 1
    assert shown(tmp_path / "a.png", side=10).min() == 255


# Images that cannot be used


def truncated(path):
    save(path, noise(0, (64, 64)), quality=90)
    path.write_bytes(path.read_bytes()[:-900])


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
        read_image(tmp_path / name)
    assert str(tmp_path) not in str(caught.value) and "\n" not in str(caught.value)


def test_skipped_images_leave_no_hole(source, out, tmp_path):
    run(source, tmp_path / "sound")
    truncated(source / "train/a/1 cut.jpg")
    (source / "train/b/0.png.bmp").write_text("no image")
    heard = Heard()
    assert run(source, out, heard).skipped == 2
    for name in ("X_train", "y_train"):
        assert (out / f"{name}.npy").read_bytes() == (tmp_path / f"sound/{name}.npy").read_bytes()
    assert (out / "files_train.csv").read_text() == (tmp_path / "sound/files_train.csv").read_text()
    skipped = json.loads((out / "provenance.json").read_text())["skipped"]
    assert [image["file"] for image in skipped] == ["train/a/1 cut.jpg", "train/b/0.png.bmp"]
    assert "truncated" in skipped[0]["reason"] and len(heard.said) == 2 and "1 cut.jpg" in heard.said[0]
    assert heard.warnings == ["2 of 20 images could not be read and were skipped: see provenance.json."]


def test_strict_stops_at_the_first(source, out):
    truncated(source / "test/a/1.jpg")
    refused(source, out, "'test/a/1.jpg' must be an image that can be read. Got: image file", strict=True)
    assert not out.exists()


def test_16_bit_images_that_look_like_12_bits(source, out, tmp_path):
    save(source / "train/a/9.png", np.full((8, 8), 4095, np.uint16))
    heard = Heard()
    run(source, out, heard)
    assert "look like 12-bit data: none is above 4095" in heard.warnings[0]
    assert "--window" in heard.warnings[0] and read(out, "X_train")[3].max() == 16
    heard = Heard()
    run(source, out, heard, window=(2048, 4096))
    assert not heard.warnings and read(out, "X_train")[3].min() == 255
    save(source / "test/a/9.png", np.full((8, 8), 4096, np.uint16))
    run(source, out, heard := Heard())
    assert not heard.warnings


# Splits and groups


def test_a_split_is_stratified_and_follows_the_seed(tmp_path, out):
    source = tree(tmp_path / "in", ("",), ("a", "b", "c"), each=20)
    summary = run(source, out, split=(0.7, 0.2, 0.1))
    assert summary.counts == {"train": 42, "val": 12, "test": 6}
    counts = {split: np.bincount(read(out, f"y_{split}")).tolist() for split in summary.counts}
    assert counts == {"train": [14] * 3, "val": [4] * 3, "test": [2] * 3}
    files = [(out / f"files_{s}.csv").read_text() for s in counts]
    names = [line.split(",")[1] for text in files for line in text.splitlines()[1:]]
    assert len(set(names)) == 60 and names[:42] == sorted(names[:42])
    run(source, out, split=(0.7, 0.2, 0.1), seed=1)
    assert files != [(out / f"files_{s}.csv").read_text() for s in counts]


@pytest.mark.parametrize("parts", [(0.8, 0.1, 0.1), (0.6, 0.15, 0.25), (0.34, 0.33, 0.33)])
def test_no_group_is_on_both_sides_of_a_cut(parts):
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 90, 600).astype(str)
    labels = (groups.astype(int) + (rng.random(600) < 0.2)) % 3  # a few patients of two classes
    rows = cut(labels, groups, parts, 5, ("a", "b", "c"))
    assert sorted(np.concatenate(list(rows.values()))) == list(range(600))
    own = [set(groups[side]) for side in rows.values()]
    assert not (own[0] & own[1] or own[0] & own[2] or own[1] & own[2])
    for part, side in zip(parts, rows.values(), strict=True):
        assert np.allclose(np.bincount(labels[side]) / np.bincount(labels), part, atol=0.04)


@pytest.mark.filterwarnings("ignore:The least populated class:UserWarning")  # `prepare` does so itself
def test_a_rare_class_is_in_every_split():
    labels = np.r_[np.zeros(300, int), np.ones(3, int)]
    for groups in (None, np.r_[np.arange(300) // 4, [100, 101, 102]].astype(str)):
        rows = cut(labels, groups, (0.8, 0.1, 0.1), 0, ("a", "b"))
        assert [int(labels[side].sum()) for side in rows.values()] == [1, 1, 1]
        assert abs(len(rows["test"]) - 31) <= 2


@pytest.mark.parametrize(
    "pattern, groups, alone",
    [(r"p(\d)_", ["1", "1", "2", "train/a/x.png"], 2), (r"p\d", ["p1", "p1", "p2", "train/a/x.png"], 2)],
)
def test_groups_by_name(tmp_path, out, pattern, groups, alone):
    source = tree(tmp_path / "in", ("test",), each=1)
    for i, name in enumerate(("p1_1", "p1_2", "p2_1", "x")):
        save(source / "train/a" / f"{name}.png", noise(i))
    save(source / "train/b/p1_9.png", noise(8))
    save(source / "test/b/p2_9.png", noise(9))
    heard = Heard()
    run(source, out, heard, group_regex=pattern)
    got = read(out, "groups_train")
    assert got.dtype.kind == "U" and got[:4].tolist() == groups and got[4] == groups[0]
    assert f"{alone + 1} of 8 files do not match --group-regex: each is a group of its own." in heard.said
    assert heard.warnings == ["1 groups are in more than one split of the source, which was kept as it came."]


def test_groups_by_table(tmp_path, out):
    source = tree(tmp_path / "in", ("",), each=6)
    rows = [f"{c}/{i}.png,P{i % 3}" for c in "ab" for i in range(6)]
    table = tmp_path / "groups.csv"
    table.write_text("\ufefffile,sex,group\n" + "\n".join(r.replace(",", ",f,") for r in rows), "utf-8")
    run(source, out, groups=str(table), split=(0.4, 0.3, 0.3))
    own = [set(read(out, f"groups_{split}")) for split in ("train", "val", "test")]
    assert sorted(map(len, own)) == [1, 1, 1] and set.union(*own) == {"P0", "P1", "P2"}
    settings = json.loads((out / "provenance.json").read_text())["settings"]
    assert settings["groups"] == "groups.csv"


def test_bare_names_in_a_table(tmp_path, out):
    source = tree(tmp_path / "in", ("train", "test"), each=1)
    for folder in ("train/a", "train/b", "test/a", "test/b"):
        (source / folder / "0.png").rename(source / folder / f"{folder[-1]}{folder[1]}.png")
    (tmp_path / "g.csv").write_text('group,file\n7,ar.png\n8,"br.png"\n9,ae.png\n9,./test/b/be.png\n')
    run(source, out, groups=str(tmp_path / "g.csv"))
    assert read(out, "groups_train").tolist() == ["7", "8"] and read(out, "groups_test").tolist() == [
        "9",
        "9",
    ]


TABLES = {
    "columns": ("name,group\n", "--groups must be a CSV file with the columns file and group. Got ['name'"),
    "lacking": ("file,group\ntrain/a/0.png,1\n", "--groups must be a table with a row for each image. Got"),
    "twice": ("file,group\nx,1\nx,2\n", "the group of 'x' in g.csv must be one. Got '2'"),
    "bare": ("file,group\n0.png,1\n", "paths in the source where several files have one name. Got '0.png'"),
    "empty": ("file,group\nx,\n", "line 2 of g.csv must be a file and its group. Got 'x'"),
    "quotes": ('file,group\n"x,1\n', "--groups must be a readable CSV file"),
    "absent": (None, "--groups must be a readable CSV file. Got * (No such file or directory)"),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_that_are_refused(source, out, tmp_path, case):
    text, message = TABLES[case]
    if text is not None:
        (tmp_path / "g.csv").write_text(text)
    refused(source, out, message, groups=str(tmp_path / "g.csv"))


# Archives


@pytest.mark.parametrize("x, y", [("{}_images", "{}_labels"), ("x_{}", "y_{}")])
def test_npz_of_both_styles(tmp_path, out, x, y):
    splits = ("train", "val", "test")
    arrays = {x.format(s): noise(i, (12, 8, 8)) for i, s in enumerate(splits)}
    np.savez(tmp_path / "a.npz", **arrays, **{y.format(s): np.arange(12)[:, None] % 2 for s in splits})
    summary = run(tmp_path / "a.npz", out, grey=True, teacher_size=16)
    assert summary.counts == dict.fromkeys(splits, 12) and summary.classes == ("class 0", "class 1")
    for split in splits:
        assert np.array_equal(read(out, f"X_{split}")[..., 0], arrays[x.format(split)])
        assert read(out, f"y_{split}").tolist() == [0, 1] * 6
        assert read(out, f"teacher/X_{split}").shape == (12, 16, 16, 1)
    assert not [p for p in out.iterdir() if "images" in p.name or p.name[0] in ".u"]


def test_npz_that_is_refused(tmp_path, out):
    (tmp_path / "in").mkdir()
    archive = tmp_path / "in/a.npz"
    objects = np.array([{}, []], object)
    np.savez(archive, x_train=objects, y_train=objects, x_test=objects, y_test=objects)
    refused(archive, out, "must be a readable .npy file of numbers. Got: *Python objects")
    archive.write_bytes(b"no zip")
    refused(archive, out, "a.npz must be a folder of .npy files or a whole .npz file")
    refused(archive, out, "--group-regex must be left out where the source is an .npz", group_regex="x")
    archive.rename(tmp_path / "in/a.zip")
    refused(tmp_path / "in/a.zip", out, "the source must be a folder with train/CLASS/ * or an .npz file")
    assert not out.exists()


# Sources that are refused


def test_sources_without_images(tmp_path, out):
    refused(tmp_path / "in/none", out, "the source must be a folder of images or an .npz file. Got ")
    (tmp_path / "in/train/a").mkdir(parents=True)
    (tmp_path / "in/train/a/x.gif").write_bytes(b"GIF89a")
    rule = (
        "the source must be a folder with train/CLASS/ and test/CLASS/ (val, valid or validation too), a fold"
    )
    refused(tmp_path / "in", out, f"{rule}*no image in *Files left out: 1 (1 of other kinds).")


WRONG = {
    "one class": (lambda s: os.rename(s / "train/b", s / "b"), "hold at least 2 classes, as * Got ['a']."),
    "class of test": (lambda s: save(s / "test/c/0.png", noise(0)), "class 'c' of test must be a class of t"),
    "class of val": (lambda s: save(s / "val/c/0.png", noise(0)), "class 'c' of val must be a class of trai"),
    "empty class": (lambda s: (s / "train/c").mkdir(), "every class of train must be of at least one image"),
    "empty test": (
        lambda s: [p.unlink() for p in s.glob("test/*/*")],
        "test must be at least one image that can be read. Got 'none'",
    ),
    "corrupt class": (
        lambda s: [p.write_bytes(b"x") for p in s.glob("train/a/*")],
        "every class of train must be of at least one image that can be read. Got ['a']",
    ),
    "corrupt test": (
        lambda s: [p.write_bytes(b"x") for p in s.glob("test/*/*")],
        "test must be at least one",
    ),
    "no test": (
        lambda s: [os.rename(s / n, s / f"more {n}") for n in ("val", "test")],
        "the source must be a folder that holds test/.",
    ),
    "two vals": (lambda s: tree(s, ("valid",)), "the source must be a folder with one place for each split"),
    "class name": (
        lambda s: os.rename(s / "train/a", s / "train/a\nb"),
        "a class must be a folder whose",
    ),
    "regex": (lambda s: None, "--group-regex must be found in file names such as '0.png'. Got 'patient'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_sources_that_are_refused(source, out, case):
    change, message = WRONG[case]
    change(source)
    refused(source, out, message, **({"group_regex": "patient"} if case == "regex" else {}))


def test_a_folder_around_the_source_and_images_without_one(tmp_path, out):
    tree(tmp_path / "in/Data", ("train", "test"))
    refused(
        tmp_path / "in",
        out,
        f"at least 2 classes, * Got ['Data']. Did you mean {str(tmp_path / 'in/Data')!r}",
    )
    save(tmp_path / "flat/0.png", noise(0))
    refused(
        tmp_path / "flat", out, "the source must hold at least 2 classes, as *a folder with CLASS/ of PNG"
    )


@pytest.mark.parametrize("groups", [None, r"\d"])
def test_too_few_to_split(tmp_path, out, groups):
    source = tree(tmp_path / "in", ("",), each=2)
    unit = "groups" if groups else "images"
    refused(source, out, f"class 'a' must be of at least 3 {unit}, one each", group_regex=groups)


SETTINGS = {
    "split": [(0.5, 0.5), (0.5, 0.5, 0.5), (1.0, 0.1, -0.1), (0.9, 0.1, 0.0), (float("nan"), 0.1, 0.1)],
    "size": [7, 2000, 32.0],
    "teacher_size": [32, 16, 2000],
    "window": [(40,), (40, 1), (40, -5), (float("nan"), 400), (1, 2, 3)],
    "group_regex": ["person(", "*"],
    "seed": [-1],
    "workers": [0],
    "out": [""],
}


@pytest.mark.parametrize("name, value", [(name, value) for name in SETTINGS for value in SETTINGS[name]])
def test_settings_that_are_refused(name, value):
    with pytest.raises(UserError, match=f"--{name.replace('_', '-')} must be"):
        PrepareConfig(**{name: value})


def test_groups_come_one_way():
    with pytest.raises(UserError, match="--groups must be given without --group-regex"):
        PrepareConfig(groups="a.csv", group_regex="x")


# OUT: whole or nothing


def test_the_number_of_workers_changes_no_byte(source, tmp_path):
    truncated(source / "train/a/1.jpg")
    made = []
    for workers in (1, 2, 5):
        run(source, tmp_path / f"{workers}", workers=workers, teacher_size=12, group_regex=r"\d")
        made.append(content(tmp_path / f"{workers}"))
    assert made[0] == made[1] == made[2] and len(made[0]) == 18


def test_an_earlier_import_is_replaced_and_other_files_stay(source, out, tmp_path):
    out.mkdir()
    (out / "README.md").write_text("mine")
    run(source, out, teacher_size=16, group_regex=r"\d")
    assert (out / "teacher/X_val.npy").exists() and (out / "groups_val.npy").exists()
    second = tree(tmp_path / "second", ("train", "test"))
    run(second, out)
    run(second, tmp_path / "fresh")
    assert content(out) == {**content(tmp_path / "fresh"), (out / "README.md").relative_to(out): b"mine"}


FOREIGN = [
    "X_train.npy",
    "y_test.npy",
    "groups_val.npy",
    "teacher/X_test.npy",
    "SYNTHETIC.txt",
    "classes.txt",
]


@pytest.mark.parametrize("name", FOREIGN)
def test_arrays_of_others_are_not_replaced(source, out, name):
    (out / name).parent.mkdir(parents=True)
    (out / name).write_bytes(b"precious")
    message = f"--out must be a folder without arrays, or with those of an earlier prepare. Got *{name}"
    refused(source, out, message)
    (out / "provenance.json").write_text('{"made_by": "somebody", "sha256": {}}')
    refused(source, out, message)
    (out / "provenance.json").write_text(json.dumps({"made_by": outbox.MADE_BY, "sha256": {"y_val.npy": ""}}))
    refused(source, out, message)


@pytest.mark.parametrize("place", ["in", "in/made", "in/train/a/deep", "."])
def test_source_and_out_lie_apart(source, tmp_path, place):
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(UserError, match="--out must be outside the source, and the source outside --out"):
        run(source, tmp_path / "link" / place)
    assert not (source / "made").exists()


def test_out_is_a_file_or_below_one(source, tmp_path):
    (tmp_path / "file").write_text("mine")
    refused(source, tmp_path / "file", "--out must be a folder. Got")
    refused(source, tmp_path / "file/below", "--out must be a folder. Got")


def test_out_that_may_not_be_written_to(source, out, monkeypatch):
    def refuse(**options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(outbox.tempfile, "mkdtemp", refuse)
    refused(source, out, "--out must be writable. Got * (Permission denied).")


FAULTS = {
    "full": (OSError(28, "No space left on device"), UserError, "--out must be on a disk with room left"),
    "other": (OSError(5, "Input/output error"), OSError, "Input/output error"),
    "stopped": (KeyboardInterrupt(), KeyboardInterrupt, None),
}


@pytest.mark.parametrize("before", ["absent", "made"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("where", ["writing", "moving"])
def test_a_fault_midway_leaves_out_as_it_was(source, tmp_path, monkeypatch, before, fault, where):
    out = tmp_path / "new/out"
    if before == "made":
        run(source, out, teacher_size=16)
        (out / "README.md").write_text("mine")
    was, calls, (error, kind, message) = content(tmp_path), [], FAULTS[fault]

    def failing(do, at):
        def call(*given):
            calls.append(given)
            if len(calls) == at:
                raise error
            return do(*given)

        return call

    if where == "writing":
        monkeypatch.setattr(Writer, "_write_rest", failing(Writer._write_rest, 2))
    else:
        monkeypatch.setattr(os, "replace", failing(os.replace, 7))
    with pytest.raises(kind, match=message):
        run(source, out, group_regex=r"\d", grey=True)
    assert len(calls) >= 2 and content(tmp_path) == was


def test_nothing_is_kept_in_memory_but_a_few_images():
    begun, taken, most, lock = 0, 0, 0, threading.Lock()

    def work(i):
        nonlocal begun
        with lock:
            begun += 1
        return i

    with ThreadPoolExecutor(4) as pool:
        for item, result in in_order(pool, work, range(300), 8):
            most = max(most, begun - taken)
            taken += 1
            assert item == result == taken - 1
    assert taken == 300 and 1 <= most <= 8


def test_images_are_in_flight_by_the_number_of_workers(source, out, monkeypatch):
    seen = []
    monkeypatch.setattr("kdtf.prepare.write.in_order", lambda *g: seen.append(g[3]) or in_order(*g))
    run(source, out, workers=3)
    assert seen == [6, 6, 6]


def test_a_stream_gets_its_number_at_the_end(tmp_path):
    with ArrayStream(tmp_path / "a.npy", (2, 3)) as stream:
        for i in range(1234):
            stream.append(np.full((2, 3), i % 256, np.uint8))
    got = np.load(tmp_path / "a.npy")
    assert got.shape == (1234, 2, 3) and np.array_equal(got[:, 1, 2], np.arange(1234) % 256)


def test_progress_counts_the_images(source, out):
    class Bar(Heard):
        def bar(self, title, total):
            from contextlib import nullcontext

            return nullcontext(lambda done: self.said.append((done, total)))

    heard = Bar()
    run(source, out, heard)
    assert heard.said == [(i + 1, 18) for i in range(18)]


def test_without_a_test_folder_what_is_held_out_is_the_test(tmp_path):
    """Imagewoof has train and val only."""
    heard = Heard()
    made = run(tree(tmp_path / "s", ("train", "val")), tmp_path / "out", heard)
    assert made.counts == {"train": 6, "test": 6}
    assert heard.said[0] == "There is no test folder: what is held out in val becomes the test."
