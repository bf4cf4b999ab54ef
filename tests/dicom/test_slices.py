"""Series and multi-frame files, slice by slice: the same answers as of single files, and what is refused."""

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="no pydicom: pip install '.[dicom]'")
from dicom_files import PATIENT, enhanced_file, slice_file
from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage, XRayRadiationDoseSRStorage

from kdtf.dicom.slices import LOCALIZER, NO_IMAGE, NOT_DICOM, Slice, slices
from kdtf.dicom.structured_report import LONGEST_MEANING
from kdtf.dicom.study import groups
from kdtf.predictor import Predictor, Row

COUNT = 3


@pytest.fixture
def predictor(bundle):
    return Predictor(bundle("float32", thresholds={"a": 0.99, "b": 0.99, "c": 0.99}))


@pytest.fixture
def series(tmp_path):
    folder = tmp_path / "series"
    folder.mkdir()
    return [slice_file(folder, number) for number in range(1, COUNT + 1)]


def test_a_series_has_the_answers_of_its_files(predictor, series):
    answers = list(slices(predictor, [series[0].parent]))
    expected = list(predictor.rows(series))
    assert [own.row.file for own in answers] == list(map(str, series))
    for own, row in zip(answers, expected, strict=True):
        assert own.frame is None and own.row.label == row.label
        assert np.allclose(own.row.probs, row.probs, atol=1e-6)  # alone, and in a batch
        assert "PixelData" not in own.header and own.header.PatientName == PATIENT


def test_a_frame_has_the_answer_of_the_same_slice_with_its_own_window(predictor, series, tmp_path):
    path = enhanced_file(tmp_path, COUNT)
    answers = list(slices(predictor, [path]))
    alone = [next(iter(predictor.rows(file))) for file in series]
    assert [own.frame for own in answers] == [1, 2, 3] and [own.row.index for own in answers] == [0, 1, 2]
    assert len({row.probs.tobytes() for row in alone}) == COUNT
    assert [own.row.probs.tobytes() for own in answers] == [row.probs.tobytes() for row in alone]
    assert {own.row.file for own in answers} == {str(path)}


def test_what_cannot_be_read_has_a_reason_that_quotes_no_header(predictor, series, tmp_path):
    broken = tmp_path / "broken.dcm"
    data = dcmread(series[0])
    del data.PixelData
    data.save_as(broken)
    short = enhanced_file(tmp_path, COUNT)
    data = dcmread(short)
    data.PixelData = data.PixelData[: 24 * 24 * 2]
    data.save_as(short)
    (tmp_path / "text.png").write_text("no DICOM")
    sources = [broken, short, tmp_path / "text.png", tmp_path / "missing.dcm"]
    answers = list(slices(predictor, sources))
    reasons = [own.row.error for own in answers]
    assert all(reasons) and reasons[-2:] == [
        "not a DICOM file: no report can refer to it",
        "No such file or directory",
    ]
    assert not any("Doe" in reason for reason in reasons)
    found = groups(predictor, answers, "max")
    assert [len(own.slices) for own in found] == [0] * len(found) and found[0].unplaced == 2


@pytest.mark.parametrize(
    "changes, words", [({"NumberOfFrames": -1}, "-1 frames"), ({"Rows": 60000, "Columns": 60000}, "bomb")]
)
def test_sizes_that_cannot_be_are_refused(changes, words, predictor, series, tmp_path):
    data = dcmread(series[0])
    for name, value in changes.items():
        setattr(data, name, value)
    data.save_as(tmp_path / "x.dcm")
    (own,) = slices(predictor, [tmp_path / "x.dcm"])
    assert words in own.row.error


