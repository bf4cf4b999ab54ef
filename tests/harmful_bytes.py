"""Contents of files that are harmed or were made to hurt, for harmful_files.py and test_hostile.py."""

import io
import os
import random
import struct
import zipfile

import numpy as np


def harm(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """What was done to a file, and its bytes then."""
    size, data = len(content), bytearray(content)
    how = rng.choice(("cut", "flip", "flips", "zeros", "noise", "extreme", "twice", "gap", "empty", "head"))
    at = rng.randrange(max(size, 1))
    length = rng.randrange(1, max(2, min(size, 64)))
    match how:
        case "cut":
            return how, content[:at]
        case "flip" | "flips":
            for _ in range(1 if how == "flip" else rng.randrange(2, 40)):
                if size:
                    data[rng.randrange(size)] ^= 1 << rng.randrange(8)
        case "zeros":
            data[at : at + length] = bytes(length)
        case "noise":
            data[at : at + length] = rng.randbytes(length)
        case "extreme":
            number = rng.choice((0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0, 1, 0xFFFF))
            data[at : at + 4] = struct.pack(rng.choice("<>") + "I", number)
        case "twice":
            data[at:at] = content[at : at + length]
        case "gap":
            del data[at : at + length]
        case "empty":
            data = bytearray()
        case "head":
            data = bytearray(content[:16] + rng.randbytes(64))
    return how, bytes(data)


# Made by hand: what no flipped bit would find


def header(shape, descr="|u1") -> bytes:
    """An .npy header without its data."""
    out = io.BytesIO()
    np.lib.format.write_array_header_2_0(out, {"descr": descr, "fortran_order": False, "shape": shape})
    return out.getvalue()


class _Runs:
    def __reduce__(self):
        return os.mkdir, ("pickle-ran",)


def pickled() -> bytes:
    """An .npy file of objects that would make a folder when unpickled."""
    out = io.BytesIO()
    np.save(out, np.array([_Runs()], dtype=object), allow_pickle=True)
    return out.getvalue()


def bomb(names: dict[str, int]) -> bytes:
    """An archive of entries that unpack to so many zeros."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, size in names.items():
            with archive.open(name, "w", force_zip64=True) as member:
                for _ in range(0, size, 1 << 24):
                    member.write(bytes(min(size, 1 << 24)))
    return out.getvalue()
