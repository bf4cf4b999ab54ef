"""How many stages a run has and how long they may take, for those who wait. Decides nothing.

The number is that of a plan made with guesses for what tasks will find out. Seconds are those of the stages
of a kind that the run has; of a kind that it has not yet, those of the demo in the run's own proportion.
"""

from collections.abc import Iterable
from dataclasses import replace

from ..config import Config
from ..models.cut_names import after_block, has_any_block, needs_budget
from ..models.registry import TEACHERS
from ..progress import Place
from ..records import ENSEMBLE, Rule
from ..store import Store
from ..tasks import Task
from .plan import plan
from .planner import grid, last_cut, named_candidates
from .records import Candidate, Facts, Origin

DEMO_SECONDS = {  # of a stage of each kind, on two cores
    "features": 15.0,
    "head": 15.0,
    "whole": 24.0,
    "labels": 4.0,
    "unlabelled-labels": 15.0,
    "student": 17.0,
    "cut": 5.0,
    "tuned-file": 10.0,
    "compressed-file": 15.0,
    "teacher-evaluation": 0.8,
    "teacher-report": 3.3,
    "student-report": 1.3,
    "run-report": 5.0,
}
SOME_BLOCKS = 8  # that a budget may allow of a network
SHORT = 0.2  # seconds, of any other kind
TELLING = ("features", "head", "whole", "student")  # before one of them is made nothing can be said


class AnyLayer(dict):
    """Guesses that int8 hurts no student's layer, whichever is asked for."""

    def __contains__(self, key: object) -> bool:
        return True


class Forecast:
    """What is to come in a run, from what it has done."""

    def __init__(self, config: Config, store: Store):
        self.config, self.store = config, store
        self.seconds: dict[str, list[float]] = {}  # of the stages of each kind
        self._facts: Facts | None = None
        self._tasks: list[Task] = []

    def learn(self, task: Task, seconds: float) -> None:
        """A stage was made, or stands and took so long when it was."""
        self.seconds.setdefault(task.kind, []).append(seconds)

    def place(self, facts: Facts, task: Task, finished: set[str]) -> Place:
        """Where the next task stands, after those that are finished."""
        if facts != self._facts:
            self._facts = facts
            self._tasks = list(plan(self.config, guessed(self.config, facts)).tasks())
        begun = {*finished, task.folder}
        later = {own.folder: own for own in self._tasks if own.folder not in begun}
        number = len(finished) + 1
        if not any(kind in self.seconds for kind in TELLING):
            return Place(number, number + len(later))
        others = sum(map(self._expected, self._to_make(later.values())))
        return Place(number, number + len(later), self._expected(task), others)

    def _to_make(self, tasks: Iterable[Task]) -> Iterable[Task]:
        return (task for task in tasks if not (self.store.work / task.folder).is_dir())

    def _expected(self, task: Task) -> float:
        """Seconds that a task may take."""
        own = self.seconds.get(task.kind)
        if own:
            return sum(own) / len(own)
        took = sum(sum(times) for times in self.seconds.values())
        in_demo = sum(_in_demo(kind) * len(times) for kind, times in self.seconds.items())
        return _in_demo(task.kind) * took / in_demo


def _in_demo(kind: str) -> float:
    return DEMO_SECONDS.get(kind, SHORT)


def guessed(config: Config, facts: Facts) -> Facts:
    """Facts with a guess for each that is not known yet, so that a plan made with them is whole."""
    seeds = range(config.run.seed, config.run.seed + config.evidence.seeds)
    origins = {
        (name, seed): Origin("", _has_weights(config, facts, name))
        for name in facts.teachers
        for seed in seeds
    }
    own, distil = named_candidates(config), config.distil
    rule = Rule(
        (distil.alphas or (distil.alpha,))[0],
        (distil.temperatures or (distil.temperature,))[0],
        distil.loss,
        facts.loss_options or distil.options(),
    )
    networks = [*own, *(Candidate(config.student.baseline or "", at.side) for at in own)]
    cuts = {at: after_block(at.network, 1) for at in networks if needs_budget(at.network)}
    cuts |= {
        last: after_block(last.network, SOME_BLOCKS)
        for last in (last_cut(at) for at in networks if has_any_block(at.network))
    }
    groups = (*facts.teachers, ENSEMBLE)
    cuts |= facts.cuts
    every = grid(config, replace(facts, cuts=cuts))
    asked = tuple(dict.fromkeys((*facts.asked, *every)))[: config.student.trials or 0]
    return replace(
        facts,
        origins={**origins, **facts.origins},
        rules={**dict.fromkeys(groups, rule), **facts.rules},
        cuts=cuts,
        lossy_layers=AnyLayer(facts.lossy_layers),
        best_teacher=facts.best_teacher or (facts.teachers[0] if facts.teachers else None),
        asked=asked,
        candidate=facts.candidate or (asked or every)[0],
    )


def _has_weights(config: Config, facts: Facts, teacher: str) -> bool:
    """Whether a teacher is likely to begin with pretrained weights."""
    published = teacher not in TEACHERS or TEACHERS[teacher].published
    return config.teacher.weights != "none" and (published or facts.weight_files.get(teacher) is not None)
