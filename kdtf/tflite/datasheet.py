"""What every card of a run says of its data: computed once, from the images a student is trained on."""

from collections.abc import Mapping
from typing import Any

from ..data.dataset import Dataset
from ..data.typical import layout, reference, typical
from ..records import DataSheet


def describe_data(data: Dataset, prepared: Mapping[str, Any]) -> DataSheet:
    """The classes, the images in numbers, how they were prepared, and what a student of them cannot do."""
    patterns, unexplained = layout(data.train.pixels, data.val.pixels)
    known = {**typical(data.train.pixels), "layout": unexplained}
    splits = {name: split.pixels for name, split in data.splits.items()}
    return DataSheet(
        classes=tuple(data.classes),
        digest=data.digest,
        shape=tuple(data.train.pixels.shape[1:]),
        synthetic=data.synthetic,
        prepared=dict(prepared),
        training_images=known,
        training_layout=patterns,
        images={name: len(split.labels) for name, split in data.splits.items()},
        limits=limits(data),
        reference=reference(splits, known, patterns),
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
