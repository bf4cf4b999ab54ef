"""What is installed: every file that the code reads, the version, the public names, the command."""

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import kdtf
from kdtf.prepare.formats import FORMATS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "kdtf"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# the first brings 32 packages for a test that a stand-in does without, the second 270 MB: its tests skip
UNTRIED = {"mlflow-skinny", "ray", "submitit", "openvino"}
PACKAGE_DATA = PROJECT["tool"]["setuptools"]["package-data"]
HEAVY = ("tensorflow", "keras", "pandas", "matplotlib")


def run_python(*arguments: str) -> str:
    """What a Python of its own prints."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_every_file_that_is_no_module_is_package_data():
    there = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    packed: set[Path] = set()
    for package, patterns in PACKAGE_DATA.items():
        folder = ROOT.joinpath(*package.split("."))
        for pattern in patterns:
            files = {path for path in folder.glob(pattern) if path.is_file()}
            assert files, f"{package}: nothing fits {pattern}"
            packed |= files
    assert {str(path.relative_to(ROOT)) for path in there - packed} == set(), "would be left out of a wheel"


def requirements(lines: list[str]) -> dict[str, Requirement]:
    """{name: requirement} of lines as pip reads them."""
    return {row.name: row for row in map(Requirement, lines)}


def test_every_version_that_is_tested_is_one_that_the_wheel_takes():
    """The wheel asks for ranges, its extras too; what is installed for the tests is one version of each."""
    extras = PROJECT["project"]["optional-dependencies"]
    optional = [line for name, lines in extras.items() if name != "dev" for line in lines]
    ranges = requirements(PROJECT["project"]["dependencies"]) | requirements(optional)
    pins = requirements((ROOT / "requirements.txt").read_text().splitlines())
    developed = (ROOT / "requirements-dev.txt").read_text().splitlines()
    tools = requirements([line for line in developed if not line.startswith("-")])
    pins |= {name: pin for name, pin in tools.items() if name in ranges and name not in pins}
    assert ranges.keys() - UNTRIED == pins.keys()
    for name, pin in pins.items():
        (version,) = (row.version for row in pin.specifier)
        assert version in ranges[name].specifier and ranges[name].marker == pin.marker, name
        assert ">=" in {row.operator for row in ranges[name].specifier} <= {">=", "<"}, f"{name}: a pin"


@pytest.mark.parametrize("name", [name for name, row in FORMATS.items() if row.extra])
def test_an_extra_that_a_message_names_brings_the_library(name):
    row = FORMATS[name]
    assert row.library in requirements(PROJECT["project"]["optional-dependencies"][row.extra])


def test_every_folder_of_modules_is_a_package():
    for module in PACKAGE.rglob("*.py"):
        assert (module.parent / "__init__.py").exists(), module


def test_the_version_is_that_of_the_newest_entry_of_the_changelog():
    entries = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert entries[0] == kdtf.__version__


def test_importing_kdtf_imports_nothing_heavy():
    code = f"import kdtf, sys; print(dir(kdtf), sorted({set(HEAVY)!r} & sys.modules.keys()))"
    assert run_python("-c", code) == f"{sorted(kdtf.__all__)} []\n"


def test_every_public_name_is_there_when_asked_for():
    for name in kdtf.__all__:
        assert getattr(kdtf, name) is not None, name
    with pytest.raises(AttributeError, match="no attribute 'Students'"):
        kdtf.Students  # noqa: B018


@pytest.mark.parametrize("script", PROJECT["project"]["scripts"])
def test_an_installed_command_is_a_function(script):
    module, _, function = PROJECT["project"]["scripts"][script].partition(":")
    assert callable(getattr(import_module(module), function))


def test_the_package_is_a_command():
    assert run_python("-m", "kdtf", "--version") == f"kdtf {kdtf.__version__}\n"
