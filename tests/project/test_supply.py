"""What the project is built on: pinned, hashed, used, and with its licences listed."""

import ast
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
# needed by a package that does not ask for it: tensorflow-model-optimization, for distutils
BY_OTHERS = {"setuptools"}
OPTIONAL = {"tflite-micro"}  # in requirements-dev.txt: bench says so where it is missing


def pins(name: str) -> list[Requirement]:
    lines = (ROOT / name).read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def locked() -> dict[str, list[Requirement]]:
    found: dict[str, list[Requirement]] = {}
    for line in re.findall(
        r"^([a-z0-9][^\\\n]*?) \\$", (ROOT / "requirements.lock").read_text(), re.MULTILINE
    ):
        found.setdefault((wanted := Requirement(line)).name, []).append(wanted)
    return found


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_requirement_is_one_version(name):
    for wanted in pins(name):
        assert re.fullmatch(r"==[^,*]+", str(wanted.specifier)), f"{wanted} is not pinned"


def test_the_lock_holds_every_requirement_with_hashes():
    lock, text = locked(), (ROOT / "requirements.lock").read_text()
    for wanted in pins("requirements.txt"):
        assert str(wanted.specifier) in {str(r.specifier) for r in lock[wanted.name]}, wanted
    blocks = re.split(r"\n(?=[a-z0-9])", text)[1:]
    assert len(blocks) == sum(map(len, lock.values())) > 50
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", block) for block in blocks)
    assert "://" not in text, "the lock names no registry"


def test_what_is_installed_is_what_is_locked():
    for name, choices in locked().items():
        mine = [r for r in choices if r.marker is None or r.marker.evaluate()]
        if mine and name != "setuptools":  # a virtual environment brings its own
            assert metadata.version(name) in mine[0].specifier, mine[0]


def imported() -> set[str]:
    """The top-level names kdtf imports, in whatever function."""
    found = set()
    for path in (ROOT / "kdtf").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_module":
                found |= {str(a.value).partition(".")[0] for a in node.args if isinstance(a, ast.Constant)}
    return found - set(sys.stdlib_module_names) - {"kdtf"}


def test_every_requirement_is_used_and_every_import_is_required():
    owners = metadata.packages_distributions()
    used = {name.lower().replace("_", "-") for module in imported() for name in owners.get(module, [module])}
    required = {r.name for r in pins("requirements.txt")}
    assert required - used - BY_OTHERS == set(), "required and never imported"
    # several distributions may own a module's name; one that is required is enough
    for module in imported():
        mine = {name.lower().replace("_", "-") for name in owners.get(module, [module])}
        assert mine & (required | OPTIONAL), f"{module} is imported and not required"


def test_every_licence_is_listed():
    rows = re.findall(
        r"^\| ([a-z0-9-]+) \| ([^|]+) \|", (ROOT / "docs" / "licences.md").read_text(), re.MULTILINE
    )
    listed = {name for name, licence in rows if licence.strip() not in ("", "?")}
    assert listed >= set(locked()), sorted(set(locked()) - listed)
