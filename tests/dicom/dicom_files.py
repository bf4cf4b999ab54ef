"""DICOM files of the tests: a CT slice, and the same slices as frames of an enhanced file."""

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

PATIENT = "Doe^Jane"
CT, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1"
ROOT = "1.2.826.0.1.3680043.8.498."


def base(kind, number, study=1, series=1):
    """All of a file but its pixels; `number` is that of the file in its series."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = kind, f"{ROOT}{study}.{series}.{number}"
    data.StudyInstanceUID, data.SeriesInstanceUID = f"{ROOT}{study}", f"{ROOT}{study}.{series}"
    data.PatientName, data.PatientID, data.PatientBirthDate, data.PatientSex = PATIENT, "77", "19500101", "F"
    data.StudyDate, data.StudyTime, data.StudyID, data.AccessionNumber = "20260101", "101010", "1", "1"
    data.ReferringPhysicianName, data.Modality, data.Manufacturer = "", "CT", "tests"
    data.SeriesNumber, data.InstanceNumber = series, number
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 1
    return data


def pixels(number):
    return np.random.default_rng(number).integers(0, 2000, (24, 24)).astype("<i2")


def rescaling(number):
    """(intercept, slope, window center, window width) of slice `number`: others for each."""
    return -1000 + 10 * number, 1 + number / 4, 100 * number, 800


def slice_file(folder, number, **where):
    data = base(CT, number, **where)
    data.Rows = data.Columns = 24
    intercept, slope, center, width = rescaling(number)
    data.RescaleIntercept, data.RescaleSlope = intercept, slope
    data.WindowCenter, data.WindowWidth = center, width
    data.PixelData = pixels(number).tobytes()
    path = folder / f"slice{number}.dcm"
    data.save_as(path, enforce_file_format=True)
    return path


def enhanced_file(folder, count, study=2):
    """The slices 1 to `count` as the frames of one file."""
    data = base(ENHANCED_CT, 1, study=study)
    data.Rows = data.Columns = 24
    data.NumberOfFrames = count
    frames = []
    for number in range(1, count + 1):
        intercept, slope, center, width = rescaling(number)
        transformation, window, frame = Dataset(), Dataset(), Dataset()
        transformation.RescaleIntercept, transformation.RescaleSlope = intercept, slope
        transformation.RescaleType = "HU"
        window.WindowCenter, window.WindowWidth = center, width
        frame.PixelValueTransformationSequence = Sequence([transformation])
        frame.FrameVOILUTSequence = Sequence([window])
        frames.append(frame)
    data.SharedFunctionalGroupsSequence = Sequence([Dataset()])
    data.PerFrameFunctionalGroupsSequence = Sequence(frames)
    data.PixelData = b"".join(pixels(number).tobytes() for number in range(1, count + 1))
    path = folder / "enhanced.dcm"
    data.save_as(path, enforce_file_format=True)
    return path
