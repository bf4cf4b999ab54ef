"""Groups by what DICOM headers say: the one place where anything of a header is kept, and only on request.

What may be kept is `TAGS`. Whatever names a person, an institution or a device, every number or UID that
finds one, and every date is not among them: `--subgroups` takes a table of those who may know.
"""

from collections.abc import Iterable, MutableSequence
from pathlib import Path

from ..data.subgroups import LONGEST
from ..errors import require
from ..predictor import UNREADABLE
from ..records import UNKNOWN
from .formats import format_of, require_library

AGE = "PatientAge"
TAGS = (
    *("PatientSex", AGE, "EthnicGroup", "SmokingStatus"),
    *("Modality", "Manufacturer", "ManufacturerModelName", "BodyPartExamined"),
    *("ViewPosition", "PatientPosition", "KVP", "SliceThickness", "ConvolutionKernel"),
)
FORMAT = "DICOM"
OLDEST = 90  # from this age on there is one band: few are as old, and an age would find them


def require_tags(tags: Iterable[str]) -> None:
    """Raise `UserError` for a tag that is not kept."""
    other = next((tag for tag in tags if tag not in TAGS), None)
    hint = "Names, identifiers, dates and UIDs are never kept. Sites and the like come by --subgroups."
    require(other is None, "--subgroup-tags", f"some of {', '.join(TAGS)}", other, hint)


def read_tags(path: Path, tags: tuple[str, ...]) -> tuple[str, ...] | None:
    """The group of a file by each tag, unknown where it has none; None of what is no DICOM file.

    Of the header these tags alone are looked at. Raises `UserError` where pydicom is missing.
    """
    if format_of(path) != FORMAT:
        return None
    require_library(FORMAT)
    from pydicom import dcmread
    from pydicom.errors import BytesLengthException, InvalidDicomError

    try:
        with open(path, "rb") as file:
            header = dcmread(file, stop_before_pixels=True, specific_tags=list(tags))
            return tuple(_group(tag, header.get(tag)) for tag in tags)
    except (InvalidDicomError, BytesLengthException, *UNREADABLE):  # told when it is decoded
        return (UNKNOWN,) * len(tags)


def _group(tag: str, value: object) -> str:
    """The group that a value of a header stands for."""
    if tag == AGE:
        return age_band(str(value or ""))
    parts = value if isinstance(value, MutableSequence) else [] if value is None else [value]
    texts = [f"{part:g}" if isinstance(part, float) else str(part) for part in parts]  # 120 for 120.0 too
    text = " ".join(" ".join(texts).split())[:LONGEST]
    return text if text and text.isprintable() else UNKNOWN


def age_band(age: str) -> str:
    """The decade of an age: 40-49 of "045Y", 90+ from `OLDEST` on, 0-9 of months, weeks and days.

    An age is up to three digits and Y, M, W or D (DICOM PS3.5, AS); any other text is unknown.
    """
    digits, unit = age.strip()[:-1], age.strip()[-1:]
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 3 and unit in "YMWD"):
        return UNKNOWN
    years = int(digits) // {"Y": 1, "M": 12, "W": 52, "D": 365}[unit]
    decade = 10 * (years // 10)
    return f"{OLDEST}+" if years >= OLDEST else f"{decade}-{decade + 9}"
