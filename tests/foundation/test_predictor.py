"""The predictor as a device runs it: from files, alone, and seeing what training saw."""

import hashlib
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_run import SHAPE

from kdtf import predictor as module
from kdtf.data.load import load
from kdtf.data.provenance import prepared
from kdtf.data.typical import layout, typical
from kdtf.predictor import (
    BundleError,
    Predictor,
    open_interpreter,
    patterns_of,
    printed,
    read_bundle,
    read_image,
    saved,
    set_in_words,
    statistics,
    tempered,
    to_pixels,
)
from kdtf.prepare import PrepareConfig, prepare
from kdtf.progress import Progress

SIDE = SHAPE[0]
RNG = np.random.default_rng(0)


def noise(*shape, kind=np.uint8, top=256):
    return RNG.integers(0, top, shape).astype(kind)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def nasty(folder):
    """Images of every mode, format and turn that training takes."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    wide, square = (20, 31), (24, 24)
    images = {
        "1.png": Image.fromarray(noise(*wide) > 99),
        "L.png": Image.fromarray(noise(*wide)),
        "LA.png": Image.fromarray(noise(*wide, 2)),
        "P.png": Image.fromarray(noise(*wide, 3)).convert("P", palette=Image.Palette.ADAPTIVE, colors=9),
        "RGB.bmp": Image.fromarray(noise(*wide, 3)),
        "RGBA.png": Image.fromarray(noise(*square, 4)),
        "CMYK.tiff": Image.fromarray(noise(*wide, 4), mode="CMYK"),
        "YCbCr.jpg": Image.fromarray(noise(*wide, 3)).convert("YCbCr"),
        "I16.png": Image.fromarray(noise(*wide, kind=np.uint16, top=65536)),
        "I16B.tiff": Image.fromarray(noise(*wide, kind=np.uint16, top=4096).astype(">u2")),
        "I.tiff": Image.fromarray(noise(*wide, kind=np.int32, top=3000) - 1000),
        "F.tiff": Image.fromarray(noise(*wide, kind=np.float32)),
        "tiny.png": Image.fromarray(noise(3, 5)),
    }
    folder.mkdir(parents=True)
    for name, image in images.items():
        image.save(folder / name)
    for name in ("turned.jpg", "turned.png", "turned.tiff"):
        Image.fromarray(noise(*wide, 3)).save(folder / name, exif=exif)
    transparent = Image.fromarray(noise(*wide, 3)).convert("P", palette=Image.Palette.ADAPTIVE, colors=9)
    transparent.save(folder / "transparent.png", transparency=1)
    return folder


def dicom(path, **elements):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.pixels import set_pixel_data

    slice_ = pydicom.Dataset()
    slice_.file_meta = pydicom.dataset.FileMetaDataset()
    slice_.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    slice_.SOPClassUID, slice_.PatientName = pydicom.uid.CTImageStorage, "Doe^Jane"
    set_pixel_data(slice_, noise(20, 31, kind=np.uint16, top=4096), "MONOCHROME2", 12)
    for name, value in {"RescaleSlope": 1, "RescaleIntercept": -1024, **elements}.items():
        setattr(slice_, name, value)
    slice_.save_as(path, enforce_file_format=True)


# What training saw


@pytest.mark.parametrize(
    "size, settings",
    [
        (SIDE, {}),
        (SIDE, {"keep_aspect": True}),
        (SIDE, {"window": (400.0, 900.0)}),
        (24, {"keep_aspect": True}),  # and the run makes 16 px of them
    ],
)
def test_any_file_gives_what_its_training_array_gives(tmp_path, bundle, size, settings):
    """Through prepare, load and the card on one side, from the file alone on the other."""
    nasty(tmp_path / "in" / "train" / "a")
    dicom(tmp_path / "in" / "train" / "a" / "ct.dcm", WindowCenter=40, WindowWidth=400)
    dicom(tmp_path / "in" / "train" / "a" / "1.2.840.7", PhotometricInterpretation="MONOCHROME1")
    for folder in ("train/b", "val/a", "val/b", "test/a", "test/b"):
        save(tmp_path / "in" / folder / "0.png", noise(20, 31))
    out = tmp_path / "out"
    prepare(tmp_path / "in", PrepareConfig(out=str(out), size=size, **settings), Progress())
    loaded = load(out, tmp_path / "work", image_size=SIDE)
    made = prepared(out)
    assert made["keep_aspect"] == settings.get("keep_aspect", False)
    predictor = Predictor(bundle(input={"prepared": made}))
    expected = predictor.calibrated(predictor(loaded.train.pixels))
    rows = list(predictor.rows([tmp_path / "in" / "train"]))
    names = [line.split(",")[1] for line in (out / "files_train.csv").read_text().splitlines()[1:]]
    by_name = {str(Path(row.file).relative_to(tmp_path / "in")): row for row in rows}
    assert len(rows) == len(names) == 20
    for name, probs in zip(names, expected, strict=True):
        assert by_name[name].error == "" and np.array_equal(by_name[name].probs, probs), name


def test_a_grey_student_sees_grey(tmp_path):
    """All modes again, as one channel: `prepare --grey` and the predictor's own decoding, byte by byte."""
    nasty(tmp_path / "in" / "train" / "a")
    for folder in ("train/b", "test/a", "test/b"):
        save(tmp_path / "in" / folder / "0.png", noise(20, 31))
    prepare(tmp_path / "in", PrepareConfig(out=str(tmp_path / "out"), size=SIDE, grey=True), Progress())
    pixels = np.load(tmp_path / "out" / "X_train.npy")
    for i, path in enumerate(sorted((tmp_path / "in" / "train" / "a").iterdir())):
        got = module.to_pixels(module.read_image(path).image, (SIDE, SIDE, 1))
        assert np.array_equal(got, pixels[i]), path.name


