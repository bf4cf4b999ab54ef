"""The pages say what is true: packages, files, tests and flags that they name are there."""

import ast
import re
import sys
from pathlib import Path

import pytest
from test_house import FLOORS

from kdtf.cli.commands import COMMANDS
from kdtf.cli.entry import main
from kdtf.cli.run import RUN_COMMANDS

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import regimes

ROOT = Path(__file__).parents[2]
KDTF = ROOT / "kdtf"
PAGES = ("README.md", "CONTRIBUTING.md", "docs/design.md")
PACKAGES = sorted(path.parent for path in KDTF.glob("*/__init__.py"))
# to add a ...: docs/design.md must say where, which test fails first and which adds a toy one
KINDS = (
    "loss", "teacher", "student", "recipe", "importer (image format)", "report picture", "metric",
    "evidence test (table)", "stage (kind of task)", "setting",
)  # fmt: skip
OTHER_PROGRAMS = re.compile(r"^(?:.*\b(?:pip|npm|http\.server)\b.*)$", re.MULTILINE)
PATH = re.compile(r"(?<![\w/.:])(?:kdtf|tests|docs|benchmarks)/[\w./-]*\w/?")
NODE = re.compile(r"(tests/[\w/]+\.py)::(\w+)")


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def table(header: str) -> list[list[str]]:
    """The cells of the rows under a header of docs/design.md."""
    rows = text("docs/design.md").partition(header)[2].partition("\n\n")[0]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows.splitlines()[2:]]


def defined(module: Path) -> set[str]:
    """The names of functions, classes and constants of a module."""
    names = set()
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def test_the_floors_of_the_design_are_those_that_the_house_is_held_to():
    rows = [
        (int(floor), name.strip("`")) for floor, name, *_ in table("| Floor | Package | Owns | Refuses |")
    ]
    assert rows == sorted(rows, key=lambda row: row[0])
    floors = [{name for floor, name in rows if floor == i} for i in range(len(FLOORS))]
    assert floors == list(FLOORS) and len(rows) == sum(map(len, FLOORS))


def test_the_foundation_of_the_design_is_what_lies_in_kdtf_itself():
    names = [name.strip("`") for name, _ in table("| Module | Owns |")]
    assert names == sorted({path.stem for path in KDTF.glob("*.py")} - {"__init__", "__main__", "api"})


def test_the_tree_of_the_readme_has_every_package():
    tree = re.search(r"^kdtf/\n((?: .*\n)+)", text("README.md"), re.MULTILINE)[1]
    assert sorted(re.findall(r"^  (\w+)/", tree, re.MULTILINE)) == [path.name for path in PACKAGES]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_every_package_says_what_it_does(package):
    first, _, rest = (ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or "").partition(
        "\n"
    )
    assert first.endswith((".", "`.")) and rest.strip()


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page):
    named = set(PATH.findall(text(page)))
    assert named and [path for path in sorted(named) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_module_that_a_page_names_has_what_it_says(page):
    """`tflite.quantize.convert`: a module in a package, and a name in it."""
    packages = "|".join(path.name for path in PACKAGES)
    for package, module, name in re.findall(rf"`({packages})\.(?!html|csv)(\w+)(?:\.(\w+))?`", text(page)):
        file = KDTF / package / f"{module}.py"
        assert file.exists(), f"{package}.{module}"
        assert not name or name in defined(file), f"{package}.{module}.{name}"


def test_the_table_of_places_names_registries_and_tests_that_are_there():
    rows = table("| To add a | Touch | Fails first | A toy one is added in |")
    assert [kind for kind, *_ in rows] == list(KINDS)
    for kind, places, *tests in rows:
        modules = [ROOT / path for path in PATH.findall(places) if path.endswith(".py")]
        names = set().union(*map(defined, modules))
        for registry in re.findall(r"`([A-Z]+|_\w+)`", places):
            assert registry in names, f"{kind}: {registry}"
        nodes = [NODE.search(cell) for cell in tests]
        assert len(tests) == 2 and all(nodes), kind
        for path, test in (node.groups() for node in nodes):
            assert test in defined(ROOT / path), f"{kind}: {path}::{test}"


def test_every_flag_that_the_readme_names_is_one_of_a_command(capsys):
    for command in ("", *RUN_COMMANDS, *COMMANDS):
        assert main([*filter(None, [command]), "--help"]) == 0
    known = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", OTHER_PROGRAMS.sub("", text("README.md"))))
    assert named - known == set() and len(named) > 30


@pytest.fixture(scope="module")
def counts() -> list[dict]:
    """What `benchmarks/regimes.py --map` prints of the comparisons."""
    return regimes.counted(regimes.read_regimes([str(ROOT / "docs" / "regimes.csv")]))


def test_the_counts_of_gains_in_the_results_are_those_of_the_comparisons(counts):
    columns = ("n", "gains", "gains_kept", "harms", "harms_kept")
    rows = text("docs/results.md").partition("| The teacher is, in accuracy on test |")[2].splitlines()[2:6]
    cells = [[int(cell) for cell in row.strip("|").split("|")[2:]] for row in rows]
    assert cells == [[row[column] for column in columns] for row in counts]


def test_a_run_says_of_a_teacher_what_came_of_such_teachers(counts):
    better, better_auc, worse, _ = counts
    assert 0.5 < better_auc["gains"] / better_auc["n"] <= 0.75  # "over half of students AUC"
    assert 0 < better["gains"] / better["n"] <= 0.25  # "and few of them accuracy"
    assert worse["gains"] / worse["n"] <= 0.1 and worse["harms"]  # "seldom gave accuracy, and harmed some"
