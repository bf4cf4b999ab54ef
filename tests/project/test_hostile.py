"""Hostile input: exit code 2 and one line, or a right answer. By the hundred: benchmarks/hostile.py."""

import importlib.util
import itertools
import json
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path

import harmful_bytes
import harmful_commands
import harmful_files
import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from small_run import CLASSES, SHAPE

from kdtf.data.load import load
from kdtf.errors import UserError
from kdtf.predictor import BundleError, Predictor, Unusable, map_images, read_dicom, read_image
from kdtf.tflite.c_source import c_source
from kdtf.tflite.card import Card, read_card, runnable_card
from kdtf.web.student import student as page_entry

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def student(files, tmp_path_factory):
    """A small bundle of 16 px, three classes, in int8; the float32 one is beside it."""
    from kdtf.tflite.quantize import file_facts

    folder = tmp_path_factory.mktemp("bundle")
    for recipe in ("float32", "int8"):
        card = runnable_card(file_facts(files[recipe], recipe), len(CLASSES), SHAPE)
        path = folder / f"s_Student_{recipe}.tflite"
        path.write_bytes(files[recipe])
        path.with_suffix(".json").write_text(json.dumps({**card, "recipe": recipe}))
    return path


@pytest.fixture
def results(finished):
    harmful_files.RESULTS["folder"] = finished


@pytest.mark.parametrize("kind", harmful_files.KINDS)
def test_harmed_files_end_in_one_line_or_a_right_answer(kind, student, results, tmp_path):
    if not importlib.util.find_spec(module := harmful_files.NEEDS.get(kind, "kdtf")):
        pytest.skip(f"{module} is not installed")
    for i in range(2 if kind in ("npu", "export") else 6):  # these start a program for each
        rng = random.Random(f"test {kind} {i}")
        what, outcome = harmful_files.attempt(kind, tmp_path / f"{i}" / "w", student, rng)
        assert not (wrong := outcome.broken()), f"{what}: {wrong}"


# Command lines that nobody would type


@pytest.fixture(scope="module")
def laid_out(finished, student, tmp_path_factory):
    """What the lines name; the student is a smaller one than those of the run."""
    folder = tmp_path_factory.mktemp("lines") / "original"
    harmful_commands.lay_out(folder, finished)
    for suffix in (".tflite", ".json"):
        (folder / f"s_int8{suffix}").write_bytes(student.with_suffix(suffix).read_bytes())
    return folder


def given_in(laid_out, folder, argv, seconds=10.0, **how):
    folder.mkdir()
    with harmful_commands.laid_out(laid_out, folder / "w") as place:
        return harmful_commands.give(argv, place, seconds, trains=False, **how)


def test_every_command_is_drawn_and_no_line_leads_out():
    known = {name: harmful_commands.flags(own) for name, own in harmful_commands.parsers().items()}
    assert set(known) == set(harmful_commands.WORKING)
    assert {flag.name for flag in known[""]} >= {"--teachers", "--no-flip", "--config"}
    drawn = []

    @seed(0)
    @settings(max_examples=500, database=None, deadline=None)
    @given(argv=harmful_commands.lines(known))
    def draw(argv):
        drawn.append(argv)
        assert all(map(harmful_commands.is_kept_in, argv)), argv
        for flag in harmful_commands.CAPPED:
            values = [argv[i + 1] for i, token in enumerate(argv[:-1]) if token == flag]
            values += [token.partition("=")[2] for token in argv if token.startswith(f"{flag}=")]
            assert not any(len(value) > 2 and value.isdigit() for value in values), argv

    draw()
    assert {argv[0] for argv in drawn if argv} >= set(known) - {""}
    names = {flag.name for own in known.values() for flag in own}
    assert len({token.partition("=")[0] for argv in drawn for token in argv} & names) > len(names) / 3


def test_any_command_line_ends_in_a_code_of_ours(laid_out, tmp_path):
    known = {name: harmful_commands.flags(own) for name, own in harmful_commands.parsers().items()}
    for name in ("npu", "export", "serve"):  # start processes that take seconds
        del known[name]
    known = {name: [flag for flag in own if flag.name != "--jobs"] for name, own in known.items()}  # as well
    count = itertools.count()

    @seed(16)
    @settings(
        max_examples=40,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=HealthCheck,
    )
    @given(argv=harmful_commands.lines(known))
    def give(argv):
        line = given_in(laid_out, tmp_path / f"{next(count)}", argv)
        assert not (wrong := line.broken()), f"{argv}: {wrong}"

    give()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda argv: 1 / 0, "exit code 99: Traceback"),
        (lambda argv: time.sleep(600), ""),  # idle, and ends when it is told to
        (lambda argv: (signal.signal(signal.SIGTERM, signal.SIG_IGN), time.sleep(600)), "exit code -9"),
        (lambda argv: bytearray(b"1") * (3 << 30), "exit code -9"),
        (lambda argv: os.abort(), "exit code -6"),
        (lambda argv: sys.exit(143), "exit code 143, and nobody stopped it"),
        (lambda argv: Path("..", "stray").touch(), "left ['stray']"),
        (lambda argv: sys.exit(2), "not one line: "),
    ],
    ids=["traceback", "idle", "hang", "memory", "abort", "unasked", "stray", "silent"],
)
def test_a_fault_of_a_command_is_seen(fault, reason, laid_out, tmp_path, monkeypatch):
    from kdtf.cli import commands

    waits = reason in ("", "exit code -9")  # the others end by themselves, on a busy machine a bit later
    monkeypatch.setattr(harmful_commands, "IDLE", 0.5 if waits else 10.0)
    monkeypatch.setattr(harmful_commands, "LATE", 1.0)
    monkeypatch.setattr(harmful_commands, "RUNS", ())
    monkeypatch.setitem(commands.COMMANDS, "bench", fault)
    (tmp_path / "t").mkdir()
    with harmful_commands.laid_out(laid_out, tmp_path / "t" / "w") as place:
        line = harmful_commands.give(["bench"], place, 10.0)
    broken = line.broken()
    assert broken.startswith(reason) if reason else broken == "" and line.code == 143


