"""`main.py predict` as a user meets it: lines, CSV, exit codes."""

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kdtf.cli.entry import main
from kdtf.predictor import Predictor


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.jpg", "c d.png"):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(folder / name)
    return folder


def predict(*argv):
    return main(["predict", *map(str, argv)])


def test_a_line_an_image_under_a_header(bundle, images, capfd):
    names = ["a", "b, of some length", "c"]
    path = bundle(classes=names, training_images={}, thresholds={name: 1.0 for name in names[:2]})
    np.save(images / "z.npy", np.zeros((2, 16, 16, 3), np.uint8))
    assert predict(path, images / "a.png", images) == 0
    printed = capfd.readouterr()
    rows = list(Predictor(path).rows([images / "a.png", images]))
    assert printed.err == ""
    header, *lines = printed.out.splitlines()
    assert header == f"{'class':<17}  probability  uncertain  file" and len(lines) == len(rows) == 6
    starts = [0, *(header.index(name) for name in ("probability", "uncertain", "file"))]
    for line, row in zip(lines, rows, strict=True):
        cells = [line[i:j].strip() for i, j in zip(starts, [*starts[1:], None], strict=True)]
        place = row.file + (f"[{row.index}]" if row.index else "")
        assert cells == [row.label, f"{row.probability:.3f}", "yes" if row.uncertain else "no", place]
    assert lines[-1].endswith("z.npy[1]")


@pytest.mark.parametrize(
    "quantiles, size, below",
    [
        ({"a": 1, "b": 1, "c": 1}, "0 of 3", "no class: most images of every class fit better"),
        ({}, "3 of 3", "any class: it tells nothing"),
        ({"a": 1}, "2 of 3", "b or c"),
    ],
)
def test_the_size_of_a_set_is_a_column_and_its_classes_stand_below(
    quantiles, size, below, bundle, images, tmp_path, capfd
):
    rule = {"method": "threshold", "coverage": 0.9, "quantiles": quantiles}
    path = bundle(training_images={}, prediction_sets=rule)
    assert predict(path, images / "a.png", images / "b.jpg") == 0
    header, *lines = capfd.readouterr().out.splitlines()
    assert header == "class  probability  uncertain  set     file" and len(lines) == 4
    assert [line[header.index("set") :] for line in lines[::2]] == [
        f"{size}  {images / name}" for name in ("a.png", "b.jpg")
    ]
    assert lines[1::2] == [f"  Prediction set: {below}."] * 2
    assert predict(path, images / "a.png", "--csv", tmp_path / "out.csv") == 0
    table = pd.read_csv(tmp_path / "out.csv")
    assert (table["set"][0], table.set_size[0]) == (below.partition(":")[0], int(size[0]))


def test_a_set_of_the_class_named_alone_takes_no_line(bundle, images, capfd):
    rule = {"method": "adaptive", "coverage": 0.9, "quantiles": dict.fromkeys("abc", 0.999)}
    assert predict(bundle(training_images={}, prediction_sets=rule), images / "a.png") == 0
    header, line = capfd.readouterr().out.splitlines()
    assert line[header.index("set") :] == f"1 of 3  {images / 'a.png'}"


def test_a_warning_stands_below_its_image(bundle, images, capfd):
    path = bundle(training_images={"colour": [0, 0, 0]})
    assert predict(path, images / "a.png", images / "b.jpg") == 0
    lines = capfd.readouterr().out.splitlines()[1:]
    assert [line.split()[-1] for line in lines[::2]] == [str(images / name) for name in ("a.png", "b.jpg")]
    assert all(line.startswith("  Warning: unlike the training images: colour ") for line in lines[1::2])


def test_a_path_where_nothing_is_does_not_stop_the_others(bundle, images, tmp_path, capfd):
    path, out = bundle(training_images={}), tmp_path / "out.csv"
    argv = [path, images / "a.png", images / "typo.png", images / "b.jpg"]
    assert predict(*argv) == 2
    printed = capfd.readouterr()
    assert [line.split()[-1] for line in printed.out.splitlines()[1:]] == [str(argv[1]), str(argv[3])]
    assert printed.err.splitlines() == [
        f"Not read: {argv[2]}: No such file or directory.",
        "Error: 1 of the images could not be read: see above.",
    ]
    assert predict(*argv, "--csv", out) == 2
    table = pd.read_csv(out)
    assert table["file"].tolist() == list(map(str, argv[1:]))
    assert table["warning"][1] == "not read: No such file or directory" and pd.isna(table["class"][1])


def test_the_line_of_a_csv_counts_one_image_in_numbers(bundle, images, tmp_path, capfd):
    path, out = bundle(training_images={}), tmp_path / "out.csv"
    assert predict(path, images / "a.png", "--csv", out) == 0
    label = pd.read_csv(out)["class"][0]
    assert capfd.readouterr().out == f"{out}: 1 image: 1 {label}, 0 uncertain, 0 with a warning.\n"


