"""An image of the audit as its owner finds it: row of the array, name of the file."""

import csv

import numpy as np
import pytest

from kdtf.data import traces as module
from kdtf.data.load import load
from kdtf.data.traces import Trace, Traces


def folder(tmp_path, val):
    data = tmp_path / "data"
    data.mkdir()
    rng = np.random.default_rng(0)
    for split, count in {"train": 40, "test": 8, **({"val": 6} if val else {})}.items():
        np.save(data / f"X_{split}.npy", rng.integers(0, 256, (count, 8, 8, 1), np.uint8))
        np.save(data / f"y_{split}.npy", np.arange(count) % 2)
    return data


def name_files(data, split, names):
    with open(data / f"files_{split}.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("row", "file", "class", "group", "sha256"))
        table.writerows((i, name, "", "", "") for i, name in enumerate(names))


def test_where_val_was_split_off_rows_are_those_of_the_users_train(tmp_path):
    data = folder(tmp_path, val=False)
    name_files(data, "train", [f"scan{i}.png" for i in range(40)])
    loaded = load(data, tmp_path / "work")
    original, traces = np.load(data / "X_train.npy"), Traces(loaded)
    seen = []
    for split in ("train", "val"):
        own = getattr(loaded, split)
        for i in range(len(own.labels)):
            trace = traces.of(split, i)
            assert trace.source == "train" and trace.file == f"scan{trace.row}.png"
            assert np.array_equal(original[trace.row], own.pixels[i])
            seen.append(trace.row)
    assert sorted(seen) == list(range(40))
    assert traces.of("test", 3) == Trace("test", 3, "")


def test_names_are_those_of_their_rows_however_many_are_read_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 3)
    data, names = folder(tmp_path, val=True), ["ä.png", "", "b c.png", 'd"\n,e.png', "é" * 40, "last"]
    name_files(data, "val", names)
    traces = Traces(load(data, tmp_path / "work"))
    assert [traces.of("val", i).file for i in range(6)] == names


def test_a_name_is_given_back_as_it_was_before_it_was_quoted(tmp_path):
    data = folder(tmp_path, val=True)
    name_files(data, "val", ["'=1+1.png", *"abcde"])
    traces = Traces(load(data, tmp_path / "work"))
    assert traces.of("val", 0) == Trace("val", 0, "=1+1.png") and traces.of("val", 5).file == "e"


@pytest.mark.parametrize(
    "text", ["row,file\n0,a\n", "nothing", "", "row,name\n" + "0,a\n" * 6, "\xff", "row,file\n" + "0\n" * 6]
)
def test_a_table_that_does_not_fit_names_nothing(tmp_path, text):
    data = folder(tmp_path, val=True)
    (data / "files_val.csv").write_bytes(text.encode("latin-1"))
    assert Traces(load(data, tmp_path / "work")).of("val", 0) == Trace("val", 0, "")
