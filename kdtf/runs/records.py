"""What a plan is made of and what it is: facts, the tasks of a teacher, a student, a group, a whole run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..records import Rule
from ..tasks import Task


@dataclass(frozen=True)
class Origin:
    """Where a teacher's weights came from, in words, and whether they are pretrained."""

    weights: str
    pretrained: bool


@dataclass(frozen=True)
class Facts:
    """What a plan depends on beside the settings: what is known at its start, and what tasks found out."""

    data: str  # digest of the images, labels and groups
    data_name: str
    classes: tuple[str, ...]
    versions: Mapping[str, str]  # of the packages of `kinds.PACKAGES`
    teachers: tuple[str, ...]  # by their names in the registry
    synthetic: bool = False
    prepared: Mapping[str, Any] = field(default_factory=dict)  # how `prepare` made the images, where it did
    loss_options: tuple[tuple[str, float], ...] = ()  # of the loss, its defaults where they are not set
    weight_files: Mapping[str, str | None] = field(default_factory=dict)  # sha256 by network
    origins: Mapping[tuple[str, int], Origin] = field(default_factory=dict)  # by teacher and seed
    rules: Mapping[str, Rule] = field(default_factory=dict)  # chosen on val, by teacher
    cuts: Mapping[str, str] = field(default_factory=dict)  # cut:NETWORK to cut:NETWORK:BLOCK
    lossy_layers: Mapping[tuple[str, int], str | None] = field(default_factory=dict)  # by student and seed


@dataclass(frozen=True)
class TeacherTasks:
    """The tasks of one teacher from one seed; `labels` is None while its origin is not known."""

    name: str
    seed: int
    origin: Task
    training: tuple[Task, ...] = ()  # those whose time is its training time; the last holds its weights
    labels: Task | None = None
    evaluation: Task | None = None

    def tasks(self) -> Iterator[Task]:
        """In the order in which they are done."""
        yield self.origin
        yield from self.training
        yield from (task for task in (self.labels, self.evaluation) if task)


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
    complete: bool = True  # False while it is not known whether a file with a float layer is wanted

    def tasks(self) -> Iterator[Task]:
        """In the order in which they are done."""
        yield self.student
        yield self.evaluation
        if self.conversion and any("conversion" in file.inputs for file, _ in self.files.values()):
            yield self.conversion
        for pair in self.files.values():
            yield from pair


@dataclass(frozen=True)
class Group:
    """All that is done with one teacher, or with one kind of student trained without any."""

    name: str
    teachers: tuple[TeacherTasks, ...] = ()
    candidates: tuple[StudentTasks, ...] = ()  # students to choose a rule by
    students: tuple[StudentTasks, ...] = ()
    attention: Task | None = None
    report: Task | None = None  # None while some of its tasks are not known yet

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
    cuts: Mapping[str, Task]  # the choice of a block for every cut:NETWORK that has none
    groups: tuple[Group, ...]
    report: Task | None  # over all groups, None while one of them is not complete

    def tasks(self) -> Iterator[Task]:
        """Every task in the order in which it is done, reports among them."""
        yield from (self.audit, self.datasheet, self.views, *self.cuts.values())
        for group in self.groups:
            yield from group.tasks()
            if group.report:
                yield group.report
        if self.report:
            yield self.report
