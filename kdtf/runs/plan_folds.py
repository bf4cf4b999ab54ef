"""The tasks of a cross-validation: teachers and the student alone, trained without a fold and tried on it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from ..config import Config
from ..tasks import Task
from .plan_students import StudentPlanner
from .plan_teachers import TeacherPlanner
from .planner import Planner
from .records import Candidate, Facts, Fold, FoldTasks


def plan_folds(
    config: Config, facts: Facts, candidate: Candidate, folds: Task
) -> Mapping[str, tuple[FoldTasks, ...]]:
    """{teacher: its tasks in each of some `folds`}, of those known to begin with pretrained weights or not.

    The seeds and weights are those of the run's first teacher and student. No fold has unlabelled images.
    """
    count = folds.settings["count"]
    by_fold = [dict(_of_fold(config, facts, Fold(folds, k), candidate)) for k in range(count)]
    return {name: tuple(own[name] for own in by_fold) for name in by_fold[0]}


def _of_fold(
    config: Config, facts: Facts, fold: Fold, candidate: Candidate
) -> Iterator[tuple[str, FoldTasks]]:
    """Each teacher, and the student alone, over the views of what is learned from in a fold."""
    facts, seed = replace(facts, fold=fold, unlabelled=""), config.run.seed
    views = Planner(config, facts).task("views", "views", {"policy": config.views, "seed": seed})
    alone = StudentPlanner(config, facts, views).student("alone", "alone", seed, candidate)
    teachers = TeacherPlanner(config, facts, views, None)
    for name in facts.teachers:
        if (name, seed) in facts.origins:
            yield name, FoldTasks(views, alone, teachers.teacher(name, seed))
