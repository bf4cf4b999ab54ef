"""A picture is one row: it is drawn with its subject's report and stands on the page in its section."""

import json
import re
from dataclasses import replace

import matplotlib.text
import numpy as np
import pytest

from kdtf.records import GroundTruth
from kdtf.report import figures, gallery, write
from kdtf.report.gallery import GALLERY, Picture, picture_files
from kdtf.report.page import render
from kdtf.report.subjects import StudentSubject
from kdtf.store import Store

NO_COPIES = "audit_near_copies.png"  # the data of the fixture has none


def owners(row, subjects):
    return [subject for subject in subjects if isinstance(subject, row.subjects)]


def titles(figure):
    return " ".join(t.get_text() for t in figure.findobj(matplotlib.text.Text))


@pytest.mark.parametrize("row", GALLERY, ids=lambda row: row.file)
def test_every_row_draws_the_picture_of_each_of_its_subjects(row, subjects, results):
    records = {row.file.format(**subject.names): row.compute(subject) for subject in owners(row, subjects)}
    assert records
    for name, record in records.items():
        file = results / name
        assert (record is None) == (row.file == NO_COPIES) == (not file.exists())
        if record is not None:
            figure = row.draw(record)
            assert figures.SYNTHETIC not in titles(figure)
            assert file.read_bytes() == figures.png(figure)
    if record is not None:
        assert figures.SYNTHETIC in titles(row.draw(record, synthetic=True))


def test_no_two_rows_have_one_name_and_every_file_is_known_by_its_own(subjects):
    assert len({row.file for row in GALLERY}) == len(GALLERY)
    for row in GALLERY:
        for subject in owners(row, subjects):
            assert gallery._row_of(row.file.format(**subject.names)) is row


def names_of(results):
    return [path.name for path in results.iterdir()]


def test_every_caption_has_words_and_its_own(results):
    captions = [file.caption for file in picture_files(results, names_of(results))]
    assert len(set(captions)) == len(captions) == len(list(results.glob("*.png")))
    assert all(len(text) > 30 and text.endswith(".") and not set("{}") & set(text) for text in captions)


def test_captions_name_the_model():
    captions = {
        name: gallery.caption(name, gallery._row_of(name))
        for name in ("vgg16_student_curves.png", "alone_student_examples.png", "vgg16_gradcam.png",
                     "baseline_student_confusion_matrix.png", "vgg16_teacher_confusion_matrix.png")
    }  # fmt: skip
    assert [text.split(":")[0] for text in captions.values()] == [
        "The student distilled from vgg16",
        "The student trained alone",
        "vgg16",
        "The baseline",
        "The teacher vgg16",
    ]


def toy_picture() -> Picture:
    """The number of test images as a figure."""

    def compute(subject: StudentSubject) -> int | None:
        images = len(subject.study.truth.test)
        return images if subject.predictions.model == "distilled" else None

    def draw(images: int, *, synthetic: bool = False):
        return figures.titled(f"{images} images", synthetic, (2, 2))

    caption = "{student}: as many test images as it was shown."
    return Picture("{teacher}_toy.png", (StudentSubject,), "gradcam", caption, compute, draw)


def test_a_new_row_is_a_new_picture_in_the_report_and_on_the_page(
    subjects, results, tmp_path, blank, monkeypatch
):
    monkeypatch.setattr(gallery, "GALLERY", (*gallery.GALLERY, toy_picture()))
    store = Store(tmp_path)
    for file in results.iterdir():
        if file.is_file():
            store.write(file.name, file.read_bytes())
    store.write("alone_toy.png", b"of an earlier run")
    for subject in (subjects.alone, subjects.distilled):
        write.write_student_report(subject, store)
    assert [path.name for path in tmp_path.glob("*_toy.png")] == ["vgg16_toy.png"]
    manifest = json.loads((results / "manifest.json").read_text())
    store.write_json("manifest.json", {**manifest, "outputs": store.outputs})
    page = render(tmp_path)
    section = re.search(r'<h2 id="gradcam">.*?<h2 ', page, re.DOTALL).group()
    alt = 'alt="The student distilled from vgg16: as many test images as it was shown."'
    assert alt in section and page.count(alt) == 1


@pytest.mark.parametrize("section", sorted({row.section for row in GALLERY}))
def test_every_section_of_the_gallery_is_on_the_page(section, results):
    assert f'<h2 id="{section}">' in render(results)


def test_the_pictures_of_a_section_come_in_the_order_of_the_gallery_then_by_name(results):
    def names(section, folded=False):
        chosen = [f for f in picture_files(results, names_of(results)) if f.picture.section == section]
        return [f.path.stem for f in chosen if f.picture.folded == folded]

    assert names("models") == ["comparison", "pareto"]
    students = ["alone_student", "baseline_student", "vgg16_student"]
    assert names("classes") == ["chosen_confusion_matrix"]
    matrices = [f"{model}_confusion_matrix" for model in (*students, "vgg16_teacher")]
    assert names("classes", folded=True) == matrices
    assert names("curves") == ["vgg16_curves"]
    assert names("curves", folded=True) == [f"{model}_curves" for model in ("vgg16_teacher", *students)]
    assert names("examples") == ["chosen_examples"]
    assert names("examples", folded=True) == [f"{model}_examples" for model in (*students, "vgg16_teacher")]


