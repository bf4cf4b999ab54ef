"""The floor plan of docs/design.md: which package may import which, and what each must do without."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "kdtf"
FLOORS = (  # from the ground up: a package imports only from floors below its own
    {"foundation"},  # the modules that lie in kdtf/ itself
    {"data", "models", "evidence"},
    {"distill", "prepare"},
    {"tflite"},
    {"report"},
    {"texts", "web", "runs", "serve", "dicom", "drift"},
    {"cli", "api"},
)
FLOOR = {package: i for i, packages in enumerate(FLOORS) for package in packages}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name not in ("__init__.py", "__main__.py"))


def module_of(path: Path) -> str:
    """`kdtf.data.views` of kdtf/data/views.py."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def package_of(module: str) -> str:
    """The package a module of kdtf lives in."""
    parts = module.split(".")
    if parts[1] == "api":
        return "api"
    return parts[1] if (PACKAGE / parts[1]).is_dir() else "foundation"


def imported(path: Path):
    """The modules of kdtf that a file imports, wherever in its text."""
    own = module_of(path).split(".") + (["__init__"] if path.name == "__init__.py" else [])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        base = own[: -node.level] if node.level else []
        target = [*base, *(node.module or "").split(".")] if node.module else base
        if target[:1] != ["kdtf"]:
            continue
        for alias in node.names:
            file = ROOT.joinpath(*target, alias.name)
            inner = file.with_suffix(".py").exists() or file.is_dir()
            yield ".".join([*target, alias.name] if inner else target)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_module_imports_from_its_own_package_and_from_floors_below(path):
    own = package_of(module_of(path))
    assert own in FLOOR, f"{own} has no floor here and in docs/design.md"
    for other in imported(path):
        if other == "kdtf":  # its version
            continue
        there = package_of(other)
        assert there == own or FLOOR[there] < FLOOR[own], f"{path.name} imports {other}"


def test_there_is_no_cycle():
    arrows = {module_of(path): {m for m in imported(path) if m != "kdtf"} for path in FILES}
    while free := [name for name, needed in arrows.items() if not needed & arrows.keys()]:
        for name in free:
            del arrows[name]
    assert not arrows, f"import each other: {sorted(arrows)}"


def test_the_predictor_stands_alone():
    assert list(imported(PACKAGE / "predictor.py")) == []


def test_printing_and_exiting_are_left_to_the_command_line():
    for path in FILES:
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        named = {ast.unparse(call.func) for call in calls}
        assert "cli" in path.parts or not named & {"print", "sys.exit", "exit"}, path


def light() -> list[str]:
    """The modules that must not start TensorFlow: all but those that hold or run Keras models."""
    heavy = {
        "models": ("fused_norm", "gradcam"),
        "tflite": ("budget", "compress", "labelling", "qat", "quantize", "tuning", "tuning_state"),
        "runs": ("teacher", "student", "files"),
    }
    names = {f"kdtf.{package}.{module}" for package, modules in heavy.items() for module in modules}
    names |= {name for name in map(module_of, FILES) if package_of(name) == "distill"}
    return [name for name in map(module_of, FILES) if name not in names - {"kdtf.distill.losses"}]


def test_tensorflow_waits_until_it_is_needed():
    code = (
        "import importlib, sys\n"
        f"for name in {light()!r}:\n"
        "    importlib.import_module(name)\n"
        "    assert not {'tensorflow', 'keras'} & sys.modules.keys(), name\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def functions():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                yield path, node


def test_modules_and_functions_are_short():
    """A module has at most 400 lines, but for the predictor, which is one file to copy; a function 50."""
    long = [path.name for path in FILES if len(path.read_text().splitlines()) > 400]
    assert long in ([], ["predictor.py"])
    assert [node.name for _, node in functions() if node.end_lineno - node.lineno >= 50] == []


def test_every_parameter_and_result_has_a_type():
    untyped = []
    for path, node in functions():
        named = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
        bare = [a.arg for a in named if a.annotation is None and a.arg not in ("self", "cls")]
        if bare or (node.returns is None and node.name not in ("__init__", "__post_init__")):
            untyped.append(f"{path.name}: {node.name} {bare}")
    assert untyped == []
