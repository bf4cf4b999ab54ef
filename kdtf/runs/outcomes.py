"""What finished tasks found out: facts that the next plan is made with. Decides by `evidence.choose`."""

from dataclasses import replace

from ..config import Config
from ..data.dataset import Dataset
from ..evidence import choose
from ..records import Rule
from ..store import Store
from .close import int8_loss, tuning_rows
from .frontier import frontier_files
from .planner import grid, known
from .records import Candidate, Facts, Group, Plan, StudentTasks
from .results import read_files, read_student, read_teacher
from .search import AT_ONCE, ask, trials_of
from .stages import read_cut, read_origin


def learned(
    config: Config, facts: Facts, current: Plan, finished: set[str], store: Store, data: Dataset
) -> Facts:
    """The facts with what finished tasks found out.

    Origins, cuts, the best teacher, rules, layers that int8 hurts, the networks to try next, the one that
    students shall have.
    """
    origins, rules, layers = dict(facts.origins), dict(facts.rules), dict(facts.lossy_layers)
    cuts = {
        candidate: read_cut(store.work / task.folder).name
        for candidate, task in current.cuts.items()
        if task.folder in finished
    }
    for group in current.all_groups():
        for teacher in group.teachers:
            origin = teacher.origin
            if origin and (group.name, teacher.seed) not in origins and origin.folder in finished:
                origins[group.name, teacher.seed] = read_origin(store.work / origin.folder)
        if group.candidates and group.name not in rules and _all_finished(group, finished):
            rules[group.name] = _best_rule(group, store, data)
        for student in group.students:
            at = student.student.key
            if config.quantize.mixed and at not in layers and _measured(student, finished):
                layers[at] = _lossy_layer(student, store, data)
    best = facts.best_teacher or _best_teacher(config, facts, current, finished, store, data)
    facts = replace(facts, origins=origins, rules=rules, cuts=cuts, lossy_layers=layers, best_teacher=best)
    if not _compared(facts, current, finished):
        return facts if facts.asked else _with_asked(config, facts, current, store, data)
    facts = _with_asked(config, facts, current, store, data)
    if len(facts.asked) > len(current.frontier):
        return facts
    return replace(facts, candidate=facts.candidate or _best_candidate(config, current, store, data))


def _best_teacher(
    config: Config, facts: Facts, current: Plan, finished: set[str], store: Store, data: Dataset
) -> str | None:
    """The teacher that is best on val, once all are finished and only where it is asked for."""
    groups = list({group.name: group for group in current.all_groups() if group.teachers}.values())
    evaluations = [group.teachers[0].evaluation for group in groups]
    there = len(groups) == len(facts.teachers) + config.teacher.ensemble
    if not config.teacher.best_of or not there:
        return None
    if not all(task and task.folder in finished for task in evaluations):
        return None
    teachers = [read_teacher(group.teachers[0], store).predictions for group in groups]
    return groups[choose.best_teacher(teachers, data.ground_truth)].name


def _all_finished(group: Group, finished: set[str]) -> bool:
    return all(own.evaluation.folder in finished for own in group.candidates)


def _best_rule(group: Group, store: Store, data: Dataset) -> Rule:
    """Of the rules tried on the teacher's seed, the best on val."""
    rows = tuning_rows(group, store, data)
    best = choose.best_on_val([(row["val_accuracy"], row["val_loss"]) for row in rows])
    return known(group.candidates[best].rule)


def _measured(student: StudentTasks, finished: set[str]) -> bool:
    """Whether a student and its int8 file, if it has one, have been evaluated."""
    evaluations = [student.evaluation, *(student.files[r][1] for r in ("int8",) if r in student.files)]
    return all(task.folder in finished for task in evaluations)


def _lossy_layer(student: StudentTasks, store: Store, data: Dataset) -> str | None:
    """The tensor to keep in float, where int8 lost more than it may on val."""
    result = read_student(student, store, None)
    int8 = replace(student, files={r: student.files[r] for r in ("int8",) if r in student.files})
    files = read_files(int8, result, store)
    return choose.worst_error(files["int8"].errors).tensor if int8_loss(result, files, data) else None


def _compared(facts: Facts, current: Plan, finished: set[str]) -> bool:
    """Whether there are several candidates, and all files of those in the plan are evaluated."""
    groups = [group for own in current.frontier.values() for group in own]
    there = all(task.folder in finished for group in groups for task in group.tasks())
    known_all = all(own.complete for group in groups for own in group.students)
    complete = known_all and (all(group.students for group in groups) or bool(facts.best_teacher))
    return bool(groups) and there and complete


def _with_asked(config: Config, facts: Facts, current: Plan, store: Store, data: Dataset) -> Facts:
    """The facts with the candidates to try next, where --trials allows more and the grid is known."""
    if not config.student.trials or current.cuts.keys() - facts.cuts.keys():
        return facts
    every = grid(config, facts)
    more = min(config.student.trials, len(every)) - len(facts.asked)
    if more <= 0:
        return facts
    trials = trials_of(frontier_files(current.frontier, store), data.ground_truth)
    return replace(facts, asked=facts.asked + ask(every, trials, min(AT_ONCE, more), config.run.seed))


def _best_candidate(config: Config, current: Plan, store: Store, data: Dataset) -> Candidate:
    """The network and side of the smallest good file."""
    files = frontier_files(current.frontier, store)
    best = choose.smallest_good([file for _, file in files], data.ground_truth, config.run.seed)
    return files[best][0]
