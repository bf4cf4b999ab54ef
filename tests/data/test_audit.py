"""What the audit finds in data with planted faults, in its rows and in words."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kdtf.cli.entry import main
from kdtf.data.audit import CLEAN, Audit, audit, shortcut_accuracy
from kdtf.data.copies import NEAR
from kdtf.data.dataset import Dataset, Split
from kdtf.data.load import load


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
    assert report.verdict[0].startswith("3 of the 40 test images have an exact or near copy in train or val")


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
    assert "1 of the 40 test images have an exact or near copy" in capfd.readouterr().err
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
