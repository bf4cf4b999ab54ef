"""The pictures of a report, one row of `GALLERY` each: file name, subject, section, caption, how it is made.

A new picture is a new row: it is drawn with the report of its subject, and `page` finds it by its name.
Here a picture's record is computed; `figures` and `images` draw it.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from ..data.copies import Pair
from ..data.dataset import Dataset
from ..data.traces import Traces
from ..evidence.gains import source_of, teacher_in_words
from ..evidence.metrics import confusion
from ..evidence.tables import Subset, example_images, ranking_curves, reliability_diagram
from ..records import ENSEMBLE, KERAS
from ..words import plural
from . import figures, images, probability_figures
from .frontier import frontier_record
from .gains import draw_gains, gains_record
from .sets import draw_sets, set_record
from .subgroups import GroupRows, draw_subgroups, subgroups_record
from .subjects import AuditSubject, RunSubject, StudentSubject, Study, TeacherSubject
from .tables import quantization_error_rows

SHEET_PAIRS = 12  # pairs of copies on a contact sheet
MOST_RANKED = 100  # classes up to which each has its curves: a picture has at most 65,536 px


@dataclass(frozen=True)
class Picture:
    """A PNG of every subject of the types `subjects`.

    `file` is its name, with `names` of the subject in braces, of which `caption` may use {teacher}, and
    {student} and {model} in words. `compute` gives the record that `draw` draws, or None where the subject
    has no such picture. `section` is that of the page; a `folded` picture waits there behind a line to click.
    """

    file: str
    subjects: tuple[type, ...]
    section: str
    caption: str
    compute: Callable[[Any], Any | None]
    draw: Callable[..., Figure]
    folded: bool = False


def student_in_words(teacher: str) -> str:
    """The student that `teacher` stands for in file names and tables, as the subject of a sentence."""
    undistilled = {"alone": "The student trained alone", "baseline": "The baseline"}
    return undistilled.get(teacher, f"The student distilled from {teacher_in_words(teacher)}")


def tflite_name(teacher: str, recipe: str) -> str:
    """How the `.tflite` of a student is called in the results folder."""
    return f"{teacher}_Student_{recipe}.tflite"


def _name(teacher: str) -> str:
    """What students that a table calls `teacher` learn from, as a title begins with it."""
    return teacher_in_words(teacher).removeprefix("the ")


def _title(subject: TeacherSubject | StudentSubject) -> str:
    teacher, kind = subject.predictions.teacher, subject.predictions.model
    if isinstance(subject, TeacherSubject):
        return f"teacher {_teacher_title(subject)}"
    if kind == "distilled":
        return f"student of {teacher_in_words(teacher)}, {_origin(teacher, subject.student.teacher_weights)}"
    return figures.MODELS[kind].label


def _teacher_title(subject: TeacherSubject) -> str:
    teacher = subject.predictions.teacher
    return f"{teacher}, {_origin(teacher, subject.teacher.weights)}"


def _origin(teacher: str, weights: str | None) -> str:
    """Where a teacher's weights came from; of an ensemble without its members, which fill a line."""
    return str(weights).partition(":")[0] if source_of(teacher) == ENSEMBLE else str(weights)


def _all_curves(subject: TeacherSubject) -> figures.Curves:
    histories = {kind: model.history for kind, model in subject.models.items() if model.history}
    return figures.Curves(_teacher_title(subject), histories)


def _teacher_curves(subject: TeacherSubject) -> figures.Curves | None:
    history = subject.teacher.history
    return figures.Curves(_title(subject), {"teacher": history}) if history else None


def _student_curves(subject: StudentSubject) -> figures.Curves:
    return figures.Curves(_title(subject), {subject.predictions.model: subject.student.history})


def _confusion(subject: TeacherSubject | StudentSubject) -> figures.Confusion:
    truth = subject.study.truth
    counts = confusion(subject.predictions.test_probs, truth.test)
    return figures.Confusion(f"Test: {_title(subject)}", truth.classes, counts)


def _verdict(study: Study, probs: np.ndarray, i: int) -> images.Verdict:
    """What a model with test probabilities (N, K) says of test image i."""
    classes = study.truth.classes
    true, predicted = classes[study.truth.test[i]], classes[probs[i].argmax()]
    return images.Verdict(study.images[i], true, predicted, float(probs[i].max()))


