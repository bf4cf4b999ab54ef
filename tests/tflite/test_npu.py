"""Files on an NPU: every int8 student compiles wholly, what does not is named, and costs are Vela's."""

import csv
import subprocess
import sys

import pandas as pd
import pytest
from small_students import CLASSES, IMAGES, SHAPE, network, shipped

from kdtf.cli.entry import main
from kdtf.models.cuts import build_cut
from kdtf.models.students import STUDENTS, exported
from kdtf.models.weights import WeightSource
from kdtf.tflite import npu
from kdtf.tflite.npu import NPU_OPERATOR, NPUS, compiled, operators_of
from kdtf.tflite.quantize import convert

pytest.importorskip("ethosu", reason="no ethos-u-vela: pip install '.[edge]'")
CHIP = "ethos-u55-128"
CUT = "cut:mobilenetv2:3"


def int8_file(name):
    if name != CUT:
        return convert(shipped(name), "int8", IMAGES)
    source = WeightSource("none")
    cut, _, _ = build_cut(
        name, SHAPE, len(CLASSES), momentum=0.5, dropout=0, seed=0, source=source, images=None
    )
    return convert(exported(cut), "int8", IMAGES)


@pytest.mark.parametrize("name", [*STUDENTS, CUT])
def test_every_int8_student_runs_wholly_on_the_npu(name):
    content, cost = compiled(int8_file(name), name, CHIP)
    assert (cost.npu_percent, cost.npu_left) == (100, "")
    assert list(operators_of(content)) == [NPU_OPERATOR.decode()]
    assert SHAPE[0] * SHAPE[1] <= cost.npu_sram_bytes < 128 << 10
    assert cost.npu_inferences_per_second == pytest.approx(1e6 * cost.npu_mhz / cost.npu_cycles, rel=1e-3)


def test_what_stays_on_the_cpu_is_named(files):
    content, cost = compiled(files["float32"], "s", CHIP)
    assert cost.npu_percent == 0 and cost.npu_sram_bytes == cost.npu_cycles == 0
    names = sorted(operators_of(files["float32"]))
    assert sorted(operators_of(content)) == names and "SOFTMAX" in names
    assert cost.npu_left.count("CONV_2D") == 2 and "SOFTMAX" in cost.npu_left
    assert "runs nothing" in cost.in_words


def test_a_file_that_the_npu_runs_in_part_says_how_much_of_it(monkeypatch):
    """Vela is asked to leave the softmax alone, as it does by itself with operators that the NPU lacks."""
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda c, **how: run([*c, "--ignore-ops", "SOFTMAX"], **how))
    model = convert(exported(network("cnn3")), "int8", IMAGES)
    content, cost = compiled(model, "s", CHIP)
    total = len(list(operators_of(model)))
    assert "SOFTMAX" in list(operators_of(content))
    assert cost.npu_left == "SOFTMAX" and cost.npu_percent == pytest.approx(100 * (total - 1) / total)
    assert cost.npu_cycles > 0 and "the CPU SOFTMAX" in cost.in_words


def test_the_npus_are_those_that_vela_knows():
    told = subprocess.run([sys.executable, "-m", "ethosu.vela", "--help"], capture_output=True, text=True)
    assert f"{{{','.join(NPUS)}}}" in told.stdout


def test_a_larger_npu_is_faster(files):
    slow, fast = (compiled(files["int8"], "s", name)[1] for name in ("ethos-u55-32", "ethos-u55-256"))
    assert slow.npu_inferences_per_second < fast.npu_inferences_per_second


def test_the_command_writes_the_same_file_twice(files, tmp_path, capsys):
    (tmp_path / "s.tflite").write_bytes(files["int8"])
    out = tmp_path / "out"
    contents = []
    for _ in range(2):
        assert main(["npu", str(tmp_path / "s.tflite"), "--out", str(out)]) == 0
        contents.append((out / f"s_{CHIP}.tflite").read_bytes())
    assert contents[0] == contents[1] and list(operators_of(contents[0])) == ["ethos-u"]
    told = capsys.readouterr()
    assert "runs 100 % of its operators" in told.out and told.err == ""


def test_the_command_refuses_what_the_npu_cannot_run(files, tmp_path, capsys):
    path = tmp_path / "s.tflite"
    for content, reason in ((files["float32"], "Quantize the student to int8"), (b"junk", "TFLite model")):
        path.write_bytes(content)
        assert main(["npu", str(path), "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert reason in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert main(["npu", str(path), "--ethos-u", "ethos-u55-129"]) == 2
    assert "Did you mean 'ethos-u55-128'?" in capsys.readouterr().err


def test_a_vela_that_fails_or_hangs_is_an_error_of_one_line(files, tmp_path, monkeypatch, capsys):
    (tmp_path / "s.tflite").write_bytes(files["int8"])
    command = ["npu", str(tmp_path / "s.tflite"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(npu, "SECONDS", 0.01)
    assert main(command) == 2
    assert "within 0.01 s. It was not done by then.\n" in capsys.readouterr().err
    monkeypatch.setattr(npu, "SECONDS", 60)
    failed = [sys.executable, "-c", "import sys; sys.stderr.write('a\\nno such kernel\\n'); sys.exit(3)"]
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda _, **how: run(failed, **how))
    assert main(command) == 2
    assert "It does not: no such kernel.\n" in capsys.readouterr().err
    failed[-1] = "import os, signal; os.kill(os.getpid(), signal.SIGFPE)"
    assert main(command) == 2
    assert "It does not: Vela was ended by SIGFPE.\n" in capsys.readouterr().err


def test_bench_has_columns_for_an_npu_where_one_is_named(files, tmp_path, capsys):
    (tmp_path / "s.tflite").write_bytes(files["int8"])
    command = ["bench", str(tmp_path / "s.tflite"), "--results", str(tmp_path)]
    assert main([*command, "--ethos-u", CHIP]) == 0
    assert f"{CHIP} runs 100 % of its operators" in capsys.readouterr().out
    (row,) = pd.read_csv(tmp_path / "bench.csv").to_dict("records")
    expected = compiled(files["int8"], "s", CHIP)[1]
    assert (row["npu"], row["npu_percent"], row["npu_cycles"]) == (CHIP, 100, expected.npu_cycles)
    assert main(command) == 0
    with open(tmp_path / "bench.csv", newline="") as file:
        assert not [name for name in next(csv.reader(file)) if name.startswith("npu")]
