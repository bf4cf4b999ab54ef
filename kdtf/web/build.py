"""Students to a folder of static files that runs them in a visitor's browser, through LiteRT.js.

The page's own files are in `static/`; LiteRT.js comes from npm (`npm ci` in `web/`), is copied in and
never fetched. Trains nothing, and puts no path or setting of a run on the page.
"""

import json
import os
import shutil
from pathlib import Path

from .. import __version__
from ..errors import UserError, require
from ..store import disk_errors
from .student import student

SOURCES = Path(__file__).parent / "static"
MODULES = Path(__file__).parents[2] / "web" / "node_modules"
MADE_BY = "kdtf page"
# The build without relaxed SIMD, which some browsers lack and which leaves the last digits to the device.
LITERT = {
    "core/dist/index.js": "litert/core.js",
    "wasm-utils/dist/index.js": "litert/wasm-utils.js",
    "core/wasm/litert_wasm_compat_internal.js": "litert/litert_wasm_compat_internal.js",
    "core/wasm/litert_wasm_compat_internal.wasm": "litert/litert_wasm_compat_internal.wasm",
}
BARE, RELATIVE = '"@litertjs/wasm-utils"', '"./wasm-utils.js"'  # browsers know no package names


def build(bundles: list[Path], out: Path, modules: Path = MODULES) -> Path:
    """Write the page of `bundles` (`.tflite` files, their `.json` beside them) to the folder `out`.

    `modules` is the node_modules folder of `web/`. Written aside and renamed: a page that this command made
    before is replaced, anything else stays. Raises `UserError`.
    """
    students = [student(path, i) for i, path in enumerate(bundles, 1)]
    for (_, facts), name in zip(students, names(bundles), strict=True):
        facts["name"] = name
    for file in LITERT:
        there = (modules / "@litertjs" / file).is_file()
        require(there, "LiteRT.js", f"in {modules}", f"no {file}", "Run `npm ci` in web/ once.")
    out = out.resolve()
    with disk_errors(out, "--out", "It is as it was before."):
        _check_place(out)
        aside = out.with_name(f".{out.name}.part")
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copytree(SOURCES, aside)
            _copy_litert(modules, aside)
            _write_students(aside, students)
            _swap(aside, out)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return out


def names(bundles: list[Path]) -> list[str]:
    """What visitors call the students: the files' names, and of their folders what tells them apart."""
    for depth in range(1, max(len(path.parts) for path in bundles) + 1):
        made = ["/".join(path.with_suffix("").parts[-depth:]) for path in bundles]
        if len(set(made)) == len(made):
            return made
    raise UserError("The bundles must be different files. Got one of them twice.")


def _copy_litert(modules: Path, aside: Path) -> None:
    for source, target in LITERT.items():
        content = (modules / "@litertjs" / source).read_bytes()
        if target.endswith(".js"):  # without the maps, which are not copied
            content = content.replace(BARE.encode(), RELATIVE.encode()).partition(b"//# sourceMappingURL")[0]
        (aside / target).write_bytes(content)


def _write_students(aside: Path, students: list[tuple[bytes, dict]]) -> None:
    (aside / "students").mkdir()
    for model, entry in students:
        (aside / entry["file"]).write_bytes(model)
    listed = {"made_by": MADE_BY, "kdtf": __version__, "students": [entry for _, entry in students]}
    listed["files"] = sorted([*_files(aside), "students.json"])
    (aside / "students.json").write_text(json.dumps(listed, ensure_ascii=False) + "\n", encoding="utf-8")


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


def _swap(aside: Path, out: Path) -> None:
    """Put `aside` where `out` is; what was there is removed only then."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.replace(out, old)
    try:
        os.replace(aside, out)
    except OSError:
        if old.exists():
            os.replace(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)
