import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from kdtf.errors import UserError
from kdtf.predictor import Unusable, has_magic
from kdtf.prepare import PrepareConfig, prepare
from kdtf.prepare.formats import FORMATS
from kdtf.progress import Progress

pydicom = pytest.importorskip("pydicom")
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.pixels import set_pixel_data  # noqa: E402
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEGLosslessSV1, RLELossless  # noqa: E402

PATIENT = "Doe^Jane"
read_dicom, read_png = FORMATS["DICOM"].read, FORMATS["PNG"].read
VALUES = np.array([[0, 1024], [1064, 2048]], np.uint16)


def write(path, values=VALUES, kind="MONOCHROME2", bits=12, syntax=ExplicitVRLittleEndian, **elements):
    """A small CT slice; `elements` by keyword, None to leave one out."""
    slice_ = Dataset()
    slice_.file_meta = FileMetaDataset()
    slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slice_.SOPClassUID, slice_.PatientName, slice_.PatientID = CTImageStorage, PATIENT, "J-4711"
    set_pixel_data(slice_, values, kind, bits)
    for name, value in elements.items():
        setattr(slice_, name, value)
    if syntax == RLELossless:
        slice_.compress(RLELossless)
    elif syntax != ExplicitVRLittleEndian:
        slice_.PixelData = encapsulate([b"\xff\xd8 no jpeg \xff\xd9"])
        slice_.file_meta.TransferSyntaxUID = syntax
    path.parent.mkdir(parents=True, exist_ok=True)
    slice_.save_as(path, enforce_file_format=True)
    return path


def grey(path, window=()):
    """Rows of grey levels."""
    image = read_dicom(path, window).image
    assert image.mode == "L"
    return np.asarray(image).tolist()


HOUNSFIELD = {"RescaleSlope": 1, "RescaleIntercept": -1024}
# -1024 and 0, 40, 1024 HU in the window 40/400: black below -160, white above 239, 255/399 a unit between
SOFT_TISSUE = [[0, round((0.5 + (0 - 39.5) / 399) * 255)], [128, 255]]


def test_rescale_then_the_files_own_window(tmp_path):
    path = write(tmp_path / "a.dcm", **HOUNSFIELD, WindowCenter=40, WindowWidth=400)
    assert grey(path) == SOFT_TISSUE
    assert read_dicom(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_first_of_several_windows(tmp_path):
    path = write(tmp_path / "a.dcm", **HOUNSFIELD, WindowCenter=[40, 500], WindowWidth=[400, 2000])
    assert grey(path) == SOFT_TISSUE


def test_a_window_of_the_user_goes_before_the_files(tmp_path):
    path = write(tmp_path / "a.dcm", **HOUNSFIELD, WindowCenter=500, WindowWidth=9, VOILUTFunction="SIGMOID")
    assert grey(path, (40, 400)) == SOFT_TISSUE


def test_signed_pixels_and_a_slope(tmp_path):
    path = write(tmp_path / "a.dcm", np.array([[-512, 0], [20, 512]], np.int16), bits=16, RescaleSlope=2)
    assert grey(path, (40, 400)) == [[0, 102], [115, 255]]  # no intercept: nothing is rescaled
    path = write(tmp_path / "b.dcm", np.array([[-512, 0], [20, 512]], np.int16), bits=16, RescaleSlope=2,
                 RescaleIntercept=0)  # fmt: skip
    assert grey(path, (40, 400)) == SOFT_TISSUE


@pytest.mark.parametrize("without", [{}, {"WindowCenter": None, "WindowWidth": None}])
def test_without_a_window_minimum_to_maximum(tmp_path, without):
    values = np.array([[100, 200], [300, 355]], np.uint16)
    assert grey(write(tmp_path / "a.dcm", values, **HOUNSFIELD, **without)) == [[0, 100], [200, 255]]
    assert grey(write(tmp_path / "flat.dcm", values * 0 + 9)) == [[0, 0], [0, 0]]


@pytest.mark.parametrize("window", [{}, {"WindowCenter": 40, "WindowWidth": 400}])
def test_monochrome1_is_inverted(tmp_path, window):
    light = grey(write(tmp_path / "a.dcm", **HOUNSFIELD, **window))
    dark = grey(write(tmp_path / "b.dcm", kind="MONOCHROME1", **HOUNSFIELD, **window))
    assert np.array_equal(255 - np.array(light), dark) and light != dark


def test_functions_of_windows(tmp_path):
    window = {"WindowCenter": 1064, "WindowWidth": 160}
    assert grey(write(tmp_path / "a.dcm", **window, VOILUTFunction="LINEAR_EXACT")) == [[0, 64], [128, 255]]
    sigmoid = round(255 / (1 + np.exp(1)))
    assert grey(write(tmp_path / "b.dcm", **window, VOILUTFunction="SIGMOID")) == [[0, sigmoid], [128, 255]]


def lookup_table():
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4, 1023, 8], [7, 40, 90, 250]
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    return [table]


def test_a_lookup_table_stands_in_for_a_window(tmp_path):
    values = np.array([[0, 1023], [1024, 4000]], np.uint16)
    path = write(tmp_path / "a.dcm", values, VOILUTSequence=lookup_table())
    assert grey(path) == [[7, 7], [40, 250]]