def test_chest_ct_files_give_what_the_shared_arrays_give(shared_data, tmp_path):
    from kdtf.models.students import build_student, exported
    from kdtf.tflite.card import runnable_card
    from kdtf.tflite.quantize import convert, file_facts

    student = exported(build_student("cnn3", (32, 32, 3), 4, momentum=0.5, dropout=0.5, seed=0))
    content = convert(student, "float32", np.zeros((1, 32, 32, 3), np.float32))
    card = runnable_card(file_facts(content, "float32"), 4, (32, 32, 3))
    card["training_images"] = typical(np.load(shared_data / "chest_ct_32" / "X_train.npy"))
    (tmp_path / "s.tflite").write_bytes(content)
    (tmp_path / "s.json").write_text(json.dumps(card))
    source, predictor = shared_data / "chest_ct", Predictor(tmp_path / "s.tflite")
    rows = list(predictor.rows([source / "test"]))
    added = set((source / "SUPPLEMENT.txt").read_text().splitlines())  # behind the others in the arrays
    rows.sort(key=lambda row: Path(row.file).relative_to(source / "test").as_posix() in added)
    pixels = np.load(shared_data / "chest_ct_32" / "X_test.npy")
    assert len(rows) == 315 and not any(row.error or row.warning for row in rows)
    assert np.array_equal(predictor.calibrated(predictor(pixels)), [row.probs for row in rows])


# Arrays in files


def test_npy_files_of_every_form(tmp_path, bundle):
    predictor = Predictor(bundle())
    pixels = noise(5, *SHAPE)
    expected = predictor.calibrated(predictor(pixels))
    forms = {
        "uint8": pixels,
        "float": pixels.astype(np.float32),
        "unit": (pixels / 255).astype(np.float64),
        "wide": pixels.astype(">i4"),
    }
    for name, array in forms.items():
        np.save(tmp_path / f"{name}.npy", array)
        rows = list(predictor.rows([tmp_path / f"{name}.npy"]))
        assert [row.index for row in rows] == [0, 1, 2, 3, 4]
        assert np.allclose([row.probs for row in rows], expected, atol=1e-6), name
    np.save(tmp_path / "one.npy", pixels[0])
    (row,) = predictor.rows([tmp_path / "one.npy"])
    assert np.allclose(row.probs, expected[0], atol=1e-6)
    grey = pixels[..., 0]
    np.save(tmp_path / "grey.npy", grey)
    rows = list(predictor.rows([tmp_path / "grey.npy"]))
    repeated = predictor.calibrated(predictor(np.repeat(grey[..., None], 3, axis=3)))
    assert np.allclose([row.probs for row in rows], repeated, atol=1e-6)
    large = noise(40, 30)
    np.save(tmp_path / "large.npy", large)
    save(tmp_path / "large.png", large)
    array, image = predictor.rows([tmp_path / "large.npy", tmp_path / "large.png"])
    assert np.array_equal(array.probs, image.probs)


