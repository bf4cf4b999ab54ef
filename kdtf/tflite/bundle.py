"""What goes with a `.tflite` besides its bytes: what its training images were like, its limits, C source.

Reads pixels and files; trains and converts nothing.
"""

import base64
import json
from pathlib import Path

import numpy as np

from ..data.load import Dataset
from ..predictor import BATCH, patterns_of, statistics, thumbnails, unexplained
from ..prepare.outbox import MADE_BY, PROVENANCE
from ..store import file_digest

RANGE = (0.005, 0.5, 0.995)  # quantiles over the training images: low, median, high
EXPLAINED, MOST_PATTERNS, FOLDS = 0.9, 32, 5  # of the variance of thumbnails; a pattern is 64 bytes
BYTES_A_LINE = 16


def of_data(data: Dataset) -> dict:
    """What the card of every student of `data` says of it; `input` joins what the card says there."""
    how = prepared(Path(data.source))
    patterns, explained = layout(data.train.pixels, data.val.pixels)
    return {
        "classes": list(data.classes),
        "input": {"prepared": how} if how else {},
        "training_images": typical(data.train.pixels) | {"layout": explained},
        "training_layout": patterns,
        "images": {split: len(getattr(data, split).labels) for split in ("train", "val", "test")},
        "limits": limits(data),
    }


def typical(pixels: np.ndarray) -> dict[str, list[float]]:
    """{statistic: [low, median, high]} of images (N, H, W, C), in grey levels 0..255, a batch at a time.

    All but the layout, which takes images that its patterns were not found in: `layout`.
    """
    parts = [statistics(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {name: np.quantile(own, RANGE).round(2).tolist() for name, own in values.items()}


def layout(train: np.ndarray, val: np.ndarray) -> tuple[str, list[float]]:
    """The main patterns of the thumbnails of images (N, H, W, C), and [low, median, high] of what they leave.

    The patterns are the principal components (uncentred: a thumbnail has no mean) that make nine tenths of
    the variance. What they leave is measured on images that they were not found in: fold by fold within
    train, and on val; the higher end counts.
    """
    own, others = _thumbnails(train), _thumbnails(val)
    folds = np.arange(len(own)) % FOLDS
    left = [unexplained(own[folds == i], _patterns(own[folds != i])) for i in range(FOLDS)]
    stored = base64.b64encode(_stored(_patterns(own))).decode()
    low, median, high = np.quantile(np.concatenate(left), RANGE)
    beyond = np.quantile(unexplained(others, patterns_of({"training_layout": stored})), RANGE[-1])
    return stored, np.round([low, median, max(high, beyond)], 2).tolist()


def _thumbnails(pixels: np.ndarray) -> np.ndarray:
    batches = (pixels[i : i + BATCH] for i in range(0, len(pixels), BATCH))
    return np.concatenate([thumbnails(batch.astype(np.float32).mean(axis=3)) for batch in batches])


def _patterns(values: np.ndarray) -> np.ndarray:
    """The principal components (K, 64) of thumbnails (N, 64), the largest first."""
    energies, directions = np.linalg.eigh(values.T @ values)  # ascending
    made = np.cumsum(energies[::-1]) / max(energies.sum(), 1e-12)
    count = min(int(np.searchsorted(made, EXPLAINED)) + 1, MOST_PATTERNS)
    return directions[:, ::-1].T[:count]


def _stored(patterns: np.ndarray) -> bytes:
    """A byte a value, each pattern by its own largest one."""
    return np.rint(patterns / np.abs(patterns).max(axis=1, keepdims=True) * 127).astype(np.int8).tobytes()


def prepared(folder: Path) -> dict:
    """How `prepare` made the images in `folder`: side, keep_aspect and window; {} where it did not."""
    try:
        note = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        made = note["made_by"] == MADE_BY
        if not made or note["sha256"]["X_train.npy"] != file_digest(folder / "X_train.npy"):
            return {}
        settings = note["settings"]
        return {
            "side": settings["size"],
            "keep_aspect": settings["keep_aspect"],
            "window": list(settings["window"]),
        }
    except (OSError, ValueError, LookupError, TypeError):  # other arrays, or none
        return {}


def limits(data: Dataset) -> list[str]:
    """What a student of `data` cannot do, a sentence each."""
    found = [
        "It knows the classes above and no other: every image gets one of them, also one of something else.",
        "Its scores hold for images like those it was tested on; no other scanner, hospital or preparation "
        "was tested.",
        f"Temperature and thresholds were chosen on {len(data.val.labels)} images.",
        "Unlike images are noticed by brightness, contrast, colour and coarse layout alone: not every image "
        "of another organ or modality is.",
    ]
    if data.synthetic:
        found.insert(0, "It was trained on a synthetic phantom and says nothing about patients.")
    return found


HEADER = """\
{told}
#ifndef STUDENT_H_
#define STUDENT_H_

// Input: {dtype}, row by row, pixels 0..255 as they are. Output: a probability per class.
#define STUDENT_HEIGHT {height}
#define STUDENT_WIDTH {width}
#define STUDENT_CHANNELS {channels}
#define STUDENT_CLASSES {classes}

#ifdef __cplusplus
extern "C" {{
#endif
extern const unsigned char student_model[];  // aligned to 16 bytes
extern const unsigned int student_model_len;
extern const char *const student_labels[STUDENT_CLASSES];  // UTF-8
#ifdef __cplusplus
}}
#endif

#endif  // STUDENT_H_
"""
SOURCE = """\
{told}
#include "student.h"

alignas(16) const unsigned char student_model[] = {{
{model}}};
const unsigned int student_model_len = {length};

const char *const student_labels[STUDENT_CLASSES] = {{
{labels}}};
"""


def c_source(model: bytes, card: dict) -> dict[str, str]:
    """{file: text} of a bundle in C: `student.h` declares, `student.cc` holds the model's bytes and labels.

    Compiles as C++11, as TensorFlow Lite Micro does; what it declares can be used from C.
    """
    taken = card["input"]
    lines = (model[i : i + BYTES_A_LINE] for i in range(0, len(model), BYTES_A_LINE))
    told = (
        f"// A kdtf student: recipe {_in_c(str(card.get('recipe')))}, sha256 {card['sha256']}. Research only."
    )
    sizes = {k: taken[k] for k in ("height", "width", "channels")}
    dtype = _in_c(str(taken.get("dtype")))
    return {
        "student.h": HEADER.format(told=told, dtype=dtype, classes=len(card["classes"]), **sizes),
        "student.cc": SOURCE.format(
            told=told,
            model="".join(f"    {','.join(f'0x{byte:02x}' for byte in line)},\n" for line in lines),
            length=len(model),
            labels="".join(f'    "{_in_c(name)}",\n' for name in card["classes"]),
        ),
    }


def _in_c(text: str) -> str:
    """The inside of a C string: letters, digits and some signs as they are, every other byte in octal."""
    plain = set(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ._-+()")
    return "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode())