def test_what_a_subject_has_no_more_is_removed(subjects, tmp_path, blank):
    """A class is missing from test, the teacher was not trained, nothing has a copy: no such pictures."""
    study, store = subjects.teacher.study, Store(tmp_path)
    stale = ("vgg16_roc_pr.png", "vgg16_teacher_curves.png", "vgg16_tuning.csv")
    for name in (*stale, "audit_exact_copies.png", "other_roc_pr.png"):
        store.write(name, b"of an earlier run")
    truth = GroundTruth(study.truth.classes, study.truth.val, study.truth.test % 2)
    parts = [study.subsets[0]._replace(labels=truth.test)]
    teacher = replace(subjects.teacher.teacher, history=[])
    lacking = replace(study, truth=truth, subsets=parts)
    write.write_teacher_report(replace(subjects.teacher, study=lacking, teacher=teacher), store)
    audit = replace(subjects.audit.audit, pairs=[])
    write.write_audit_report(replace(subjects.audit, audit=audit), store)
    assert not any(store.path(name).exists() for name in (*stale, "audit_exact_copies.png"))
    assert store.path("other_roc_pr.png").exists() and store.path("vgg16_curves.png").exists()


def test_titles_say_whose_picture_it_is(subjects):
    rows = {row.file: row for row in GALLERY}

    def title(file, subject):
        return rows[file].compute(subject).title

    assert title("{model}_confusion_matrix.png", subjects.teacher) == "Test: teacher vgg16, ImageNet"
    assert title("{model}_confusion_matrix.png", subjects.distilled) == "Test: student of vgg16, ImageNet"
    assert title("{teacher}_student_curves.png", subjects.alone) == "student alone"
    assert title("{teacher}_roc_pr.png", subjects.teacher) == "vgg16, ImageNet"


def test_the_examples_are_counted_in_their_title(subjects):
    record = gallery._examples(subjects.alone)
    wrong = sum(verdict.true != verdict.predicted for verdict in record.verdicts)
    assert 0 < wrong < 18 == len(record.verdicts)
    assert record.title.startswith(f"student alone: its {wrong} surest mistakes on test, then {18 - wrong} ")
    assert not any(verdict.right for verdict in record.verdicts[:wrong])


def test_grad_cam_shows_what_each_model_said_of_the_same_images(subjects):
    record = gallery._gradcam(subjects.teacher)
    study, attention = subjects.teacher.study, subjects.teacher.attention
    assert [list(row) for row in record.rows] == [["teacher", "distilled", "alone"]] * 2
    for at, (i, row) in enumerate(zip(attention.images, record.rows, strict=True)):
        for kind, (verdict, heat) in row.items():
            probs = subjects.teacher.models[kind].predictions.test_probs[i]
            assert np.array_equal(verdict.image, study.images[i]) and heat is not None
            assert verdict.predicted == study.truth.classes[probs.argmax()]
            assert np.array_equal(heat, attention.heat[kind][at])


def test_a_contact_sheet_says_how_copies_are_related(subjects):
    sheet = gallery._copies("exact", subjects.audit)
    assert sheet.title == "The worst 2 pairs of exact copies"
    assert [pair.relation for pair in sheet.pairs] == [
        "two labels, correlation 1.0000",
        "across splits, correlation 1.0000",
    ]
    assert sheet.pairs[1].captions == ("train 3\nwell", "test 3\nwell")


def test_under_a_copy_stand_its_row_of_the_users_train_and_its_file(subjects, tmp_path):
    data = subjects.audit.data
    (tmp_path / "files_train.csv").write_text("row,file\n" + "".join(f"{i},scan{i}.png\n" for i in range(54)))
    rows = np.arange(54)
    lent = {"train": rows[:30] + 24, "val": rows[:24]}  # val was split off the first 24
    splits = {name: replace(getattr(data, name), rows=own) for name, own in lent.items()}
    moved = replace(subjects.audit, data=replace(data, source=str(tmp_path), **splits))
    sheet = gallery._copies("exact", moved)
    assert sheet.pairs[1].captions == ("train 3 (row 27 of train)\nwell\nscan27.png", "test 3\nwell")
    assert sheet.pairs[0].captions[1] == "val 4 (row 4 of train)\nill\nscan4.png"


def test_pictures_of_the_chosen_file_are_of_its_own_answers_on_clean_images(subjects):
    run = subjects.run
    file, clean = run.chosen_file.predictions, np.arange(60) >= 6
    assert file.name == {name: run.chosen[name] for name in ("teacher", "model", "recipe", "seed")}
    record = gallery._chosen_confusion(run)
    right = (file.test_probs.argmax(1) == run.study.truth.test)[clean].sum()
    assert record.counts.sum() == 54 and np.trace(record.counts) == right
    name = f"{file.teacher}_Student_{file.recipe}.tflite"
    assert record.title == f"chosen on val: {name}, 54 test images without a copy in train or val"
    assert all(verdict.image is not None for verdict in gallery._chosen_examples(run).verdicts)


def test_the_comparison_is_of_the_first_seed(subjects):
    record = gallery._accuracies(subjects.run)
    assert {row["seed"] for row in record.rows} == {0}
    assert list(record.intervals) == [
        ("alone", "alone"),
        ("baseline", "baseline"),
        ("vgg16", "teacher"),
        ("vgg16", "distilled"),
    ]
