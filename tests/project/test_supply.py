"""What the project is built on: pinned, hashed, used, and with its licences listed."""

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
# needed by a package that does not ask for it: tensorflow-model-optimization, for distutils
BY_OTHERS = {"setuptools"}
OPTIONAL = {  # of extras, and tflite-micro: who needs one is told where it is missing
    *("tflite-micro", "ethos-u-vela", "tf2onnx", "onnx", "onnxruntime"),
    *("fastapi", "starlette", "uvicorn", "highdicom", "mlflow", "mlflow-skinny", "zarr"),
    *("ray", "submitit", "openvino", "optuna"),
}


def pins(name: str) -> list[Requirement]:
    lines = (ROOT / name).read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def locked() -> dict[str, list[Requirement]]:
    """The rows of requirements.lock by name: a package may have several, each with a marker."""
    text = (ROOT / "requirements.lock").read_text()
    requirements: dict[str, list[Requirement]] = {}
    for line in re.findall(r"^([a-z0-9][^\\\n]*?) \\$", text, re.MULTILINE):
        requirement = Requirement(line)
        requirements.setdefault(requirement.name, []).append(requirement)
    return requirements


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_requirement_is_one_version(name):
    for requirement in pins(name):
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), f"{requirement} is not pinned"


def test_the_extra_dev_is_requirements_dev_and_all_other_extras():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    own, *others = map(Requirement, extras["dev"])
    assert (own.name, own.extras) == (
        "kdtf",
        extras.keys() - {"dev", "mlflow", "ray", "slurm", "openvino"},
    )  # see test_packaging
    assert others == pins("requirements-dev.txt")


def test_the_lock_holds_every_requirement_with_hashes():
    lock, text = locked(), (ROOT / "requirements.lock").read_text()
    for requirement in pins("requirements.txt"):
        assert requirement.specifier in [row.specifier for row in lock[requirement.name]], requirement
    blocks = re.split(r"\n(?=[a-z0-9])", text)[1:]
    assert len(blocks) == sum(map(len, lock.values())) > 50
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", block) for block in blocks)
    assert "://" not in text, "the lock names no registry"


def test_what_is_installed_is_what_is_locked():
    for name, rows in locked().items():
        for row in rows:
            if row.marker is None or row.marker.evaluate():
                assert metadata.version(name) in row.specifier, row


def imported() -> set[str]:
    """The top-level names that modules of kdtf import, in whatever package and function."""
    names: set[str] = set()
    for path in (ROOT / "kdtf").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_module":
                names |= {str(a.value).partition(".")[0] for a in node.args if isinstance(a, ast.Constant)}
    return names - set(sys.stdlib_module_names) - {"kdtf"}


def test_every_requirement_is_used_and_every_import_is_required():
    owners = metadata.packages_distributions()
    used = {name.lower().replace("_", "-") for module in imported() for name in owners.get(module, [module])}
    required = {r.name for r in pins("requirements.txt")}
    assert required - used - BY_OTHERS == set(), "required and never imported"
    # several distributions may own a module's name; one that is required is enough
    for module in imported():
        distributions = {name.lower().replace("_", "-") for name in owners.get(module, [module])}
        assert distributions & (required | OPTIONAL), f"{module} is imported and not required"


def test_every_licence_is_listed():
    rows = re.findall(
        r"^\| ([a-z0-9-]+) \| ([^|]+) \|", (ROOT / "docs" / "licences.md").read_text(), re.MULTILINE
    )
    listed = {name for name, licence in rows if licence.strip() not in ("", "?")}
    assert listed >= set(locked()), sorted(set(locked()) - listed)
