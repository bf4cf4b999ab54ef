"""How long the audit takes and how much memory: `python benchmarks/audit.py [images] [side]`.

50,000 images at 64 px unless told otherwise: the noise of the phantom over smooth shapes, 500 exact
copies and 500 near ones of train in test. The audit runs as a user runs it, in a process of its own,
from files; memory is what that process alone holds at its peak (`memory`). It must find every copy that
was planted, above 200,000 images by an approximate search, whose recall is told.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from memory import measured

ROOT = Path(__file__).parents[1]
PLANTED = 500


def shapes(count: int, side: int, rng: np.random.Generator) -> Iterator[tuple[int, np.ndarray]]:
    """Smooth images, a few low frequencies and some noise: (first row, (n, side, side) uint8)."""
    waves = np.arange(side) / side
    basis = np.concatenate([[np.cos(np.pi * k * waves)] for k in range(8)])  # (8, side)
    for start in range(0, count, 1000):
        n = min(1000, count - start)
        image = np.einsum("nij,ih,jw->nhw", rng.normal(0, 14, (n, 8, 8)), basis, basis)
        yield start, np.clip(image + rng.normal(118, 5, image.shape), 0, 255).astype(np.uint8)


def write(folder: Path, images: int, side: int) -> None:
    """train, val and test at 8 : 1 : 1, the first images of test copies of train."""
    rng = np.random.default_rng(0)
    tenth = images // 10
    for split, count in (("train", images - 2 * tenth), ("val", tenth), ("test", tenth)):
        out = np.lib.format.open_memmap(folder / f"X_{split}.npy", "w+", np.uint8, (count, side, side))
        for start, pixels in shapes(count, side, rng):
            out[start : start + len(pixels)] = pixels
        if split == "test":
            train = np.load(folder / "X_train.npy", mmap_mode="r")
            out[:PLANTED] = train[:PLANTED]
            near = train[PLANTED : 2 * PLANTED].astype(int) + rng.integers(-2, 3, (PLANTED, side, side))
            out[PLANTED : 2 * PLANTED] = np.clip(near, 0, 255)
        np.save(folder / f"y_{split}.npy", np.arange(count) % 4)


def main(images: int = 50_000, side: int = 64) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data, results = Path(folder, "data"), Path(folder, "results")
        data.mkdir()
        write(data, images, side)
        command = [sys.executable, ROOT / "main.py", "audit", "--data", data, "--results", results]
        run = measured(command, log=Path(folder, "log"))
        if run.code:
            raise SystemExit(Path(folder, "log").read_text())
        pairs = pd.read_csv(results / "audit_pairs.csv").query("split != other")
        counts = {kind: len(rows) for kind, rows in pairs.groupby("kind")}
        told = pd.read_csv(results / "audit.csv").query("check.str.contains('approximate')")
    whole = run.whole
    print(
        f"{images} images at {side} px: {whole.cpu:.1f} s of CPU, {whole.wall:.0f} s, peak private memory "
        f"{whole.private:.0f} MiB, of it {whole.anonymous:.0f} anonymous"
    )
    print(f"planted {PLANTED} exact and {PLANTED} near copies across splits; found {counts}")
    for row in told.itertuples():
        print(f"{row.check}: {row.count:.0f} of {row.of:.0f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
