"""Bad input as a user meets it: one line on stderr, exit code 2, no traceback, nothing half-written."""

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kdtf.cli.entry import main
from kdtf.data import phantom

ROOT = Path(__file__).parents[2]


def write_arrays(folder):
    """A small sound data folder."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for split, count in (("train", 20), ("val", 8), ("test", 8)):
        np.save(folder / f"X_{split}.npy", rng.integers(0, 256, (count, 32, 32), dtype=np.uint8))
        np.save(folder / f"y_{split}.npy", np.arange(count) % 2)
    return folder


@pytest.fixture
def arrays(tmp_path):
    """One for a test to spoil."""
    return write_arrays(tmp_path / "data")


def change(name, function):
    """Spoil an array of the folder."""

    def spoil(folder):
        np.save(folder / name, function(np.load(folder / name)))

    return spoil


def truncate(folder):
    content = (folder / "X_train.npy").read_bytes()
    (folder / "X_train.npy").write_bytes(content[:-100])


def pickled(folder):
    np.save(folder / "X_train.npy", np.array([{}, 1], dtype=object), allow_pickle=True)


def with_pixel(value):
    def put(x):
        x = x.astype("float32")
        x[0, 0, 0] = value
        return x

    return put


ONE_HOT = np.eye(2)[np.arange(20) % 2]
BAD_DATA = {
    "missing": (lambda folder: (folder / "X_test.npy").unlink(), "X_test.npy"),
    "truncated": (truncate, "X_train.npy"),
    "pickle": (pickled, "X_train.npy"),
    "rank": (change("X_train.npy", lambda x: x[0]), "X_train.npy must be"),
    "count": (change("y_train.npy", lambda y: y[:-1]), "y_train.npy"),
    "nan": (change("X_train.npy", with_pixel(np.nan)), "X_train.npy must be"),
    "inf": (change("X_val.npy", with_pixel(np.inf)), "X_val.npy must be"),
    "standardised": (change("X_train.npy", with_pixel(-1.5)), "X_train.npy must be"),
    "empty": (change("X_test.npy", lambda x: x[:0]), "X_test.npy must be"),
    "absent class": (change("y_train.npy", lambda y: 2 * y), "y_train.npy must"),
    "one-hot sums": (change("y_train.npy", lambda y: ONE_HOT * 0.9), "y_train.npy"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data(arrays, tmp_path, capsys, case):
    spoil, named = BAD_DATA[case]
    spoil(arrays)
    results = tmp_path / "results"
    assert main(["--data", str(arrays), "--results", str(results)]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert printed.err.startswith("Error: ") and named in printed.err and "Got" in printed.err
    assert [p for p in results.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize("command", [[], ["audit"]], ids=["run", "audit"])
def test_leakage_stops_where_the_user_asked_for_it(arrays, tmp_path, capsys, command):
    change("X_test.npy", lambda x: np.load(arrays / "X_train.npy")[: len(x)])(arrays)
    results = tmp_path / "results"
    assert main([*command, "--data", str(arrays), "--results", str(results), "--strict"]) == 3
    printed = capsys.readouterr()
    expected = "--strict: splits share images or patients. See audit.csv and audit_pairs.csv."
    assert printed.err.splitlines()[-1] == f"Stopped: {expected}" and printed.out == ""
    assert (results / "audit.csv").exists() and not (results / "summary.csv").exists()


@pytest.mark.parametrize(
    "argv, text",
    [
        (["--teachers", "vgg61"], "--teachers must be one of vgg16, vgg19, resnet"),
        (["--teachers", "vgg16", "densnet"], "Did you mean 'densenet'?"),
        (["--student", "cnn4"], "--student must be one of cnn3"),
        (["--recipes", "int9"], "Did you mean 'int8'?"),
        (
            ["--recipes", "int8-mixed"],
            "--recipes must be one of float32, float16, dynamic, int8, int16x8, int4",
        ),
        (
            ["--compress", "prune", "--student", "mobilenetv2"],
            "--student must be one of cnn3, cnn3-small, cnn5, baseline for --compress",
        ),
        (
            ["--compress", "prune", "--baseline", "squeezenet"],
            "--baseline must be one of cnn3, cnn3-small, cnn5, baseline for --compress",
        ),
        (["--loss", "kl"], "--loss must be one of kd"),
        (["--weights", "nowhere"], "--weights must be auto, imagenet, none, or an existing file or folder"),
        (["--alpha", "1.01"], "--alpha must be between 0 and 1. Got 1.01."),
        (["--temperature", "0"], "--temperature must be positive. Got 0.0."),
        (["--config", "none.toml"], "--config must be a readable TOML file"),
        (["--data", "nowhere"], "nowhere"),
        (
            ["--class-names", "a", "a"],
            "--class-names must be names of one line that all differ, none of them",
        ),
        (["--class-names", "a", "b\nc"], "--class-names must be names of one line that all differ, none of"),
        (["--class-names", "a"], "classes must be at least 2. Got 1."),
        *(
            (["--" + name, "n" * 5000], "File name too long")
            for name in ("data", "weights", "results", "config")
        ),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_bad_settings(arrays, tmp_path, capsys, argv, text):
    assert main(["--data", str(arrays), "--results", str(tmp_path / "results"), *argv]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and text in printed.err and printed.out == ""
    assert [p for p in (tmp_path / "results").rglob("*") if p.is_file()] == []


def command(*argv, **options):
    """`python main.py ...` as a user runs it, from an empty folder."""
    return subprocess.run(
        [sys.executable, str(ROOT / "main.py"), *map(str, argv)], capture_output=True, text=True, **options
    )


def test_an_empty_fdata_says_the_three_ways_on(tmp_path):
    (tmp_path / "FData").mkdir()
    done = command(cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    for way in ("put your arrays there", "--data", "--demo"):
        assert way in done.stderr
    assert not (tmp_path / "Results").exists()


def test_an_unwritable_results_folder(arrays, tmp_path):
    (tmp_path / "file").write_text("")
    done = command("--data", arrays, "--results", tmp_path / "file" / "results")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "--results must be a folder" in done.stderr


@pytest.fixture
def small_disk():
    """A limit on the size of a file stands in for a disk without room."""
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, ignored)


def test_a_full_disk_ends_in_one_line(arrays, tmp_path, capfd, small_disk):
    assert main(["--data", str(arrays), "--results", str(tmp_path / "r"), "--views", "2"]) == 2
    (*_, last) = capfd.readouterr().err.splitlines()
    assert last.startswith("Error: --results must be on a disk with room left.")
    assert not list((tmp_path / "r").rglob("*.part"))


UNKNOWN = [
    (["--teachers", "vgg61"], "--teachers must be one of vgg16"),
    (["--student", "cnn33"], "--student must be one of cnn3"),
    (["--baseline", "cut:vgg16"], "--baseline cut: must be one of mobilenet"),
    (["--student", "cut:mobilenet:40"], "--student must be cut:mobilenet:1 to cut:mobilenet:13"),
    (["--loss", "kl"], "--loss must be one of kd"),
    (["--loss-options", "beta=1"], "--loss-options must be options of kd (none)"),
    (["--recipes", "int9"], "--recipes must be one of float32"),
    (["--compress", "prune", "--student", "squeezenet"], "--student must be one of cnn3"),
    (["--ensemble", "--teachers", "keras:MobileNet"], "--ensemble must be of at least two teachers"),
    (["--weights", "nowhere"], "--weights must be auto, imagenet, none, or an existing file or folder"),
    (["--weights", "."], "--weights must be a folder that holds vgg16"),
    (["--loss-options", "beta"], "--loss-options must be NAME=VALUE"),
]
# one process for all: what is imported for one of them is there for those after it
ALL_COMMANDS = """
import contextlib, io, json, sys
from kdtf.cli import main

