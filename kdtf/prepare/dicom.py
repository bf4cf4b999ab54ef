"""One DICOM file -> its pixels and its hash, by the functions the predictor decodes with.

Nothing of a header leaves it: a header holds the patient.
"""

import importlib
from pathlib import Path

from .. import predictor
from ..errors import UserError
from ..predictor import has_magic
from ..store import file_digest
from .images import Picture

__all__ = ["has_magic", "read_dicom", "require_pydicom"]


def require_pydicom() -> None:
    """Raise `UserError` where pydicom is not installed."""
    try:
        importlib.import_module("pydicom")
    except ImportError:
        raise UserError("DICOM files must be read by pydicom. It is missing: pip install pydicom.") from None


def read_dicom(path: Path, window: tuple[float, ...] = ()) -> Picture:
    """Decode a single-frame DICOM image as `predictor.read_dicom` does. Raises `Unusable`."""
    got = predictor.read_dicom(path, window)
    return Picture(got.image, file_digest(path), got.peak)
