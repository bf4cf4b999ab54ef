"""Where a gain comes from, on the page: tables, a picture, sentences; names of students as words."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from kdtf.records import Agreement, StudentResult, TeacherResult
from kdtf.report import figures, gallery, write
from kdtf.report.page import render
from kdtf.store import Store

UNLABELLED = Agreement("unlabelled", 50, None, None, 0.6)


def renamed(result, teacher, **changes):
    """A finished model as one of another teacher."""
    return replace(result, predictions=result.predictions._replace(teacher=teacher), **changes)


@pytest.fixture(scope="module")
def run(subjects):
    """The run of the fixtures with an ensemble, and of both teachers students with unlabelled images too."""
    models = list(subjects.run.models)
    teacher = next(m for m in models if isinstance(m, TeacherResult))
    students = [m for m in models if isinstance(m, StudentResult) and m.predictions.teacher == "vgg16"]
    more = {0: (UNLABELLED,), 1: ()}
    models += [
        renamed(m, "vgg16-unlabelled", agreement=(*m.agreement, *more[m.predictions.seed])) for m in students
    ]
    models.append(renamed(teacher, "ensemble"))
    models += [renamed(m, name) for name in ("ensemble", "ensemble-unlabelled") for m in students]
    return replace(subjects.run, models=tuple(models))


def test_the_agreement_of_students_by_value(subjects, results):
    table = pd.read_csv(results / "agreement.csv")
    assert list(table) == ["teacher", "images", "count", "teacher_right", "student_right", "agreement"]
    assert table.teacher.tolist() == ["vgg16"] * 3 and table.images.tolist() == ["train", "val", "test"]
    assert table.loc[0].tolist()[2:] == [30, 0.9, 0.8, 0.7]
    for row, split in ((1, "val"), (2, "test")):
        truth = getattr(subjects.run.study.truth, split)
        models = subjects.teacher.teacher, subjects.teacher.distilled
        teacher, student = (getattr(m.predictions, f"{split}_probs").argmax(axis=1) for m in models)
        parts = (teacher == truth).mean(), (student == truth).mean(), (teacher == student).mean()
        assert table.loc[row].tolist()[2:] == pytest.approx([len(truth), *parts], abs=1e-5)


def test_students_with_unlabelled_images_are_compared_with_their_own_teacher(run):
    rows = {(row["teacher"], row["images"]): row for row in run.agreement}
    assert rows["vgg16-unlabelled", "unlabelled"] == {"teacher": "vgg16-unlabelled", **UNLABELLED._asdict()}
    for images in ("train", "val", "test"):
        values = list(rows["vgg16-unlabelled", images].values())[1:]
        assert values == list(rows["vgg16", images].values())[1:]
    names = ["vgg16", "vgg16-unlabelled", "ensemble", "ensemble-unlabelled"]
    assert list(dict.fromkeys(name for name, _ in rows)) == names


@pytest.fixture
def drawn(run):
    rows = {row.file: row for row in gallery.GALLERY}
    return lambda file, subject=run: rows[file].draw(rows[file].compute(subject))


def test_the_picture_of_gains_shows_the_rows_of_the_table(run, drawn):
    (axis,) = drawn("gains.png").axes
    rows = [row for row in run.evidence["gains"] if row["images"] == "all"]
    clean = [row for row in run.evidence["gains"] if row["images"] == "clean"]
    assert len(rows) == len(clean) == 8
    shown = [
        (bars[0].get_marker(), bars[0].get_xdata()[0], *bars[2][0].get_segments()[0][:, 0])
        for bars in axis.containers
    ]
    wanted = [
        (mark, *(100 * row[name] for name in ("gain", "low", "high")))
        for pair in zip(rows, clean, strict=True)
        for mark, row in zip("os", pair, strict=True)
    ]
    assert [mark for mark, *_ in shown] == [mark for mark, *_ in wanted]
    assert np.allclose([own[1:] for own in shown], [own[1:] for own in wanted])
    assert any(np.allclose(line.get_xdata(), 0) for line in axis.lines)  # the line at zero
    assert -100 <= axis.get_xlim()[0] < 0 < axis.get_xlim()[1] <= 100
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        *("vgg16", "ensemble", "vgg16", "ensemble", "vgg16", "ensemble", "ensemble", "ensemble, unlabelled")
    ]
    headings = [text.get_text() for text in axis.texts if text.get_fontweight() == "bold"]
    assert headings == list(dict.fromkeys(row["question"] for row in rows))
    assert axis.get_xlabel() == "points of accuracy, 95 % interval over 2 seeds"


def test_the_comparison_has_a_bar_for_each_kind_of_student(run, drawn):
    (axis,) = drawn("comparison.png").axes
    labels = axis.get_legend_handles_labels()[1]
    assert labels[-3:] == ["teacher", "student distilled", "distilled with unlabelled images"]
    heights = {row["teacher"]: row["accuracy"] for row in run.summary if row["model"] == "distilled"}
    bars = [bar for bar in axis.patches if to_hex(bar.get_facecolor()) == figures.UNLABELLED.colour.lower()]
    assert [bar.get_height() for bar in bars] == [heights["vgg16-unlabelled"], heights["ensemble-unlabelled"]]


def test_a_teacher_that_nothing_is_distilled_from_has_a_bar_of_its_own(run, drawn):
    """--best-of distils from one teacher alone."""
    models = tuple(
        m for m in run.models if m.predictions.teacher != "vgg16" or m.predictions.model == "teacher"
    )
    (axis,) = drawn("comparison.png", replace(run, models=models)).axes
    assert [text.get_text() for text in axis.get_xticklabels()] == ["vgg16", "ensemble"]
    green = figures.MODELS["distilled"].colour.lower()
    bars = [bar for bar in axis.patches if to_hex(bar.get_facecolor()) == green]
    assert [round(bar.get_x() + bar.get_width() / 2) for bar in bars] == [1]


def test_the_price_of_accuracy_tells_kinds_of_students_apart(drawn):
    (legend,) = drawn("pareto.png").legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names[:4] == ["teacher", "student alone", "student distilled", "baseline"]
    assert names[4] == "distilled with unlabelled images"


@pytest.mark.parametrize(
    "file, words",
    [
        ("vgg16-unlabelled_student_curves.png", "The student distilled from vgg16 with unlabelled images: "),
        (
            "ensemble-unlabelled_student_examples.png",
            "The student distilled from the ensemble with unlabelled",
        ),
        ("vgg16-unlabelled_quantization_error.png", "vgg16 with unlabelled images: every file's layers"),
        ("ensemble_roc_pr.png", "ensemble: ROC"),
        ("ensemble_teacher_confusion_matrix.png", "The teacher ensemble: "),
        ("vgg16-unlabelled_student_confusion_matrix.png", "The student distilled from vgg16 with unlabelled"),
    ],
)
def test_captions_say_what_students_learnt_from(file, words):
    assert gallery.caption(file, gallery._row_of(file)).startswith(words)


def section(page):
    return re.search(r'<h2 id="gains">.*?<h2 ', page, re.DOTALL).group()


@pytest.fixture(scope="module")
def page_of(run, results, tmp_path_factory):
    """The page of the larger run, with changes to its manifest."""
    store = Store(tmp_path_factory.mktemp("gains"))
    for file in results.iterdir():
        if file.is_file():
            store.write(file.name, file.read_bytes())
    write.write_run_report(run, store)
    manifest = json.loads((results / "manifest.json").read_text())

    def page(**changes):
        own = {**manifest, "outputs": dict(store.outputs), **changes}
        store.write_json("manifest.json", own)
        return render(store.root)

    return page


def test_the_section_has_the_gains_in_words_the_agreement_and_the_picture(run, page_of):
    own = section(page_of())
    rows = [row for row in run.evidence["gains"] if row["images"] == "all"]
    first, agreement = re.findall(r"<tbody>.*?</tbody>", own, re.DOTALL)[::2]
    assert first.count("<tr>") == len(rows) and agreement.count("<tr>") == 4
    for row in rows:
        assert row["verdict"].split(" (")[0] + "." in first
        points, low, high = (100 * row[name] for name in ("gain", "low", "high"))
        assert f"{points:+.1f} ({low:+.1f} to {high:+.1f})" in first
    heads = re.findall(r'<button type="button">(?:<abbr[^>]*>)?([^<]*)<', own)
    assert heads[-8:] == [
        "teacher",
        *(f"teacher right, {images}" for images in ("train", "val", "test")),
        *(f"agree, {images}" for images in ("train", "val", "test", "unlabelled")),
    ]
    assert "0.600" in agreement and own.count("<img") == 1


def test_it_opens_with_the_budget_and_what_was_expected_and_warns_once(page_of):
    expected = ["On val the teacher vgg16 is better.", "On val the teacher ensemble is worse."]
    page = page_of(budget="Every student sees 60 images.", expectations=expected, warnings=expected[1:])
    notes = re.findall("<li>(.*?)</li>", section(page))
    assert notes == ["Every student sees 60 images.", expected[0]]
    assert page.count(expected[1]) == 1 and page.index(expected[1]) < page.index('<h2 id="gains">')
    assert page.index('<h2 id="gains">') < page.index('<h2 id="models">')


def test_the_answer_says_what_its_own_student_gained(run, page_of):
    def answer(teacher, model):
        page = page_of(ship={"teacher": teacher, "model": model, "recipe": "int8", "seed": 0})
        return re.search(r'<section class="card answer".*?</section>', page, re.DOTALL).group()

    assert (
        answer("vgg16", "distilled").count("Over 2 seeds distilling from vgg16 against training alone") == 1
    )
    assert "Over 2 seeds" not in answer("alone", "alone")


def test_a_run_of_before_has_no_such_section_but_its_gains(page_of, results):
    names = [path.name for path in results.iterdir() if path.name not in ("gains.csv", "gains.png")]
    page = page_of(outputs={name: "" for name in names if name != "agreement.csv"})
    assert '<h2 id="gains">' not in page and "gain over alone, points" in page
    assert "gain over alone, points" not in page_of()
