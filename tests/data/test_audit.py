"""What the audit finds in data with planted faults, in its rows and in words."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kdtf.cli.entry import main
from kdtf.data.audit import CLEAN, Audit, audit, shortcut_accuracy
from kdtf.data.dataset import UNLABELLED, Dataset, Split
from kdtf.data.load import load
from kdtf.data.near import NEAR


def texture(rng, count, side=32):
    """Images that are unlike each other: smoothed noise, all of the same brightness."""
    small = rng.integers(0, 256, (count, 8, 8), dtype=np.uint8)
    grown = [np.asarray(Image.fromarray(i).resize((side, side), Image.Resampling.BICUBIC)) for i in small]
    return np.stack(grown)[..., None]


def part(pixels, labels, groups=None):
    return Split(pixels, np.asarray(labels, np.int64), groups, pixels)


@pytest.fixture
def clean():
    rng = np.random.default_rng(0)
    return {n: part(texture(rng, c), np.arange(c) % 2) for n, c in (("train", 60), ("val", 20), ("test", 40))}


def dataset(splits):
    return Dataset(splits["train"], splits["val"], splits["test"], ("a", "b"), "digest", ())


def count(report, check, split="", other=""):
    rows = [r for r in report.rows if (r["check"], r["split"], r["other"]) == (check, split, other)]
    assert len(rows) == 1
    return rows[0]["count"]


def test_clean_data_get_a_clean_verdict(clean):
    report = audit(dataset(clean))
    assert report.verdict == [CLEAN] and not report.leaks and not report.findings and not report.pairs
    assert not any(mask.any() for mask in report.has_copy.values())


def test_planted_copies_are_report_and_told_apart(clean):
    train, val, test = (clean[n].pixels.copy() for n in ("train", "val", "test"))
    test[3] = train[10]  # exact, across, same label? 3 is b, 10 is a: two labels
    test[4] = np.clip(
        train[12].astype(int) + np.random.default_rng(1).integers(-6, 7, train[12].shape), 0, 255
    )
    val[0] = train[20]
    test[7] = val[5]
    train[31] = train[33]
    spoilt = {n: part(p, clean[n].labels) for n, p in (("train", train), ("val", val), ("test", test))}
    report = audit(dataset(spoilt))
    assert count(report, "exact copies across splits", "test", "train") == 1
    assert count(report, "near copies across splits", "test", "train") == 1
    assert count(report, "exact copies across splits", "val", "train") == 1
    assert count(report, "exact copies across splits", "test", "val") == 1
    assert count(report, "exact copies within a split", "train", "train") == 2  # images, not pairs
    assert count(report, "exact copies under two labels") == 1
    assert np.flatnonzero(report.has_copy["test"]).tolist() == [3, 4, 7]
    assert np.flatnonzero(report.has_copy["val"]).tolist() == [0]
    assert report.leaks and report.worst("exact", 1)[0].conflict
    (near,) = [p for p in report.pairs if p.kind == "near"]
    assert (near.first, near.second) == (("train", 12), ("test", 4)) and NEAR <= near.correlation < 1
    heads = [text.partition(":")[0] for text in report.verdict]
    assert heads[0] == "3 of the 40 test images have an exact or near copy in train or val"
    assert heads[2] == "Pairs of exact copies under two different labels"  # after what concerns val
    assert heads[-1] == "2 of the 60 train images have an exact copy in train itself."


def test_a_constant_image_is_near_nothing(clean):
    flat = clean["train"].pixels.copy()
    flat[:2] = [[[[0]]], [[[255]]]]
    report = audit(dataset({**clean, "train": part(flat, clean["train"].labels)}))
    assert not report.pairs


def test_patients_on_both_sides(clean):
    names = {
        "train": np.repeat(np.arange(20), 3).astype(str),
        "test": np.repeat(np.arange(15, 35), 2).astype(str),
    }
    grouped = {n: part(s.pixels, s.labels, names.get(n)) for n, s in clean.items()}
    report = audit(dataset(grouped))
    assert count(report, "groups across splits", "test", "train") == 5
    assert report.leaks and "5 of the 20 groups (patients) of test are also in train" in report.verdict[0]


def test_a_shifted_mixture_is_told(clean):
    shifted = {**clean, "test": part(clean["test"].pixels, np.ones(40))}
    report = audit(dataset(shifted))
    assert any("The classes are mixed differently in test than in train" in v for v in report.verdict)


def test_brightness_that_gives_the_class_away(clean):
    bright = {
        n: part(
            np.clip(s.pixels * 0.5 + 120 * s.labels[:, None, None, None], 0, 255).astype("uint8"), s.labels
        )
        for n, s in clean.items()
    }
    report = audit(dataset(bright))
    assert report.shortcut and not audit(dataset(clean)).shortcut
    assert any(
        "Brightness, contrast and size alone reach a balanced accuracy of 1.00" in v for v in report.verdict
    )


def test_the_shortcut_probe_is_balanced():
    """90 of one class and 10 of the other, numbers that say nothing: one half, not nine tenths."""
    rng = np.random.default_rng(0)
    labels = np.r_[np.zeros(900, int), np.ones(100, int)]
    assert shortcut_accuracy(
        rng.normal(size=(1000, 6)), labels, rng.normal(size=(1000, 6)), labels
    ) == pytest.approx(0.5, abs=0.08)


def test_grey_ranges_and_counts_per_class(clean):
    rows = pd.DataFrame(audit(dataset(clean)).rows)
    own = clean["test"].pixels[clean["test"].labels == 1]
    got = rows.query("split == 'test' and name == 'b'").set_index("check")
    assert got.value["grey level, brightest"] == own.max() and got.value["grey level, darkest"] == own.min()
    assert got.value["grey level, mean"] == pytest.approx(own.mean(), abs=0.01)
    assert got["count"]["class count"] == 20 and got.value["class count"] == pytest.approx(0.5)


def save(folder, splits):
    folder.mkdir()
    for name, split in splits.items():
        np.save(folder / f"X_{name}.npy", split.pixels)
        np.save(folder / f"y_{name}.npy", split.labels)
    return folder


def test_the_command_writes_tables_and_pictures_and_stops_only_when_strict(clean, tmp_path, capfd):
    pixels = clean["test"].pixels.copy()
    pixels[3] = clean["train"].pixels[10]
    folder = save(tmp_path / "data", {**clean, "test": part(pixels, clean["test"].labels)})
    argv = ["audit", "--data", str(folder), "--results", str(tmp_path / "r")]
    assert main(argv) == 0
    assert "1 of the 40 test images has an exact or near copy" in capfd.readouterr().err
    pairs = pd.read_csv(tmp_path / "r" / "audit_pairs.csv")
    assert pairs[["kind", "split", "index", "other", "other_index", "conflict"]].to_numpy().tolist() == [
        ["exact", "train", 10, "test", 3, 1]
    ]
    assert {"check", "split", "count"} <= set(pd.read_csv(tmp_path / "r" / "audit.csv").columns)
    assert (tmp_path / "r" / "audit_exact_copies.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "r" / "audit_near_copies.png").exists()
    assert main([*argv, "--strict"]) == 3
    assert capfd.readouterr().err.splitlines()[-1].startswith("Stopped: --strict: splits share images")


@pytest.mark.parametrize("strict", [True, False])
def test_strict_lets_clean_data_pass(clean, tmp_path, strict):
    folder = save(tmp_path / "data", clean)
    argv = [
        "audit",
        "--data",
        str(folder),
        "--results",
        str(tmp_path / "r"),
        *(["--strict"] if strict else []),
    ]
    assert main(argv) == 0


def test_the_known_faults_of_the_chest_ct_set_are_report(shared_data, tmp_path):
    """The counts its README states, at 32 px: exact copies survive the reduction."""
    data = load(shared_data / "chest_ct_32", tmp_path)
    report = audit(data)
    normal = data.classes.index("normal")
    assert count(report, "exact copies across splits", "test", "train") == 46
    assert count(report, "exact copies across splits", "val", "train") == 10
    assert count(report, "exact copies across splits", "test", "val") == 17
    assert count(report, "exact copies under two labels") == 1
    assert set(data.test.labels[report.has_copy["test"]]) == {normal}
    assert any("Brightness, contrast and size alone" in v for v in report.verdict)


def test_the_record_comes_back_from_json_as_it_was(clean):
    pixels = clean["val"].pixels.copy()
    pixels[2] = clean["train"].pixels[0]
    data = dataset({**clean, "val": part(pixels, clean["val"].labels)})
    fresh = audit(data)
    again = Audit.from_json(json.loads(json.dumps(fresh.to_json())), data)
    assert again.rows == fresh.rows and again.pairs == fresh.pairs and again.verdict == fresh.verdict
    assert again.pairs and again.has_copy.keys() == fresh.has_copy.keys()
    for split, mask in fresh.has_copy.items():
        assert again.has_copy[split].dtype == bool and np.array_equal(again.has_copy[split], mask)
    assert again.to_json() == fresh.to_json()


def test_an_image_is_in_one_of_the_worst_pairs_at_most_and_conflicts_come_first(clean):
    train, test = clean["train"].pixels.copy(), clean["test"].pixels.copy()
    train[[0, 2, 4]] = train[6]  # four copies under label a: six pairs
    train[1] = test[9]  # across splits, both b
    test[10] = train[3]  # a and b
    report = audit(
        dataset(
            {**clean, "train": part(train, clean["train"].labels), "test": part(test, clean["test"].labels)}
        )
    )
    worst = report.worst("exact", 12)
    ends = [(pair.first, pair.second) for pair in worst]
    assert ends[:2] == [(("train", 3), ("test", 10)), (("train", 1), ("test", 9))]
    assert ends[2:] == [(("train", 0), ("train", 2)), (("train", 4), ("train", 6))]
    assert len([pair for pair in report.pairs if pair.kind == "exact"]) == 8
    assert report.worst("exact", 1) == worst[:1] and report.worst("near", 12) == []


# Unlabelled images


@pytest.fixture
def leaky(clean):
    """30 unlabelled images: 0 is test 5 exactly, 1 nearly val 2, 2 is train 7; patient of test: 3 and 4."""
    pixels = texture(np.random.default_rng(8), 30)
    pixels[0], pixels[2] = clean["test"].pixels[5], clean["train"].pixels[7]
    noise = np.random.default_rng(1).integers(-6, 7, pixels[1].shape)
    pixels[1] = np.clip(clean["val"].pixels[2].astype(int) + noise, 0, 255)
    groups = np.array([f"u{i}" for i in range(30)], "U6")
    groups[[0, 3, 4]], groups[5] = "shared", "t1"
    names = {"train": [f"t{i}" for i in range(60)], "test": ["shared", *(f"e{i}" for i in range(39))]}
    splits = {
        n: part(s.pixels, s.labels, np.array(names[n]) if n in names else None) for n, s in clean.items()
    }
    return replace(dataset(splits), unlabelled=part(pixels, np.full(30, UNLABELLED), groups))


def test_unlabelled_images_of_val_and_test_are_left_out(leaky):
    report = audit(leaky)
    assert report.unlabelled_rows.dtype == np.int64
    assert report.unlabelled_rows.tolist() == [2, *range(5, 30)]  # what train has may stay
    sentence = (
        "4 of the 30 unlabelled images are copies of val or test images or of groups (patients) in val "
    )
    assert report.verdict == [CLEAN, sentence + "or test and are left out."]
    assert not report.leaks and not report.findings
    expected = {
        ("unlabelled images", ""): 30,
        ("exact copies among unlabelled images", "train"): 1,
        ("exact copies among unlabelled images", "val"): 0,
        ("exact copies among unlabelled images", "test"): 1,
        ("near copies among unlabelled images", "train"): 0,
        ("near copies among unlabelled images", "val"): 1,
        ("near copies among unlabelled images", "test"): 0,
        ("groups among unlabelled images", "train"): 1,
        ("groups among unlabelled images", "test"): 3,
        ("unlabelled images used", ""): 26,
    }
    own = [row for row in report.rows if row["split"] == "unlabelled"]
    assert {(row["check"], row["other"]): row["count"] for row in own} == expected
    assert all(row["of"] == 30 for row in own[1:])
    ends = [(pair.kind, pair.first, pair.second, pair.conflict) for pair in report.pairs]
    assert ends == [
        ("exact", ("test", 5), ("unlabelled", 0), False),
        ("near", ("val", 2), ("unlabelled", 1), False),
    ]


def test_what_is_said_of_the_labelled_images_stays(leaky, clean):
    alone, both = audit(replace(leaky, unlabelled=None)), audit(leaky)
    assert both.rows[: len(alone.rows)] == alone.rows and both.verdict[:1] == alone.verdict
    assert alone.unlabelled_rows.tolist() == [] and alone.unlabelled_rows.dtype == np.int64
    bad = replace(leaky, test=part(clean["train"].pixels[:40], clean["train"].labels[:40]))
    report = audit(bad)
    assert report.findings and report.leaks and report.verdict[-1].endswith("are left out.")
    assert [pair.second[0] for pair in report.worst("exact", 60)][
        -1
    ] == "test"  # one pair an image, 40 of test


def test_images_that_do_not_leak_are_all_used_and_nothing_is_said(clean):
    images = part(texture(np.random.default_rng(8), 5), np.full(5, UNLABELLED))
    report = audit(replace(dataset(clean), unlabelled=images))
    assert report.verdict == [CLEAN] and report.unlabelled_rows.tolist() == [0, 1, 2, 3, 4]
    assert not any(row["check"].startswith("groups among") for row in report.rows)


@pytest.mark.parametrize(
    "column, words", [(0, "copies of val or test images"), (1, "of groups (patients) in")]
)
def test_one_reason_to_leave_out_is_named_alone(leaky, column, words):
    own = leaky.unlabelled
    rows = slice(3, None) if column else slice(0, 2)
    groups = own.groups[rows] if column else None
    few = part(own.pixels[rows], own.labels[rows], groups)
    (_, sentence) = audit(replace(leaky, unlabelled=few)).verdict
    assert sentence.startswith(f"2 of the {len(few.labels)} unlabelled images are {words}")
    assert " or of " not in sentence


def test_the_rows_come_back_from_json(leaky):
    fresh = audit(leaky)
    again = Audit.from_json(json.loads(json.dumps(fresh.to_json())), leaky)
    assert np.array_equal(again.unlabelled_rows, fresh.unlabelled_rows)
    assert again.unlabelled_rows.dtype == np.int64 and again.to_json() == fresh.to_json()
    assert again.pairs == fresh.pairs


def test_progress_counts_all_images(leaky):
    reports = []
    audit(leaky, lambda *counts: reports.append(counts))
    assert reports == [(100, 150), (150, 150)]


def test_the_command_lists_and_shows_pairs_with_unlabelled_images(leaky, tmp_path, capfd):
    folder = save(tmp_path / "data", leaky.splits)
    np.save(tmp_path / "more.npy", leaky.unlabelled.pixels)
    argv = ["audit", "--data", str(folder), "--unlabelled", str(tmp_path / "more.npy")]
    assert main([*argv, "--results", str(tmp_path / "r"), "--strict"]) == 0
    shown = capfd.readouterr()
    assert "2 of the 30 unlabelled images are copies of val or test images and are left out." in (
        shown.out + shown.err
    )
    pairs = pd.read_csv(tmp_path / "r" / "audit_pairs.csv", keep_default_na=False)
    assert pairs[["kind", "split", "index", "other", "other_index", "conflict"]].to_numpy().tolist() == [
        ["exact", "test", 5, "unlabelled", 0, 0],
        ["near", "val", 2, "unlabelled", 1, 0],
    ]
    assert pairs.other_class.tolist() == ["", ""]
    for kind in ("exact", "near"):
        assert (tmp_path / "r" / f"audit_{kind}_copies.png").read_bytes().startswith(b"\x89PNG")
