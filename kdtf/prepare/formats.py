"""The image formats that can be imported: one row says how a file is known, decoded and named in errors.

What becomes of an image is decided in `predictor` alone, whose decoders the rows call, so that a device sees
what training saw: a format that the predictor does not read too can be trained on, but not predicted.
Nothing of a DICOM header leaves its decoder, because a header holds the patient.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .. import predictor
from ..errors import UserError
from ..files import file_digest
from .images import Picture


@dataclass(frozen=True)
class Format:
    """A kind of image file.

    `decode(path, window)` gives upright, opaque 8-bit pixels or raises `predictor.Unusable`; `window` is
    (center, width) of grey levels beyond 8 bits, or ().
    """

    endings: frozenset[str]  # of file names, in lower case, the dot with them
    decode: Callable[[Path, tuple[float, ...]], predictor.Picture]
    has_magic: Callable[[Path], bool] | None = None  # tells such a file by its bytes where it has no ending
    library: str | None = None  # what must be installed beside the requirements, by its name for pip
    extra: str | None = None  # of pyproject.toml, that brings it

    def read(self, path: Path, window: tuple[float, ...] = ()) -> Picture:
        """The pixels of a file and its hash. Raises `Unusable`."""
        picture = self.decode(path, window)
        try:
            digest = file_digest(path)
        except OSError as error:  # a disk that fails between the two
            raise predictor.Unusable(error.strerror or type(error).__name__) from None
        return Picture(picture.image, digest, picture.peak)


FORMATS = {  # by what errors call it
    "PNG": Format(frozenset({".png"}), predictor.read_image),
    "JPEG": Format(frozenset({".jpg", ".jpeg"}), predictor.read_image),
    "TIFF": Format(frozenset({".tif", ".tiff"}), predictor.read_image),
    "BMP": Format(frozenset({".bmp"}), predictor.read_image),
    "DICOM": Format(
        frozenset(predictor.DICOM), predictor.read_dicom, predictor.has_magic, "pydicom", "dicom"
    ),
}


def format_of(path: Path) -> str | None:
    """The row of `FORMATS` a file belongs to, or None where it is no image by its name.

    By its ending; where it has none, by its first bytes. A number is no ending: DICOM files are called
    1.2.840.7.
    """
    ending = path.suffix.lower()
    for name, row in FORMATS.items():
        if ending in row.endings:
            return name
    without_ending = not ending or ending[1:].isdigit()
    if not without_ending or not path.is_file():
        return None
    return next((name for name, row in FORMATS.items() if row.has_magic and row.has_magic(path)), None)


def require_library(name: str) -> None:
    """Raise `UserError` where what reads a row of `FORMATS` is not installed."""
    library, extra = FORMATS[name].library, FORMATS[name].extra
    try:
        if library:
            importlib.import_module(library)
    except ImportError:
        way = f"pip install {library}" + (f", or kdtf with its extra '{extra}'" if extra else "")
        raise UserError(f"{name} files must be read by {library}. It is missing: {way}.") from None


def layouts() -> str:
    """What a source may be, for errors."""
    *names, last = FORMATS
    return (
        "a folder with train/CLASS/ and test/CLASS/ (val, valid or validation too), a folder with CLASS/ "
        f"of {', '.join(names)} or {last} images, or an .npz file with MedMNIST or Keras keys"
    )