def test_the_same_window_on_16_bit_png_and_dicom(tmp_path):
    values = np.random.default_rng(0).integers(0, 4096, (16, 16)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    path = write(tmp_path / "a.dcm", values)
    for window in ((2000, 3000), (100.5, 50), (900, 1.5)):
        off = np.array(grey(path, window)) - np.asarray(read_png(tmp_path / "a.png", window).image)
        assert np.abs(off).max() <= 1 and (off == 0).mean() > 0.99


def test_colour(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = read_dicom(write(tmp_path / "a.dcm", values, "RGB", 8)).image
    assert image.mode == "RGB" and np.array_equal(np.asarray(image), values)
    ybr = np.full((4, 4, 3), (255, 128, 128), np.uint8)
    assert np.asarray(read_dicom(write(tmp_path / "b.dcm", ybr, "YBR_FULL", 8)).image).min() == 255


def test_lossless_compression_that_pydicom_decodes(tmp_path):
    assert grey(write(tmp_path / "a.dcm", syntax=RLELossless), (40, 400)) == grey(
        write(tmp_path / "b.dcm"), (40, 400)
    )


def cut_short(path):
    write(path)
    path.write_bytes(path.read_bytes()[:-4])


UNUSABLE = {
    "frames": (lambda p: write(p, np.stack([VALUES] * 3)), "3 frames in one DICOM file"),
    "compressed": (lambda p: write(p, syntax=JPEGLosslessSV1), "no decoder is installed for JPEG Lossless"),
    "text": (lambda p: p.write_text("hello"), "not a DICOM file"),
    "cut short": (cut_short, "pydicom cannot decode it"),
    "no image": (
        lambda p: pydicom.dcmwrite(p, without_pixels(write(p))),
        "a DICOM file without an image",
    ),
    "width": (lambda p: write(p, WindowCenter=40, WindowWidth=0), r"pydicom cannot decode it \(ValueError\)"),
    "bomb": (lambda p: write(p, Rows=60000, Columns=60000), "more than .* pixels: it may be a decompression"),
    "colour": (lambda p: write(p, np.zeros((2, 2, 3), np.uint16), "RGB", 16), "colour pixels of type uint16"),
}


def without_pixels(path):
    slice_ = pydicom.dcmread(path)
    del slice_.PixelData
    return slice_


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_with_a_reason_that_quotes_no_header(tmp_path, case):
    make, reason = UNUSABLE[case]
    make(tmp_path / "a.dcm")
    with pytest.raises(Unusable, match=reason) as caught:
        read_dicom(tmp_path / "a.dcm")
    assert "Doe" not in str(caught.value) and str(tmp_path) not in str(caught.value)


# Through the importer


def source(root):
    for split in ("train", "test"):
        for name in ("a", "b"):
            write(root / split / name / "1.dcm", **HOUNSFIELD)
    return root


def test_files_are_known_by_ending_or_magic_and_keep_their_patient_to_themselves(tmp_path, recwarn):
    root = source(tmp_path / "in")
    for name in ("IM-0001", "2.25.816", "IMAGE.DICOM"):
        write(root / "train/a" / name, **HOUNSFIELD)
    write(root / "train/b/frames.dcm", np.stack([VALUES] * 2))
    write(root / "train/b/odd.dcm", **HOUNSFIELD, VOILUTSequence=lookup_table())  # pydicom warns of it
    (root / "train/a/README").write_text("no image")
    assert has_magic(root / "train/a/IM-0001") and not has_magic(root / "train/a/README")
    recwarn.clear()
    progress, out = Progress(), tmp_path / "out"
    assert prepare(root, PrepareConfig(out=str(out), size=8), progress).skipped == 1
    assert not recwarn.list and not progress.warnings[1:]
    pixels = np.load(out / "X_train.npy")
    assert pixels.shape == (6, 8, 8, 3) and pixels[0, -1, 0].tolist() == [132] * 3  # 1064 of 2048
    note = json.loads((out / "provenance.json").read_text())
    assert note["skipped"] == [{"file": "train/b/frames.dcm", "reason": "2 frames in one DICOM file"}]
    assert note["ignored"] == {"of other kinds": 1}
    prepare(root, PrepareConfig(out=str(out), size=8, window=(40, 400), workers=1), progress)
    assert np.load(out / "X_train.npy")[0, -1, 0].tolist() == [128] * 3
    for path in out.iterdir():
        assert b"Jane" not in path.read_bytes() and b"J-4711" not in path.read_bytes()


def test_without_pydicom(tmp_path, monkeypatch):
    root = source(tmp_path / "in")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UserError, match=r"DICOM files must be read by pydicom.*pip install pydicom"):
        prepare(root, PrepareConfig(out=str(tmp_path / "out")), Progress())
    assert not (tmp_path / "out").exists()


def test_slow_packages_wait_until_they_are_needed():
    slow = "('tensorflow', 'keras', 'sklearn', 'scipy', 'pydicom')"
    code = f"import sys, kdtf.prepare; print([m for m in {slow} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
