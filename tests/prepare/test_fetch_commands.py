"""Every command that `fetch` prints is run, offline, on small files in the form of what it would bring."""

import hashlib
import io
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sources import noise, packed, save

from kdtf.cli.arguments import PRESETS
from kdtf.cli.entry import main
from kdtf.prepare.fetch import INSTRUCTIONS, SOURCES

ROOT = Path(__file__).parents[2]
STAGE = "_left.lower.lobe_T2_N0_M0_Ib"


def medmnist(path):
    """The keys and shapes of MedMNIST, two classes."""
    arrays = {}
    for i, (split, count) in enumerate((("train", 40), ("val", 10), ("test", 10))):
        arrays[f"{split}_images"] = noise(i, (count, 28, 28))
        arrays[f"{split}_labels"] = np.arange(count)[:, None] % 2
    np.savez(path, **arrays)


def cifar10(path):
    """The binary version: a byte of label, then 3,072 of pixels, 20 images a batch."""
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    batches = {}
    for i, name in enumerate(names):
        rows = noise(i, (20, 3073))
        rows[:, 0] = np.arange(20) % 10
        batches[f"cifar-10-batches-bin/{name}.bin"] = rows.tobytes()
    packed(path, batches)


def imagewoof(path):
    """Folders by WordNet id in train and val, and the table of noisy labels beside them."""
    files = {"imagewoof2-160/noisy_imagewoof.csv": b"path\n"}
    for i, (split, name, n) in enumerate(product(("train", "val"), ("n02086240", "n02087394"), range(3))):
        image = io.BytesIO()
        Image.fromarray(noise(i, (16, 20, 3))).save(image, "JPEG")
        files[f"imagewoof2-160/{split}/{name}/{name}_{n}.JPEG"] = image.getvalue()
    packed(path, files)


def chest_ct(folder):
    """The folders of train and valid have the stage of the tumour in their names, those of test do not."""
    for i, (split, name, n) in enumerate(
        product(("train", "valid", "test"), ("adenocarcinoma", "normal"), range(3))
    ):
        full = name + STAGE if name != "normal" and split != "test" else name
        save(folder / "Data" / split / full / f"{n} (1).png", noise(i, (20, 30, 4)))


def chest_xray(folder):
    """With the copy of itself that the archive has in it, and what a Mac adds."""
    names = {
        "NORMAL": ["IM-0001-0001.jpeg", "IM-0003-0001-0002.jpeg", "NORMAL2-IM-0501-0001.jpeg"],
        "PNEUMONIA": ["person1_bacteria_1.jpeg", "person1_bacteria_2.jpeg", "person78_virus_140.jpeg"],
    }
    root = folder / "chest_xray"
    for top, split in product((root, root / "chest_xray"), ("train", "test", "val")):
        for name, files in names.items():
            for i, file in enumerate(files):
                save(top / split / name / file, noise(i, (20, 30)))
    (root / "__MACOSX/train/NORMAL").mkdir(parents=True)
    (root / "__MACOSX/train/NORMAL/._IM-0001-0001.jpeg").write_bytes(b"Mac OS X")
    (root / "train/.DS_Store").write_bytes(b"Bud1")


MAKERS = {"cifar10": cifar10, "imagewoof": imagewoof}  # all others are of MedMNIST
TREES = {"chest-ct": chest_ct, "chest-xray-pneumonia": chest_xray}


def printed_commands(capsys, monkeypatch, tmp_path, name):
    """What `fetch` prints of a data set that is there, as lists of words; it stands two spaces in."""
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "down loads"  # the name must be quoted in what is printed
    if name in SOURCES:
        out.mkdir()
        path = out / SOURCES[name].file
        MAKERS.get(name, medmnist)(path)
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        monkeypatch.setitem(SOURCES, name, replace(SOURCES[name], md5=md5, url="https://nowhere.invalid/"))
    else:
        TREES[name](tmp_path)
    assert main(["fetch", name, "--out", "down loads"]) == 0
    lines = capsys.readouterr().out.splitlines()
    return [shlex.split(line) for line in lines if line.startswith("  ")]


