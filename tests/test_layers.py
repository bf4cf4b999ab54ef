"""The order of docs/design.md: a module imports only from layers above its own."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "kdtf"
LAYERS = (
    {"__init__", "checks", "losses", "predictor", "progress", "quiet"},
    {"tensors", "npz", "config", "metrics", "evidence", "run", "plots", "networks", "optim"},
    {"labels"},
    {"data", "texts", "terminal", "browser"},
    {
        "views",
        "sample",
        "teachers",
        "students",
        "distiller",
        "evaluate",
        "pictures",
        "gradcam",
        "audit",
        "loop",
    },
    {"train", "quantize", "findings", "html", "page", "fetch", "textmodel", "prepare"},
    {"report", "bundle", "bench", "qat", "job"},
    {"teacher_stages", "student_stages"},
    {"file_stages"},
    {"pipeline", "textreport", "arguments"},
    {"commands"},
    {"cli"},
)
LAYER = {name: i for i, names in enumerate(LAYERS) for name in names}
FILES = {p.stem: [p] for p in PACKAGE.glob("*.py")}
FILES |= {p.parent.name: sorted(p.parent.glob("*.py")) for p in PACKAGE.glob("*/__init__.py")}  # one module
MODULES = sorted(FILES)


def tree(name):
    return ast.Module([node for file in FILES[name] for node in ast.parse(file.read_text()).body], [])


def imported(name):
    """The kdtf modules a module imports, wherever in its text; a package's own files do not count."""
    up = 2 if (PACKAGE / name).is_dir() else 1
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.ImportFrom) and node.level == up:
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
        calls = [n for n in ast.walk(tree(name)) if isinstance(n, ast.Call)]
        named = {ast.unparse(call.func) for call in calls}
        assert name in ("cli", "commands") or not named & {"print", "sys.exit", "exit"}, name


LIGHT = (
    *("cli", "data", "views", "config", "sample", "run", "report", "teachers", "audit", "html"),
    *("textreport", "prepare", "fetch", "page", "browser", "predictor", "bundle", "bench"),
)


@pytest.mark.parametrize("module", LIGHT)
def test_tensorflow_waits_until_it_is_needed(module):
    code = f"import sys, kdtf.{module}; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent).returncode == 0
