"""What a report is about: frozen records that `runs` makes, and that tables and pictures are drawn from.

`names` of a subject stand in the braces of its file names: with {"model": "vgg16_student"} the table
"{model}_Confusion.csv" is "vgg16_student_Confusion.csv".
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from ..config import EvidenceConfig
from ..data.audit import Audit
from ..data.dataset import Dataset
from ..evidence import choose, tables, verdict
from ..evidence.calibration import class_agreement
from ..evidence.frontier import frontier_rows
from ..evidence.gains import source_of
from ..evidence.subgroups import GroupScores, gap_rows, group_scores, largest_gaps, score_rows
from ..records import (
    KERAS,
    Attention,
    FileResult,
    FrontierFile,
    GroundTruth,
    Predictions,
    StudentResult,
    TeacherResult,
)
from ..words import plural
from .summary import Result, summary_row


def data_name(source: str | Path, synthetic: bool) -> str:
    """How tables name the data at the path `source`; synthetic data always says so."""
    return "synthetic phantom" if synthetic else Path(source).name


@dataclass(frozen=True)
class Study:
    """What all models of a run were tested on, and the settings that tables depend on.

    `images` (N, H, W, C), 0..255, are those of test at the teacher's size. `seed` is the first of the run.
    Without `timings` the tables hold none: they are never twice the same.
    """

    data_name: str
    synthetic: bool
    truth: GroundTruth
    images: np.ndarray
    subsets: list[tables.Subset]  # of test; all of it is the first
    seed: int
    min_sensitivity: float | None
    timings: bool
    rules: EvidenceConfig = field(default_factory=EvidenceConfig)  # what a file has to meet, its sets

    @property
    def part(self) -> tables.Subset:
        """The test images that the chosen file is judged by: those without a copy, where there are any."""
        return tables.clean_part(self.subsets) or self.subsets[0]

    @property
    def part_in_words(self) -> str:
        """These images, in words."""
        count, of = len(self.part.rows), len(self.truth.test)
        copies = "" if count == of else " without a copy in train or val"
        return f"{count} test {plural(count, 'image')}{copies}"

    def row(self, result: Result) -> dict:
        """A model's row of `summary.csv`."""
        part = tables.clean_part(self.subsets)
        clean = np.isin(np.arange(len(self.truth.test)), part.rows if part else ())  # (N,)
        return summary_row(result, self.truth, clean, data_name=self.data_name, timings=self.timings)


@dataclass(frozen=True)
class _StudySubject:
    study: Study

    @property
    def synthetic(self) -> bool:
        """Are the images synthetic."""
        return self.study.synthetic


@dataclass(frozen=True)
class TeacherSubject(_StudySubject):
    """A teacher beside the students of its seed; `tuning`, where several rules were tried, a row for each."""

    teacher: TeacherResult
    alone: StudentResult
    distilled: StudentResult | None  # None where the run distils from another teacher alone
    baseline: StudentResult | None
    attention: Attention | None  # None of a teacher that is a mean of several
    tuning: tuple[dict, ...] = ()

    @property
    def names(self) -> dict[str, str]:
        """What stands in the braces of file names."""
        return {"teacher": self.predictions.teacher, "model": f"{self.predictions.teacher}_teacher"}

    @property
    def predictions(self) -> Predictions:
        """Probabilities of the teacher."""
        return self.teacher.predictions

    @property
    def models(self) -> dict[str, TeacherResult | StudentResult]:
        """{kind: model} of the teacher and the students."""
        distilled = {"distilled": self.distilled} if self.distilled else {}
        baseline = {"baseline": self.baseline} if self.baseline else {}
        return {"teacher": self.teacher, "alone": self.alone, **distilled, **baseline}


@dataclass(frozen=True)
class StudentSubject(_StudySubject):
    """A student, distilled or trained alone, and its `.tflite` files."""

    student: StudentResult
    files: tuple[FileResult, ...]

    @property
    def names(self) -> dict[str, str]:
        """What stands in the braces of file names."""
        return {"teacher": self.predictions.teacher, "model": f"{self.predictions.teacher}_student"}

    @property
    def predictions(self) -> Predictions:
        """Probabilities of the student."""
        return self.student.predictions


@dataclass(frozen=True)
class FileSubject(_StudySubject):
    """One `.tflite` of a student."""

    file: FileResult

    @property
    def names(self) -> dict[str, str]:
        """What stands in the braces of file names."""
        return {"teacher": self.file.predictions.teacher, "recipe": self.file.predictions.recipe}


