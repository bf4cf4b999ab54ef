"""What goes with a `.tflite` besides its bytes: what its training images were like, its limits, C source.

Reads pixels and files; trains and converts nothing.
"""

from pathlib import Path

from ..data.dataset import Dataset
from ..data.provenance import prepared
from ..data.typical import layout, typical

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
