"""Answers as a DICOM structured report (Comprehensive SR, TID 1500), by highdicom.

One measurement group a slice: its class, its prediction set, the calibrated probability of every class, the
image or frame it speaks of, and the student by name and sha256. It is preliminary, not verified, partial
where a slice could not be read, and says that it is for research use only. Classes have no codes of a
standard: they are coded under `SCHEME`, a private one.
"""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..errors import UserError, require
from ..predictor import USE, set_in_words
from .slices import Slice
from .study import Group, Verdict

if TYPE_CHECKING:
    from highdicom.sr import ComprehensiveSR, MeasurementsAndQualitativeEvaluations
    from pydicom import Dataset

SCHEME = "99KDTF"
LONGEST_CODE = 16  # characters of a code value (PS3.5, SH)
LONGEST_MEANING = 64  # characters (LO)
CERTAINTY = {
    False: ("at threshold", "At or above the threshold"),
    True: ("uncertain", "Uncertain: below the threshold, or a tie"),
}
OF_STUDY = {
    "max": "Largest probability in a slice: {}",
    "mean": "Mean probability of {}",
}  # by rule of `BY_STUDY`
OF_STUDY_USE = (
    "Not validated on studies. Thresholds and prediction sets are of single images, and no class is named."
)
NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
MAY_BE_EMPTY = (  # type 2 of patient and study modules (PS3.3)
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
SERIES_NUMBER = 9001  # beyond what scanners count to


class Student:
    """The student that a report is by: the name of its file, its sha256, its classes and its limits."""

    def __init__(self, name: str, card: dict[str, Any]):
        self.name, self.digest, self.classes = name, str(card["sha256"]), tuple(card["classes"])
        self.coverage: float = card.get("prediction_sets", {}).get("coverage", 0.0)  # 0 of one without sets
        self.limits = tuple(f"Limit: {sentence}" for sentence in card.get("limits", ()))


def report(group: Group, student: Student, rule: str | None) -> "ComprehensiveSR":
    """The report on a study or series. Raises `UserError` where its headers lack what one must have."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    where = group.slices[0].row.file
    for own in group.slices:
        _complete(own)
    content = hd.sr.MeasurementReport(
        observation_context=_observer(student),
        procedure_reported=_code("imaging", "Imaging of the source"),
        imaging_measurements=list(_measurements(group, student, rule)),
        title=codes.DCM.ImagingMeasurementReport,
    )
    _add_comments(content[0], group, student)
    try:
        made = hd.sr.ComprehensiveSR(
            evidence=_evidence(group.slices),
            content=content[0],
            series_instance_uid=hd.UID(),
            series_number=SERIES_NUMBER,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer="kdtf",
            series_description=f"kdtf {student.name}: research use only"[:LONGEST_MEANING],
            is_complete=not group.gaps,
            is_final=False,
            is_verified=False,
        )
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        reason = type(error).__name__  # its text may quote a header
        raise UserError(
            f"{where} must have the headers that a report on it takes. They cannot be used: {reason}."
        ) from None
    made.CodingSchemeIdentificationSequence = [_scheme()]
    if group.gaps:
        made.CompletionFlagDescription = group.gaps[:LONGEST_MEANING]
    return made


def _scheme() -> Any:
    from pydicom import Dataset

    scheme = Dataset()
    scheme.CodingSchemeDesignator = SCHEME
    scheme.CodingSchemeName = scheme.CodingSchemeResponsibleOrganization = "kdtf"
    return scheme


def _complete(own: Slice) -> None:
    """Give a header what a report takes from it and what may be empty; de-identified files lack it.

    Raises `UserError` for what a report cannot do without.
    """
    for name in NEEDED:
        _of(own, name)
    for name in MAY_BE_EMPTY:
        if own.header is not None and name not in own.header:
            setattr(own.header, name, "")


def _add_comments(root: Any, group: Group, student: Student) -> None:
    """What a reader must see before any number: what it is not for, what is missing, what limits it."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    study = [OF_STUDY_USE] if group.verdict is not None else []
    for text in (USE, *study, *filter(None, [group.gaps]), *group.doubts, *student.limits):
        root.ContentSequence.append(
            hd.sr.TextContentItem(codes.DCM.Comment, text, hd.sr.RelationshipTypeValues.CONTAINS)
        )


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
    """What all say together, where that was asked for, then a group a slice."""
    if group.verdict is not None and rule is not None:
        yield _of_study(group, group.verdict, student, rule)
    for number, own in enumerate(group.slices, 1):
        yield _of_slice(own, student, f"slice {number}")


def _of_study(
    group: Group, verdict: Verdict, student: Student, rule: str
) -> "MeasurementsAndQualitativeEvaluations":
    """The probabilities of all slices together, and where to look; no class is named."""
    count = len(group.slices)
    words = f"{rule} of the probabilities of {count} slices"
    remarks = [
        f"{name}: largest in slice {at + 1}, named by {named} of {count}"
        for name, at, named in zip(student.classes, verdict.largest, verdict.named, strict=True)
    ]
    meanings = [OF_STUDY[rule].format(name) for name in student.classes]
    numbers = _numbers(rule, meanings, student, verdict.probs)
    return _measurement(student, f"study, {words}", group.slices, numbers, [], [words, *remarks])


def _of_slice(own: Slice, student: Student, name: str) -> "MeasurementsAndQualitativeEvaluations":
    import highdicom as hd

    row = own.row
    beside = _code("certainty", "Beside the threshold of the class")
    named = _code("class", "Class of the largest probability")
    evaluations = [
        hd.sr.QualitativeEvaluation(named, _code(row.label, row.label)),
        hd.sr.QualitativeEvaluation(beside, _code(*CERTAINTY[bool(row.uncertain)])),
    ]
    remarks = [row.warning] if row.warning else []
    if row.prediction_set is not None:
        inside = _code("may be", "In its prediction set")
        evaluations += [
            hd.sr.QualitativeEvaluation(inside, _code(member, member)) for member in row.prediction_set
        ]
        words = set_in_words(row.prediction_set, student.classes, why=True)
        remarks.append(f"prediction set of {100 * student.coverage:g} % coverage over many images: {words}")
    meanings = [f"Probability of {name}" for name in student.classes]
    numbers = _numbers("p", meanings, student, row.probs)
    return _measurement(student, name, [own], numbers, evaluations, remarks)


def _numbers(prefix: str, meanings: list[str], student: Student, probs: np.ndarray) -> list[Any]:
    """A measurement a class."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    return [
        hd.sr.Measurement(_code(f"{prefix} {name}", meaning), float(np.float64(p)), codes.UCUM.NoUnits)
        for name, meaning, p in zip(student.classes, meanings, probs, strict=True)
    ]


def _measurement(
    student: Student,
    name: str,
    slices: list[Slice],
    numbers: list[Any],
    evaluations: list[Any],
    remarks: list[str],
) -> "MeasurementsAndQualitativeEvaluations":
    import highdicom as hd

    parameters = [f"sha256 {student.digest}", USE, *remarks]
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=hd.UID(), identifier=name),
        algorithm_id=hd.sr.AlgorithmIdentification(student.name, f"kdtf {__version__}", parameters),
        measurements=numbers,
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