@dataclass(frozen=True)
class RunSubject(_StudySubject):
    """All finished models of all seeds, in the order of the tables; the files of all networks compared."""

    models: tuple[Result, ...]
    frontier: tuple[FrontierFile, ...] = ()

    @property
    def names(self) -> dict[str, str]:
        """What stands in the braces of file names: nothing."""
        return {}

    @cached_property
    def rows(self) -> list[dict]:
        """The rows of `runs.csv`."""
        return [self.study.row(result) for result in self.models]

    @property
    def summary(self) -> list[dict]:
        """The rows of `summary.csv`: those of the first seed."""
        return [row for row in self.rows if row["seed"] == self.study.seed]

    @cached_property
    def frontier_rows(self) -> list[dict] | None:
        """The rows of `frontier.csv`; None where there was one network alone."""
        if not self.frontier:
            return None
        study = self.study
        return frontier_rows(self.frontier, study.truth, study.subsets, study.seed, timings=study.timings)

    @cached_property
    def chosen(self) -> dict:
        """The row of `summary.csv` of the `.tflite` that val chose: where several networks were compared
        the smallest good one, see `choose`."""
        if not self.frontier_rows:
            return choose.file_to_ship(self.summary)
        row = next(row for row in self.frontier_rows if row["chosen"])
        name = {column: row[column] for column in ("teacher", "model", "recipe")}
        return next(row for row in self.summary if name.items() <= row.items())

    @cached_property
    def chosen_file(self) -> FileResult:
        """The file itself."""
        wanted = {name: self.chosen[name] for name in ("teacher", "model", "recipe", "seed")}
        return next(r for r in self.models if isinstance(r, FileResult) and r.predictions.name == wanted)

    @cached_property
    def verdict(self) -> list[verdict.Requirement]:
        """The rows of `verdict.csv`: whether the chosen file is good enough."""
        study, file = self.study, self.chosen_file
        wanted = {"model": "alone", "recipe": KERAS, "seed": study.seed}
        alone = next(r for r in self.models if wanted.items() <= r.predictions.name.items())
        best = [choose.val_accuracy(r.predictions, study.truth) for r in self._files_of_first_seed]
        case = verdict.Case(
            file.predictions,
            file.student.predictions,
            alone.predictions,
            study.truth,
            study.part,
            (best.count(choose.val_accuracy(file.predictions, study.truth)), len(best)),
            study.rules,
            self.groups.get(study.part.name, ()),
        )
        return verdict.verdict(case)

    @cached_property
    def groups(self) -> dict[str, list[GroupScores]]:
        """{part of test: what the chosen file scores in each group there}; {} where no groups are known."""
        file, truth = self.chosen_file.predictions, self.study.truth
        parts = self.study.subsets if truth.subgroups else []
        return {part.name: group_scores(file, truth, part) for part in parts}

    @property
    def group_rows(self) -> list[dict] | None:
        """The rows of `subgroups.csv`; None where no groups are known."""
        file, truth = self.chosen_file.predictions, self.study.truth
        rows = [row for name, own in self.groups.items() for row in score_rows(file, truth, name, own)]
        return rows or None

    @property
    def gap_rows(self) -> list[dict] | None:
        """The rows of `subgroup_gaps.csv`; None where no groups are known."""
        file, study = self.chosen_file.predictions, self.study
        parts = study.subsets if study.truth.subgroups else []
        gaps = {part.name: largest_gaps(file, study.truth, part, study.seed) for part in parts}
        return [row for name, own in gaps.items() for row in gap_rows(study.truth, name, own)] or None

    @property
    def _files_of_first_seed(self) -> list[FileResult]:
        seed = self.study.seed
        return [r for r in self.models if isinstance(r, FileResult) and r.predictions.seed == seed]

    @cached_property
    def agreement(self) -> list[dict]:
        """The rows of `agreement.csv`: the distilled students of the first seed and their teachers."""
        truth, rows = self.study.truth, []
        results = {(r.predictions.teacher, r.predictions.model): r for r in reversed(self.models)}
        for result in self.models:
            if not isinstance(result, StudentResult) or not result.agreement:
                continue
            name, student = result.predictions.teacher, result.predictions
            teacher = results[source_of(name), "teacher"].predictions  # of its first seed
            rows += [{"teacher": name, **own._asdict()} for own in result.agreement]
            for split in ("val", "test"):
                theirs, ours = (getattr(m, f"{split}_probs").argmax(axis=1) for m in (teacher, student))
                own = class_agreement(split, theirs, ours, getattr(truth, split))
                rows.append({"teacher": name, **own._asdict()})
        return rows

    @cached_property
    def evidence(self) -> dict[str, list[dict]]:
        """{table: rows} of all evidence: see `evidence.tables.all_tables`."""
        study = self.study
        predictions = [result.predictions for result in self.models]
        return tables.all_tables(predictions, study.truth, study.subsets, study.min_sensitivity, study.rules)


@dataclass(frozen=True)
class AuditSubject:
    """Data, and what its audit found."""

    data: Dataset
    audit: Audit

    @property
    def names(self) -> dict[str, str]:
        """What stands in the braces of file names: nothing."""
        return {}

    @property
    def synthetic(self) -> bool:
        """Are the images synthetic."""
        return self.data.synthetic


Subject = TeacherSubject | StudentSubject | FileSubject | RunSubject | AuditSubject
