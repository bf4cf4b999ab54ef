"""What every part of a plan is made with: settings, facts, and a task of any kind by its row."""

from collections.abc import Mapping
from typing import Any, TypeVar

from ..config import Config
from ..models.cut_names import has_any_block, to_budget, up_to, with_parts
from ..records import WeightsChoice
from ..tasks import Task
from .kinds import KINDS
from .records import Candidate, Facts
from .stages import FOLDS_ROLE

Known = TypeVar("Known")


def known(value: Known | None) -> Known:
    """What a plan has by the time it is asked for. Raises `LookupError` where it has not."""
    if value is None:
        raise LookupError("A plan must be made again with the facts that this needs.")
    return value


def named_candidates(config: Config) -> list[Candidate]:
    """The networks and sides that the settings name; one of any block stands for several."""
    student = config.student
    written = student.students or (student.student,)
    networks = dict.fromkeys(name for own in written for name in with_parts(own))
    sides = dict.fromkeys(student.sides or (None,))
    return [Candidate(network, side) for network in networks for side in sides]


def last_cut(candidate: Candidate) -> Candidate:
    """Of one of any block that with the last, which a budget decides; any other itself."""
    return candidate._replace(network=to_budget(candidate.network))


def grid(config: Config, facts: Facts) -> list[Candidate]:
    """The networks and sides that students may have, each once. Budgets' blocks are known by then."""
    every: dict[Candidate, None] = {}
    for own in named_candidates(config):
        several = has_any_block(own.network)
        networks = up_to(facts.cuts[last_cut(own)]) if several else [facts.cuts.get(own, own.network)]
        every |= dict.fromkeys(own._replace(network=network) for network in networks)
    return list(every)


def candidates(config: Config, facts: Facts) -> list[Candidate]:
    """Those of the grid that are tried: all, or with --trials those that were asked for so far."""
    return list(facts.asked) if config.student.trials else grid(config, facts)


class Planner:
    """The settings and facts of one plan."""

    def __init__(self, config: Config, facts: Facts):
        self.config, self.facts = config, facts
        self.first_seed = config.run.seed
        self.seeds = [config.run.seed + i for i in range(config.evidence.seeds)]

    def task(self, kind: str, name: str, settings: Mapping[str, Any], **inputs: Task) -> Task:
        """A task of a kind, with what its row says; in a fold, where the facts name one."""
        row, fold = KINDS[kind], self.facts.fold
        within = fold if row.reads_data else None
        return Task(
            kind,
            f"fold{fold.number}-{name}" if fold else name,
            settings,
            {**inputs, FOLDS_ROLE: within.folds} if within else inputs,
            data=self.facts.data if row.reads_data else "",
            fold=within.number if within else None,
            version=row.version,
            environment=row.environment(self.facts.versions, self.config.run.deterministic, settings),
        )

    def stage_name(self, teacher: str, stage: str, seed: int) -> str:
        """`vgg16-student`, and `vgg16-student-seed3` for the repeats."""
        return f"{teacher}-{stage}" + (f"-seed{seed}" if seed != self.first_seed else "")

    def weights(self, network: str) -> WeightsChoice:
        """--weights as it is meant for a network: what Keras has, nothing, or a file."""
        choice, file = self.config.teacher.weights, self.facts.weight_files.get(network)
        return WeightsChoice("file", file, choice) if file else WeightsChoice(choice)
