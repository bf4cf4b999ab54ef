"""What a plan is made of and what it is: facts, the tasks of a teacher, a student, a group, a whole run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..records import Rule
from ..tasks import Task

JOINED = "joined-labels"  # the kind of labels that several tasks made


@dataclass(frozen=True)
class Origin:
    """Where a teacher's weights came from, in words, and whether they are pretrained."""

    weights: str
    pretrained: bool


@dataclass(frozen=True)
class LabelPart:
    """The part of a teacher's labels that one task makes: those of the images start to stop in one view."""

    view: int
    start: int
    stop: int


class Fold(NamedTuple):
    """A fold of train and val: the task that assigns images to folds, and its number."""

    folds: Task
    number: int


class Candidate(NamedTuple):
    """What a run may be about: the network of its students and the side of their input in px.

    A `side` of None is that of the data's own arrays.
    """

    network: str
    side: int | None = None

    @property
    def in_words(self) -> str:
        """The network, and the side where that is not the arrays' own."""
        return f"{self.network} at {self.side} px" if self.side else self.network


@dataclass(frozen=True)
class Facts:
    """What a plan depends on beside the settings: what is known at its start, and what tasks found out."""

    data: str  # digest of the images, labels and groups
    data_name: str
    classes: tuple[str, ...]
    versions: Mapping[str, str]  # of the packages of `kinds.PACKAGES`
    teachers: tuple[str, ...]  # by their names in the registry
    unlabelled: str = ""  # digest of the images without labels, "" where there are none
    all_left_out: bool = False  # by the audit: none of these may be learned from
    train_images: int = 0
    unlabelled_images: int = 0  # without those that the audit leaves out
    subgroups: str = ""  # digest of the groups that scores are told apart by, "" where there are none
    synthetic: bool = False
    prepared: Mapping[str, Any] = field(default_factory=dict)  # how `prepare` made the images, where it did
    loss_options: tuple[tuple[str, float], ...] = ()  # of the loss, its defaults where they are not set
    weight_files: Mapping[str, str | None] = field(default_factory=dict)  # sha256 by network
    origins: Mapping[tuple[str, int], Origin] = field(default_factory=dict)  # by teacher and seed
    best_teacher: str | None = None  # on val, where students are to be distilled from that alone
    rules: Mapping[str, Rule] = field(default_factory=dict)  # chosen on val, by teacher
    cuts: Mapping[Candidate, str] = field(default_factory=dict)  # cut:NETWORK to cut:NETWORK:BLOCK
    lossy_layers: Mapping[str, str | None] = field(default_factory=dict)  # by the key of a student
    asked: tuple[Candidate, ...] = ()  # those tried so far, where --trials allows a part of the grid
    candidate: Candidate | None = None  # the one chosen on val, where there are several
    fold: Fold | None = None  # that is held out of what the tasks of this plan learn from


@dataclass(frozen=True)
class TeacherTasks:
    """The tasks of one teacher from one seed; `labels` is None while its origin is not known.

    One with `members` is their mean: it has no origin and no training of its own.
    """

    name: str
    seed: int
    origin: Task | None = None
    training: tuple[Task, ...] = ()  # those whose time is its training time; the last holds its weights
    labels: Task | None = None
    evaluation: Task | None = None
    unlabelled_labels: Task | None = None
    members: "tuple[TeacherTasks, ...]" = ()

    def tasks(self) -> Iterator[Task]:
        """In the order in which they are done."""
        for task in (self.origin, *self.training, self.labels, self.unlabelled_labels, self.evaluation):
            if task and task.kind == JOINED:
                yield from task.inputs.values()
            if task:
                yield task


