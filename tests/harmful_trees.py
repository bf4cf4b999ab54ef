"""Trees of folders as people make them, and what they mean, for harmful_files.py.

Either the names in a tree tell what it is, or it may mean several things: then `prepare` must refuse it, and
read it right once flags say what is meant. The words here are written down apart from those of kdtf.
"""

import csv
import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

Meaning = tuple[str | None, str]  # split, None where the source has none, and class
EACH = 4  # images in a folder

SPLITS = {
    "train": ["train", "Train", "TRAIN", "training", "Training", "trn", "train_set", "trainset", "TrainSet",
              "Training Set", "training-data", "train_images", "1. Train", "train_01", "a. Training Set"],
    "val": ["val", "Val", "valid", "Validation", "validation", "dev", "val_set", "ValSet",
            "Validation Data", "VALID"],
    "test": ["test", "Testing", "TEST", "testing", "tst", "test_set", "testset", "TestSet", "b. Testing Set",
             "Test images", "evaluation", "hold-out"],
}  # fmt: skip
CLASSES = [
    ("NORMAL", "PNEUMONIA"),
    ("glioma", "meningioma", "notumor", "pituitary"),
    ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia"),
    ("with_mask", "without_mask"),
    ("adenocarcinoma_left.lower.lobe_T2_N0_M0_Ib", "large.cell.carcinoma_left.hilum_T2_N2_M0_IIIa", "normal"),
    ("all", "hem"),
    ("0", "1"),
    ("grade1", "grade2", "grade3"),
]
SITES = [("siteA", "siteB"), ("hospital1", "hospital2", "hospital3"), ("center north", "center south")]
PATIENTS = ["patient{}", "{:04}", "P-{}", "sub-{}", "1.2.840.113.{}", "NA{}x", "person{}_bacteria"]
PICTURES, MASKS = ["images", "Images", "img", "PNG"], ["masks", "Masks", "mask", "lung masks", "segmentation"]


class Tree(NamedTuple):
    """What a tree means."""

    meaning: dict[str, Meaning | None]  # of each folder of images; None where they are not to be read
    flags: tuple[str, ...] = ()  # what says so to `prepare`
    is_told: bool = False  # by the names too
    may_be_read: bool = True  # with the flags


def _splits(rng: random.Random) -> dict[str, str]:
    """{folder: split}: train and test always, and val often."""
    own = ["train", "test"] if rng.random() < 0.4 else ["train", "val", "test"]
    return {rng.choice(SPLITS[split]): split for split in own}


def _tops(rng: random.Random) -> dict[str, str | None]:
    """{what stands before the folder of a class: its split}: no folder, or those of splits."""
    return {"": None} if rng.random() < 0.5 else {f"{top}/": split for top, split in _splits(rng).items()}


def _at(tops: dict[str, str | None], layout: str) -> str:
    return layout if None in tops.values() else f"SPLIT/{layout}"


def plain(rng: random.Random) -> Tree:
    tops, classes = _tops(rng), rng.choice(CLASSES)
    return Tree(
        {f"{top}{name}": (split, name) for top, split in tops.items() for name in classes}, is_told=True
    )


def patients(rng: random.Random) -> Tree:
    tops, classes, pattern = _tops(rng), rng.choice(CLASSES), rng.choice(PATIENTS)
    inner = rng.choice(["", f"/{rng.choice(PICTURES)}"])
    asked = () if rng.random() < 0.7 or None in tops.values() else ("--layout", _at(tops, "CLASS/GROUP"))
    # are the patients of a class numbered on, or from 0 again? Then a name that says nothing may be a class's
    apart = 10 if pattern == "NA{}x" else rng.choice([0, 10])
    folders = {
        f"{top}{name}/{pattern.format(apart * i + k)}{inner}": (split, name)
        for top, split in tops.items()
        for i, name in enumerate(classes)
        for k in range(5)
    }
    return Tree(folders, asked, is_told=True)


def masks(rng: random.Random) -> Tree:
    tops, classes, pictures, mask = _tops(rng), rng.choice(CLASSES), rng.choice(PICTURES), rng.choice(MASKS)
    folders: dict[str, Meaning | None] = {}
    for top, split in tops.items():
        for name in classes:
            folders |= {f"{top}{name}/{pictures}": (split, name), f"{top}{name}/{mask}": None}
    layout = ("--layout", _at(tops, f"CLASS/{pictures.lower()}"))
    return Tree(folders, rng.choice([layout, ("--ignore", mask)]))