def _examples(subject: TeacherSubject | StudentSubject) -> images.Examples:
    """Test images with what the model says of them, the surest mistakes first."""
    study, probs = subject.study, subject.predictions.test_probs
    return _examples_of(_title(subject), study, probs, np.arange(len(probs)))


def _examples_of(title: str, study: Study, probs: np.ndarray, rows: np.ndarray) -> images.Examples:
    """The same of a model with test probabilities (N, K), of the images `rows` (n,) of test."""
    chosen = rows[example_images(probs[rows], study.truth.test[rows])]
    verdicts = [_verdict(study, probs, i) for i in chosen]
    wrong = sum(not verdict.right for verdict in verdicts)
    right = len(verdicts) - wrong
    title = f"{title}: its {wrong} surest {plural(wrong, 'mistake')} on test, then {right} it got right"
    return images.Examples(title, verdicts)


def _chosen_title(subject: RunSubject) -> str:
    name = subject.chosen_file.predictions
    return f"{figures.CHOSEN}: {tflite_name(name.teacher, name.recipe)}"


def _chosen_confusion(subject: RunSubject) -> figures.Confusion:
    study, rows = subject.study, subject.study.part.rows
    counts = confusion(subject.chosen_file.predictions.test_probs[rows], study.truth.test[rows])
    return figures.Confusion(f"{_chosen_title(subject)}, {study.part_in_words}", study.truth.classes, counts)


def _chosen_examples(subject: RunSubject) -> images.Examples:
    study, probs = subject.study, subject.chosen_file.predictions.test_probs
    return _examples_of(_chosen_title(subject), study, probs, study.part.rows)


def _chosen_ranking(subject: RunSubject) -> probability_figures.Ranking | None:
    file, study = subject.chosen_file.predictions, subject.study
    if not _every_class_has_a_curve(study.truth.classes, study.part):
        return None
    title = f"{_chosen_title(subject)}, {study.part_in_words}"
    return probability_figures.Ranking(
        title, study.truth.classes, {file.model: ranking_curves(file, study.part)}
    )


def _chosen_reliability(subject: RunSubject) -> probability_figures.ReliabilityCurves:
    file, study = subject.chosen_file.predictions, subject.study
    title = f"{_chosen_title(subject)}, {study.part_in_words}"
    return probability_figures.ReliabilityCurves(title, {file.model: reliability_diagram(file, study.part)})


def _chosen_groups(subject: RunSubject) -> GroupRows | None:
    return subgroups_record(subject, f"{_chosen_title(subject)}, {subject.study.part_in_words}")


def _gradcam(subject: TeacherSubject) -> images.GradCam | None:
    if subject.attention is None:
        return None
    probs = {kind: subject.models[kind].predictions.test_probs for kind in ("teacher", "distilled", "alone")}
    chosen, heat = subject.attention
    rows = [
        {kind: (_verdict(subject.study, probs[kind], i), heat[kind][at]) for kind in probs}
        for at, i in enumerate(chosen)
    ]
    return images.GradCam(f"{_teacher_title(subject)}: what speaks for the class named", rows)


def _ranking(subject: TeacherSubject) -> probability_figures.Ranking | None:
    classes, part = subject.study.truth.classes, subject.study.subsets[0]
    if not _every_class_has_a_curve(classes, part):
        return None
    curves = {kind: ranking_curves(model.predictions, part) for kind, model in subject.models.items()}
    return probability_figures.Ranking(_teacher_title(subject), classes, curves)


def _every_class_has_a_curve(classes: tuple[str, ...], part: Subset) -> bool:
    """A class that is missing has none, and too many do not fit in a picture."""
    return len(np.unique(part.labels)) == len(classes) <= MOST_RANKED


def _reliability(subject: TeacherSubject) -> probability_figures.ReliabilityCurves:
    part = subject.study.subsets[0]
    curves = {kind: reliability_diagram(model.predictions, part) for kind, model in subject.models.items()}
    return probability_figures.ReliabilityCurves(_teacher_title(subject), curves)


def _quantization_errors(subject: StudentSubject) -> figures.QuantizationErrors | None:
    rows = quantization_error_rows(subject)
    return figures.QuantizationErrors(_name(subject.predictions.teacher), rows) if rows else None


