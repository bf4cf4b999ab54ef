"""A teacher's labels that several tasks made, as one stage. No network is run."""

import shutil

import numpy as np

from ..data.arrays import write_npy_header
from .perform import Workspace
from .records import LabelPart
from .stages import LOGITS, VAL_LOGITS


def join(space: Workspace, parts: list[LabelPart]) -> None:
    """Logits (V, N, K) of parts in the order of views and images, and those of val if the first has them."""
    folders = [space.inputs[f"part{i}"] for i in range(len(parts))]
    shape = (parts[-1].view + 1, parts[-1].stop, *np.load(folders[0] / LOGITS, mmap_mode="r").shape[2:])
    with open(space.folder / LOGITS, "wb") as file, space.progress.bar(space.title, len(parts)) as advance:
        write_npy_header(file, shape, "<f4")
        for i, folder in enumerate(folders):
            file.write(np.ascontiguousarray(np.load(folder / LOGITS, mmap_mode="r")).data)
            advance(i + 1)
    if (folders[0] / VAL_LOGITS).exists():
        shutil.copyfile(folders[0] / VAL_LOGITS, space.folder / VAL_LOGITS)
