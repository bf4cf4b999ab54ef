"""Train, val and test cut of one folder, and the patients an image belongs to."""

import json

import numpy as np
import pytest
from recorder import Recorder
from sources import noise, read, refused, run, save, tree

from kdtf.prepare.split import cut


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
    recorder = Recorder()
    run(source, out, recorder, group_regex=pattern)
    groups_train = read(out, "groups_train")
    assert (
        groups_train.dtype.kind == "U"
        and groups_train[:4].tolist() == groups
        and groups_train[4] == groups[0]
    )
    assert recorder.warnings == [
        f"{alone + 1} of 8 files do not match --group-regex: their patients are unknown, each counts as one "
        "of its own.",
        "1 groups are in more than one split of the source, which was kept as it came.",
    ]


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
