"""The code that makes each kind of stage, as a hash beside the kind's version. Writes the table of both:

    python -m tests.runs.kind_versions

The code of a kind is its function and every definition of kdtf that it uses, that these use, and so on,
without comments and docstrings. What plans, carries, words or stores results is left out: it does not
decide them.
"""

import ast
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from kdtf.runs.kinds import KINDS

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_name("kind_versions.json")
COMMAND = "python -m tests.runs.kind_versions"
COMPUTE = ("data", "models", "distill", "tflite", "evidence", "report", "runs", "predictor")
LEFT_OUT = {f"kdtf.runs.{name}" for name in ("kinds", "perform", "planner", "records")}
LEFT_OUT |= {"kdtf.report.page"}  # drawn by every run
REPORTS = ("kdtf.runs.close", "Closing")  # makes the kinds without a function

Definition = tuple[str, str]  # module and name


class Module:
    """What a module defines, {name: statement}, and imports, {name: (module, name there or "")}."""

    def __init__(self, name: str, root: Path):
        tree = ast.parse(root.joinpath(*name.split(".")).with_suffix(".py").read_text(encoding="utf-8"))
        self.definitions: dict[str, ast.stmt] = {}
        self.imports: dict[str, Definition] = {}
        for statement in tree.body:
            for defined in _names(statement):
                self.definitions[defined] = statement
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                package = ".".join([*name.split(".")[: -node.level], *(node.module or "").split(".")])
                for alias in node.names:
                    module = f"{package.rstrip('.')}.{alias.name}"
                    is_module = root.joinpath(*module.split(".")).with_suffix(".py").exists()
                    self.imports[alias.asname or alias.name] = (
                        (module, "") if is_module else (package, alias.name)
                    )


def _names(statement: ast.stmt) -> list[str]:
    """The names that a statement of a module defines."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    nodes = ast.walk(statement)
    return [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]


@cache
def _module(name: str, root: Path) -> Module:
    return Module(name, root)


def _computes(module: str) -> bool:
    return module.partition(".")[2].partition(".")[0] in COMPUTE and module not in LEFT_OUT


def _used(statement: ast.stmt, module: str, root: Path) -> Iterator[Definition]:
    """The definitions of kdtf that a statement of a module names."""
    own, nodes = _module(module, root), list(ast.walk(statement))
    attributes = {id(node.value): node.attr for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        name = node.id if isinstance(node, ast.Name) else ""
        if name in own.definitions:
            yield module, name
        elif name in own.imports:
            there, definition = own.imports[name]
            if definition or id(node) in attributes:  # `fine_tune` or `qat.fine_tune`
                yield there, definition or attributes[id(node)]
            elif _computes(there):  # `getattr(networks, name)`: any of them
                yield from ((there, every) for every in _module(there, root).definitions)
                yield from _module(there, root).imports.values()  # and of what it hands on


def code_of(start: Definition, root: Path = ROOT) -> dict[Definition, ast.stmt]:
    """A definition and all that it uses, directly or not, of the modules that compute."""
    found: dict[Definition, ast.stmt] = {}
    waiting = [start]
    while waiting:
        at = waiting.pop()
        if at not in found and _computes(at[0]) and at[1] in _module(at[0], root).definitions:
            found[at] = _module(at[0], root).definitions[at[1]]
            waiting += _used(found[at], at[0], root)
    return found


def _plain(value: object) -> object:
    """A syntax tree as lists, the same for every Python, without places, docstrings and what is empty."""
    if isinstance(value, ast.Constant):
        return repr(value.value)
    if isinstance(value, list):
        return [_plain(own) for own in value]
    if not isinstance(value, ast.AST):
        return str(value)
    fields = {name: own for name, own in ast.iter_fields(value) if own not in (None, [])}
    if isinstance(value, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(value) is not None:
        fields["body"] = value.body[1:]
    return [type(value).__name__, {name: _plain(own) for name, own in fields.items()}]


def digest(start: Definition, root: Path = ROOT) -> str:
    """12 hex digits over the code of a definition, wherever its parts lie."""
    parts = sorted({json.dumps(_plain(statement)) for statement in code_of(start, root).values()})
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def start_of(kind: str) -> Definition:
    """The function, or class, that makes a kind of stage."""
    module, _, function = KINDS[kind].function.partition(".")
    return (f"kdtf.runs.{module}", function) if function else REPORTS


def versions() -> dict[str, list]:
    """{kind: [its version, the digest of its code]} as they are now."""
    return {kind: [row.version, digest(start_of(kind))] for kind, row in KINDS.items()}


if __name__ == "__main__":
    rows = [f' "{kind}": {json.dumps(row)}' for kind, row in versions().items()]
    TABLE.write_text("{\n" + ",\n".join(rows) + "\n}\n")
