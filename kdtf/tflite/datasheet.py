"""What every card of a run says of its data: computed once, from the images a student is trained on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data.dataset import Dataset, PixelArray
from ..data.typical import layout, reference, typical
from ..records import DataSheet


def describe_data(
    data: Dataset,
    prepared: Mapping[str, Any],
    splits: Mapping[str, PixelArray] | None = None,
    folder: Path | None = None,
) -> DataSheet:
    """The classes, the images in numbers, how they were prepared, and what a student of them cannot do.

    `splits` are train, val and test as the student sees them, each (N, H, W, C), by default those of `data`.
    Thumbnails are kept in files without a name in `folder`, by default where temporary files are.
    """
    splits = splits or {name: split.pixels for name, split in data.splits.items()}
    height, width, channels = splits["train"].shape[1:]
    patterns, unexplained = layout(splits["train"], splits["val"], folder)
    known = {**typical(splits["train"]), "layout": unexplained}
    return DataSheet(
        classes=tuple(data.classes),
        digest=data.digest,
        shape=(height, width, channels),
        synthetic=data.synthetic,
        prepared=dict(prepared),
        training_images=known,
        training_layout=patterns,
        images={name: len(split.labels) for name, split in data.splits.items()},
        limits=limits(data),
        reference=reference(splits, known, patterns, folder),
    )


def limits(data: Dataset) -> list[str]:
    """What a student of `data` cannot do, a sentence each."""
    sentences = [
        "It knows the classes above and no other: every image gets one of them, also one of something else.",
        "Its scores hold for images like those it was tested on; no other scanner, hospital or preparation "
        "was tested.",
        f"Temperature and thresholds were chosen on {len(data.val.labels)} images.",
        "Unlike images are noticed by brightness, contrast, colour and coarse layout alone: not every image "
        "of another organ or modality is.",
    ]
    if data.synthetic:
        sentences.insert(0, "It was trained on a synthetic phantom and says nothing about patients.")
    return sentences
