"""Images without labels: where they are found, whose groups they have, what is written of them."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from recorder import Recorder
from sources import SIDE, content, noise, read, refused, run, save, tree, truncated

from kdtf.cli.entry import main
from kdtf.data.load import load


@pytest.fixture
def more(tmp_path):
    """Four images at two depths."""
    folder = tmp_path / "more"
    for i, name in enumerate(("s1_a.png", "s1_b.png", "deep/er/s2_a.PNG", "s3.png")):
        save(folder / name, noise(50 + i))
    return folder


def rows(out):
    with open(out / "files_unlabelled.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_without_them_nothing_is_written_of_them(source, out):
    assert set(run(source, out).counts) == {"train", "val", "test"}
    assert not list(out.glob("*unlabelled*"))


@pytest.mark.parametrize("name", ["unlabelled", "Unlabeled", "UNLABELLED"])
@pytest.mark.parametrize("splits", [("train", "val", "test"), ("",)])
def test_a_folder_at_the_top_of_the_source_is_no_class_and_no_split(tmp_path, out, name, splits):
    source = tree(tmp_path / "in", splits, each=6)
    run(source, tmp_path / "before")
    save(source / name / "b.png", noise(51))
    save(source / name / "x" / "y" / "a.png", noise(50))
    (source / name / "notes.txt").write_text("no image")
    recorder = Recorder()
    summary = run(source, out, recorder)
    assert summary.counts["unlabelled"] == 2 and summary.classes == ("a", "b")
    assert recorder.said == ["Files left out: 1 (1 of other kinds)."]
    wanted = np.stack([np.stack([noise(51 - i)] * 3, axis=-1) for i in range(2)])
    assert np.array_equal(read(out, "X_unlabelled"), wanted)
    assert [(r["file"], r["class"], r["group"]) for r in rows(out)] == [
        (f"{name}/b.png", "", ""),
        (f"{name}/x/y/a.png", "", ""),
    ]
    assert not (out / "y_unlabelled.npy").exists() and not (out / "groups_unlabelled.npy").exists()
    own, before = content(out), content(tmp_path / "before")
    assert all(own[path] == data for path, data in before.items() if path.name != "provenance.json")
    note = json.loads((out / "provenance.json").read_text())
    assert note["splits"]["unlabelled"] == {"images": 2} and note["settings"]["unlabelled"] is None
    assert {"X_unlabelled.npy", "files_unlabelled.csv"} <= note["sha256"].keys()


def test_a_class_of_a_split_may_have_that_name(tmp_path, out):
    source = tree(tmp_path / "in", ("train", "test"), ("a", "unlabelled"))
    assert run(source, out).classes == ("a", "unlabelled")


def test_a_folder_of_their_own_with_the_teacher_s_copy_and_groups(source, out, more, tmp_path):
    recorder = Recorder()
    summary = run(source, out, recorder, unlabelled=str(more), teacher_size=16, group_regex=r"^s?(\d)")
    assert summary.counts == {"train": 6, "val": 6, "test": 6, "unlabelled": 4}
    assert not any("unlabelled" in warning for warning in recorder.warnings)
    assert [r["file"] for r in rows(out)] == [
        "unlabelled/deep/er/s2_a.PNG",
        "unlabelled/s1_a.png",
        "unlabelled/s1_b.png",
        "unlabelled/s3.png",
    ]
    assert read(out, "groups_unlabelled").tolist() == ["2", "1", "1", "3"]
    loaded = load(out, tmp_path / "work")
    large = Image.fromarray(noise(50)).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(loaded.unlabelled.teacher_pixels[1, ..., 0], np.asarray(large))
    assert loaded.unlabelled.pixels.shape == (4, SIDE, SIDE, 3)
    note = json.loads((out / "provenance.json").read_text())
    assert note["settings"]["unlabelled"] == "more" and str(tmp_path) not in json.dumps(note)


def test_a_folder_of_their_own_goes_before_that_of_the_source(source, out, more):
    save(source / "unlabelled/0.png", noise(9))
    recorder = Recorder()
    assert run(source, out, recorder, unlabelled=str(more)).counts["unlabelled"] == 4
    assert recorder.said == ["The unlabelled images are those of --unlabelled, not the 1 of the source."]


def test_a_pattern_need_not_fit_both(source, out, more, tmp_path):
    recorder = Recorder()
    run(source, out, recorder, unlabelled=str(more), group_regex=r"^(s\d)_")
    assert recorder.warnings == [
        "No labelled image matches --group-regex: their groups are unknown.",
        "1 of 4 files do not match --group-regex: their patients are unknown, each counts as one of its own.",
    ]
    assert recorder.said == []
    assert not (out / "groups_train.npy").exists()
    assert read(out, "groups_unlabelled").tolist() == ["s2", "s1", "s1", "unlabelled/s3.png"]
    other, recorder = tmp_path / "other", Recorder()
    run(source, other, recorder, unlabelled=str(more), group_regex=r"^\d")
    assert recorder.warnings[0] == "No unlabelled image matches --group-regex: their groups are unknown."
    assert read(other, "groups_train").tolist() == ["0", "1", "2"] * 2
    assert not (other / "groups_unlabelled.npy").exists() and not recorder.said


def test_a_table_may_leave_them_out_or_name_all(source, out, more, tmp_path):
    names = [f"{split}/{c}/{i}.png" for split in ("train", "val", "test") for c in "ab" for i in range(3)]
    table, lines = tmp_path / "g.csv", ["file,group", *(f"{name},P" for name in names)]
    table.write_text("\n".join(lines))
    recorder = Recorder()
    run(source, out, recorder, unlabelled=str(more), groups=str(table))
    warning = "No unlabelled image is in the table of --groups: their groups are unknown."
    assert warning in recorder.warnings and not (out / "groups_unlabelled.npy").exists()
    table.write_text("\n".join([*lines, "s1_a.png,Q", "unlabelled/s1_b.png,Q", "s2_a.PNG,R"]))
    message = "--groups must be a table with a row for each image. Got \"none for 'unlabelled/s3.png'\""
    refused(source, tmp_path / "other", message, unlabelled=str(more), groups=str(table))
    table.write_text(table.read_text() + "\ns3.png,R\n")
    run(source, out, recorder, unlabelled=str(more), groups=str(table))
    assert read(out, "groups_unlabelled").tolist() == ["R", "Q", "Q", "R"]


def test_an_archive_brings_its_own_or_takes_a_folder(out, more, tmp_path):
    labels = np.arange(12) % 2
    arrays = {
        f"{split}_images": np.stack([noise(i) for i in range(12)]) for split in ("train", "val", "test")
    }
    arrays |= {f"{split}_labels": labels for split in ("train", "val", "test")}
    np.savez(tmp_path / "a.npz", **arrays, unlabelled_images=np.stack([noise(70), noise(71)]))
    assert run(tmp_path / "a.npz", out).counts["unlabelled"] == 2
    assert np.array_equal(read(out, "X_unlabelled")[1, ..., 0], noise(71))
    recorder = Recorder()
    assert run(tmp_path / "a.npz", out, recorder, unlabelled=str(more)).counts["unlabelled"] == 4
    assert recorder.said[-1] == "The unlabelled images are those of --unlabelled, not the 2 of the source."
    assert np.array_equal(read(out, "X_unlabelled")[1, ..., 0], noise(50))


def test_what_an_earlier_import_had_of_them_is_removed(source, out, more, tmp_path):
    run(source, out, unlabelled=str(more), teacher_size=16, group_regex=r"\d")
    run(source, out)
    run(source, tmp_path / "fresh")
    assert content(out) == content(tmp_path / "fresh")
    np.save(out / "X_unlabelled.npy", np.zeros(3))
    refused(
        source, out, "--out must be a folder without arrays, or with those of an earlier prepare. Got *X_u"
    )


def test_places_that_are_refused(source, out, more):
    refused(source, out, "--unlabelled must be a folder of images. Got", unlabelled=str(source / "none"))
    file = str(more / "s3.png")
    refused(source, out, "--unlabelled must be a folder of images. Got", unlabelled=file)
    for place in (source, source / "train", source.parent):
        message = (
            "--unlabelled must be outside the source, and the source outside --unlabelled. Got * A folder "
        )
        refused(source, out, message, unlabelled=str(place))
    message = "--unlabelled must be outside --out, and --out outside --unlabelled. Got"
    refused(source, more / "out", message, unlabelled=str(more))
    for path in [*more.rglob("*.png"), *more.rglob("*.PNG")]:
        path.rename(path.with_suffix(".gif"))
    message = "--unlabelled must be a folder of images: PNG, * Got *Files left out: 4 (4 of other kinds)."
    refused(source, out, message, unlabelled=str(more))


def test_images_that_cannot_be_read(source, out, more):
    truncated(more / "cut.jpg")
    assert run(source, out, unlabelled=str(more)).skipped == 1
    note = json.loads((out / "provenance.json").read_text())
    assert note["skipped"][0]["file"] == "unlabelled/cut.jpg" and len(read(out, "X_unlabelled")) == 4
    for path in [*more.rglob("*.png"), *more.rglob("*.PNG")]:
        path.write_bytes(b"x")
    refused(source, out, "unlabelled must be at least one image that can be read", unlabelled=str(more))


def test_the_command_says_how_many(source, out, more, capsys):
    argv = ["prepare", str(source), "--out", str(out), "--size", "8", "--unlabelled", str(more)]
    assert main(argv) == 0
    assert "6 train, 6 val, 6 test, 4 unlabelled; 2 classes; 0 skipped" in capsys.readouterr().out


def test_real_slices(shared_data, out, tmp_path):
    folder = shared_data / "chest_ct_unlabelled"
    run(
        shared_data / "chest_ct",
        out,
        size=32,
        short_names=True,
        unlabelled=str(folder),
        group_regex=r"scan\d+",
    )
    loaded = load(out, tmp_path / "work")
    assert loaded.unlabelled.pixels.shape == (1000, 32, 32, 3) and loaded.train.groups is None
    assert np.unique(loaded.unlabelled.groups, return_counts=True)[1].tolist() == [2] * 500
