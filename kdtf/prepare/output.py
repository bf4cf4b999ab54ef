"""The folder that takes the arrays: whole or not at all, and never somebody else's arrays replaced.

Everything is written into a hidden folder on the disk of OUT, and renamed into place at the end; an
error on the way puts back what was there. Only names that a run reads are ever moved.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..data.arrays import FILE_NAMES
from ..data.dataset import SPLITS, UNLABELLED_SPLIT
from ..data.provenance import MADE_BY, PROVENANCE
from ..data.subgroups import SUBGROUPS
from ..errors import UserError, require
from ..files import disk_errors, require_file

PATTERNS = (*FILE_NAMES.values(), "files_{}.csv")
# SYNTHETIC.txt is never made here: beside real images it would call them a phantom
PARTS = (*SPLITS, UNLABELLED_SPLIT)
NAMES = (
    *("classes.txt", "SYNTHETIC.txt", *map(SUBGROUPS.format, SPLITS)),
    *(pattern.format(part) for part in PARTS for pattern in PATTERNS),
)


def check_places(source: Path, out: Path, unlabelled: Path | None) -> None:
    """Raise `UserError` unless what is read is there and no place is inside another."""
    rule = "a folder of images or an .npz file"
    require(source.exists(), "the source", rule, str(source), "Nothing is there.")
    require_file(source, "the source")
    require(_apart(source, out), "--out", "outside the source, and the source outside --out", str(out))
    if unlabelled is None:
        return
    require(unlabelled.is_dir(), "--unlabelled", "a folder of images", str(unlabelled))
    for name, place in (("the source", source), ("--out", out)):
        rule = f"outside {name}, and {name} outside --unlabelled"
        hint = "A folder unlabelled/ at the top of the source is read without it." * (place is source)
        require(_apart(unlabelled, place), "--unlabelled", rule, str(unlabelled), hint)


def _apart(first: Path, second: Path) -> bool:
    inner, outer = (Path(os.path.realpath(path)) for path in (first, second))  # resolve() raises at a loop
    return not (inner.is_relative_to(outer) or outer.is_relative_to(inner))


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A folder whose files, those of `NAMES` and `PROVENANCE`, become `out`'s if the block ends well.

    What prepare made in `out` before is removed then; files of other names stay. Raises `UserError`
    where `out` holds arrays that prepare did not make, or cannot be written to. Whoever writes to the folder
    does so under `out_errors`: what is raised in the block may as well be about the source.
    """
    with out_errors(out):
        replaceable = _replaceable(out)
        home = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
        staging = Path(tempfile.mkdtemp(prefix=".prepare-", dir=home))
    try:
        yield staging
        with out_errors(out):
            _swap(staging, out, replaceable)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def rehearsed(out: Path) -> Iterator[Path]:
    """A folder of the system's that is removed in the end; `out` is looked at as by `staged`, and no more."""
    with out_errors(out):
        _replaceable(out)
    with tempfile.TemporaryDirectory(prefix="prepare-") as folder:
        yield Path(folder)


@contextmanager
def out_errors(out: Path) -> Iterator[None]:
    """Turns a full disk or a folder without permission, met while `out` is written, into `UserError`."""
    with disk_errors(out, "--out", "It is as it was before."):
        try:
            yield
        except OSError as error:
            if error.errno is None:
                raise
            # without the name of the file: it is one of the folder that is staged, of which nobody knows
            raise OSError(error.errno, error.strerror) from error


def _replaceable(out: Path) -> list[str]:
    """Names of `out` that prepare made and may replace, the provenance last."""
    require(out.is_dir() or not out.exists(), "--out", "a folder", str(out))
    present = [name for name in NAMES if os.path.lexists(out / name)]
    listed = _listed(out / PROVENANCE)
    foreign = [name for name in present if name not in listed]
    foreign += [PROVENANCE] if os.path.lexists(out / PROVENANCE) and not listed else []
    hint = "Choose another folder, or move them away."
    rule = "a folder without arrays, or with those of an earlier prepare"
    require(not foreign, "--out", rule, f"{out} with {', '.join(foreign)}", hint)
    return [*present, PROVENANCE] if listed else []


def _listed(provenance: Path) -> set[str]:
    """The files that an earlier prepare says it made; none of anything else of that name, a pipe say."""
    if not provenance.is_file():
        return set()
    try:
        note = json.loads(provenance.read_bytes())
        return set(note["sha256"]) if note["made_by"] == MADE_BY else set()
    except (ValueError, KeyError, TypeError, RecursionError):
        return set()
    except OSError as error:
        raise UserError(f"{provenance} must be readable. Got: {error.strerror}.") from None


def _swap(staging: Path, out: Path, replaceable: list[str]) -> None:
    """Move `replaceable` out of `out` and the new files in, or leave `out` as it was.

    The provenance goes last and comes first, so that even a killed process leaves no arrays without one.
    """
    fresh = [name for name in (PROVENANCE, *NAMES) if (staging / name).exists()]
    absent = [folder for folder in (out / "teacher", out, *out.absolute().parents) if not folder.exists()]
    aside, moved = staging / "old", []
    pairs = [(out / name, aside / name) for name in replaceable]
    pairs += [(staging / name, out / name) for name in fresh]
    try:
        for origin, target in pairs:
            target.parent.mkdir(parents=True, exist_ok=True)
            moved.append((origin, target))
            os.replace(origin, target)
    except BaseException:
        for origin, target in reversed(moved):
            if target.exists() and not origin.exists():
                os.replace(target, origin)
        for folder in absent:
            with suppress(OSError):
                folder.rmdir()
        raise
    with suppress(OSError):
        (out / "teacher").rmdir()  # of an earlier prepare with a teacher's copy; only if it is empty