@pytest.mark.parametrize(
    "array, reason",
    [
        (np.zeros((2, 16, 16, 4), np.uint8), r"an array of shape \(2, 16, 16, 4\), not \(N, H, W\)"),
        (np.zeros(9, np.uint8), r"an array of shape \(9,\)"),
        (np.zeros((0, 16, 16), np.uint8), "not one array of numbers, or an empty one"),
        (np.array([["a"]]), "not one array of numbers"),
        (np.full((2, 16, 16), np.nan), "NaN or infinity"),
        (np.full((2, 16, 16), -1024.0), r"numbers from -1024 to -1024, not 0\.\.255 or, in floats, 0\.\.1"),
        (np.full((2, 16, 16), 4095, np.uint16), "numbers from 4095 to 4095"),
        (np.array([{}], dtype=object), "no .npy file of numbers that can be read: .*Python objects"),
    ],
)
def test_npy_files_that_are_refused(tmp_path, bundle, array, reason):
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    (row,) = Predictor(bundle()).rows([tmp_path / "x.npy"])
    assert row.label == "" and not len(row.probs)
    assert re.search(reason, row.error)


# Files and folders


def test_folders_are_walked_in_order_and_what_is_no_image_is_left_out(tmp_path, bundle):
    path = bundle()
    root = tmp_path / "in"
    for name in ("b.png", "a.JPG", "z/c.bmp", ".hidden.png", ".git/d.png"):
        save(root / name.lower(), noise(20, 20))
    (root / "a.jpg").rename(root / "a.JPG")
    dicom(root / "IM-0001")
    np.save(root / "pair.npy", noise(2, 16, 16))
    (root / "README").write_text("no image")
    (root / "notes.txt").write_text("no image")
    os.mkfifo(root / "pipe.png")
    rows = list(Predictor(path).rows([root, root / "b.png"]))
    names = [(Path(row.file).relative_to(root).as_posix(), row.index) for row in rows]
    assert names == [("IM-0001", 0), ("a.JPG", 0), ("b.png", 0), ("pair.npy", 0), ("pair.npy", 1),
                     ("z/c.bmp", 0), ("b.png", 0)]  # fmt: skip
    assert np.array_equal(rows[2].probs, rows[-1].probs)
    assert len(list(Predictor(path).rows(root / "b.png"))) == 1  # one source as it is
    with pytest.raises(BundleError, match=r"nothing\.png must be an image, .*Nothing is there\."):
        next(Predictor(path).rows([root / "nothing.png", root / "nor.png"]))
    *others, missing, last = Predictor(path).rows([root, root / "nothing.png", root / "b.png"])
    assert len(others) == 6 and missing.error == "No such file or directory" and not last.error


def test_an_image_that_cannot_be_read_leaves_the_others_alone(tmp_path, bundle):
    root = tmp_path / "in"
    for i in range(100):  # more than a batch
        save(root / f"{i:03}.png", noise(20, 20))
    (root / "050.png").write_bytes((root / "050.png").read_bytes()[:90])
    (root / "070.png").write_text("hello")
    rows = list(Predictor(bundle()).rows([root]))
    assert len(rows) == 100
    bad = {Path(row.file).name: row.error for row in rows if row.error}
    assert bad == {"050.png": "image file is truncated", "070.png": "not a PNG, JPEG, TIFF or BMP image"}


def test_without_pydicom_a_dicom_file_says_so(tmp_path, bundle, monkeypatch):
    dicom(tmp_path / "a.dcm")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    (row,) = Predictor(bundle()).rows([tmp_path / "a.dcm"])
    assert row.error == "DICOM is read by pydicom, which is missing: pip install pydicom"


