"""What every part of a plan is made with: settings, facts, and a task of any kind by its row."""

from collections.abc import Mapping
from typing import Any, TypeVar

from ..config import Config
from ..records import WeightsChoice
from ..tasks import Task
from .kinds import KINDS
from .records import Candidate, Facts

Known = TypeVar("Known")


def known(value: Known | None) -> Known:
    """What a plan has by the time it is asked for. Raises `LookupError` where it has not."""
    if value is None:
        raise LookupError("A plan must be made again with the facts that this needs.")
    return value


def candidates(config: Config) -> list[Candidate]:
    """The networks and sides that the students of a run may have."""
    student = config.student
    networks = dict.fromkeys(student.students or (student.student,))
    sides = dict.fromkeys(student.sides or (None,))
    return [Candidate(network, side) for network in networks for side in sides]


class Planner:
    """The settings and facts of one plan."""

    def __init__(self, config: Config, facts: Facts):
        self.config, self.facts = config, facts
        self.first_seed = config.run.seed
        self.seeds = [config.run.seed + i for i in range(config.evidence.seeds)]

    def task(self, kind: str, name: str, settings: Mapping[str, Any], **inputs: Task) -> Task:
        """A task of a kind, with what its row says."""
        row = KINDS[kind]
        return Task(
            kind,
            name,
            settings,
            inputs,
            data=self.facts.data if row.reads_data else "",
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