def test_groups_by_series_and_by_study(predictor, series, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    files = [*series, slice_file(other, 9, series=2), enhanced_file(tmp_path, 2)]
    answers = list(slices(predictor, files))
    assert [len(group.slices) for group in groups(predictor, answers, None)] == [3, 1, 2]
    assert [group.verdict for group in groups(predictor, answers, None)] == [None] * 3
    assert [len(group.slices) for group in groups(predictor, answers, "mean")] == [4, 2]


def answered(*probs, warning="", uncertain=False):
    """Slices of one study with these probabilities (3,); None of one that could not be read."""
    made = []
    for k, own in enumerate(probs):
        header = Dataset()
        header.StudyInstanceUID, header.SOPInstanceUID = "1.2.3", f"1.2.3.{k}"
        label = "" if own is None else "abc"[int(np.argmax(own))]
        said = (label, 0.0, uncertain, warning, "" if own is not None else "torn")
        made.append(Slice(Row(f"{k}.dcm", 0, *said, np.array([] if own is None else own)), header, None))
    return made


TUMOURS = ([0.05, 0.93, 0.02], [1.0, 0.0, 0.0], [0.9, 0.1, 0.0], [0.8, 0.1, 0.1])


@pytest.mark.parametrize("rule, probs", [("max", [1.0, 0.93, 0.1]), ("mean", [0.6875, 0.2825, 0.03])])
def test_slices_that_show_nothing_outvote_none_that_shows_something(rule, probs, predictor):
    (group,) = groups(predictor, answered(*TUMOURS), rule)
    assert group.verdict.probs == pytest.approx(probs)
    assert group.verdict.largest == (1, 0, 3) and group.verdict.named == (3, 1, 0)
    assert not hasattr(group.verdict, "label")


def test_a_study_says_what_of_it_could_not_be_read(predictor):
    foreign = Slice(answered(None)[0].row, None, None)
    (group,) = groups(predictor, [*answered([1, 0, 0], None, [0, 1, 0]), foreign, foreign], "mean")
    assert (len(group.slices), group.unread, group.unplaced) == (2, 1, 2)
    assert group.gaps == "1 slice and 2 files of unknown study could not be read"
    assert len(group.gaps) <= LONGEST_MEANING and group.verdict.probs.tolist() == [0.5, 0.5, 0]
    (none,) = groups(predictor, answered(None, None), "max")
    assert none.slices == [] and none.verdict is None and none.gaps == "2 slices could not be read"
    (whole,) = groups(predictor, answered([1, 0, 0]), None)
    assert whole.gaps == "" and whole.verdict is None and whole.doubts == []


def test_a_study_says_how_many_of_its_slices_are_unlike_or_uncertain_or_there_twice(predictor):
    odd = answered([1, 0, 0], [1, 0, 0], warning="unlike the training images: layout 86", uncertain=True)
    (group,) = groups(predictor, [*odd, *answered([0, 0, 1])], "mean")  # the first once more
    assert group.doubts == [
        "2 of 2 slices unlike the training images", "2 of 2 slices uncertain", "1 more was there twice"
    ]  # fmt: skip
    assert group.verdict.probs.tolist() == [1, 0, 0]


def test_files_that_name_no_study_are_not_put_together(predictor):
    own = answered([1, 0, 0], [0, 1, 0])
    for one in own:
        del one.header.StudyInstanceUID
    assert [len(group.slices) for group in groups(predictor, own, "mean")] == [1, 1]


def test_what_is_no_slice_is_told_and_left_out(predictor, series, tmp_path):
    scout, dose, empty, siemens = (
        tmp_path / name for name in ("scout.dcm", "dose.dcm", "IM0003", "s022.IMA")
    )
    data = dcmread(series[0])
    data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    data.save_as(scout)
    data = dcmread(series[0])
    del data.PixelData, data.Rows
    data.SOPClassUID = XRayRadiationDoseSRStorage
    data.save_as(dose)
    data.SOPClassUID = CTImageStorage  # a file that was torn before its image began
    data.save_as(tmp_path / "torn.dcm")
    (tmp_path / "zeros.dcm").write_bytes(bytes(128) + b"DICMxxxx")
    empty.write_bytes(b"")
    siemens.write_bytes(series[1].read_bytes())
    folder = [tmp_path]
    answers = list(slices(predictor, folder))
    told = {own.row.file.rsplit("/", 1)[1]: (own.is_slice, own.row.error) for own in answers}
    assert told["scout.dcm"] == (False, LOCALIZER) and told["dose.dcm"] == (False, NO_IMAGE)
    assert (
        told["torn.dcm"][0] and told["zeros.dcm"][0] and all(told[f"{n}.dcm"][1] for n in ("torn", "zeros"))
    )
    assert told["IM0003"] == (True, NOT_DICOM) and told["s022.IMA"] == (True, "")
    (group,) = groups(predictor, answers, "mean")
    assert (len(group.slices), group.unread, group.unplaced, group.repeated) == (3, 1, 2, 1)