GOOD = harmful_bytes.header((24, 8, 8, 3)) + bytes(24 * 8 * 8 * 3)
BY_HAND = {
    "a pickle": harmful_bytes.pickled(),
    "10^12 images": harmful_bytes.header((10**12, 8, 8, 3)) + b"xx",
    "more bytes than there are numbers for": harmful_bytes.header((2**62, 2**62, 4)) + b"xx",
    "a negative side": GOOD.replace(b"(24, 8, 8, 3)", b"(-4, 8, 8, 3)"),
    "strings": harmful_bytes.header((24, 8, 8, 3), "<U9") + bytes(24 * 8 * 8 * 3 * 36),
    "a header that calls": GOOD.replace(b"(24, 8, 8, 3)", b"__import__(1)"),
    "a header without end": GOOD[:11] + b"(" * 65000,
}


@pytest.mark.parametrize("name", BY_HAND)
def test_arrays_made_to_hurt(name, student, tmp_path):
    folder = tmp_path / "w"
    (folder / "out").mkdir(parents=True)
    data = harmful_files.arrays(folder)
    (data / "X_train.npy").write_bytes(BY_HAND[name])
    outcome = harmful_files.obey(["audit", "--data", "data", "--results", "out"], folder, folder / "out")
    assert not outcome.broken() and outcome.code == 2 and "X_train.npy" in outcome.error
    ours = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # it was forked with all this
    assert outcome.memory < 2**30 + ours and not (folder / "pickle-ran").exists()
    (folder / "image.npy").write_bytes(BY_HAND[name])
    argv = ["predict", str(student), "image.npy", "--csv", "out/p.csv"]
    outcome = harmful_files.obey(argv, folder, folder / "out")
    assert not outcome.broken() and outcome.code == 2 and "Not read" in outcome.error


NAMES = [f"{split}_{what}.npy" for split in ("train", "val", "test") for what in ("images", "labels")]
ARCHIVES = {
    "zeros that unpack to 1 GiB": lambda: harmful_bytes.bomb(dict.fromkeys(NAMES, 9) | {NAMES[0]: 1 << 30}),
    "paths that lead outside": lambda: harmful_bytes.bomb({f"../../{name}": 9 for name in NAMES}),
    "absolute paths": lambda: harmful_bytes.bomb({f"/tmp/kdtf-{name}": 9 for name in NAMES}),
    "no array": lambda: harmful_bytes.bomb({"readme.txt": 9}),
    "a name of two lines": lambda: harmful_bytes.bomb({"X\nError: none.npy": 9}),  # the fuzzer's
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_made_to_hurt(name, tmp_path, monkeypatch):
    folder = tmp_path / "w"
    (folder / "out").mkdir(parents=True)
    (folder / "data.npz").write_bytes(ARCHIVES[name]())
    outcome = harmful_files.obey(["audit", "--data", "data.npz", "--results", "out"], folder, folder / "out")
    assert not outcome.broken() and outcome.code == 2
    assert sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()) < 2**27


@pytest.mark.parametrize("name", ["two\nlines", "a b 'c' \"d\"", "ümläut ☃ 影像", "-rf", "a\\b", "x" * 200])
def test_names_of_any_kind(name, student, tmp_path):
    folder = tmp_path / "w"
    (folder / "out").mkdir(parents=True)
    image = folder / "images" / name / f"{name}.png"
    image.parent.mkdir(parents=True)
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(image)
    for argv in (
        ["predict", str(student), "images", "--csv", "out/p.csv"],
        ["predict", str(student), "images"],
    ):
        outcome = harmful_files.obey(argv, folder, folder / "out")
        assert outcome.code == 0 and not outcome.broken(), outcome.error
    for split in ("train", "test"):
        for label in (name, "other"):
            place = folder / "tree" / split / label
            place.mkdir(parents=True)
            for i in range(5):
                values = np.random.default_rng(i).integers(0, 256, (12, 12), dtype=np.uint8)
                Image.fromarray(values).save(place / f"{i}.png")
    outcome = harmful_files.obey(["prepare", "tree", "--out", "out/F", "--size", "8"], folder, folder / "out")
    assert not outcome.broken() and (outcome.code == 0 or "class" in outcome.error), outcome.error


