"""A command whose extra is not installed names it in one line, and writes nothing."""

import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from kdtf.cli.entry import main
from kdtf.extras import EXTRAS

PYPROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())


@pytest.mark.parametrize(
    "module, command",
    [
        ("ethosu", ["npu", "{}", "--out", "out"]),
        ("ethosu", ["bench", "{}", "--ethos-u", "ethos-u55-128", "--results", "out"]),
        ("tf2onnx", ["export", "{}", "--to", "onnx", "--out", "out"]),
        ("onnxruntime", ["export", "{}", "--to", "onnx", "--out", "out"]),
        ("fastapi", ["serve", "{}"]),
        ("uvicorn", ["serve", "{}"]),
        ("openvino", ["--labeller", "openvino", "--results", "out"]),
        ("openvino", ["--labeller", "openvino-bf16", "--results", "out"]),
        ("optuna", ["--students", "cnn3", "cnn5", "--trials", "2", "--results", "out"]),
    ],
)
def test_the_extra_is_named(module, command, bundle, tmp_path, monkeypatch, capsys):
    path = bundle("float32")
    monkeypatch.chdir(tmp_path)
    for name in EXTRAS:  # whatever is installed here
        monkeypatch.setitem(sys.modules, name, sys.modules.get(name) or sys)
    monkeypatch.setitem(sys.modules, module, None)
    assert main([part.format(path) for part in command]) == 2
    package, extra = EXTRAS[module]
    error = capsys.readouterr().err
    assert error.startswith(f"Error: The Python package {package} must be installed for ")
    assert error.endswith(f"`pip install '.[{extra}]'` where kdtf lies installs it.\n")
    assert error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_the_extras_bring_what_they_are_named_for():
    extras = PYPROJECT["project"]["optional-dependencies"]
    for package, extra in EXTRAS.values():
        assert package in {Requirement(line).name for line in extras[extra]}, package
