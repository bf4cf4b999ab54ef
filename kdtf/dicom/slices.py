"""DICOM files slice by slice: every frame as a file of one frame, which `Predictor` reads as any other.

A frame keeps its rescaling and its window, from the file itself or from the functional groups of an enhanced
one. What cannot be read has the reason instead, which quotes no header. Localizers, and what has no image at
all (reports, dose, a DICOMDIR), are no slices: they are told, and nothing is missing where they are left out.
"""

import copy
import io
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, NamedTuple

from ..predictor import UNREADABLE, Predictor, Row, Unusable, check_pixels, files_of

if TYPE_CHECKING:
    from pydicom import Dataset

GROUPS = {  # of an enhanced file: the sequence in a functional group, and what of it a plain file has itself
    "PixelValueTransformationSequence": ("RescaleIntercept", "RescaleSlope", "RescaleType"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction"),
}
FUNCTIONAL = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
PIXELS = ("PixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths")
NOT_DICOM = "not a DICOM file: no report can refer to it"
NO_IMAGE, LOCALIZER = "left out, as it has no image", "left out, as it is a localizer"


class Slice(NamedTuple):
    """What is said of an image, or of a frame of one, and the header of its file without pixels."""

    row: Row
    header: "Dataset | None"  # None where the file could not be read
    frame: int | None  # from 1; None in a file of one frame
    is_slice: bool = True  # else it was left out: it is a localizer, or has no image at all


def slices(predictor: Predictor, sources: Iterable[str | Path]) -> Iterator[Slice]:
    """A `Slice` for every frame of DICOM files and of folders of them, in the order of names."""
    for file in (file for source in sources for file in files_of(Path(source), bare=True)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's quote headers, and a header holds the patient
            try:
                yield from _of_file(predictor, file)
            except Unusable as reason:
                yield Slice(_unread(file, str(reason)), None, None)


def _of_file(predictor: Predictor, file: Path) -> Iterator[Slice]:
    data = _dataset(file)
    header = copy_without(data, PIXELS)
    if left_out := _no_slice(data):
        yield Slice(_unread(file, left_out), header, None, is_slice=False)
        return
    try:
        count = _frames(data)
    except Unusable as error:
        yield Slice(_unread(file, str(error)), header, None)
        return
    if count == 1:
        yield from (Slice(row, header, None) for row in predictor.rows(file))
        return
    plain = copy_without(data, PIXELS + FUNCTIONAL)
    for index in range(count):
        try:
            with named(_bytes_of(frame_of(data, plain, index))) as path:
                (row,) = predictor.rows(path)
            yield Slice(row._replace(file=str(file), index=index), header, index + 1)
        except UNREADABLE as error:
            reason = f"pydicom cannot decode frame {index + 1} ({type(error).__name__})"
            yield Slice(_unread(file, reason, index), header, index + 1)


def _dataset(file: Path) -> "Dataset":
    """A file's data set. Raises `Unusable`."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        return dcmread(file)
    except InvalidDicomError:
        raise Unusable(NOT_DICOM) from None
    except UNREADABLE as error:
        reason = getattr(error, "strerror", None) or f"pydicom cannot read it ({type(error).__name__})"
        raise Unusable(reason) from None


def _no_slice(data: "Dataset") -> str:
    """Why a file is left out; "" of a slice, one without its pixels too."""
    kinds = data.get("ImageType") or ()
    if "LOCALIZER" in (kinds if not isinstance(kinds, str) else (kinds,)):
        return LOCALIZER
    if "PixelData" in data or "Rows" in data:
        return ""
    kind = data.get("SOPClassUID") or data.file_meta.get("MediaStorageSOPClassUID")
    # of a private class, or none, as in a torn file, nobody knows what it was
    is_other = kind is not None and kind.name != str(kind) and "Image Storage" not in kind.name
    return NO_IMAGE if is_other else ""


def _frames(data: "Dataset") -> int:
    """How many frames a file has. Raises `Unusable` where it has no image, or an endless one."""
    try:
        frames = int(data.get("NumberOfFrames") or 1)
        check_pixels(int(data.Columns), int(data.Rows))
    except UNREADABLE as error:
        raise Unusable(f"a DICOM file without an image ({type(error).__name__})") from None
    if frames < 1:
        raise Unusable(f"{frames} frames in one DICOM file")
    return frames


def copy_without(data: "Dataset", names: tuple[str, ...]) -> "Dataset":
    """A copy of a data set but for some of its elements, which are not copied first: they may be large."""
    left = {name: data[name] for name in names if name in data}
    for name in left:
        delattr(data, name)
    copied = copy.deepcopy(data)
    for element in left.values():
        data.add(element)
    return copied


def frame_of(data: "Dataset", plain: "Dataset", index: int) -> "Dataset":
    """A frame, from 0, as a data set of its own: decoded, with the rescaling and the window of that frame.

    `plain` is a copy of `data` without its pixels and functional groups.
    """
    from pydicom.dataset import FileMetaDataset
    from pydicom.pixels import pixel_array
    from pydicom.uid import ExplicitVRLittleEndian

    values = pixel_array(data, index=index)  # (H, W), or (H, W, 3) of which YBR has become RGB
    single = copy.deepcopy(plain)
    for groups in FUNCTIONAL:
        if groups in data:
            items = data[groups].value
            item = items[index] if groups.startswith("Per") else items[0]
            for sequence, names in GROUPS.items():
                for name in names if item.get(sequence) else ():
                    if name in item[sequence].value[0]:
                        setattr(single, name, item[sequence].value[0].get(name))
    single.NumberOfFrames = 1
    if values.ndim == 3:
        single.PhotometricInterpretation, single.PlanarConfiguration = "RGB", 0
    single.BitsAllocated = 8 * values.dtype.itemsize
    content = values.astype(values.dtype.newbyteorder("<")).tobytes()
    single.add_new("PixelData", "OW" if single.BitsAllocated > 8 else "OB", content + bytes(len(content) % 2))
    single.file_meta = FileMetaDataset()  # its own: the file's says how the next frame is compressed
    single.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return single


def _bytes_of(data: "Dataset") -> bytes:
    file = io.BytesIO()
    data.save_as(file, implicit_vr=False, little_endian=True)
    return file.getvalue()


@contextmanager
def named(content: bytes) -> Iterator[Path]:
    """A file with these bytes, for this block."""
    with NamedTemporaryFile(suffix=".dcm") as file:
        file.write(content)
        file.flush()
        yield Path(file.name)


def _unread(file: Path, reason: str, index: int = 0) -> Row:
    import numpy as np

    return Row(str(file), index, "", float("nan"), False, "", reason, np.zeros(0))
