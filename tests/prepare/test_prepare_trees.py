"""Trees of folders as real data sets have them: read right, or refused with flags that say what is meant."""

import json
import random
import re
import shlex
from itertools import product

import harmful_trees
import numpy as np
import pytest
from recorder import Recorder
from sources import content, noise, read, refused, run, save

from kdtf.cli.entry import main
from kdtf.errors import UserError
from kdtf.prepare import PrepareConfig, prepare
from kdtf.progress import Progress

EACH = 4


def grow(root, *levels, each=EACH):
    """Images in folders of the names of the first level, in them of those of the second, and so on."""
    for i, parts in enumerate(product(*(level.split() for level in levels))):
        for n in range(each):
            save(root.joinpath(*parts) / f"{n}.png", noise(1000 * i + n))
    return root


def outline_of(source, tmp_path, **settings):
    """What `prepare` shows before it writes anything, and with --dry-run it writes nothing."""
    shown, out = [], tmp_path / "dry"
    config = PrepareConfig(out=str(out), size=8, dry_run=True, **settings)
    before = content(tmp_path)
    summary = prepare(source, config, Progress(), shown.append)
    assert content(tmp_path) == before and len(shown) == 1
    assert summary == (out, shown[0].totals, shown[0].classes, 0)
    return shown[0]


