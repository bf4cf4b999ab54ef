"""Answers as a DICOM structured report (Comprehensive SR, TID 1500), by highdicom.

One measurement group a slice: its class, its prediction set, the calibrated probability of every class, the
image or frame it speaks of, and the student by name and sha256. It is preliminary, not verified, and says
that it is for research use only. Classes have no codes of a standard: they are coded under `SCHEME`, a
private one.
"""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..errors import UserError, require
from ..predictor import set_in_words
from .slices import Slice
from .study import Group, Verdict

if TYPE_CHECKING:
    from highdicom.sr import ComprehensiveSR, MeasurementsAndQualitativeEvaluations
    from pydicom import Dataset

SCHEME = "99KDTF"
USE = "Research use only. Not a medical device."
LONGEST_CODE = 16  # characters of a code value (PS3.5, SH)
LONGEST_MEANING = 64  # characters (LO)
SERIES_NUMBER = 9001  # beyond what scanners count to


class Student:
    """The student that a report is by: the name of its file, its sha256 and its classes."""

    def __init__(self, name: str, card: dict[str, Any]):
        self.name, self.digest, self.classes = name, str(card["sha256"]), tuple(card["classes"])
        self.coverage: float = card.get("prediction_sets", {}).get("coverage", 0.0)  # 0 of one without sets


def report(group: Group, student: Student, rule: str | None) -> "ComprehensiveSR":
    """The report on a study or series. Raises `UserError` where its headers lack what one must have."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    content = hd.sr.MeasurementReport(
        observation_context=_observer(student),
        procedure_reported=_code("imaging", "Imaging of the source"),
        imaging_measurements=list(_measurements(group, student, rule)),
        title=codes.DCM.ImagingMeasurementReport,
    )
    try:
        return hd.sr.ComprehensiveSR(
            evidence=_evidence(group.slices),
            content=content[0],
            series_instance_uid=hd.UID(),
            series_number=SERIES_NUMBER,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer="kdtf",
            series_description=f"kdtf {student.name}: research use only"[:LONGEST_MEANING],
            is_complete=True,
            is_final=False,
            is_verified=False,
        )
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        reason = type(error).__name__  # its text may quote a header
        raise UserError(
            f"A DICOM source must have a study and a patient. It cannot be read: {reason}."
        ) from None


def _code(value: str, meaning: str) -> Any:
    """A concept of `SCHEME`; a value that is too long becomes a digest of itself."""
    from highdicom.sr import CodedConcept

    short = value if len(value) <= LONGEST_CODE else sha256(value.encode()).hexdigest()[:LONGEST_CODE]
    return CodedConcept(short, SCHEME, meaning[:LONGEST_MEANING])


def _observer(student: Student) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=hd.UID.from_uuid(str(_uuid_of(student.digest))),
        name="kdtf",
        model_name=student.name[:LONGEST_MEANING],
        serial_number=student.digest,
    )
    context = hd.sr.ObserverContext(codes.DCM.Device, device)
    return hd.sr.ObservationContext(observer_device_context=context)


def _uuid_of(digest: str) -> Any:
    """The same student is the same device in every report."""
    from uuid import UUID

    return UUID(hex=digest[:32])


def _evidence(slices: Iterable[Slice]) -> list["Dataset"]:
    """The headers of the source files, each once."""
    headers = {str(own.header.SOPInstanceUID): own.header for own in slices if own.header is not None}
    return list(headers.values())


def _measurements(
    group: Group, student: Student, rule: str | None
) -> Iterator["MeasurementsAndQualitativeEvaluations"]:
    """The verdict on the whole first, where there is one, then a group a slice."""
    if group.verdict is not None:
        words = f"{rule} of the probabilities of {len(group.slices)} slices"
        yield _measurement(group.verdict, student, f"study, {words}", group.slices, words)
    for number, own in enumerate(group.slices, 1):
        row = own.row
        verdict = Verdict(row.label, row.probability, row.uncertain, row.probs, row.prediction_set)
        yield _measurement(verdict, student, f"slice {number}", [own], row.warning)


def _measurement(
    verdict: Verdict, student: Student, name: str, slices: list[Slice], remark: str
) -> "MeasurementsAndQualitativeEvaluations":
    import highdicom as hd
    from pydicom.sr.codedict import codes

    classes = [_code(own, own) for own in student.classes]
    certain = "uncertain" if verdict.uncertain else "certain"
    evaluations = [
        hd.sr.QualitativeEvaluation(
            _code("class", "Class of the largest probability"),
            classes[student.classes.index(verdict.label)],
        ),
        hd.sr.QualitativeEvaluation(
            _code("certainty", "Beside the threshold of the class"), _code(certain, certain.capitalize())
        ),
    ]
    members, remarks = verdict.prediction_set, [remark] if remark else []
    if members is not None:
        meaning = "May be of this class, by its prediction set"
        evaluations += [
            hd.sr.QualitativeEvaluation(_code("may be", meaning), own)
            for own, name in zip(classes, student.classes, strict=True)
            if name in members
        ]
        words = set_in_words(members, student.classes, why=True)
        remarks.append(f"prediction set of {100 * student.coverage:g} % coverage: {words}")
    probabilities = [
        hd.sr.Measurement(
            _code(f"p {own}", f"Probability of {own}"), float(np.float64(p)), codes.UCUM.NoUnits
        )
        for own, p in zip(student.classes, verdict.probs, strict=True)
    ]
    parameters = [f"sha256 {student.digest}", USE, *remarks]
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=hd.UID(), identifier=name),
        algorithm_id=hd.sr.AlgorithmIdentification(student.name, f"kdtf {__version__}", parameters),
        measurements=probabilities,
        qualitative_evaluations=evaluations,
        source_images=[_reference(own) for own in slices],
    )


def _reference(own: Slice) -> Any:
    import highdicom as hd

    frames = [own.frame] if own.frame else None
    return hd.sr.SourceImageForMeasurementGroup(
        str(_of(own, "SOPClassUID")), str(_of(own, "SOPInstanceUID")), frames
    )


def _of(own: Slice, name: str) -> Any:
    """An element of a source. Raises `UserError` where it is missing."""
    value = own.header.get(name) if own.header is not None else None
    require(value, own.row.file, f"a DICOM file with a {name}", None)
    return value
