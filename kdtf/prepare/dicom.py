"""One DICOM file -> 8-bit pixels, by pydicom's own functions.

Reads pixels and how they are to be shown. Nothing else leaves this module: the reasons it gives
quote no header, because a header holds the patient.
"""

import hashlib
import importlib
from pathlib import Path

import numpy as np
from PIL import Image

from ..checks import UserError
from .images import UNREADABLE, Picture, Unusable, check_pixels, stretch

MAGIC = b"DICM"
MAGIC_AT = 128  # bytes


def has_magic(path: Path) -> bool:
    """Does the file begin as DICOM files do? A file that cannot be read does not."""
    try:
        with open(path, "rb") as file:
            return file.read(MAGIC_AT + len(MAGIC))[MAGIC_AT:] == MAGIC
    except OSError:
        return False


def require_pydicom() -> None:
    """Raise `UserError` where pydicom is not installed."""
    try:
        importlib.import_module("pydicom")
    except ImportError:
        raise UserError("DICOM files must be read by pydicom. It is missing: pip install pydicom.") from None


def read_dicom(path: Path, window: tuple[float, ...] = ()) -> Picture:
    """Decode a single-frame DICOM image; `window` is (center, width) after rescaling, or () for the file's.

    Grey: rescaled, windowed (a file without a window: its lookup table, or else minimum to maximum),
    MONOCHROME1 inverted. Raises `Unusable`.
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        with open(path, "rb") as file:
            sha = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            data = dcmread(file)
            _check(data)
            grey = str(data.PhotometricInterpretation).startswith("MONOCHROME")
            image = _grey(data, window) if grey else _colour(data)
    except InvalidDicomError:
        raise Unusable("not a DICOM file") from None
    except UNREADABLE as error:
        raise Unusable(f"pydicom cannot decode it ({type(error).__name__})") from None
    return Picture(image, sha, None)


def _check(data) -> None:
    from pydicom.pixels import get_decoder

    if "PixelData" not in data:
        raise Unusable("a DICOM file without an image")
    frames = int(data.get("NumberOfFrames") or 1)
    if frames > 1:
        raise Unusable(f"{frames} frames in one DICOM file")
    check_pixels(data.Columns, data.Rows)
    syntax = data.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated and not get_decoder(syntax).is_available:
        raise Unusable(f"no decoder is installed for {syntax.name}")


def _grey(data, window: tuple[float, ...]) -> Image.Image:
    from pydicom.pixels import apply_rescale, apply_voi, apply_windowing, pixel_array

    values = apply_rescale(pixel_array(data), data)  # (H, W)
    center, width = window or (_first(data.get("WindowCenter")), _first(data.get("WindowWidth")))
    if center is not None and width is not None:
        shown = apply_windowing(values, _view(center, width, "LINEAR" if window else data))
        image = stretch(shown, 0, 255)
    elif data.get("VOILUTSequence"):
        bits = data.VOILUTSequence[0].LUTDescriptor[2]
        image = stretch(apply_voi(values, data), 0, 2**bits - 1)
    else:
        image = stretch(values, values.min(), values.max())
    inverted = data.PhotometricInterpretation == "MONOCHROME1"
    return Image.fromarray(255 - np.asarray(image)) if inverted else image


def _first(value):
    """The first of several windows; None where there is none."""
    from pydicom.multival import MultiValue

    return next(iter(value), None) if isinstance(value, MultiValue) else value


def _view(center: float, width: float, function):
    """What pydicom has to know to window values to 0..255: an unsigned 8-bit display."""
    from pydicom import Dataset

    view = Dataset()
    view.PhotometricInterpretation, view.BitsStored, view.PixelRepresentation = "MONOCHROME2", 8, 0
    view.WindowCenter, view.WindowWidth = float(center), float(width)
    view.VOILUTFunction = (
        function if isinstance(function, str) else function.get("VOILUTFunction") or "LINEAR"
    )
    return view


def _colour(data) -> Image.Image:
    from pydicom.pixels import apply_color_lut, pixel_array

    values = pixel_array(data)  # (H, W, 3), YBR already turned into RGB; (H, W) of palette indices
    if data.PhotometricInterpretation == "PALETTE COLOR":
        values = apply_color_lut(values, data)[..., :3]
        if values.dtype == np.uint16:
            values = np.rint(values / 257).astype(np.uint8)
    if values.dtype != np.uint8 or values.ndim != 3 or values.shape[2] != 3:
        raise Unusable(f"colour pixels of type {values.dtype} and shape {values.shape}")
    return Image.fromarray(values)
