"""Tables of groups beside the arrays: whose row is whose, what is refused, what changes with them."""

import os
import re

import numpy as np
import pytest

from kdtf.data.load import load
from kdtf.data.subgroups import MOST_GROUPS, absent_from_train, counts_in_words, subgroups_of
from kdtf.errors import UserError

SIZES = {"train": 40, "test": 8}


def arrays(folder, sizes=SIZES):
    """Images that tell their row by their grey level."""
    folder.mkdir(parents=True)
    for split, count in sizes.items():
        levels = np.arange(count, dtype=np.uint8)
        np.save(folder / f"X_{split}.npy", np.tile(levels[:, None, None], (1, 8, 8)))
        np.save(folder / f"y_{split}.npy", np.arange(count) % 2)
    return folder


def table(folder, split, columns, name="subgroups_{}.csv"):
    lines = [",".join(columns), *(",".join(cells) for cells in zip(*columns.values(), strict=True))]
    (folder / name.format(split)).write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def data(tmp_path):
    return arrays(tmp_path / "data")


def groups(split, k=0):
    own = split.subgroups[k]
    return [own.groups[i] for i in own.member]


def test_rows_follow_val_that_is_split_off_train(data, tmp_path):
    site = [f"site {i // 4}" for i in range(40)]
    table(data, "train", {"site": site, "sex": ["F", ""] * 20})
    loaded = load(data, tmp_path / "work")
    for split in (loaded.train, loaded.val):
        assert groups(split) == [site[int(image[0, 0, 0])] for image in split.pixels]
        assert groups(split, 1) == ["F" if image[0, 0, 0] % 2 == 0 else "unknown" for image in split.pixels]
    assert len(loaded.val.labels) == 4 and not loaded.test.subgroups
    assert loaded.train.subgroups[1].groups == loaded.val.subgroups[1].groups == ("F", "unknown")
    assert "No subgroups_test.csv: no score is told apart by group." in loaded.notes


def test_test_is_told_apart_by_the_groups_of_all_splits(data, tmp_path):
    table(data, "train", {"age": ["0-9"] * 30 + ["10-19"] * 10})
    table(data, "test", {"age": ["10-19"] * 5 + ["90+"] * 2 + [""]})
    loaded = load(data, tmp_path / "work")
    (own,) = loaded.ground_truth.subgroups
    assert own.groups == ("0-9", "10-19", "90+", "unknown") and own.counts == (0, 5, 2, 1)
    assert sum(loaded.ground_truth.in_train[0]) == len(loaded.train.labels)
    assert loaded.ground_truth.in_train[0][2:] == (0, 0)
    assert "Scores are told apart by age: 10-19 5, 90+ 2, unknown 1." in loaded.notes
    (sentence,) = absent_from_train(loaded.train.subgroups, loaded.test.subgroups)
    assert sentence.startswith("No training image is in the group '90+' of 'age'")
    assert absent_from_train((), loaded.test.subgroups) == []


def test_they_change_a_digest_of_their_own_and_no_other(data, tmp_path):
    before = load(data, tmp_path / "work")
    digests = set()
    for sex in ("FFFFMMMM", "MFFFMMMF"):
        table(data, "test", {"sex": list(sex)})
        loaded = load(data, tmp_path / "work")
        assert loaded.digest == before.digest
        digests.add(loaded.subgroups_digest)
    assert len(digests) == 2 and before.subgroups_digest == ""
    assert all(re.fullmatch("[0-9a-f]{16}", digest) for digest in digests)


def test_beside_an_npz_they_bear_its_name(tmp_path):
    folder = arrays(tmp_path / "data")
    images = {s: (np.load(folder / f"X_{s}.npy"), np.load(folder / f"y_{s}.npy")) for s in SIZES}
    for name in ("one", "other"):
        keys = {f"{k}_{s}": a for s, pair in images.items() for k, a in zip("xy", pair, strict=True)}
        np.savez(tmp_path / f"{name}.npz", **keys)
    table(tmp_path, "test", {"sex": list("FFFFMMMM")}, "one_subgroups_{}.csv")
    assert groups(load(tmp_path / "one.npz", tmp_path / "w").test) == list("FFFFMMMM")
    assert not load(tmp_path / "other.npz", tmp_path / "w").test.subgroups


