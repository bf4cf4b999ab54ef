"""The order of docs/design.md: a module imports only from layers above its own."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "kdtf"
LAYERS = (
    {"__init__", "checks", "losses", "predictor", "progress", "quiet"},
    {"npz", "config", "metrics", "evidence", "run", "plots", "networks", "optim"},
    {"data"},
    {"views", "sample", "teachers", "students", "distiller", "evaluate", "pictures", "gradcam", "audit"},
    {"train", "quantize", "findings", "html"},
    {"report"},
    {"pipeline"},
    {"cli"},
)
LAYER = {name: i for i, names in enumerate(LAYERS) for name in names}
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))


def imported(name):
    """The kdtf modules a module imports, wherever in its text."""
    for node in ast.walk(ast.parse((PACKAGE / f"{name}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield from [node.module] if node.module else [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "kdtf":
            yield node.module.partition(".")[2]


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_upwards(name):
    assert name in LAYER, f"{name} has no layer in this test and in docs/design.md"
    for other in imported(name):
        if other in LAYER and other != "__init__":
            assert LAYER[other] < LAYER[name], f"{name} imports {other}"


def test_the_predictor_stands_alone():
    assert set(imported("predictor")) == set()


def test_printing_and_exiting_are_left_to_the_command_line():
    for name in MODULES:
        calls = [
            n for n in ast.walk(ast.parse((PACKAGE / f"{name}.py").read_text())) if isinstance(n, ast.Call)
        ]
        named = {ast.unparse(call.func) for call in calls}
        assert name == "cli" or not named & {"print", "sys.exit", "exit"}, name


@pytest.mark.parametrize(
    "module", ["cli", "data", "views", "config", "sample", "run", "report", "teachers", "audit"]
)
def test_tensorflow_waits_until_it_is_needed(module):
    code = f"import sys, kdtf.{module}; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent).returncode == 0
