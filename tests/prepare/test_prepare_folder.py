"""A folder of images: splits, classes, what is left out, and sources that are refused."""

import csv
import json
import os

import numpy as np
import pytest
from PIL import Image
from recorder import Recorder
from sources import noise, read, refused, run, save, tree

from kdtf.data.load import load
from kdtf.report.csv_files import read_csv


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
    loaded = load(out, tmp_path / "work")
    assert loaded.classes == ("a", "b") and loaded.train.groups.tolist() == ["0", "1", "2"] * 2
    assert loaded.train.pixels.shape == (6, 8, 8, 3) and loaded.train.teacher_pixels.shape == (6, 16, 16, 3)
    large = Image.fromarray(noise(0)).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(loaded.train.teacher_pixels[0, ..., 0], np.asarray(large))


@pytest.mark.parametrize("name", ["valid", "validation", "Val"])
def test_names_of_val_and_a_source_without_one(tmp_path, out, name):
    assert run(tree(tmp_path / "a", ("train", "test", name)), out).counts["val"] == 6
    recorder = Recorder()
    assert "val" not in run(tree(tmp_path / "b", ("train", "test")), tmp_path / "other", recorder).counts
    assert recorder.said == ["The source has no val: a run splits it off train."]


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
    recorder = Recorder()
    assert run(source, out, recorder).counts["train"] == 7
    assert np.array_equal(read(out, "X_train")[6, ..., 0], noise(99))
    expected = "Files left out: 6 (2 hidden, 2 of other kinds, 2 outside the folders of classes)."
    assert recorder.said == [expected]
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
    recorder = Recorder()
    assert run(source, out, recorder).counts["train"] == 7
    assert np.array_equal(read(out, "X_train")[3, ..., 0], noise(3))
    assert recorder.said == ["Files left out: 5 (5 links that lead outside or in circles)."]


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
    assert rows[0]["class"] == "malade é" and load(out, tmp_path / "work").classes[0] == "malade é"


def test_names_that_spreadsheets_would_run_are_quoted(tmp_path, out):
    run(tree(tmp_path / "in", ("train", "val", "test"), ("=1+1", "well")), out)
    assert ",'=1+1," in (out / "files_train.csv").read_text()
    assert set(read_csv(out / "files_train.csv")["class"]) == {"=1+1", "well"}


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


def test_without_a_test_folder_what_is_held_out_is_the_test(tmp_path):
    """Imagewoof has train and val only."""
    recorder = Recorder()
    summary = run(tree(tmp_path / "s", ("train", "val")), tmp_path / "out", recorder)
    assert summary.counts == {"train": 6, "test": 6}
    assert recorder.said[0] == "There is no test folder: what is held out in val becomes the test."


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
