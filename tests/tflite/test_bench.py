"""What a file costs: counts by hand, memory between bounds, times that are times."""

import gzip
import hashlib
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from kdtf.cli.entry import main
from kdtf.errors import UserError
from kdtf.predictor import Predictor, open_interpreter
from kdtf.tflite import bench
from kdtf.tflite.bench import ARENA_BYTES, MACS, Cost, Graph, cost, latency, micro_arena

# conftest's network by hand: 3x3x3 -> 8, 3x3 depthwise over 8 channels at stride 2, 1x1 8 -> 4 and dense
# 8*8*4 -> 3, each with biases; the converter folds the rescaling into the first
PARAMETERS = (27 * 8 + 8) + (9 * 8 + 8) + (8 * 4 + 4) + (256 * 3 + 3)
MULTIPLICATIONS = 16 * 16 * 8 * 27 + 8 * 8 * 8 * 9 + 8 * 8 * 4 * 8 + 256 * 3


@pytest.mark.parametrize("recipe", ["float32", "int8"])
def test_parameters_and_macs_are_those_counted_by_hand(files, recipe):
    graph = Graph(files[recipe])
    assert (graph.parameters, graph.macs) == (PARAMETERS, MULTIPLICATIONS)


def test_students_cost_what_their_layers_say():
    from kdtf.models.students import build_student, exported
    from kdtf.tflite.quantize import convert

    student = exported(build_student("cnn3", (32, 32, 3), 4, momentum=0.5, dropout=0.5, seed=0))
    for weight in student.weights:  # of a new network the biases are 0, and the converter leaves them out
        weight.assign(np.random.default_rng(0).uniform(0.1, 1, weight.shape))
    graph = Graph(convert(student, "float32", np.zeros((1, 32, 32, 3), np.float32)))
    assert graph.parameters == 896 + 18_496 + 73_856 + 524_544 + 1_028
    assert graph.macs == 884_736 + 4_718_592 + 4_718_592 + 524_288 + 1_024


def test_macs_of_layers_that_students_lack():
    image, out = (1, 4, 4, 2), (1, 8, 8, 5)  # every pixel of the image meets 3 x 3 weights of 5 outputs
    assert MACS["TRANSPOSE_CONV"]([(4,), (5, 3, 3, 2), image], out) == 16 * 2 * 9 * 5
    assert MACS["BATCH_MATMUL"]([(6, 10, 7), (6, 7, 3)], (6, 10, 3)) == 6 * 10 * 7 * 3


@pytest.mark.parametrize("recipe, size", [("float32", 4), ("int8", 1)])
def test_the_arena_holds_at_least_what_lives_at_once(files, recipe, size):
    """The first convolution's input and output at once, and less than everything at once."""
    at_once = (16 * 16 * 3 + 16 * 16 * 8) * size
    everything = (16 * 16 * (3 + 3 + 3 + 27 + 8) + 8 * 8 * (8 + 4 + 4) * 2 + 16) * size
    assert at_once <= Graph(files[recipe]).arena_bytes <= everything + 4096


def test_latency_is_measured_on_as_many_runs_as_asked(files, monkeypatch):
    interpreter = open_interpreter(files["int8"], "s")
    calls = []
    monkeypatch.setattr(interpreter, "invoke", lambda: calls.append(1))
    median, p95 = latency(interpreter, 200)
    assert len(calls) == 220 and 0 <= median <= p95


def test_a_row_says_it_all(files, tmp_path):
    (tmp_path / "s.tflite").write_bytes(files["int8"])
    row = cost(tmp_path / "s.tflite", threads=2, runs=200)
    assert row.bytes == len(files["int8"]) and row.gzip_bytes == len(gzip.compress(files["int8"], mtime=0))
    assert 0 < row.median_ms <= row.p95_ms and 0 < row.median_ms_threads <= row.p95_ms_threads
    assert row.threads == 2 and row.runs == 200


def test_micro_runs_int8_as_litert_does_and_records_its_arena(bundle, files, monkeypatch):
    runtime = pytest.importorskip("tflite_micro", reason="no tflite-micro").runtime
    path = bundle("int8")
    pixels = np.random.default_rng(1).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    micro = runtime.Interpreter.from_bytes(files["int8"], arena_size=ARENA_BYTES)
    steps = []
    for image in pixels:
        micro.set_input(image[None], 0)
        micro.invoke()
        steps.append(micro.get_output(0)[0] / 256)
    expected = Predictor(path)(pixels)
    assert np.abs(np.array(steps) - expected).max() < 2.5 / 256  # rounding, and rows that add up to 1
    arena, reason = micro_arena(files["int8"])
    assert reason == "" and 16 * 16 * (3 + 8) <= arena <= 64 << 10
    assert runtime.Interpreter.from_bytes(files["int8"], arena_size=arena + 1024)
    monkeypatch.setattr(bench, "ARENA_BYTES", 4096)
    arena, reason = micro_arena(files["int8"])
    assert arena is None and reason.startswith("TensorFlow Lite Micro cannot run it: ")


def test_an_output_of_no_numbers_differs_by_none(monkeypatch):
    """Of a damaged file. Found by `benchmarks/hostile.py`."""
    empty = SimpleNamespace(
        **dict.fromkeys(("allocate_tensors", "invoke"), lambda: None),
        get_output_details=lambda: [{"index": 0, "quantization": (0.0, 0)}],
        get_tensor=lambda index: np.zeros((1, 0)),
    )
    micro = SimpleNamespace(
        invoke=lambda: None, set_input=lambda *_: None, get_output=lambda _: np.zeros((1, 0))
    )
    monkeypatch.setattr(bench, "plain_interpreter", lambda model: empty)
    monkeypatch.setattr(bench, "put_noise", lambda *_: None)
    assert bench._largest_difference(b"", micro) == 0


def test_without_micro_the_reason_is_told(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "tflite_micro", None)
    assert micro_arena(files["int8"]) == (None, "tflite-micro is not installed")


def test_the_command_prints_and_writes(files, tmp_path, capsys):
    paths = []
    for name, content in files.items():
        paths.append(str(tmp_path / f"{name}.tflite"))
        (tmp_path / f"{name}.tflite").write_bytes(content)
    assert main(["bench", *paths, "--results", str(tmp_path / "r"), "--threads", "2"]) == 0
    told = capsys.readouterr()
    assert f"{MULTIPLICATIONS:,}" in told.out and "2 threads" in told.out and told.err == ""
    table = pd.read_csv(tmp_path / "r" / "bench.csv")
    assert tuple(table.columns) == Cost._fields and table.file.tolist() == paths
    assert table.bytes.tolist() == [len(content) for content in files.values()]
    assert table.sha256.tolist() == [hashlib.sha256(content).hexdigest() for content in files.values()]


@pytest.mark.parametrize(
    "content, argv, text",
    [
        (None, [], "FILE.tflite must be a file. Got '{path}'."),
        (b"hello", [], "{path} must be a TFLite model. It cannot be read: "),
        (b"hello", ["--runs", "20"], "--runs must be at least 200. Got 20."),
        (b"hello", ["--threads", "0"], "--threads must be positive. Got 0."),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, capsys, content, argv, text):
    path = tmp_path / "s.tflite"
    if content:
        path.write_bytes(content)
    assert main(["bench", str(path), "--results", str(tmp_path / "r"), *argv]) == 2
    told = capsys.readouterr().err
    assert told.startswith("Error: " + text.format(path=path)) and told.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_too_few_runs_are_refused(tmp_path):
    with pytest.raises(UserError, match="--runs must be at least 200"):
        cost(tmp_path / "s.tflite", threads=1, runs=199)
