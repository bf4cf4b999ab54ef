"""Structured reports: what they say, what they refer to, and that they are valid."""

import shutil
import subprocess

import pytest

pytest.importorskip("pydicom", reason="no pydicom: pip install '.[dicom]'")
pytest.importorskip("highdicom", reason="no highdicom: pip install '.[dicom]'")
import highdicom as hd
from dicom_files import PATIENT, enhanced_file, slice_file
from pydicom import dcmread

from kdtf.cli.entry import main
from kdtf.dicom.slices import slices
from kdtf.dicom.structured_report import LONGEST_CODE, OF_STUDY_USE, USE, Student, report
from kdtf.dicom.study import groups
from kdtf.predictor import Predictor

NAMES = ["normal", "a class of more than sixteen characters, and of more than sixty-four in all", "c"]


@pytest.fixture
def path(bundle):
    return bundle("float32", classes=NAMES, thresholds={})


def written(path, sources, rule):
    """(the reports on these sources, the groups they are of, the predictor)."""
    predictor = Predictor(path)
    found = groups(predictor, list(slices(predictor, sources)), rule)
    student = Student("s.tflite", predictor.card)
    return [report(group, student, rule) for group in found], found, predictor


def text_items(data):
    """The items of a report that hold a text, wherever they are."""
    for item in data.get("ContentSequence", ()):
        if "TextValue" in item:
            yield item
        yield from text_items(item)


def _groups(data):
    content = hd.sr.ComprehensiveSR.from_dataset(data).content
    return content.get_image_measurement_groups()


def test_a_report_on_a_series_says_what_is_said_of_every_slice(path, tmp_path):
    files = [slice_file(tmp_path, number) for number in (1, 2)]
    (made,), (group,), predictor = written(path, files, None)
    made.save_as(tmp_path / "report")
    said = _groups(dcmread(tmp_path / "report"))
    assert len(said) == len(files)
    for own, answer in zip(said, group.slices, strict=True):
        values = [item.value for item in own.get_measurements()]
        assert values == pytest.approx([float(p) for p in answer.row.probs], rel=1e-6)
        label, certainty = (item.value for item in own.get_qualitative_evaluations())
        assert label.meaning == answer.row.label[:64] and certainty.meaning == "At or above the threshold"
        (source,) = own.source_images
        assert source.referenced_sop_instance_uid == answer.header.SOPInstanceUID
        assert all(len(item.name.value) <= LONGEST_CODE for item in own.get_measurements())
    texts = {item.TextValue for item in text_items(made)}
    assert {f"sha256 {predictor.card['sha256']}", USE, "s.tflite"} <= texts
    comments = [
        item for item in made.ContentSequence if item.ConceptNameCodeSequence[0].CodeMeaning == "Comment"
    ]
    assert comments[0].TextValue == USE