def sites(rng: random.Random) -> Tree:
    tops, classes, sites = _tops(rng), rng.choice(CLASSES), rng.choice(SITES)
    folders = {
        f"{top}{site}/{name}": (split, name)
        for top, split in tops.items() for site in sites for name in classes
    }  # fmt: skip
    return Tree(folders, ("--layout", _at(tops, "ANY/CLASS")))


def patient_first(rng: random.Random) -> Tree:
    """As patches of tissue come: a folder for each patient, in it one for each class."""
    tops, pattern = _tops(rng), rng.choice(["{}", "patient{}"])
    folders = {
        f"{top}{pattern.format(10253 + k)}/{name}": (split, name)
        for top, split in tops.items() for k in range(6) for name in "01"
    }  # fmt: skip
    return Tree(folders, ("--layout", _at(tops, "ANY/CLASS")))


def split_last(rng: random.Random) -> Tree:
    splits, classes = _splits(rng), rng.choice(CLASSES)
    folders = {f"{name}/{folder}": (split, name) for folder, split in splits.items() for name in classes}
    return Tree(folders, ("--layout", "CLASS/SPLIT"))


def kinds_below(rng: random.Random) -> Tree:
    tops = _tops(rng)
    below = {
        "benign": ("adenosis", "fibroadenoma", "tubular"),
        "malignant": ("ductal", "lobular", "papillary"),
    }
    folders = {
        f"{top}{name}/{kind}": (split, name)
        for top, split in tops.items() for name, kinds in below.items() for kind in kinds
    }  # fmt: skip
    return Tree(folders, ("--layout", _at(tops, "CLASS/ANY")))


def pixels_labelled(rng: random.Random) -> Tree:
    """Images and masks without any class."""
    tops = _tops(rng)
    pair = (rng.choice(PICTURES), rng.choice(MASKS))
    return Tree({f"{top}{name}": None for top in tops for name in pair}, may_be_read=False)


def grown_together(rng: random.Random) -> Tree:
    """Split and class in one name."""
    pattern = rng.choice(["{0}_{1}", "{1}_{0}", "{0}-{1}", "{1} {0}"])
    words = [rng.choice(SPLITS[split][:5]) for split in ("train", "test")]
    names = ("normal", "pneumonia")
    return Tree({pattern.format(word, name): None for word in words for name in names}, may_be_read=False)


SHAPES: dict[str, Callable[[random.Random], Tree]] = {
    "SPLIT/CLASS": plain,
    "CLASS/patient": patients,
    "CLASS/masks": masks,
    "site/CLASS": sites,
    "patient/CLASS": patient_first,
    "CLASS/SPLIT": split_last,
    "CLASS/kind": kinds_below,
    "images and masks": pixels_labelled,
    "SPLIT_CLASS": grown_together,
}


def grow(tree: Tree, source: Path, rng: random.Random) -> list[Path]:
    """Write the images of a tree; returns their files."""
    files = []
    for folder in tree.meaning:
        for i in range(EACH):
            path = source / folder / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            values = np.frombuffer(rng.randbytes(64), np.uint8).reshape(8, 8)
            Image.fromarray(values).save(path)
            files.append(path)
    return files


def wrong(tree: Tree, flags: tuple[str, ...], code: int, out: Path, harmed: str) -> str:
    """What is wrong with an import of `tree` with `flags` into `out` that ended with `code`, or ""."""
    must_end = 0 if tree.is_told or (tree.may_be_read and flags == tree.flags) else 2
    if code != must_end:
        return f"exit code {code}, not {must_end}"
    if code:
        return "something was written" if out.exists() else ""
    rows = {}
    for split in ("train", "val", "test"):
        if (out / f"files_{split}.csv").exists():
            with open(out / f"files_{split}.csv", encoding="utf-8", newline="") as file:
                rows |= {row["file"]: (split, row["class"]) for row in csv.DictReader(file)}
    for folder, meaning in tree.meaning.items():
        for i in range(EACH):
            file = f"{folder}/{i}.png"
            split, name = rows.pop(file, (None, ""))
            if meaning is None:
                if name:
                    return f"{file} was read"
            elif (name != meaning[1] or (meaning[0] or split) != split) and (name or file != harmed):
                return f"{file} is {name!r} of {split}, not {meaning}"
    return f"{next(iter(rows))} is no file of the tree" if rows else ""