def test_texts_are_taken_as_spreadsheets_write_them(data, tmp_path):
    cells = ["'=1+1", " F ", "F", "NA", '"a, b"', "1", "01", ""]
    (data / "subgroups_test.csv").write_text("\ufeffsex\r\n" + "\r\n".join([*cells]) + "\r\n\r\n")
    assert groups(load(data, tmp_path / "work").test) == [
        "=1+1",
        "F",
        "F",
        "NA",
        "a, b",
        "1",
        "01",
        "unknown",
    ]


BAD = {
    "": "subgroups_test.csv must be a table with a header. Got 'nothing'.",
    "sex\n" + "F\n" * 7: "must be a header and a row for each of the 8 images. Got 7.",
    "sex\n" + "F\n" * 8 + "\nF\n": "must be a header and a row for each of the 8 images. Got 'more than 8'.",
    "sex\n" + "F\n" * 9: "must be a header and a row for each of the 8 images. Got 'more than 8'.",
    "sex,sex\n" + "F,F\n" * 8: "names that all differ. Got ['sex'].",
    ",sex\n" + "0,F\n" * 8: "none of them empty. Got ['', 'sex']. pandas: to_csv(..., index=False).",
    "sex;age\n" + "F;3\n" * 8: "without ; or tabs. Got 'sex;age'. Cells are set apart by commas.",
    "sex,age\n" + "F,3\n" * 7 + "F\n": "must be 2, one for each column. Got '1 in row 7'.",
    'sex\n"F\n' + "F\n" * 7: "must be a readable CSV file in UTF-8.",
    ",".join(f"c{i}" for i in range(21)): "columns of subgroups_test.csv must be at most 20. Got 21.",
    "sex\n" + "\x07\n" * 8: "a group of 'sex' in subgroups_test.csv must be printable text",
    "sex\n" + "F" * 61 + "\n" + "F\n" * 7: "of at most 60 characters",
}


@pytest.mark.parametrize("text, message", BAD.items(), ids=range(len(BAD)))
def test_what_is_no_such_table_is_told_in_one_line(text, message, data, tmp_path):
    (data / "subgroups_test.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load(data, tmp_path / "work")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "work").exists() or not list((tmp_path / "work").iterdir())


@pytest.mark.parametrize("kind", ["folder", "pipe", "latin-1", "nothing there"])
def test_what_cannot_be_read_is_told_too(kind, data, tmp_path):
    file = data / "subgroups_test.csv"
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "latin-1":
        file.write_bytes(b"sex\n" + b"\xe9\n" * 8)
    else:
        file.symlink_to("nowhere.csv")
    with pytest.raises(UserError, match=r"subgroups_test\.csv must be"):
        load(data, tmp_path / "work")


def test_splits_have_the_same_columns(data, tmp_path):
    table(data, "train", {"sex": ["F"] * 40})
    table(data, "test", {"sex": ["F"] * 8, "age": ["0-9"] * 8})
    message = r"columns of subgroups_test.csv must be those of subgroups_train.csv, \['sex'\]"
    with pytest.raises(UserError, match=message):
        load(data, tmp_path / "work")


def test_a_number_for_every_image_is_no_group(tmp_path):
    data = arrays(tmp_path / "data", {"train": 40, "test": MOST_GROUPS + 1})
    table(data, "test", {"patient": [str(i) for i in range(MOST_GROUPS + 1)]})
    with pytest.raises(
        UserError, match=f"at most {MOST_GROUPS}. Got {MOST_GROUPS + 1}. Ages and other numbers"
    ):
        load(data, tmp_path / "work")


def test_of_many_groups_the_largest_are_named():
    (own,) = subgroups_of({"test": {"site": [str(i) for i in range(10) for _ in range(i + 1)]}})["test"]
    assert counts_in_words(own).startswith("9 10, 8 9, ") and counts_in_words(own).endswith(
        "and 2 more groups"
    )
