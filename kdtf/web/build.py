"""Students to a folder of static files that runs them in a visitor's browser, through LiteRT.js.

The page's own files are in `static/`; LiteRT.js comes from npm, is copied in and never fetched. Trains
nothing, and puts no path or setting of a run on the page.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import UserError, require
from ..files import aside, disk_errors, replace_folder
from .student import student

SOURCES = Path(__file__).parent / "static"
MADE_BY = "kdtf page"
LITERT_VERSION = "2.5.3"  # of @litertjs/core, as in web/package.json, which a test compares
# The build without relaxed SIMD, which some browsers lack and which leaves the last digits to the device.
LITERT = {
    "core/dist/index.js": "litert/core.js",
    "wasm-utils/dist/index.js": "litert/wasm-utils.js",
    "core/wasm/litert_wasm_compat_internal.js": "litert/litert_wasm_compat_internal.js",
    "core/wasm/litert_wasm_compat_internal.wasm": "litert/litert_wasm_compat_internal.wasm",
}
BARE, RELATIVE = '"@litertjs/wasm-utils"', '"./wasm-utils.js"'  # browsers know no package names


def node_modules() -> Path:
    """Where LiteRT.js is expected: web/node_modules of the working directory, as in the repository, if it
    is there, else node_modules.
    """
    repository = Path("web", "node_modules")
    return repository if repository.is_dir() else Path("node_modules")


def build(bundles: list[Path], out: Path, modules: Path | None = None) -> Path:
    """Write the page of `bundles` (`.tflite` files, their `.json` beside them) to the folder `out`.

    `modules` is the folder that npm installed LiteRT.js in, `node_modules()` if None. Written aside and
    renamed: a page that this command made before is replaced, anything else stays. Returns the page's
    absolute path. Raises `UserError`.
    """
    students = [student(path, i) for i, path in enumerate(bundles, 1)]
    for (_, entry), name in zip(students, names(bundles), strict=True):
        entry["name"] = name
    modules = modules or node_modules()
    _check_litert(modules)
    out = out.resolve()
    with disk_errors(out, "--out", "It is as it was before."):
        _check_place(out)
        part = aside(out)
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copytree(SOURCES, part)
            _copy_litert(modules, part)
            _write_students(part, students)
            replace_folder(part, out)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return out


def names(bundles: list[Path]) -> list[str]:
    """What visitors call the students: the files' names, and of their folders what tells them apart."""
    for depth in range(1, max(len(path.parts) for path in bundles) + 1):
        endings = ["/".join(path.with_suffix("").parts[-depth:]) for path in bundles]
        if len(set(endings)) == len(endings):
            return endings
    raise UserError("The bundles must be different files. Got one of them twice.")


def _check_litert(modules: Path) -> None:
    """Raise `UserError` where a file of LiteRT.js is missing; the message says how to get it."""
    hint = (
        "Run `npm ci` in web/ of the repository once, or "
        f"`npm install @litertjs/core@{LITERT_VERSION}` where you call this command."
    )
    for file in LITERT:
        present = (modules / "@litertjs" / file).is_file()
        require(present, "LiteRT.js", f"in {modules}", f"no {file}", hint)


def _copy_litert(modules: Path, page: Path) -> None:
    for source, target in LITERT.items():
        content = (modules / "@litertjs" / source).read_bytes()
        if target.endswith(".js"):  # without the maps, which are not copied
            content = content.replace(BARE.encode(), RELATIVE.encode()).partition(b"//# sourceMappingURL")[0]
        (page / target).write_bytes(content)


def _write_students(page: Path, students: list[tuple[bytes, dict[str, Any]]]) -> None:
    (page / "students").mkdir()
    for model, entry in students:
        (page / entry["file"]).write_bytes(model)
    listing = {"made_by": MADE_BY, "kdtf": __version__, "students": [entry for _, entry in students]}
    listing["files"] = sorted([*_files(page), "students.json"])
    (page / "students.json").write_text(json.dumps(listing, ensure_ascii=False) + "\n", encoding="utf-8")


def _files(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()]


def _check_place(out: Path) -> None:
    """Raise `UserError` unless `out` is new, empty, or a page of this command with nothing else in it."""
    rule = "a new folder, or a page of this command with nothing else in it"
    require(out.is_dir() or not out.exists(), "--out", rule, str(out))
    try:
        note = json.loads((out / "students.json").read_bytes())
        known = set(note["files"]) if note["made_by"] == MADE_BY else set()
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        known = set()
    tops = {path.name for path in out.iterdir()} if out.exists() else set()
    foreign = sorted(tops - {name.split("/")[0] for name in known}) or sorted(set(_files(out)) - known)
    require(not foreign, "--out", rule, str(out), f"It holds {', '.join(foreign[:3])}.")