@pytest.mark.parametrize("name", [*SOURCES, *INSTRUCTIONS])
@pytest.mark.parametrize("program", [["python", "/some where/main.py"], ["kdtf"], ["python", "-m", "kdtf"]])
def test_the_commands_that_fetch_prints_work(name, program, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["kdtf/__main__.py" if "-m" in program else program[-1]])
    commands = printed_commands(capsys, monkeypatch, tmp_path, name)
    if name in INSTRUCTIONS:
        kaggle = ["kaggle", "datasets", "download", "-d", INSTRUCTIONS[name].slug, "--unzip"]
        assert commands.pop(0) == kaggle
    [command] = commands
    assert command[: len(program)] == program
    if program != ["kdtf"]:
        return  # the rest is the same
    assert main(command[len(program) :]) == 0
    warned = capsys.readouterr().err
    assert "--group-regex" not in warned  # the pattern fits every name


def test_what_is_made_of_the_chest_sets(tmp_path, monkeypatch, capsys):
    for name, classes in (
        ("chest-ct", "adenocarcinoma\nnormal\n"),
        ("chest-xray-pneumonia", "NORMAL\nPNEUMONIA\n"),
    ):
        *_, command = printed_commands(capsys, monkeypatch, tmp_path, name)
        assert main([*command[command.index("prepare") :], "--out", name]) == 0
        assert (tmp_path / name / "classes.txt").read_text() == classes
        assert len(np.load(tmp_path / name / "X_test.npy")) == 6
    groups = np.load(tmp_path / "chest-xray-pneumonia/groups_train.npy").tolist()
    assert groups == [
        "IM-0001",
        "IM-0003",
        "NORMAL2-IM-0501",
        "person1_bacteria",
        "person1_bacteria",
        "person78_virus",
    ]


def test_a_shell_takes_the_command_as_it_is_printed(tmp_path, monkeypatch, capsys):
    """The pattern of the X-rays has all that a shell would take for its own."""
    monkeypatch.setattr(sys, "argv", [str(ROOT / "main.py")])
    monkeypatch.chdir(tmp_path)
    chest_xray(tmp_path)
    assert main(["fetch", "chest-xray-pneumonia"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    environment = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}"}
    done = subprocess.run(line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.splitlines()[-1]
        == "FData: 6 train, 6 val, 6 test; 2 classes; 0 skipped. See provenance.json."
    )


def test_the_commands_of_the_list(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["kdtf"])
    monkeypatch.chdir(tmp_path)
    assert main(["fetch", "list"]) == 0
    commands = re.findall("`(.*?)`", capsys.readouterr().out)
    assert commands == [f"kdtf fetch {name}" for name in INSTRUCTIONS]
    assert all(main(command.split()[1:]) == 0 for command in commands)


def test_presets_prepare_as_fetch_advises():
    """What a preset says of its data has the flags without which `prepare` ends or loses patients."""
    advised = {
        "chest-ct": "--short-names",
        "pneumonia": shlex.join(INSTRUCTIONS["chest-xray-pneumonia"].flags[2:]),
    }
    lines = [
        (path.stem, line)
        for path in PRESETS.glob("*.toml")
        for line in path.read_text().splitlines()
        if "prepare FOLDER" in line and path.stem.startswith(tuple(advised))
    ]
    assert len(lines) == 5
    for name, line in lines:
        assert next(flags for start, flags in advised.items() if name.startswith(start)) in line


def test_a_file_that_was_there_must_be_the_published_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "downloads").mkdir()
    path = tmp_path / "downloads/pneumoniamnist.npz"
    path.write_bytes(b"half of it")
    assert main(["fetch", "pneumoniamnist"]) == 2
    error = capsys.readouterr().err
    md5 = SOURCES["pneumoniamnist"].md5
    assert error.startswith(
        f"Error: downloads/pneumoniamnist.npz must be the published file, with MD5 {md5}. Got "
    )
    assert error.endswith("Delete it, and the same command downloads it.\n") and path.exists()
    for make, message in (
        (Path.mkdir, "must be readable. Got: Is a directory."),
        (os.mkfifo, "must be a file that ends."),
    ):
        path.unlink() if path.is_file() else path.rmdir()
        make(path)
        assert main(["fetch", "pneumoniamnist"]) == 2 and message in capsys.readouterr().err