def _accuracies(subject: RunSubject) -> figures.Accuracies:
    wanted = {"recipe": KERAS, "seed": subject.study.seed, "images": "all", "metric": "accuracy"}
    rows = (row for row in subject.evidence["intervals"] if wanted.items() <= row.items())
    intervals = {(row["teacher"], row["model"]): (row["low"], row["high"]) for row in rows}
    chosen = subject.chosen_file.predictions
    several = {row["seed"] for row in subject.rows} != {subject.study.seed}
    return figures.Accuracies(
        subject.summary,
        intervals,
        (chosen.teacher, chosen.model, chosen.recipe),
        subject.study.seed if several else None,
    )


def _copies(kind: str, subject: AuditSubject) -> images.ContactSheet | None:
    """The worst pairs of copies of a kind."""
    traces = Traces(subject.data)
    pairs = [_copy(pair, subject.data, traces) for pair in subject.audit.worst(kind, SHEET_PAIRS)]
    title = f"The worst {len(pairs)} {plural(len(pairs), 'pair')} of {kind} copies"
    return images.ContactSheet(title, pairs) if pairs else None


def _copy(pair: Pair, data: Dataset, traces: Traces) -> images.Copies:
    pixels, captions = [], []
    for split, i in (pair.first, pair.second):
        pixels.append(getattr(data, split).teacher_pixels[i])
        trace = traces.of(split, i)
        place = f"{split} {i}"
        if (trace.source, trace.row) != (split, i):
            place += f" (row {trace.row} of {trace.source})"
        captions.append("\n".join(filter(None, (place, data.class_name(split, i), trace.file))))
    relation = (
        "two labels" if pair.conflict else "across splits" if pair.first[0] != pair.second[0] else "one split"
    )
    return images.Copies(tuple(pixels), tuple(captions), f"{relation}, correlation {pair.correlation:.4f}")


TEACHER, STUDENT, RUN, AUDIT = (TeacherSubject,), (StudentSubject,), (RunSubject,), (AuditSubject,)
COURSES = "accuracy and cross entropy over the epochs"
MISTAKES = "test images, its surest mistakes first."
RELIABILITY = (
    "how often the top class is right, by how sure the model is; the diagonal is honest. Below: the images "
    "of each bin; where they are few the interval is long. It counts images as independent."
)
GALLERY: tuple[Picture, ...] = (  # on the page in this order, then by file name
    Picture("frontier.png", RUN, "frontier",
            "Accuracy on test of every file compared against its bytes, its work and its time. "
            "Squares: on the images without a copy in train or val.",
            frontier_record, figures.draw_frontier),
    Picture("gains.png", RUN, "gains",
            "What distilling added to accuracy on test, points with 95 % intervals; left of zero it harmed. "
            "Squares: on the images without a copy in train or val.", gains_record, draw_gains),
    Picture("comparison.png", RUN, "models",
            "Accuracy on test, 95 % intervals: teachers, their students, the student alone as a line. "
            "Squares and dotted lines, where there are any: on images without a copy in train or val.",
            _accuracies, figures.draw_comparison),
    Picture("pareto.png", RUN, "models",
            "Accuracy on all test images against size and latency for one image; band: student alone, "
            "95 % interval; ringed: the file that val chose.",
            _accuracies, figures.draw_pareto),
    Picture("chosen_roc_pr.png", RUN, "thresholds",
            "The chosen file: ROC and precision-recall curves of every class against the rest, on test.",
            _chosen_ranking, probability_figures.draw_ranking),
    Picture("{teacher}_roc_pr.png", TEACHER, "thresholds",
            "{teacher}: ROC and precision-recall curves of every class against the rest, on test.",
            _ranking, probability_figures.draw_ranking, folded=True),
    Picture("chosen_sets.png", RUN, "sets",
            "The chosen file's prediction sets on test, by the true class: how often they hold it, and how "
            "many classes they have.", set_record, draw_sets),
    Picture("chosen_reliability.png", RUN, "calibration",
            f"The chosen file: {RELIABILITY}", _chosen_reliability, probability_figures.draw_reliability),
    Picture("{teacher}_reliability.png", TEACHER, "calibration", f"{{teacher}}: {RELIABILITY}",
            _reliability, probability_figures.draw_reliability, folded=True),
    Picture("{teacher}_quantization_error.png", STUDENT, "files",
            "{teacher}: every file's layers, how far from float; the worst of each is ringed.",
            _quantization_errors, figures.draw_quantization_errors, folded=True),
    Picture("chosen_confusion_matrix.png", RUN, "classes",
            "The chosen file: confusion matrix on test, counts and parts of the true class (rows).",
            _chosen_confusion, figures.draw_confusion),
    Picture("subgroups.png", RUN, "subgroups",
            "The chosen file by group: accuracy and sensitivity for each class on test, 95 % intervals; in "
            "brackets the images of each group.", _chosen_groups, draw_subgroups),
    Picture("{model}_confusion_matrix.png", (*TEACHER, *STUDENT), "classes",
            "{model}: confusion matrix on all of test, counts and parts of the true class, which is in rows.",
            _confusion, figures.draw_confusion, folded=True),
    Picture("chosen_examples.png", RUN, "examples", f"The chosen file: {MISTAKES}",
            _chosen_examples, images.draw_examples),
    Picture("{teacher}_student_examples.png", STUDENT, "examples", f"{{student}}: {MISTAKES}",
            _examples, images.draw_examples, folded=True),
    Picture("{teacher}_teacher_examples.png", TEACHER, "examples", f"The teacher {{teacher}}: {MISTAKES}",
            _examples, images.draw_examples, folded=True),
    Picture("{teacher}_gradcam.png", TEACHER, "gradcam",
            "{teacher}: Grad-CAM of the teacher and both students on the same test images.",
            _gradcam, images.draw_gradcam),
    Picture("{teacher}_curves.png", TEACHER, "curves",
            f"{{teacher}}: {COURSES}, train dashed, val solid.", _all_curves, figures.draw_curves),
    Picture("{teacher}_teacher_curves.png", TEACHER, "curves", f"The teacher {{teacher}}: {COURSES}.",
            _teacher_curves, figures.draw_curves, folded=True),
    Picture("{teacher}_student_curves.png", STUDENT, "curves", f"{{student}}: {COURSES}.",
            _student_curves, figures.draw_curves, folded=True),
    Picture("audit_exact_copies.png", AUDIT, "audit",
            "Pairs of images that are exact copies, the worst first.",
            partial(_copies, "exact"), images.draw_contact_sheet),
    Picture("audit_near_copies.png", AUDIT, "audit",
            "Pairs of images that are near copies, the worst first.",
            partial(_copies, "near"), images.draw_contact_sheet),
)  # fmt: skip