def test_a_link_is_not_a_way_out(student, tmp_path):
    """An output that is a link is replaced by the file, and what it led to stays as it was."""
    folder = tmp_path / "w"
    (folder / "out").mkdir(parents=True)
    (folder / "secret.txt").write_text("mine")
    (folder / "out" / "p.csv").symlink_to(folder / "secret.txt")
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(folder / "image.png")
    argv = ["predict", str(student), "image.png", "--csv", "out/p.csv"]
    assert not harmful_files.obey(argv, folder, folder / "out").broken()
    assert (folder / "secret.txt").read_text() == "mine"


def lambda_student(path, flag):
    """A `.keras` whose layer runs Python when loaded."""

    def runs(x):
        open(flag, "w").close()
        return x

    pixels = keras.Input((8, 8, 1))
    keras.Model(pixels, keras.layers.Lambda(runs)(pixels)).save(path)


def test_a_lambda_in_a_student_is_refused(tmp_path):
    from kdtf.models.students import load_student

    lambda_student(tmp_path / "student.keras", tmp_path / "ran")
    (tmp_path / "ran").unlink()  # building the model ran it
    with pytest.raises(UserError, match="must be a student as kdtf saves it"):
        load_student(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
def test_harmed_weights_are_refused_in_one_line(suffix, tmp_path):
    from kdtf.models.registry import row_of
    from kdtf.models.teachers import build_base
    from kdtf.models.weights import WeightSource

    good = tmp_path / f"good{suffix}"
    network = row_of("cnn5").build(input_shape=(32, 32, 3), weights=None)
    (network.save_weights if suffix == ".weights.h5" else network.save)(good)
    assert build_base("cnn5", (32, 32, 1), WeightSource(str(good))).pretrained
    for i in range(8):
        bad = tmp_path / f"{i}{suffix}"
        bad.write_bytes(harmful_bytes.harm(good.read_bytes(), random.Random(i))[1])
        try:
            build_base("cnn5", (32, 32, 1), WeightSource(str(bad)))
        except UserError as error:
            assert "\n" not in str(error) and "--weights" in str(error)


# Hypothesis: what may come in, by its structure


numbers = hnp.arrays(
    st.one_of(
        hnp.integer_dtypes(), hnp.unsigned_integer_dtypes(), hnp.floating_dtypes(), hnp.boolean_dtypes()
    ),
    hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4),
)


@QUICK
@given(images=numbers, labels=numbers)
def test_any_pair_of_arrays_is_loaded_or_told(images, labels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    for split in ("train", "test"):
        np.save(folder / f"X_{split}.npy", images)
        np.save(folder / f"y_{split}.npy", labels)
    try:
        data = load(folder, folder / "work")
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert data.train.pixels.dtype == np.uint8 and len(data.train.pixels) + len(data.val.pixels) == len(
            images
        )


@QUICK
@given(array=numbers)
def test_any_array_is_an_image_or_told(array, tmp_path_factory):
    path = tmp_path_factory.mktemp("any") / "a.npy"
    np.save(path, array)
    try:
        images, _ = map_images(path)
    except Unusable as reason:
        assert str(reason) and "\n" not in str(reason)
    else:
        assert images.ndim == 4 and images.shape[-1] in (1, 3)


@QUICK
@given(
    content=st.binary(max_size=300),
    start=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"BM"]),
)
def test_any_bytes_are_an_image_or_told(content, start, tmp_path_factory):
    path = tmp_path_factory.mktemp("any") / "a.png"
    path.write_bytes(start + content)
    with pytest.raises(Unusable) as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@QUICK
@given(data=st.data())
def test_any_card_is_used_or_told(data, student, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    card = json.loads(student.with_suffix(".json").read_text())
    place = data.draw(st.sampled_from([*Card.__dataclass_fields__, "input", "thresholds", "temperature"]))
    card[place] = data.draw(values)
    (folder / "s.tflite").write_bytes(student.read_bytes())
    (folder / "s.json").write_text(json.dumps(card))
    try:
        predictor = Predictor(folder / "s.tflite")
        (row,) = predictor.rows([image(folder)])
        assert row.error == "" and 0 <= row.probability <= 1
    except BundleError as error:
        assert "\n" not in str(error)
    try:
        _, entry = page_entry(folder / "s.tflite", 1)  # as `page` reads it
        assert all(
            isinstance(text, str) for text in (*entry["card"]["facts"].values(), *entry["card"]["limits"])
        )
        c_source(b"", read_card(folder / "s.json"))  # as `c-array` does
    except UserError as error:
        assert "\n" not in str(error)


def image(folder):
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(folder / "i.png")
    return folder / "i.png"


FINDINGS = sorted((Path(__file__).parent / "findings").iterdir())


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: path.name)
def test_what_the_fuzzer_found_stays_mended(path):
    """Inputs kept from `benchmarks/fuzz.py`, which name their target."""
    read = {"dicom": read_dicom, "image": read_image}[path.name.partition("-")[0]]
    with pytest.raises(Unusable) as caught:
        read(path)
    assert "\n" not in str(caught.value)
