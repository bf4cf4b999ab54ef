"""Groups of tasks for students of one network and side, alone and of every teacher, and their reports."""

from dataclasses import replace
from typing import NamedTuple

from .. import __version__
from ..config import SHIP_RULES, Config
from ..distill.losses import LOSSES
from ..records import ENSEMBLE, WITH_UNLABELLED, Rule
from ..tasks import Task
from .plan_students import StudentPlanner
from .plan_teachers import TeacherPlanner
from .planner import Planner, candidates, known
from .records import Candidate, Facts, Group, StudentTasks, TeacherTasks

GRADCAM_IMAGES = 4
UNDISTILLED = ("alone", "baseline")  # students trained without a teacher


class BaseStages(NamedTuple):
    """What all students of a run have in common."""

    audit: Task
    views: Task
    unlabelled: Task | None  # views, where there are images without labels to learn from


class GroupPlanner(Planner):
    """All that is done with one candidate for the student."""

    def __init__(self, config: Config, facts: Facts, candidate: Candidate, stages: BaseStages):
        super().__init__(config, facts)
        self.candidate = candidate
        self.audit, views, self.unlabelled = stages
        sheet = {"classes": list(facts.classes), "synthetic": facts.synthetic, "side": candidate.side}
        self.datasheet = self.task("datasheet", "datasheet", {**sheet, "prepared": facts.prepared})
        self.teachers = TeacherPlanner(config, facts, views, self.unlabelled)
        self.students = StudentPlanner(config, facts, views)

    def groups(self) -> list[Group]:
        """Students alone and of every teacher; a group whose tasks are all known has its report."""
        groups = [self.undistilled("alone", self.candidate)]
        if self.config.student.baseline:
            baseline = Candidate(self.config.student.baseline, self.candidate.side)
            groups.append(self.undistilled("baseline", baseline))
        taught = {name: self.taught_by(name) for name in self.facts.teachers}
        if self.config.teacher.ensemble and all(map(_labelling, taught.values())):
            members = tuple(teacher for teachers in taught.values() for teacher in teachers)
            taught[ENSEMBLE] = (self.teachers.ensemble(members, self.students.rules()[0]),)
        alone = groups[0].students[0]
        for name, teachers in taught.items():
            groups += self.distilled(name, teachers, alone, groups)
        return groups

    def closing_report(self, groups: list[Group], **inputs: Task) -> Task | None:
        """The report over all groups; None while one of them is not complete."""
        reports = {group.name: group.report for group in groups if group.report}
        teachers = [group for group in groups if group.teachers]
        expected = len(self.facts.teachers) + self.config.teacher.ensemble
        if len(reports) < len(groups) or len(teachers) < expected:
            return None
        return self.report("run-report", "closing-report", groups, **reports, **inputs)

    def taught_by(self, name: str) -> tuple[TeacherTasks, ...]:
        """A teacher from its seeds: the first, or as many as there are students."""
        seeds = self.seeds if self.config.evidence.teacher_seeds else self.seeds[:1]
        return tuple(self.teachers.teacher(name, seed) for seed in seeds)

    def undistilled(self, model: str, candidate: Candidate) -> Group:
        """Students trained without a teacher, from every seed, and their files."""
        students = tuple(
            self.students.with_files(self.students.student(model, model, seed, candidate))
            for seed in self.seeds
        )
        group = Group(model, students=students)
        return self.reported(group, "student-report", []) if _complete(students) else group

    def distilled(
        self, name: str, teachers: tuple[TeacherTasks, ...], alone: StudentTasks, others: list[Group]
    ) -> list[Group]:
        """A teacher from its seeds, the choice of a rule, its students from every seed, their files.

        Where there are unlabelled images, a second group for the students that learn from these too.
        """
        group = Group(name, teachers)
        if not _labelling(teachers):
            return [group]
        if self.config.teacher.best_of and self.facts.best_teacher != name:
            chosen = self.facts.best_teacher is not None
            return [self.reported(group, "teacher-report", others) if chosen else group]
        rules = self.students.rules()
        rule = rules[0] if len(rules) == 1 else self.facts.rules.get(name)
        if len(rules) > 1:
            tried = (self.tried_student(name, teachers[0], own) for own in rules)
            group = replace(group, candidates=tuple(tried))
        if rule is None:
            return [group]
        students = self.taught_students(name, teachers, rule)
        group = replace(group, students=students)
        if not _complete(students):
            return [group]
        if not teachers[0].members:
            group = replace(group, attention=self.attention(teachers[0], alone, students[0]))
        groups = [self.reported(group, "teacher-report", others)]
        if self.unlabelled and LOSSES[rule.loss].teacher_weight(rule.alpha):
            own = name + WITH_UNLABELLED
            students = self.taught_students(own, teachers, rule, unlabelled=True)
            more = Group(own, students=students, source=name)
            groups.append(self.reported(more, "student-report", []) if _complete(students) else more)
        return groups

    def tried_student(self, name: str, teacher: TeacherTasks, rule: Rule) -> StudentTasks:
        """A student to choose a rule by: of the first network compared, whichever the run goes on with."""
        lessons = self.teachers.lessons(teacher, rule, unlabelled=False)
        first = candidates(self.config, self.facts)[0]
        return self.students.student(name, "distilled", teacher.seed, first, rule, lessons)

    def taught_students(
        self, name: str, teachers: tuple[TeacherTasks, ...], rule: Rule, unlabelled: bool = False
    ) -> tuple[StudentTasks, ...]:
        """Students from every seed, of the teacher of their seed or of the only one, with their files."""
        own = teachers * len(self.seeds) if len(teachers) == 1 else teachers
        students = (
            self.taught_student(name, teacher, seed, rule, unlabelled)
            for seed, teacher in zip(self.seeds, own, strict=True)
        )
        first, *rest = map(self.students.with_files, students)
        return (replace(first, agreement=self.agreement(first, own[0])), *rest)

    def agreement(self, student: StudentTasks, teacher: TeacherTasks) -> Task:
        """Where a student and its teacher name the same class, on all images that students learn from."""
        lessons = self.teachers.lessons(teacher, known(student.rule), unlabelled=self.unlabelled is not None)
        inputs = {"student": student.student, "views": self.students.views, **lessons}
        return self.task("agreement", f"{student.teacher}-agreement", {"side": self.candidate.side}, **inputs)

    def taught_student(
        self, name: str, teacher: TeacherTasks, seed: int, rule: Rule, unlabelled: bool = False
    ) -> StudentTasks:
        """A student of one seed, distilled by `rule`."""
        lessons = self.teachers.lessons(teacher, rule, unlabelled)
        return self.students.student(name, "distilled", seed, self.candidate, rule, lessons)

    def attention(self, teacher: TeacherTasks, alone: StudentTasks, distilled: StudentTasks) -> Task:
        """Grad-CAM of a teacher, its student and the one alone on the same images."""
        network = known(teacher.evaluation).settings["network"]
        trained = {"trained": teacher.training[-1]} if teacher.training else {}
        return self.task(
            "attention",
            f"{teacher.name}-gradcam",
            {"network": network, "images": GRADCAM_IMAGES, "seed": self.first_seed},
            audit=self.audit,
            distilled=distilled.student,
            alone=alone.student,
            **trained,
        )

    # Reports

    def reported(self, group: Group, kind: str, others: list[Group]) -> Group:
        """A complete group with its report; `others` are the groups it is compared with."""
        evaluations = [own.students[0].evaluation for own in others if own.name in UNDISTILLED]
        inputs = {f"other{i}": task for i, task in enumerate(evaluations)}
        return replace(group, report=self.report(kind, f"{group.name}-report", [group], **inputs))

    def report(self, kind: str, name: str, groups: list[Group], **inputs: Task) -> Task:
        """What is written about some groups: from their evaluations, and by the rules of evidence.

        Subgroups of patients are told apart in the closing report, and in cards that shall have them.
        """
        cards = self.config.evidence.card_subgroups
        settings = {
            "version": __version__,
            "min_sensitivity": self.config.evidence.min_sensitivity,
            "coverage": self.config.evidence.coverage,
            "sets": self.config.evidence.sets,
            **{name: getattr(self.config.evidence, name) for name in SHIP_RULES},
            "seed": self.first_seed,
            "data": self.facts.data_name,
            "synthetic": self.facts.synthetic,
            "classes": list(self.facts.classes),
            "timings": not self.config.run.deterministic,
            "card_subgroups": cards,
            "subgroups": self.facts.subgroups if cards or kind == "run-report" else "",
        }
        for group in groups:
            for task in group.tasks():
                inputs[task.folder] = task
        return self.task(kind, name, settings, datasheet=self.datasheet, audit=self.audit, **inputs)


def _complete(students: tuple[StudentTasks, ...]) -> bool:
    return all(student.complete for student in students)


def _labelling(teachers: tuple[TeacherTasks, ...]) -> bool:
    """Whether it is known how some teachers are trained, and so what labels they give."""
    return all(teacher.labels for teacher in teachers)