class PictureFile(NamedTuple):
    """A picture in a results folder, its row of the gallery and what it shows, in words."""

    path: Path
    picture: Picture
    caption: str


def picture_files(results: Path, names: Iterable[str]) -> list[PictureFile]:
    """The pictures among the files `names` of a results folder, in the order of the gallery, then by name."""
    pictures = (results / name for name in sorted(names) if name.endswith(".png"))
    rows = {path: _row_of(path.name) for path in pictures if path.is_file()}
    files = [PictureFile(path, row, caption(path.name, row)) for path, row in rows.items() if row]
    return sorted(files, key=lambda file: GALLERY.index(file.picture))


def _row_of(name: str) -> Picture | None:
    """The row whose pattern a file name fits; of several, that which leaves least to its braces."""
    fitting = [row for row in GALLERY if _fields(row.file, name) is not None]
    return max(fitting, key=lambda row: len(re.sub(r"\{\w+\}", "", row.file)), default=None)


def _fields(pattern: str, name: str) -> dict[str, str] | None:
    """What stands in the braces of a pattern where the file has this name; None where it does not fit."""
    parts = re.split(r"\{(\w+)\}", pattern)  # text and names of fields in turn
    expression = "".join(f"(?P<{part}>.+)" if i % 2 else re.escape(part) for i, part in enumerate(parts))
    match = re.fullmatch(expression, name)
    return match and match.groupdict()


def caption(name: str, picture: Picture) -> str:
    """What the file of a picture shows, for readers and for screen readers."""
    fields = _fields(picture.file, name) or {}
    if "teacher" in fields:
        fields |= {"student": student_in_words(fields["teacher"]), "teacher": _name(fields["teacher"])}
    if "model" in fields:
        teacher, _, kind = fields["model"].rpartition("_")
        words = {"teacher": f"The teacher {teacher}", "student": student_in_words(teacher)}
        if kind not in words:  # a picture that is not of this run
            return Path(name).stem
        fields["model"] = words[kind]
    return picture.caption.format(**fields)
