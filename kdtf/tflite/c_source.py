"""A student as C source: its bytes and its labels, for TensorFlow Lite Micro. Writes nothing."""

from .card import Card

BYTES_A_LINE = 16

HEADER = """\
{origin}
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
{origin}
#include "student.h"

alignas(16) const unsigned char student_model[] = {{
{model}}};
const unsigned int student_model_len = {length};

const char *const student_labels[STUDENT_CLASSES] = {{
{labels}}};
"""


def c_source(model: bytes, card: Card) -> dict[str, str]:
    """{file: text} of a bundle in C: `student.h` declares, `student.cc` holds the model's bytes and labels.

    Compiles as C++11, as TensorFlow Lite Micro does; what it declares can be used from C.
    """
    lines = (model[i : i + BYTES_A_LINE] for i in range(0, len(model), BYTES_A_LINE))
    origin = f"// A kdtf student: recipe {_in_c(card.recipe)}, sha256 {card.sha256}. Research only."
    return {
        "student.h": HEADER.format(
            origin=origin,
            dtype=_in_c(card.input.dtype),
            classes=len(card.classes),
            height=card.input.height,
            width=card.input.width,
            channels=card.input.channels,
        ),
        "student.cc": SOURCE.format(
            origin=origin,
            model="".join(f"    {','.join(f'0x{byte:02x}' for byte in line)},\n" for line in lines),
            length=len(model),
            labels="".join(f'    "{_in_c(name)}",\n' for name in card.classes),
        ),
    }


def _in_c(text: str) -> str:
    """The inside of a C string: letters, digits and some signs as they are, every other byte in octal."""
    plain = set(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ._-+()")
    return "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode())
