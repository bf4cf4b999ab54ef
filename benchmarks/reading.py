"""Four readers of a results folder that a run writes: `report`, `status`, and `predict` twice, over and over.

Two runs of different settings take turns in one folder, so that every file is replaced by another. A reader
must end with exit code 0, or before there is anything to read with 2 and one line that says what is missing.
What it read must be whole: a page is compared with those that runs and readers may make of whole tables, a
prediction with those of the two students.
"""

import json
import os
import random
import re
import shutil
import time
from collections import Counter
from pathlib import Path

from forked_runs import Forked

OTHER = ("--seed", "5")  # the settings of every second run
READERS = ("report", "status", "predict", "predict")
STUDENT = "alone_Student_int8.tflite"
MISSING = re.compile("No such file or directory|must hold the tables of a finished run|must be a folder")


def beside_runs(
    work: Forked, results: Path, reads: int, rng: random.Random
) -> tuple[Counter[str], list[str]]:
    """Read until there were so many reads; the counts, and what was wrong."""
    import numpy as np
    from PIL import Image

    results.parent.mkdir(parents=True, exist_ok=True)
    images = results.parent / "images"
    images.mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{i}.png")
    settings, known = (work.command(results), [*work.command(results), *OTHER]), set[str]()
    for argv in settings:  # what each student says, when nobody disturbs
        folder = results.parent / f"alone{len(known)}"
        folder.mkdir()
        end = work.run(folder / "r", argv)
        assert end.code == 0, end.error
        table = folder / "p.csv"
        end = work.run(
            folder / "r", ["predict", str(folder / "r" / STUDENT), str(images), "--csv", str(table)]
        )
        assert end.code == 0, end.error
        known.add(table.read_text())
    end = work.run(results, settings[0])  # so that there is something to read
    assert end.code == 0, end.error
    runs, over = start_runs(work, results, settings, rng.random()), results.parent / "over"
    outs = [results.parent / f"reader{i}" for i in range(len(READERS))]
    pids = []
    for kind, out in zip(READERS, outs, strict=True):
        pid = os.fork()
        if not pid:
            read_often(kind, work, results, images, known, -(-reads // len(READERS)), out)
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    over.touch()
    os.waitpid(runs, 0)
    counts, wrong = Counter[str](), list[str]()
    for out in (*outs, results.parent / "runs"):
        own, faults = json.loads(out.read_text())
        counts, wrong = counts + Counter(own), wrong + faults
    return counts, wrong


def start_runs(work: Forked, results: Path, settings: tuple[list[str], ...], seed: float) -> int:
    """Fork a process in which runs take turns until a file `over` is there; its number."""
    pid = os.fork()
    if pid:
        return pid
    rng, runs, wrong = random.Random(seed), 0, []
    while not (results.parent / "over").exists():
        end = work.run(results, settings[runs % 2])
        runs += 1
        if end.code:
            wrong.append(f"a run: exit code {end.code}: {end.error[-300:]}")
        for stage in results.glob("work/*-report-*"):
            if rng.random() < 0.5:  # so that its files are written again
                gone = results.parent / "gone"
                stage.rename(gone)
                shutil.rmtree(gone)
    (results.parent / "runs").write_text(json.dumps([{"runs": runs}, wrong]))
    os._exit(0)


def read_often(
    kind: str, work: Forked, results: Path, images: Path, known: set[str], reads: int, out: Path
) -> None:
    """One reader: so many reads by a command, each in a process of its own; counts and faults as JSON."""
    counts, wrong = Counter[str](), list[str]()
    table = out.with_suffix(".csv")
    argv = {
        "report": ["report", "--results", str(results)],
        "status": ["status", "--results", str(results)],
        "predict": ["predict", str(results / STUDENT), str(images), "--csv", str(table)],
    }[kind]
    out.with_suffix(".d").mkdir()
    place = out.with_suffix(".d") / "r"  # where it is called from
    while counts[kind] < reads:
        end = work.run(place, argv)
        if end.code == 2 and MISSING.search(end.error) and not (results / "manifest.json").exists():
            counts["before there was anything"] += 1
            time.sleep(0.5)
            continue
        counts[kind] += 1
        if end.code:
            wrong.append(f"{kind}: exit code {end.code}: {end.error[-300:]}")
        elif kind == "predict" and table.read_text() not in known:
            wrong.append(f"{kind}: {table.read_text()[:200]}")
        page = results / "report.html"
        if kind == "report" and page.exists() and not page.read_text().rstrip().endswith("</html>"):
            wrong.append("report: half a page")
        if "damaged" in end.out:
            wrong.append(f"{kind}: {end.out[-300:]}")
    out.write_text(json.dumps([counts, wrong]))