def test_a_report_is_of_its_patient_preliminary_and_not_verified(path, tmp_path):
    (made,), (group,), _ = written(path, [slice_file(tmp_path, 1)], None)
    assert made.PatientName == PATIENT and made.StudyInstanceUID == group.slices[0].header.StudyInstanceUID
    assert made.SeriesInstanceUID != group.uid and made.Modality == "SR"
    assert (made.VerificationFlag, made.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    assert "research use only" in made.SeriesDescription
    evidence = made.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == group.slices[0].header.SOPInstanceUID


@pytest.mark.parametrize(
    "quantiles, size, words",
    [
        ({name: 1 for name in NAMES[1:]}, 1, "normal"),
        ({name: 1 for name in NAMES}, 0, "no class: most images of every class fit better"),
        ({}, 3, "any class: it tells nothing"),
    ],
)
def test_the_set_of_a_slice_is_told_class_by_class_and_in_words(quantiles, size, words, bundle, tmp_path):
    sets = {"method": "threshold", "coverage": 0.9, "quantiles": quantiles}
    path = bundle("float32", classes=NAMES, thresholds={}, prediction_sets=sets)
    (made,), _, _ = written(path, [enhanced_file(tmp_path, 2)], "mean")
    study, *slices = _groups(made)
    assert study.get_qualitative_evaluations() == []
    for own in slices:
        members = [item.value.meaning for item in own.get_qualitative_evaluations()[2:]]
        assert members == [name[:64] for name in NAMES[:size]]
    texts = [item.TextValue for item in text_items(made)]
    assert texts.count(f"prediction set of 90 % coverage over many images: {words}") == 2


@pytest.mark.parametrize("rule", ["max", "mean"])
def test_a_study_has_its_verdict_first_and_states_the_rule(rule, path, tmp_path):
    (made,), (group,), _ = written(path, [enhanced_file(tmp_path, 3)], rule)
    said = _groups(made)
    assert len(said) == 4
    values = [item.value for item in said[0].get_measurements()]
    assert values == pytest.approx([float(p) for p in group.verdict.probs], rel=1e-6)
    assert f"{rule} of the probabilities of 3 slices" in {item.TextValue for item in text_items(made)}
    frames = [own.source_images[0].referenced_frame_numbers for own in said]
    assert [list(f) if isinstance(f, list | tuple) else f for f in frames][1:] in ([1, 2, 3], [[1], [2], [3]])


def test_a_report_on_part_of_a_study_says_so(path, tmp_path):
    broken = dcmread(slice_file(tmp_path, 2))
    del broken.PixelData
    broken.save_as(tmp_path / "broken.dcm")
    sources = [slice_file(tmp_path, 1), tmp_path / "broken.dcm"]
    (made,), _, _ = written(path, sources, "mean")
    assert made.CompletionFlag == "PARTIAL" and made.CompletionFlagDescription == "1 slice could not be read"
    assert "1 slice could not be read" in {item.TextValue for item in text_items(made)}
    (whole,), _, _ = written(path, sources[:1], "mean")
    assert whole.CompletionFlag == "COMPLETE"


@pytest.mark.parametrize("rule", ["max", "mean"])
def test_a_study_has_no_class_and_the_slice_of_each_largest_probability(rule, path, tmp_path):
    (made,), (group,), _ = written(path, [enhanced_file(tmp_path, 3)], rule)
    study, *_ = _groups(made)
    assert study.get_qualitative_evaluations() == []
    texts = {item.TextValue for item in text_items(made)}
    assert OF_STUDY_USE in texts
    for name, at, named in zip(NAMES, group.verdict.largest, group.verdict.named, strict=True):
        assert f"{name}: largest in slice {at + 1}, named by {named} of 3" in texts


def test_a_report_on_what_has_been_de_identified_has_empty_headers(path, tmp_path):
    data = dcmread(slice_file(tmp_path, 1))
    for name in ("AccessionNumber", "StudyID", "PatientBirthDate", "PatientName", "PatientID"):
        if name in data:
            delattr(data, name)
    data.save_as(tmp_path / "bare.dcm")
    (made,), _, _ = written(path, [tmp_path / "bare.dcm"], None)
    assert made.AccessionNumber == "" and str(made.PatientName) == ""


def test_a_study_without_a_needed_header_keeps_no_other_from_its_report(path, tmp_path, capfd):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    slice_file(folder, 1)
    data = dcmread(slice_file(folder, 2, series=2))
    del data.SeriesInstanceUID
    data.save_as(folder / "slice2.dcm")
    assert main(["predict", str(path), str(folder), "--dicom-sr", str(out)]) == 2
    told = capfd.readouterr()
    assert len(list(out.iterdir())) == 1 and "Written: 1 structured report" in told.out
    assert "a DICOM file with a SeriesInstanceUID" in told.err and "1 of the reports could not" in told.err


def test_a_report_tells_the_limits_of_the_student_once(bundle, tmp_path):
    path = bundle("float32", thresholds={}, limits=["Test has 72 images."])
    (made,), _, _ = written(path, [enhanced_file(tmp_path, 2)], None)
    assert [item.TextValue for item in text_items(made)].count("Limit: Test has 72 images.") == 1


def test_a_report_is_valid(path, tmp_path):
    """By dciodvfy of dicom3tools, where it is installed."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("no dciodvfy: install dicom3tools")
    for rule, sources in ((None, [slice_file(tmp_path, 1)]), ("max", [enhanced_file(tmp_path, 2)])):
        (made,), _, _ = written(path, sources, rule)
        made.save_as(tmp_path / "report")
        done = subprocess.run([program, tmp_path / "report"], capture_output=True, text=True)
        assert "Error" not in done.stderr + done.stdout and "ComprehensiveSR" in done.stderr + done.stdout


def test_the_command_writes_a_report_a_series_or_a_study_and_tells_no_patient(path, tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for number, series in ((1, 1), (2, 2)):
        slice_file(folder, number, series=series)
    for more, count, words in (
        ([], 2, "Series 2: 1 slice."),
        (["--by-study", "mean"], 1, "Study 1, mean of 2 slices:"),
        (["--by-study", "max"], 1, "Study 1, max of 2 slices:\n  class"),
    ):
        shutil.rmtree(out, ignore_errors=True)
        command = ["predict", str(path), str(folder), "--dicom-sr", str(out), "--log", str(tmp_path / "log")]
        assert main([*command, *more]) == 0
        told = capsys.readouterr()
        assert words in told.out and "Doe" not in told.out + told.err
        reports = [dcmread(file) for file in out.iterdir()]
        assert len(reports) == count and {f"{made.SOPInstanceUID}.dcm" for made in reports} == {
            file.name for file in out.iterdir()
        }
    text = (tmp_path / "log/predictions.jsonl").read_text()
    assert text.count("\n") == 6 and "Doe" not in text and ".dcm" not in text


def test_bad_input_is_told_in_a_line(path, tmp_path, capfd):
    file, out = str(slice_file(tmp_path, 1)), tmp_path / "out"
    (tmp_path / "text.png").write_text("no DICOM")
    for command, words in (
        ([file, "--by-study", "median"], "Did you mean 'mean'?"),
        ([file, "--by-study", "max", "--csv", "x.csv"], "--csv must be given without --dicom-sr"),
        ([str(tmp_path / "text.png"), "--dicom-sr", str(out)], "could not be read"),
    ):
        assert main(["predict", str(path), *command]) == 2
        error = capfd.readouterr().err
        assert words in error and "Traceback" not in error
    data = dcmread(file)
    del data.StudyInstanceUID
    data.save_as(file)
    assert main(["predict", str(path), file, "--dicom-sr", str(out)]) == 2
    error = capfd.readouterr().err
    assert "a DICOM file with a StudyInstanceUID" in error and "Doe" not in error and not out.exists()