TOLD = {  # {tree: (levels of folders, classes, {split: folder})}
    "brain tumours": (
        ("Training Testing", "glioma meningioma notumor pituitary"),
        ("glioma", "meningioma", "notumor", "pituitary"),
        {"train": "Training", "test": "Testing"},
    ),
    "sets": (("train_set test_set", "a b"), ("a", "b"), {"train": "train_set", "test": "test_set"}),
    "val beside Testing": (
        ("train val Testing", "a b"), ("a", "b"), {"train": "train", "val": "val", "test": "Testing"},
    ),
    "Food-11": (
        ("training validation evaluation", "bread egg"),
        ("bread", "egg"),
        {"train": "training", "val": "validation", "test": "evaluation"},
    ),
    "Imagewoof": (
        ("train val", "n02086240 n02087394"), ("n02086240", "n02087394"), {"train": "train", "test": "val"},
    ),
    "face masks": (
        ("Train Test", "WithMask NoMask"), ("NoMask", "WithMask"), {"train": "Train", "test": "Test"},
    ),
    "patients": (
        ("train test", "normal ill", "p1 p2 p3"), ("ill", "normal"), {"train": "train", "test": "test"},
    ),
    "classes alone": (("normal ill",), ("ill", "normal"), {}),
    "mask and no mask": (("mask no_mask",), ("mask", "no_mask"), {}),
    "patients of classes": (("normal ill", "patient1 patient2", "images"), ("ill", "normal"), {}),
    "numbered patients": (("normal ill", "1 2 3"), ("ill", "normal"), {}),
    "studies": (("normal ill", "0012 0013", "1.2.840.1"), ("ill", "normal"), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", TOLD)
def test_trees_whose_names_tell_what_they_are(name, tmp_path):
    levels, classes, folders = TOLD[name]
    outline = outline_of(grow(tmp_path / "in", *levels), tmp_path)
    assert outline.classes == classes and outline.folders == folders
    images = EACH * int(np.prod([len(level.split()) for level in levels]))
    assert sum(map(sum, outline.counts.values())) == images
    if folders:
        each = images // len(levels[0].split()) // len(classes)
        assert outline.counts == {split: (each,) * len(classes) for split in folders}
        assert outline.layout == "SPLIT/CLASS"
    else:
        assert list(outline.counts) == ["train", "val", "test"] and outline.layout == "CLASS"


# {tree: (levels, what is said, {flags that are advised: (classes, images) they lead to})}
UNCLEAR = {
    "COVID-19 Radiography": (
        ("COVID Lung_Opacity Normal", "images masks"),
        "folders below those of classes must be of patients or series. Got 'COVID/masks', "
        "'Lung_Opacity/masks', 'Normal/masks', which may be masks.",
        {
            "--ignore masks": ("COVID Lung_Opacity Normal", 12),
            "--layout CLASS/ANY": ("COVID Lung_Opacity Normal", 24),
        },
    ),
    "masks of patients": (
        ("train test", "normal ill", "p1 p2", "images lung_masks"),
        "Got 'test/ill/p1/lung_masks', 'test/ill/p2/lung_masks', 'test/normal/p1/lung_masks' and 5 more, "
        "which may be masks.",
        {"--ignore lung_masks": ("ill normal", 32), "--layout SPLIT/CLASS/ANY": ("ill normal", 64)},
    ),
    "sites": (
        ("siteA siteB", "normal ill"),
        "Got 'siteA/ill', 'siteA/normal', 'siteB/ill' and 1 more, which may be classes.",
        {"--layout ANY/CLASS": ("ill normal", 16), "--layout CLASS/ANY": ("siteA siteB", 16)},
    ),
    "sites in splits": (
        ("train test", "siteA siteB", "normal ill"),
        "Got 'test/siteA/ill', 'test/siteA/normal', 'test/siteB/ill' and 5 more, which may be classes.",
        {"--layout SPLIT/ANY/CLASS": ("ill normal", 32), "--layout SPLIT/CLASS/ANY": ("siteA siteB", 32)},
    ),
    "sites of patients": (
        ("siteA siteB", "p1 p2", "normal ill"),
        "Got 'siteA/p1/ill', 'siteA/p1/normal', 'siteA/p2/ill' and 5 more, which may be classes.",
        {"--layout ANY/ANY/CLASS": ("ill normal", 32), "--layout CLASS/ANY": ("siteA siteB", 32)},
    ),
    "patches of patients": (
        ("10253 10254 10255", "0 1"),
        "Got '10253/0', '10253/1', '10254/0' and 3 more, which may be classes.",
        {"--layout ANY/CLASS": ("0 1", 24), "--layout CLASS/ANY": ("10253 10254 10255", 24)},
    ),
    "grades": (
        ("siteA siteB", "grade1 grade2 grade3"),
        "Got 'siteA/grade1', 'siteA/grade2', 'siteA/grade3' and 3 more, which may be classes.",
        {"--layout ANY/CLASS": ("grade1 grade2 grade3", 24), "--layout CLASS/ANY": ("siteA siteB", 24)},
    ),
    "splits in classes": (
        ("normal ill", "train test"),
        "Got 'ill/test', 'ill/train', 'normal/test' and 1 more, which may be splits.",
        {"--layout CLASS/SPLIT": ("ill normal", 16), "--layout CLASS/ANY": ("ill normal", 16)},
    ),
    "images and masks alone": (
        ("train test", "images masks"),
        "the folders of classes must be of one class each. Got 'images', 'masks', which may be images and "
        "their masks.",
        {"--layout SPLIT/CLASS": ("images masks", 16)},
    ),
    "splits in names": (
        ("normal_train normal_test ill_train ill_test",),
        "Got 'ill_test', 'ill_train', 'normal_test' and 1 more, which may be one class in several splits. "
        "Put them into folders of their splits, such as test/ill;",
        {"--layout CLASS": ("ill_test ill_train normal_test normal_train", 16)},
    ),
    "parts": (
        ("HAM10000_images_part_1 HAM10000_images_part_2",),
        "Got 'HAM10000_images_part_1', 'HAM10000_images_part_2', which may be parts of one set of images.",
        {"--layout CLASS": ("HAM10000_images_part_1 HAM10000_images_part_2", 8)},
    ),
    "patients alone": (
        ("patient1 patient2",),
        "Got 'patient1', 'patient2', which may be patients or series.",
        {"--layout CLASS": ("patient1 patient2", 8)},
    ),
    "a split of another name": (
        ("train val probe", "NORMAL PNEUMONIA"),
        "folders beside those of splits must hold none of the classes. Got 'probe', which may be splits.",
        {"--ignore probe": ("NORMAL PNEUMONIA", 16)},
    ),
    "a class called valid": (
        ("valid invalid",),
        "the source must be a folder that holds train/. Got 'invalid', 'valid'. Rename the one that is",
        {"--layout CLASS": ("invalid valid", 8)},
    ),
    "val beside classes": (
        ("val normal ill",),
        "the source must be a folder that holds train/. Got 'ill', 'normal', 'val'.",
        {"--layout CLASS": ("ill normal val", 12)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNCLEAR)
def test_trees_that_may_mean_several_things_are_refused_with_the_flags_that_say_what(name, tmp_path):
    levels, message, advised = UNCLEAR[name]
    source, out = grow(tmp_path / "in", *levels), tmp_path / "out"
    refused(source, out, message)
    with pytest.raises(UserError) as caught:
        run(source, out)
    flags = re.findall(r"--(?:layout|ignore) [^\s;]*[^\s;.]", str(caught.value))
    assert flags == [*advised]
    for flag, (classes, images) in advised.items():
        how, value = shlex.split(flag)
        outline = outline_of(
            source, tmp_path, **({"layout": value} if how == "--layout" else {"ignore": (value,)})
        )
        assert outline.classes == tuple(classes.split())
        assert sum(map(sum, outline.counts.values())) == images


def test_masks_beside_their_images(tmp_path):
    """The breast ultrasound set BUSI."""
    source = tmp_path / "in"
    for name, n in product(("benign", "normal"), range(4)):
        for ending in ("", "_mask", "_mask_1")[: 3 if n == 0 else 2]:
            save(source / name / f"{name} ({n}){ending}.png", noise(n))
    message = (
        "images must not be the masks of others. Got 'benign/benign (0)_mask.png', "
        "'benign/benign (0)_mask_1.png', 'benign/benign (1)_mask.png' and 7 more, which may be masks. "
        "--ignore '*_mask*' '*_mask_*' leaves them out; --layout CLASS/ANY reads them as images."
    )
    refused(source, tmp_path / "out", message)
    assert outline_of(source, tmp_path, ignore=("*_MASK*",)).totals == {"train": 4, "val": 2, "test": 2}
    assert sum(outline_of(source, tmp_path, layout="CLASS/ANY").totals.values()) == 18


def test_every_image_goes_to_the_class_and_split_that_the_layout_says(tmp_path, out):
    source = grow(tmp_path / "in", "siteA siteB", "normal ill", "Training Testing", each=1)
    save(source / "siteA/normal/loose.png", noise(1))
    run(source, out, layout="ANY/CLASS/SPLIT")
    assert read(out, "y_train").tolist() == read(out, "y_test").tolist() == [0, 0, 1, 1]
    lines = (out / "files_test.csv").read_text().splitlines()[1:]
    assert [line.split(",")[1] for line in lines] == [
        f"site{site}/{name}/Testing/0.png" for name in ("ill", "normal") for site in "AB"
    ]
    note = json.loads((out / "provenance.json").read_text())
    assert note["layout"] == note["settings"]["layout"] == "ANY/CLASS/SPLIT"
    assert note["ignored"] == {"outside the folders of classes": 1} and "dry_run" not in note["settings"]


@pytest.mark.parametrize("layout", ["CLASS/images", "CLASS/IMAGES"])
def test_a_folder_that_the_layout_names_is_read_alone(tmp_path, out, layout):
    source = grow(tmp_path / "in", "COVID Normal", "images masks extra")
    summary = run(source, out, layout=layout)
    assert sum(summary.counts.values()) == 8
    names = (out / "files_train.csv").read_text()
    assert "/images/" in names and "/masks/" not in names and "/extra/" not in names


def test_folders_of_patients_are_groups_if_asked(tmp_path, out):
    source = grow(tmp_path / "in", "train test", "normal ill", "p1 p2", each=2)
    recorder = Recorder()
    run(source, out, recorder)
    assert not (out / "groups_train.npy").exists()
    assert recorder.warnings == [
        "The 8 folders below those of classes may be patients, whom a split does not keep together: --layout "
        "SPLIT/CLASS/GROUP says that they are, --layout SPLIT/CLASS/ANY that they are not."
    ]
    for settings in ({"layout": "SPLIT/CLASS/ANY"}, {"group_regex": "."}):
        run(source, out, recorder := Recorder(), **settings)
        assert not any("may be patients" in warning for warning in recorder.warnings)
    recorder = Recorder()
    run(source, out, recorder, layout="SPLIT/CLASS/GROUP")
    assert read(out, "groups_train").tolist() == ["p1", "p1", "p2", "p2"] * 2
    assert recorder.warnings[0].startswith("2 groups are in more than one split")
    cut = grow(tmp_path / "cut", "a b", " ".join(f"p{i}" for i in range(10)))
    sites = grow(tmp_path / "sites", " ".join(f"site{i}" for i in range(10)), "normal ill")
    by_site = outline_of(sites, tmp_path, layout="GROUP/CLASS")
    assert by_site.classes == ("ill", "normal") and by_site.groups == {"train": 8, "val": 1, "test": 1}
    outline = outline_of(cut, tmp_path, layout="CLASS/GROUP")
    assert outline.groups == {"train": 8, "val": 1, "test": 1} and outline.counts["train"] == (32, 32)


def test_unlabelled_images_are_in_no_folder_of_a_group(tmp_path, out):
    source = grow(tmp_path / "in", "train test", "normal ill", "p1 p2")
    save(source / "unlabelled/x.png", noise(5))
    recorder = Recorder()
    run(source, out, recorder, layout="SPLIT/CLASS/GROUP")
    assert "No unlabelled image is in a folder of a group: their groups are unknown." in recorder.warnings
    assert not (out / "groups_unlabelled.npy").exists() and (out / "groups_train.npy").exists()


def test_a_folder_beside_the_splits_is_left_out_aloud(tmp_path, out):
    """The archive of the chest X-rays has itself in it."""
    source = grow(tmp_path / "chest_xray", "train test val", "NORMAL PNEUMONIA")
    grow(source / "chest_xray", "train test val", "NORMAL PNEUMONIA")
    recorder = Recorder()
    assert run(source, out, recorder).counts == {"train": 8, "val": 8, "test": 8}
    assert recorder.warnings == ["'chest_xray' is no split: its images (24) are left out."]


def test_images_of_a_split_that_are_in_no_class(tmp_path, out):
    source = grow(tmp_path / "in", "train", "cat dog")
    refused(
        source,
        out,
        "holds test/. Got 'train'. * Where train is all there is, give it as the SOURCE: it is then",
    )
    save(source / "test/1.png", noise(1))
    message = "images of test must be in folders of their classes. Got '1 beside them'. Without labels they"
    refused(source, out, message)
    assert run(source / "train", out, unlabelled=str(source / "test")).counts["unlabelled"] == 1


def test_folders_that_are_left_out(tmp_path, out):
    source = grow(tmp_path / "in", "train Training test", "a b")
    refused(source, out, "with one place for each split. Got * Leave one out with --ignore, or rename it.")
    recorder = Recorder()
    assert run(source, out, recorder, ignore=("TRAINING",)).counts == {"train": 8, "test": 8}
    assert recorder.said[0] == "Files left out: 8 (8 named by --ignore)."
    assert run(source, out, ignore=("Training", "test/b", "2.p?g")).counts == {"train": 6, "test": 3}
    message = (
        "--ignore must be names of folders or images in the source, * Got 'tainr'. Did you mean 'train'?"
    )
    refused(source, tmp_path / "other", message, ignore=("tainr",))


def test_long_names_of_classes(tmp_path, out):
    """Chest CT: the folders of train name the stage of the tumour, those of test do not."""
    source = grow(tmp_path / "in", "train valid", "adenocarcinoma_left.lower.lobe_T2_N0_M0_Ib normal")
    grow(source, "test", "adenocarcinoma normal")
    refused(
        source,
        out,
        "class 'adenocarcinoma' of test must be a class of train too. * --short-names would make them the",
    )
    outline = outline_of(source, tmp_path, short_names=True)
    assert outline.classes == ("adenocarcinoma", "normal") and set(outline.counts.values()) == {(4, 4)}


def test_an_archive_has_no_layout(tmp_path, out):
    arrays = {f"{kind}_{split}": noise(1, (40, 8, 8)) for kind in "x" for split in ("train", "test")}
    labels = {f"y_{split}": np.arange(40) % 2 for split in ("train", "test")}
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in/a.npz", **arrays, **labels)
    for name, value in (("layout", "CLASS"), ("ignore", ("x",))):
        refused(
            tmp_path / "in/a.npz",
            out,
            f"--{name} must be left out where the source is an .npz",
            **{name: value},
        )
    outline = outline_of(tmp_path / "in/a.npz", tmp_path)
    assert outline.layout == "an .npz file" and outline.counts["test"] == (20, 20) and outline.folders == {}


# What is shown


TABLE = """\
in is read as SPLIT/CLASS: train is Training/, val is dev/, test is Testing/
class      train    val   test
ill            8      8      8
normal         8      8      8
2 classes     16     16     16
groups         2      2      2
unlabelled images: 1
"""


def test_the_command_prints_classes_and_counts_before_it_writes(tmp_path, capsys, monkeypatch):
    source = grow(tmp_path / "in", "Training dev Testing", "normal ill", "p1 p2")
    save(source / "unlabelled/x.png", noise(5))
    monkeypatch.chdir(tmp_path)
    argv = ["prepare", "in", "--size", "8", "--out", "out", "--layout", "SPLIT/CLASS/GROUP"]
    table = TABLE.replace("SPLIT/CLASS:", "SPLIT/CLASS/GROUP:")
    assert main([*argv, "--dry-run"]) == 0
    assert (
        capsys.readouterr().out == f"{table}Nothing was written: --dry-run.\n"
        and not (tmp_path / "out").exists()
    )
    assert main(argv) == 0
    last = "out: 16 train, 16 val, 16 test, 1 unlabelled; 2 classes; 0 skipped. See provenance.json.\n"
    assert capsys.readouterr().out == table + last
    for path in source.rglob("*.png"):
        path.write_bytes(b"no image")
    assert main(argv) == 2  # the table comes first: the images are read after it
    printed = capsys.readouterr()
    assert printed.out == table and "train must be at least one image that can be read" in printed.err


def test_a_table_of_names_that_are_wide_or_odd(tmp_path, capsys):
    source = grow(tmp_path / "in", "肺炎 [red]", each=3)
    assert main(["prepare", str(source), "--size", "8", "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[1:4] == [
        "class      train    val   test",
        "[red]          1      1      1",
        "肺炎           1      1      1",
    ]


def test_a_reader_of_the_table_that_goes_away_does_not_stop_the_import(source, out, monkeypatch):
    class Gone:
        def write(self, text):
            raise BrokenPipeError(32, "Broken pipe")

        def flush(self):
            pass

        def isatty(self):
            return False

    from kdtf.cli.terminal import Terminal, print_outline

    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", Gone())
        prepare(source, PrepareConfig(out=str(out), size=8), Terminal(), print_outline)
    assert len(read(out, "X_train")) == 6


@pytest.mark.parametrize("before", ["absent", "made"])
def test_a_dry_run_finds_what_a_run_would(source, tmp_path, before):
    """An earlier import stays as it was, and what would be refused is refused."""
    out = tmp_path / "out"
    if before == "made":
        run(source, out)
    was = content(tmp_path)
    assert run(source, out, dry_run=True).counts == {"train": 6, "val": 6, "test": 6}
    assert content(tmp_path) == was
    np.save(tmp_path / "X_train.npy", np.zeros(3))
    refused(source, tmp_path / "in", "--out must be outside the source", dry_run=True)
    (tmp_path / "other").mkdir()
    np.save(tmp_path / "other/X_train.npy", np.zeros(3))
    refused(source, tmp_path / "other", "--out must be a folder without arrays", dry_run=True)


SHARED = {
    "chest_ct": ({"short_names": True}, 4, {"train": 613, "val": 72, "test": 315}),
    "chest_xray_pneumonia": ({}, 2, {"train": 2020, "test": 624}),
    "imagewoof64": ({}, 10, {"train": 1000, "test": 400}),
}


@pytest.mark.parametrize("name", SHARED)
def test_real_trees(shared_data, tmp_path, name):
    settings, classes, counts = SHARED[name]
    outline = outline_of(shared_data / name, tmp_path, **settings)
    assert len(outline.classes) == classes and outline.totals == counts


# Trees drawn at random, as benchmarks/hostile.py does by the thousand


@pytest.mark.parametrize("shape", harmful_trees.SHAPES)
@pytest.mark.parametrize("with_flags", [True, False])
def test_random_trees_are_read_right_or_refused(shape, with_flags, tmp_path):
    for i in range(3):
        rng = random.Random(f"{shape} {i}")
        tree = harmful_trees.SHAPES[shape](rng)
        source, out = tmp_path / f"in{i}", tmp_path / f"out{i}"
        harmful_trees.grow(tree, source, rng)
        flags = tree.flags if with_flags else ()
        code = main(["prepare", str(source), "--out", str(out), "--size", "8", *flags])
        assert harmful_trees.wrong(tree, flags, code, out, "") == "", [*tree.meaning][:6]


def test_the_judge_of_random_trees_knows_wrong_classes_from_right_ones(tmp_path, out):
    tree = harmful_trees.Tree(
        {"siteA/ill": (None, "ill"), "siteB/normal": (None, "normal")}, ("--layout", "ANY/CLASS")
    )
    source = tmp_path / "in"
    harmful_trees.grow(tree, source, random.Random(0))
    run(source, out, layout="ANY/CLASS")
    assert harmful_trees.wrong(tree, tree.flags, 0, out, "") == ""
    assert harmful_trees.wrong(tree, (), 0, out, "") == "exit code 0, not 2"
    run(source, out, layout="CLASS/ANY")
    wrong = harmful_trees.wrong(tree, tree.flags, 0, out, "")
    assert re.fullmatch(r"siteA/ill/0\.png is 'siteA' of \w+, not \(None, 'ill'\)", wrong)
    partly = tree._replace(meaning={**tree.meaning, "siteB/normal": None})
    run(source, out, layout="ANY/CLASS")
    assert harmful_trees.wrong(partly, tree.flags, 0, out, "") == "siteB/normal/0.png was read"
