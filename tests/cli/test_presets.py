"""Every preset runs end to end on a few dozen images, and differs from the defaults where it says so."""

import json
import re
import shlex
import tomllib
from dataclasses import replace

import keras
import pandas as pd
import pytest
from keras import layers
from small_run import teachers_of_one_convolution

from kdtf.cli.arguments import PRESETS, preset_names, read_config
from kdtf.cli.entry import main
from kdtf.config import Config
from kdtf.data import phantom
from kdtf.models.students import STUDENTS

SHORT = shlex.split(
    "--epochs 1 --views 2 --seeds 1 --batch-size 16 --weights none --recipes float32 --scratch-epochs 1 "
    "--fine-tune-epochs 1 --fine-tune-batch-size 16"
)


def small_student(shape, classes, momentum, dropout):
    """A convolution and its logits: (H, W, C) to (K,)."""
    pixels = keras.Input(shape, name="pixels")
    maps = layers.Conv2D(4, 4, strides=4, activation="relu")(layers.Rescaling(1 / 255)(pixels))
    return keras.Model(pixels, layers.Dense(classes, name="logits")(layers.Flatten()(maps)))


@pytest.fixture
def shallow(monkeypatch):
    """Every network on a single convolution, a teacher's preprocessing, neck and head kept.

    Tracing and running DenseNet121 and its like takes minutes; the tests of `models` step through each.
    """
    for name, row in STUDENTS.items():
        monkeypatch.setitem(STUDENTS, name, replace(row, build=small_student))
    with teachers_of_one_convolution():
        yield


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A dozen images a split, larger ones for the teacher."""
    folder = tmp_path_factory.mktemp("few")
    phantom.write(folder, train=16, val=8, test=12, side=32, teacher_side=40, seed=1)
    return folder


OWN = ("chest-ct-small",)  # reproduces nobody's system


def test_the_five_systems_are_there():
    wanted = {"chest-ct", "chest-ct-128", "pneumonia-densenet", "cifar10", "pneumonia-resnet", "dermamnist"}
    assert set(preset_names()) == {*wanted, "imagewoof", *OWN}


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_says_what_it_is_and_holds_only_what_differs(name):
    text = (PRESETS / f"{name}.toml").read_text()
    header = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    assert header.startswith(f"{name}: ") and "Data: " in header
    assert ("Mended: " in header) == (name not in OWN)
    plain = Config().to_dict()
    for section, values in tomllib.loads(text).items():
        for setting, value in values.items():
            assert plain[section][setting] != value, f"{setting} is the default"


@pytest.mark.parametrize("name", [name for name in preset_names() if name not in OWN])
def test_every_preset_runs_from_arrays_to_report(name, few, tmp_path, shallow, blank):
    """The CT presets with one teacher, `cifar10` with another student than pneumonia-densenet."""
    fewer = {"chest-ct": ["--teachers", "vgg16"], "chest-ct-128": ["--teachers", "mobilenet"]}
    more = fewer.get(name, []) + (["--student", "cnn5"] if name == "cifar10" else [])
    more += ["--class-names", *phantom.CLASSES] if name in ("cifar10", "dermamnist") else []
    out = tmp_path / "r"
    assert main(["--preset", name, "--data", str(few), "--results", str(out), *SHORT, *more]) == 0
    config = read_config(["--preset", name, *more])
    (teacher,) = config.teacher.teachers
    rows = pd.read_csv(out / "summary.csv")
    expected = ["alone", "alone", *(["baseline"] * 2 if config.student.baseline else [])]
    assert rows.model.tolist() == [*expected, "teacher", "distilled", "distilled"]
    table = pd.read_csv(out / f"{teacher}_models.csv")
    assert table.columns[:3].tolist() == ["Model", "Loss", "Accuracy"] and len(table) == len(rows) // 2 + 1
    assert (out / "report.html").exists() and (out / f"{teacher}_gradcam.png").exists()
    if config.distil.alphas:
        tried = pd.read_csv(out / f"{teacher}_tuning.csv")
        assert len(tried) == 4 and tried.chosen.sum() == 1
        best = tried.sort_values(["val_accuracy", "val_loss"], ascending=[False, True]).iloc[0]
        chosen = rows[rows.model == "distilled"].iloc[0]
        assert best.chosen and (chosen.alpha, chosen.temperature) == (best.alpha, best.temperature)


def test_the_preset_of_small_files_takes_a_thin_cut_and_unlabelled_images(tmp_path, blank):
    """Channels fitted to images; one block in the place of as many as the budget allows."""
    data, out = tmp_path / "d", tmp_path / "r"
    phantom.write(data, train=16, val=8, test=12, unlabelled=8, side=32, teacher_side=40, seed=1)
    argv = ["--preset", *OWN, "--data", str(data), "--results", str(out), *SHORT]
    with teachers_of_one_convolution(whole=["MobileNetV2"]):
        assert main([*argv, "--student", "cut:mobilenetv2:1:0.5", "--recipes", "int8"]) == 0
    rows = pd.read_csv(out / "summary.csv")
    students = ["alone", "efficientnetlite0", "efficientnetlite0-unlabelled"]
    assert rows[rows.recipe == "int8"].teacher.tolist() == students
    cards = [json.loads((out / f"{name}_Student_int8.json").read_text())["made_by"] for name in students]
    assert [card["training"]["unlabelled_share"] for card in cards] == [0, 0, 0.5]
    student = keras.models.load_model(out / "efficientnetlite0-unlabelled_Student.keras")
    assert student.get_layer("block_1_depthwise").output.shape[-1] == 24  # of 48


def test_an_unknown_preset_is_told_the_nearest(capsys):
    assert main(["--preset", "chestct"]) == 2
    assert re.search(r"--preset must be one of .*Did you mean 'chest-ct'", capsys.readouterr().err)


def test_flags_override_a_preset():
    config = read_config(["--preset", "imagewoof", "--alpha", "0.9"])
    assert (config.distil.alpha, config.distil.loss, config.data.demo) == (0.9, "soft-ce", False)
