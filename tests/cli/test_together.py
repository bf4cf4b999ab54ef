"""Many at once: predictors side by side over one bundle, and a folder that changes while it is read."""

import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
from PIL import Image

from kdtf.predictor import Predictor

ROOT = Path(__file__).parents[2]


def images(folder, count):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(folder / f"{i:03}.png")
    return folder


def test_twenty_predictors_say_the_same(bundle, tmp_path):
    path, folder = bundle("int8"), images(tmp_path / "images", 60)
    outs = [tmp_path / f"{i}.csv" for i in range(20)]
    started = [
        subprocess.Popen([sys.executable, "main.py", "predict", path, folder, "--csv", out], cwd=ROOT)
        for out in outs
    ]
    assert [process.wait(timeout=120) for process in started] == [0] * 20
    predictor = Predictor(path)
    rows = [row.record(predictor.classes) for row in predictor.rows(folder)]
    expected = [",".join(map(str, row.values())) for row in rows]
    assert len(expected) == 60 and all(out.read_text().splitlines()[1:] == expected for out in outs)
    assert not list(tmp_path.glob("*.part"))


def test_a_folder_that_changes_while_it_is_read(bundle, tmp_path):
    """What stays is read right; what comes, goes or is half written has a row that is right or says why."""
    predictor, folder = Predictor(bundle("int8")), images(tmp_path / "images", 200)
    expected = {row.file: row.probs.tolist() for row in predictor.rows(folder)}
    other = Image.fromarray(np.full((20, 20, 3), 7, np.uint8))
    other.save(tmp_path / "other.png")
    (row,) = predictor.rows([tmp_path / "other.png"])
    other_probs, content, over = row.probs.tolist(), (tmp_path / "other.png").read_bytes(), threading.Event()
    changed = {str(folder / f"{i:03}.png") for i in range(100, 200)}

    def change():
        for i in itertools.count():
            if over.is_set():
                return
            path = folder / f"{100 + i % 100:03}.png"
            match i % 5:
                case 0:
                    path.unlink(missing_ok=True)
                case 1:
                    path.write_bytes(content[:50])
                case 2:
                    path.write_bytes(content)
                case 3:
                    (folder / f"new{i}.png").write_bytes(content)
                case 4:
                    path.unlink(missing_ok=True)
                    os.symlink("nowhere", path)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        rows = [row for _ in range(5) for row in predictor.rows(folder)]
    finally:
        over.set()
        thread.join()
    quiet = [row for row in rows if row.file in expected and row.file not in changed]
    assert len(quiet) == 5 * 100 and all(row.probs.tolist() == expected[row.file] for row in quiet)
    for row in rows:
        if row.file not in expected or row.file in changed:
            right = (expected.get(row.file), other_probs)
            assert (row.error and "\n" not in row.error) or row.probs.tolist() in right