def test_csv_in_place_of_lines(bundle, images, tmp_path, capfd):
    np.save(images / "z.npy", np.zeros((2, 16, 16, 3), np.uint8))
    path, out = bundle("int8"), tmp_path / "out.csv"
    assert predict(path, images, "--csv", out, "--threads", 2) == 0
    printed = capfd.readouterr()
    table = pd.read_csv(out)
    rows = list(Predictor(path).rows([images]))
    assert table["class"].tolist() == [row.label for row in rows] and table["index"].tolist()[-2:] == [0, 1]
    assert np.allclose(table[["p a", "p b", "p c"]], [row.probs for row in rows], atol=1e-5)
    counts = ", ".join(f"{n} {name}" for name, n in Counter(table["class"]).most_common())
    assert printed.out == f"{out}: 5 images: {counts}, 0 uncertain, 0 with a warning.\n"
    note = "This .json knows nothing of the training images: unlike images are not noticed.\n"
    assert printed.err == note


def test_escapes_in_the_names_of_a_card_do_not_reach_the_terminal(bundle, images, tmp_path, capfd):
    names = [f"\x1b[3{k}m{name}\x07" for k, name in enumerate("abc")]
    path, out = bundle(classes=names, training_images={}), tmp_path / "out.csv"
    assert predict(path, images, "--csv", out) == 0 and predict(path, images) == 0
    printed = capfd.readouterr()
    assert "\x1b" not in printed.out + printed.err and "\\x1b[3" in printed.out.splitlines()[0]
    assert predict(path, images / "a\x1b[31m.png", images) == 2 and "\x1b" not in capfd.readouterr().err


def test_an_image_that_cannot_be_read_is_told_and_the_rest_is_predicted(bundle, images, tmp_path, capfd):
    (images / "b.jpg").write_bytes((images / "b.jpg").read_bytes()[:-30])
    path, out = bundle(training_images={}), tmp_path / "out.csv"
    assert predict(path, images, "--csv", out) == 2
    printed = capfd.readouterr()
    lines = printed.err.splitlines()
    assert lines[0].startswith(f"Not read: {images / 'b.jpg'}: image file is truncated")
    assert lines[1] == "Error: 1 of the images could not be read: see above."
    assert len(lines) == 2 and len(pd.read_csv(out)) == 3
    assert predict(path, images) == 2 and len(capfd.readouterr().out.splitlines()) == 3


def no_json(path):
    path.with_suffix(".json").unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[:1000])


def other(path):
    facts = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**facts, "sha256": "0"}))


BAD = {
    "no .json": (no_json, "s.json: No such file or directory"),
    "cut short": (cut, "s.tflite must be the file its .json was written for"),
    "another .json": (other, "s.tflite must be the file its .json was written for"),
    "not a .json": (lambda path: path.with_suffix(".json").write_text("{"), "s.json must be valid JSON"),
    "a picture": (lambda path: path.write_text("hello"), "s.tflite must be the file its"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("command", ["predict", "c-array"])
def test_bad_bundles_are_one_line_and_exit_code_2(bundle, images, tmp_path, capfd, case, command):
    path = bundle()
    spoil, text = BAD[case]
    spoil(path)
    more = [str(images), "--csv", str(tmp_path / "out.csv")] if command == "predict" else []
    if command == "c-array":
        more = ["--out", str(tmp_path / "c")]
    assert main([command, str(path), *more]) == 2
    printed = capfd.readouterr()
    assert printed.out == "" and printed.err.startswith("Error: ") and text in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "out.csv").exists() and not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    "argv, text",
    [
        (["{bundle}"], "the following arguments are required: IMAGE"),
        (["{bundle}", "{in}/nothing.png"], "nothing.png must be an image, a .npy file or a folder"),
        (["{bundle}", "{in}/empty"], "IMAGE must be an image, or a folder that holds any"),
        (["{bundle}", "{in}", "--csv", "{in}/no/out.csv"], "--csv must be a file in a folder that exists"),
        (["{bundle}", "{in}", "--csv", "{in}"], "--csv must be a file in a folder that exists"),
        (["{bundle}", "{in}", "--threads", "0"], "--threads must be positive. Got 0."),
    ],
)
def test_bad_arguments(bundle, images, capfd, argv, text):
    (images / "empty").mkdir()
    places = {"bundle": bundle(training_images={}), "in": images}
    assert predict(*(part.format(**places) for part in argv)) == 2
    printed = capfd.readouterr()
    assert text in printed.err and printed.err.count("\n") == 1
