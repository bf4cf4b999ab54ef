"""Settings and facts to tasks. Pure: reads no file, performs nothing, takes milliseconds.

Some tasks can only be named once others are done: whether a teacher has pretrained weights decides how it is
trained, val decides what a student is distilled with. Such outcomes are `Facts`; a plan made with fewer of
them ends earlier, and is made again when more are known.
"""

from collections.abc import Mapping
from dataclasses import replace

from ..config import Config
from ..models.cut_names import needs_budget
from ..tasks import Task
from .kinds import KINDS
from .plan_folds import plan_folds
from .plan_groups import BaseStages, GroupPlanner
from .plan_students import StudentPlanner
from .planner import Planner, candidates, last_cut, named_candidates
from .records import Candidate, Facts, Group, Plan


def phantom_task(seed: int, versions: Mapping[str, str]) -> Task:
    """The synthetic images of the demo."""
    kind = KINDS["phantom"]
    settings = {"seed": seed}
    environment = kind.environment(versions, deterministic=False, settings=settings)
    return Task("phantom", "sample", settings, version=kind.version, environment=environment)


def audit_task(facts: Facts) -> Task:
    """The audit of the data; the classes are in its words."""
    unlabelled = {"unlabelled": facts.unlabelled} if facts.unlabelled else {}
    settings = {"classes": list(facts.classes), **unlabelled}
    return Planner(Config(), facts).task("audit", "audit", settings)


def plan(config: Config, facts: Facts) -> Plan:
    """The tasks of a run with these settings, as far as the facts tell them."""
    planner, audit = Planner(config, facts), audit_task(facts)
    drawn = {"policy": config.views, "seed": planner.first_seed}
    views, unlabelled = planner.task("views", "views", drawn), None
    if facts.unlabelled and not facts.all_left_out and config.distil.unlabelled_share:
        own = {**drawn, "unlabelled": facts.unlabelled}
        unlabelled = planner.task("unlabelled-views", "unlabelled-views", own, audit=audit)
    stages = BaseStages(audit, views, unlabelled)
    cuts = _cuts(config, StudentPlanner(config, facts, views))
    first = GroupPlanner(config, facts, named_candidates(config)[0], stages)
    count = config.evidence.folds
    folds = planner.task("folds", "folds", {"count": count}) if count else None
    start = Plan(audit, first.datasheet, views, cuts, (), None, unlabelled, assignment=folds)
    planners = {}
    if not cuts.keys() - facts.cuts.keys():
        planners = {own: GroupPlanner(config, facts, own, stages) for own in candidates(config, facts)}
    if not planners:
        return start
    chosen, frontier = next(iter(planners)), {}
    if folds:
        start = replace(start, folds=plan_folds(config, facts, chosen, folds))
    if len(planners) > 1:
        frontier = {own: tuple(map(_bare, planner.groups())) for own, planner in planners.items()}
        if facts.candidate is None:
            return replace(start, frontier=frontier)
        chosen = facts.candidate
    groups = planners[chosen].groups()
    compared = {
        f"candidate-{t.folder}": t for own in frontier.values() for group in own for t in group.tasks()
    }
    report = planners[chosen].closing_report(groups, **compared)
    sheet = planners[chosen].datasheet
    return replace(start, datasheet=sheet, groups=tuple(groups), report=report, frontier=frontier)


def _cuts(config: Config, students: StudentPlanner) -> dict[Candidate, Task]:
    """The choice of a block for every cut:NETWORK that has none, and of the last of any."""
    named = named_candidates(config)
    baseline = config.student.baseline
    named += [Candidate(baseline, own.side) for own in named if baseline]
    return {own: students.cut(own) for own in map(last_cut, named) if needs_budget(own.network)}


def _bare(group: Group) -> Group:
    """A group without what is written about it."""
    students = tuple(replace(student, agreement=None) for student in group.students)
    return replace(group, students=students, attention=None, report=None)