for argv in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as error:
        code = main(argv)
    print(json.dumps([code, error.getvalue(), "tensorflow" in sys.modules]))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """(Exit code, stderr, was TensorFlow imported, the results folder) of every command of UNKNOWN."""
    folder = tmp_path_factory.mktemp("unknown")
    data = write_arrays(folder / "data")
    results = [folder / f"r{i}" for i in range(len(UNKNOWN))]
    commands = [
        ["--data", str(data), "--results", str(own), *argv]
        for own, (argv, _) in zip(results, UNKNOWN, strict=True)
    ]
    code = [sys.executable, "-c", ALL_COMMANDS, json.dumps(commands)]
    done = subprocess.run(code, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return [(*json.loads(line), own) for line, own in zip(done.stdout.splitlines(), results, strict=True)]


@pytest.mark.parametrize("case", range(len(UNKNOWN)), ids=lambda i: " ".join(UNKNOWN[i][0]))
def test_names_are_looked_up_before_tensorflow_starts(case, told):
    code, error, started, results = told[case]
    assert (code, error.count("\n"), started) == (2, 1, False) and UNKNOWN[case][1] in error
    assert not results.exists()


def test_the_demo_needs_no_data(tmp_path, capfd, monkeypatch):
    for name in ("train", "val", "test"):  # to draw its 5,600 images takes ten seconds
        monkeypatch.setitem(phantom.write.__kwdefaults__, name, 24)
    monkeypatch.setattr("kdtf.runs.data.UNLABELLED_PHANTOMS", 24)
    monkeypatch.chdir(tmp_path)
    assert main(["audit", "--demo", "--results", "r"]) == 0
    assert "every image is a synthetic phantom" in capfd.readouterr().err
    assert main(["audit", "--results", "r"]) == 2
    assert "FData must hold X_train.npy" in capfd.readouterr().err


def test_help_is_quick_and_needs_no_tensorflow():
    done = command("--help")
    assert done.returncode == 0 and "--temperature" in done.stdout
    code = "import sys; from kdtf.cli import main; main(['--help']); heavy = {'tensorflow', 'keras', "
    code += "'sklearn', 'pandas', 'matplotlib'}; sys.exit(bool(heavy & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