def test_lines_for_a_screen_are_not_wider_than_it(tmp_path, bundle):
    root = tmp_path / ("a" * 60) / ("b" * 30)
    root.mkdir(parents=True)
    save(root / "image.png", noise(20, 20))
    predictor = Predictor(bundle(training_images={"colour": [0, 0, 0], "brightness": [0, 0, 0]}))
    for width in (50, 80):
        [(_, text)] = printed(predictor.rows([root]), predictor.classes, width)
        lines = text.splitlines()
        assert max(map(len, lines)) <= width and len(lines) > 2
        assert lines[1].endswith("image.png") and "  \u2026" in lines[1]
    [(row, text)] = printed(predictor.rows([root]), predictor.classes)
    assert text.splitlines()[1].endswith(f"  {row.file}") and len(text.splitlines()) == 3


# What is said of an image


def test_calibration_and_thresholds_known_values(bundle):
    half = tempered(np.array([[0.8, 0.2]]), 2.0)  # odds of 4 become odds of 2
    assert np.allclose(half, [[2 / 3, 1 / 3]])
    predictor = Predictor(bundle(temperature=2.0, thresholds={"a": 0.6, "b": 0.3}))
    assert np.allclose(predictor.calibrated(np.array([[0.8, 0.2]])), half)
    probs = np.array([[0.59, 0.31, 0.1], [0.6, 0.3, 0.1], [0.3, 0.4, 0.3], [0.3, 0.3, 0.4]])
    assert predictor.uncertain(probs).tolist() == [True, False, False, False]  # c has no threshold
    assert predictor.uncertain(np.array([[0.1, 0.45, 0.45], [0.34, 0.33, 0.33]])).tolist() == [True, True]
    assert Predictor(bundle()).uncertain(np.array([[0.5, 0.5, 0], [0.2, 0.2, 0.6]])).tolist() == [True, False]


@pytest.mark.parametrize("window, warned", [({}, True), ({"WindowCenter": 40, "WindowWidth": 400}, False)])
def test_a_dicom_file_without_a_window_is_warned_of(window, warned, bundle, tmp_path):
    dicom(tmp_path / "a.dcm", **window)
    (row,) = Predictor(bundle()).rows(tmp_path / "a.dcm")
    assert ("no window in the file" in row.warning) == warned and not row.error


def set_rule(method, **quantiles):
    return {"method": method, "coverage": 0.9, "quantiles": quantiles}


def test_prediction_sets_known_values(bundle):
    """At 0.3 an image is inside for a; b has no quantile, as a class that val has too few images of."""
    probs = np.array([[0.3, 0.1, 0.6], [0.29, 0.01, 0.7], [0.5, 0.2, 0.3]])
    sets = Predictor(bundle(prediction_sets=set_rule("threshold", a=0.3, c=0.65))).prediction_sets(probs)
    assert sets == [("a", "b"), ("b", "c"), ("a", "b")]
    sets = Predictor(bundle(prediction_sets=set_rule("adaptive", a=0.9, c=0.5))).prediction_sets(probs)
    assert sets == [("b", "c"), ("b", "c"), ("a", "b", "c")]  # c and b are no likelier than c: 0.5
    for card in ({}, {"prediction_sets": {}}, {"prediction_sets": None}):
        assert Predictor(bundle(**card)).prediction_sets(probs) == [None] * 3


@pytest.mark.parametrize(
    "names, words",
    [((), "no class"), (("b",), "b"), (("a", "c"), "a or c"), (("a", "b", "c"), "any class")],
)
def test_a_set_in_words(names, words):
    assert set_in_words(names, ("a", "b", "c")) == words
    assert set_in_words(names, ("a", "b", "c"), why=True).partition(":")[0] == words
    assert set_in_words(("a", "b", "c"), tuple("abcd")) == "a, b or c"
    assert set_in_words(("a",), ("a",)) == "a"  # not "any class"


