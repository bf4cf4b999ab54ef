"""How often images are warned of as unlike the training images: every test set by every set's card.

    python benchmarks/unlike.py DATA DATA...

Prints the percentage by brightness, contrast and colour alone, and by layout as well. `DATA` is what
`--data` takes.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from kdtf.data.load import load
from kdtf.data.typical import layout, typical
from kdtf.predictor import likeness, patterns_of, statistics, to_image, to_pixels


def warned(known: dict, patterns: np.ndarray, pixels: np.ndarray, names: list[str]) -> float:
    """The percentage of pixels (N, H, W, C) outside a card's bounds in any of `names`."""
    values, bounds = statistics(pixels, patterns), likeness(known)
    outside = [(values[n] < bounds[n][0]) | (values[n] > bounds[n][1]) for n in names]
    return 100 * float(np.any(outside, axis=0).mean())


def main(sources: list[str]) -> None:
    with tempfile.TemporaryDirectory() as work:
        sets = {source: load(source, Path(work)) for source in sources}
        for source, data in sets.items():
            shape = data.train.pixels.shape[1:]
            stored, unexplained = layout(data.train.pixels, data.val.pixels)
            known = typical(data.train.pixels) | {"layout": unexplained}
            for other, images in sets.items():
                pixels = np.stack([to_pixels(to_image(p), shape) for p in images.test.pixels])
                patterns = patterns_of({"training_layout": stored})
                rates = [warned(known, patterns, pixels, n) for n in (list(known)[:3], list(known))]
                print(f"student of {source}, images of {other}: {rates[0]:.1f} -> {rates[1]:.1f} %")


if __name__ == "__main__":
    main(sys.argv[1:])