@dataclass(frozen=True)
class StudentTasks:
    """The tasks of one student; `teacher` is "alone" or "baseline" for one trained without any."""

    teacher: str
    model: str
    seed: int
    network: str
    rule: Rule | None
    student: Task
    evaluation: Task
    conversion: Task | None = None
    files: Mapping[str, tuple[Task, Task]] = field(default_factory=dict)  # {recipe: (file, evaluation)}
    agreement: Task | None = None  # with its teacher, of the first seed
    complete: bool = True  # False while it is not known whether a file with a float layer is wanted

    def tasks(self) -> Iterator[Task]:
        """In the order in which they are done."""
        yield self.student
        yield self.evaluation
        if self.conversion and any("conversion" in file.inputs for file, _ in self.files.values()):
            yield self.conversion
        for pair in self.files.values():
            yield from pair
        if self.agreement:
            yield self.agreement


@dataclass(frozen=True)
class FoldTasks:
    """A teacher and the student alone, trained without a fold; their test is that fold."""

    views: Task
    alone: StudentTasks
    teacher: TeacherTasks

    @property
    def evaluations(self) -> tuple[Task, Task]:
        """Of the teacher, and of the student alone."""
        if self.teacher.evaluation is None:
            raise LookupError("A teacher is in folds once it is known how it is trained.")
        return self.teacher.evaluation, self.alone.evaluation

    def units(self) -> tuple[tuple[Task, ...], ...]:
        """In the order in which they are done, those of one network together."""
        teacher, alone = self.evaluations
        return (self.views,), (self.alone.student, alone), (*self.teacher.training, teacher)


@dataclass(frozen=True)
class Group:
    """All that is done with one teacher, or with one kind of student trained without any."""

    name: str
    teachers: tuple[TeacherTasks, ...] = ()
    candidates: tuple[StudentTasks, ...] = ()  # students to choose a rule by
    students: tuple[StudentTasks, ...] = ()
    attention: Task | None = None
    report: Task | None = None  # None while some of its tasks are not known yet
    source: str | None = None  # the group with the teachers of the students, where it is another one

    def tasks(self) -> Iterator[Task]:
        """In the order in which they are done, without the report."""
        for teacher in self.teachers:
            yield from teacher.tasks()
        for student in (*self.candidates, *self.students):
            yield from student.tasks()
        if self.attention:
            yield self.attention


@dataclass(frozen=True)
class Plan:
    """The tasks of a run, as far as they are known."""

    audit: Task
    datasheet: Task
    views: Task
    cuts: Mapping[Candidate, Task]  # the choice of a block for every cut:NETWORK that has none
    groups: tuple[Group, ...]
    report: Task | None  # over all groups, None while one of them is not complete
    unlabelled: Task | None = None  # the views of images without labels
    # groups of every candidate, where there are several: without reports, to choose by
    frontier: Mapping[Candidate, tuple[Group, ...]] = field(default_factory=dict)
    assignment: Task | None = None  # of images to the folds of a cross-validation, where one is asked for
    folds: Mapping[str, tuple[FoldTasks, ...]] = field(default_factory=dict)  # by teacher

    def _before_distilling(self) -> Iterator[Task]:
        """What a cross-validation needs: first how each teacher begins, then its folds."""
        teachers = {own.name: own for group in self.all_groups() for own in group.teachers[:1]}
        yield from filter(None, (own.origin for own in teachers.values()))
        units = (unit for own in self.folds.values() for fold in own for unit in fold.units())
        every = {task.folder: task for unit in units for task in unit}
        yield from every.values()  # the student alone is the same for all teachers

    def all_groups(self) -> Iterator[Group]:
        """The groups of the run, and those of all candidates."""
        yield from self.groups
        for groups in self.frontier.values():
            yield from groups

    def tasks(self) -> Iterator[Task]:
        """Every task in the order in which it is done, reports among them."""
        yield self.audit
        if self.assignment:
            yield self.assignment
        yield from (self.datasheet, self.views, *self.cuts.values())
        if self.unlabelled:
            yield self.unlabelled
        if self.assignment:
            yield from self._before_distilling()
        for groups in self.frontier.values():
            for group in groups:
                yield from group.tasks()
        for group in self.groups:
            yield from group.tasks()
            if group.report:
                yield group.report
        if self.report:
            yield self.report