def test_a_row_has_the_set_of_its_probabilities(tmp_path, bundle):
    np.save(tmp_path / "x.npy", noise(70, *SHAPE))  # more than a batch
    (tmp_path / "y.png").write_text("no image")
    predictor = Predictor(bundle("int8", prediction_sets=set_rule("adaptive", a=0.9, b=0.6, c=0.3)))
    *rows, unread = predictor.rows([tmp_path / "x.npy", tmp_path / "y.png"])
    sets = predictor.prediction_sets(np.array([row.probs for row in rows]))
    assert [row.prediction_set for row in rows] == sets and len(set(sets)) > 1
    assert unread.error and unread.prediction_set is None
    record = rows[0].record(predictor.classes)
    assert (record["set"], record["set_size"]) == (set_in_words(sets[0], predictor.classes), len(sets[0]))


def test_statistics_known_values():
    pixels = np.zeros((2, 2, 2, 3), np.uint8)
    pixels[0, 0] = 200  # half white-ish, grey
    pixels[1] = (90, 60, 30)
    values = {name: numbers.tolist() for name, numbers in statistics(pixels, patterns_of({})).items()}
    assert values.pop("layout") == pytest.approx([100, 100])  # no pattern is known
    assert values == {"brightness": [100, 60], "contrast": [100, 0], "colour": [0, 60]}


def test_images_unlike_the_training_images_are_warned_of(tmp_path, bundle):
    training = (noise(300, *SHAPE[:2]) // 2 + 40)[..., None].repeat(3, axis=3)  # grey
    known = typical(training)
    assert known["colour"] == [0, 0, 0] and known["brightness"][0] < known["brightness"][2]
    predictor = Predictor(bundle(training_images=known))
    assert not any(predictor.unlike(training))
    photo = noise(1, *SHAPE)
    black = np.zeros((1, *SHAPE), np.uint8)
    warning = predictor.unlike(photo)[0]
    assert warning.startswith("unlike the training images: brightness 1") and ", colour 1" in warning
    low, _, high = known["brightness"]
    expected = f"unlike the training images: brightness 0 (theirs {low:.0f} to {high:.0f}), contrast 0 ("
    assert predictor.unlike(black)[0].startswith(expected)
    assert Predictor(bundle()).unlike(black) == [""]  # a card of an older kdtf


def test_another_modality_of_the_same_grey_levels_is_often_warned_of(shared_data, bundle):
    """A CT student given chest X-rays: 296 of 624, none of them by brightness, contrast or colour."""
    ct = {
        split: np.load(shared_data / "chest_ct_32" / f"X_{split}.npy") for split in ("train", "val", "test")
    }
    patterns, unexplained = layout(ct["train"], ct["val"])
    known = typical(ct["train"]) | {"layout": unexplained}
    predictor = Predictor(bundle(training_images=known, training_layout=patterns))
    files = sorted((shared_data / "chest_xray_pneumonia" / "test").glob("*/*"))[::3]
    xrays = np.stack([to_pixels(read_image(file).image, (32, 32, 3)) for file in files])
    warnings = predictor.unlike(xrays)
    assert np.mean([bool(text) for text in warnings]) > 0.4
    assert all(text.startswith("unlike the training images: layout ") for text in warnings if text)
    assert np.mean([bool(text) for text in predictor.unlike(ct["test"])]) < 0.03


def test_tiny_images_and_12_bits_in_16_are_warned_of(tmp_path, bundle):
    predictor = Predictor(bundle())
    save(tmp_path / "tiny.png", noise(9, 40))
    save(tmp_path / "dark.png", noise(20, 20, kind=np.uint16, top=4000) % 3000 + 999)
    tiny, dark = predictor.rows([tmp_path / "tiny.png", tmp_path / "dark.png"])
    assert tiny.warning == "tiny: 40 x 9 px, enlarged to 16 x 16"
    assert dark.warning.startswith("16 bits, but nothing above 3")


def test_rows_become_csv_whole_or_not_at_all(tmp_path, bundle):
    save(tmp_path / "in" / "a.png", noise(20, 20))
    (tmp_path / "in" / "b.png").write_text("hello")
    save(tmp_path / "in" / os.fsdecode(b"c\xff,\n.png"), noise(20, 20))
    predictor = Predictor(bundle())
    rows = list(saved(predictor.rows([tmp_path / "in"]), predictor.classes, tmp_path / "out.csv"))
    import pandas as pd

    table = pd.read_csv(tmp_path / "out.csv")
    columns = ["file", "index", "class", "probability", "uncertain", "set", "set_size", "warning"]
    columns += ["p a", "p b", "p c"]
    assert list(table.columns) == columns and len(table) == len(rows) == 3
    assert table[["set", "set_size"]].isna().all(axis=None)  # a card of before there were sets
    assert table.warning[1] == "not read: not a PNG, JPEG, TIFF or BMP image" and np.isnan(table["p a"][1])
    assert table.loc[0, ["p a", "p b", "p c"]].astype(float).tolist() == pytest.approx(rows[0].probs, 1e-5)
    for _ in saved(predictor.rows([tmp_path / "in"]), predictor.classes, tmp_path / "cut.csv"):
        break
    assert not list(tmp_path.glob("cut.csv*"))


# Bundles that cannot be used


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": 3},
        {"classes": ["a", 1]},
        {"input": {"height": "16"}},
        {"input": {"height": None}},
        {"temperature": 0},
        {"temperature": "hot"},
        {"thresholds": [0.5]},
        {"thresholds": {"a": None}},
        {"prediction_sets": [0.9]},
        {"prediction_sets": {"method": "threshold"}},
        {"prediction_sets": {"method": "random", "coverage": 0.9, "quantiles": {}}},
        {"prediction_sets": {"method": "adaptive", "coverage": 1, "quantiles": {}}},
        {"prediction_sets": {"method": "adaptive", "coverage": 0.9, "quantiles": {"a": None}}},
        {"prediction_sets": {"method": "adaptive", "coverage": 0.9, "quantiles": [0.5]}},
        {"prediction_sets": {"method": "adaptive", "coverage": 0.9, "quantiles": {"a": 1.5}}},
        {"training_images": {"brightness": [1, 2]}},
        {"training_layout": "AAAA"},
        {"training_layout": "not base64!"},
        {"training_layout": [0.5]},
        {"sha256": None},
    ],
)
def test_a_card_of_other_types_is_told(bundle, changes):
    with pytest.raises(BundleError, match=r"s\.json must describe a kdtf student\. It does not\."):
        read_bundle(bundle(**changes))


