"""The steps of an import: plan, show what is planned, decode and write, say how it was made, put in place."""

import json
import os
import platform
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from .. import __version__
from ..data.dataset import UNLABELLED_SPLIT
from ..data.provenance import MADE_BY, PROVENANCE
from ..errors import require
from ..files import file_digest
from ..predictor import BITS_12
from ..progress import Progress
from ..sections import section_dict
from ..versions import versions
from .archive import plan_archive
from .outline import Outline, outline_of
from .output import NAMES, check_places, out_errors, rehearsed, staged
from .plan import Plan, plan_folder
from .settings import PrepareConfig
from .subgroups import with_subgroups
from .write import AHEAD, Row, Writer, printable

PACKAGES = ("numpy", "pillow", "pydicom", "scikit-learn")
MOST_NAMED = 10  # skipped images named on the way; the provenance lists all of them


class Summary(NamedTuple):
    """What an import came to; of a dry run, what it would come to if every image can be read."""

    out: Path
    counts: dict[str, int]  # images by split
    classes: tuple[str, ...]
    skipped: int


def _unseen(outline: Outline) -> None:
    """An outline that nobody looks at."""


def prepare(
    source: Path, settings: PrepareConfig, progress: Progress, show: Callable[[Outline], None] = _unseen
) -> Summary:
    """Write the arrays of `source`, a folder of images or an .npz file, into the folder `settings.out`.

    `show` gets the classes and counts before anything is written, and with `settings.dry_run` nothing is.
    Raises `UserError`, and then leaves that folder as it was.
    """
    source, out = Path(source), Path(settings.out)
    check_places(source, out, None if settings.unlabelled is None else Path(settings.unlabelled))
    place = rehearsed(out) if settings.dry_run else staged(out)
    with warnings.catch_warnings(), place as folder:
        # Set once, in this thread. pydicom's warnings quote headers, and a header holds the patient; a
        # bomb of Pillow's is refused by its size, and a class too rare for scikit-learn by `cut`.
        warnings.simplefilter("ignore")
        plan = _checked_plan(source, folder, settings, progress)
        outline = outline_of(source, plan)
        show(outline)
        if settings.dry_run:
            return Summary(out, outline.totals, plan.classes, 0)
        with out_errors(out):
            rows, writer = _write_all(folder, plan, settings, progress)
            (folder / "classes.txt").write_text("".join(f"{name}\n" for name in plan.classes), "utf-8")
            note = _provenance(folder, source, settings, plan, rows, writer.skipped)
            (folder / PROVENANCE).write_text(json.dumps(note, indent=1) + "\n", "utf-8")
    _say_what_was_skipped(writer, progress)
    counts = {split: len(own) for split, own in rows.items()}
    return Summary(out, counts, plan.classes, len(writer.skipped))


def _checked_plan(source: Path, folder: Path, settings: PrepareConfig, progress: Progress) -> Plan:
    """The plan of a source, which has images where it must have some. Raises `UserError`."""
    if source.is_dir():
        plan = with_subgroups(plan_folder(source, settings, progress), source, settings, progress)
    else:
        plan = plan_archive(source, folder / "unpacked", settings, progress)
    for split, items in plan.splits.items():
        _check_filled(split, Counter(item.label for item in items), plan.classes)
    return plan


def _write_all(
    folder: Path, plan: Plan, settings: PrepareConfig, progress: Progress
) -> tuple[dict[str, list[Row]], Writer]:
    """({split: rows}, the writer that wrote them)."""
    workers = settings.workers or os.cpu_count() or 1
    total = sum(map(len, plan.splits.values()))
    with ThreadPoolExecutor(workers) as pool, progress.bar("preparing images", total) as advance:
        writer = Writer(folder, plan.classes, plan.columns, settings, pool, AHEAD * workers, advance)
        rows = {}
        for split, items in plan.splits.items():
            rows[split] = writer.write(split, items)
            _check_filled(split, Counter(row.label for row in rows[split]), plan.classes)
    return rows, writer


def _check_filled(split: str, counts: Counter, classes: tuple[str, ...]) -> None:
    """Raise `UserError` where a split has no image, or train none of a class."""
    require(counts, split, "at least one image that can be read", "none")
    empty = [name for k, name in enumerate(classes) if not counts[k] and split == "train"]
    hint = "Add images, or remove the folders of these classes."
    require(not empty, "every class of train", "of at least one image that can be read", empty, hint)


def _provenance(
    folder: Path,
    source: Path,
    settings: PrepareConfig,
    plan: Plan,
    rows: dict[str, list[Row]],
    skipped: list[dict[str, str]],
) -> dict:
    """How the files in `folder` were made, without a time or a path of this machine."""
    values = section_dict(settings)
    for name in ("out", "workers", "dry_run"):  # none of them changes a byte
        del values[name]
    values["groups"] = settings.groups and Path(settings.groups).name
    values["subgroups"] = settings.subgroups and Path(settings.subgroups).name
    values["unlabelled"] = settings.unlabelled and printable(Path(settings.unlabelled).resolve().name)
    splits: dict[str, dict] = {}
    for split, own in rows.items():
        counts = Counter(row.label for row in own)
        splits[split] = {"images": len(own)}
        if split != UNLABELLED_SPLIT:
            splits[split]["classes"] = {name: counts[k] for k, name in enumerate(plan.classes)}
    return {
        "made_by": MADE_BY,
        "source": printable(source.resolve().name),
        "layout": plan.layout,
        "settings": values,
        "kept_of_headers": list(settings.subgroup_tags),  # all else of a DICOM header is left behind
        "subgroups": list(plan.columns),
        "versions": {"kdtf": __version__, "python": platform.python_version(), **versions(PACKAGES)},
        "splits": splits,
        "ignored": plan.ignored,
        "skipped": skipped,
        "sha256": {name: file_digest(folder / name) for name in sorted(NAMES) if (folder / name).exists()},
    }


def _say_what_was_skipped(writer: Writer, progress: Progress) -> None:
    """Say which images were skipped, and warn of what looks wrong."""
    for image in writer.skipped[:MOST_NAMED]:
        progress.say(f"Skipped {image['file']!r}: {image['reason']}.")
    if writer.skipped:
        count = f"{len(writer.skipped)} of {writer.finished}"
        progress.warn(f"{count} images could not be read and were skipped: see {PROVENANCE}.")
    if writer.peak is not None and writer.peak < BITS_12:
        progress.warn(
            f"The 16-bit images look like 12-bit data: none is above {writer.peak}, and 65535 became white. "
            "--window CENTER WIDTH keeps their grey levels."
        )