@pytest.mark.parametrize("changes", [{"classes": ["a", "b"]}, {"input": {"height": 32}}])
def test_a_card_of_another_network_is_told(bundle, changes):
    with pytest.raises(BundleError, match=r"must have the input and classes its \.json states"):
        Predictor(bundle(**changes))


def test_a_model_that_is_cut_short_is_told_in_one_line(bundle):
    path = bundle()
    for content in (path.read_bytes()[:2000], b"", b"TFL3" * 99):
        path.write_bytes(content)
        facts = json.loads(path.with_suffix(".json").read_text())
        facts["sha256"] = hashlib.sha256(content).hexdigest()
        path.with_suffix(".json").write_text(json.dumps(facts))
        with pytest.raises(BundleError, match=r"must be a TFLite model\. It cannot be read: ") as caught:
            Predictor(path)
        assert "\n" not in str(caught.value)


def test_a_model_that_fails_when_it_runs_is_told_in_one_line(bundle):
    """Its weights are gone, of which LiteRT speaks at the first image. Found by `benchmarks/hostile.py`."""
    from ai_edge_litert.tools import flatbuffer_utils

    path = bundle()
    parsed = flatbuffer_utils.convert_bytearray_to_object(bytearray(path.read_bytes()))
    (graph,) = parsed.subgraphs
    convolution = next(operator for operator in graph.operators if len(operator.inputs) == 3)
    graph.tensors[convolution.inputs[1]].buffer = 0  # the one that holds nothing
    model = flatbuffer_utils.convert_object_to_bytearray(parsed)
    with pytest.raises(BundleError, match=r"^s\.tflite must be a TFLite model\. It cannot .* lacks data\.$"):
        open_interpreter(bytes(model), "s.tflite")
