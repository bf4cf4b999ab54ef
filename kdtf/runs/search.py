"""Which networks and sides to try next where the grid is too large to try all: Optuna's answer.

What is asked for is likely to be accurate on val, by the tree-structured Parzen estimator (Bergstra et al.
2011) as Optuna has it (Akiba et al. 2019, arXiv 1907.10902). Bytes are no second aim: they are bounded by
the budget, and an estimator with that aim spends trials on networks of one to three blocks, which are the
smallest and of no use. The same trials and seed give the same answer: a run that was killed asks what it
asked.
"""

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..evidence.choose import val_accuracy
from ..models.cut_names import is_cut, parts_of
from ..records import FrontierFile, GroundTruth
from .records import Candidate

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import IntDistribution

AT_ONCE = 4  # trials that are asked for together, so that --jobs has something to do
AT_RANDOM = 8  # trials before the estimator has anything to go by
MOST_SEEDS = 2**32  # that Optuna takes
NETWORK, AXES = "network", ("side", "part", "block")  # of Optuna's parameters


class Trial(NamedTuple):
    """A candidate that was tried, and the val accuracy of its best file, the mean over seeds."""

    candidate: Candidate
    accuracy: float


def trials_of(files: Iterable[tuple[Candidate, FrontierFile]], truth: GroundTruth) -> list[Trial]:
    """Each candidate with the best of its files on val."""
    best: dict[Candidate, float] = {}
    for candidate, file in files:
        accuracy = float(np.mean([val_accuracy(own.predictions, truth) for own in file.files]))
        best[candidate] = max(accuracy, best.get(candidate, 0.0))
    return [Trial(*own) for own in best.items()]


class Place(NamedTuple):
    """Where a candidate lies in a grid: its network, and the ranks of its side, part and block there."""

    network: str
    ranks: tuple[int, ...]

    def distance(self, other: "Place") -> float:
        """Steps along the grid to another one; none lead to another network."""
        steps = sum(abs(a - b) for a, b in zip(self.ranks, other.ranks, strict=True))
        return steps if self.network == other.network else math.inf


def ask(grid: Sequence[Candidate], trials: Sequence[Trial], count: int, seed: int) -> tuple[Candidate, ...]:
    """The next `count` candidates of a grid, none of which was tried."""
    places = _places(grid)
    axes = {name: _ranges(name, places.values()) for name in sorted({own.network for own in places.values()})}
    study = _study([(places[own.candidate], own.accuracy) for own in trials], axes, seed)
    left = dict.fromkeys(grid)
    for trial in trials:
        del left[trial.candidate]
    answer = []
    for _ in range(count):
        networks = Counter(places[own].network for own in left)
        wanted = _wanted(study, axes, networks)
        nearest = min(left, key=lambda own: wanted.distance(places[own]))
        del left[nearest]
        answer.append(nearest)
    return tuple(answer)


def _wanted(study: "Study", axes: "dict[str, dict[str, IntDistribution]]", left: Counter[str]) -> Place:
    """The place that Optuna asks for, of a network of which some are left."""
    asked = study.ask()
    network = asked.suggest_categorical(NETWORK, list(axes))
    if network not in left:  # all of it was tried: that of which the most was not
        study.enqueue_trial({NETWORK: left.most_common(1)[0][0]})
        asked = study.ask()
        network = asked.suggest_categorical(NETWORK, list(axes))
    ranks = (asked.suggest_int(axis, own.low, own.high) for axis, own in axes[network].items())
    return Place(network, tuple(ranks))


def _study(
    trials: Sequence[tuple[Place, float]], axes: "dict[str, dict[str, IntDistribution]]", seed: int
) -> "Study":
    """Optuna's study with what was tried: each place with its accuracy."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of constant_liar
        sampler = optuna.samplers.TPESampler(
            seed=(seed + len(trials)) % MOST_SEEDS, n_startup_trials=AT_RANDOM, constant_liar=True
        )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    networks = optuna.distributions.CategoricalDistribution(list(axes))
    for place, accuracy in trials:
        own = axes[place.network]
        study.add_trial(
            optuna.trial.create_trial(
                params={NETWORK: place.network, **dict(zip(own, place.ranks, strict=True))},
                distributions={NETWORK: networks, **own},
                value=accuracy,
            )
        )
    return study


def _ranges(network: str, places: Iterable[Place]) -> "dict[str, IntDistribution]":
    """Optuna's axes of a network; each has its own, as blocks of two networks have nothing in common."""
    from optuna.distributions import IntDistribution

    ranks = zip(*(own.ranks for own in places if own.network == network), strict=True)
    return {f"{network} {axis}": IntDistribution(0, max(own)) for axis, own in zip(AXES, ranks, strict=True)}


def _places(grid: Sequence[Candidate]) -> dict[Candidate, Place]:
    """Where each candidate lies."""
    cells = {own: _cell(own) for own in grid}
    steps = {}
    for network in {network for network, _ in cells.values()}:
        axes = zip(*(values for name, values in cells.values() if name == network), strict=True)
        steps[network] = [sorted(set(axis)) for axis in axes]
    places = {}
    for own, (network, values) in cells.items():
        ranks = (axis.index(value) for axis, value in zip(steps[network], values, strict=True))
        places[own] = Place(network, tuple(ranks))
    return places


def _cell(candidate: Candidate) -> tuple[str, tuple[float, float, float]]:
    """A candidate's network, and its side (0: the arrays' own), part of the channels and block."""
    side, name = float(candidate.side or 0), candidate.network
    if not is_cut(name):
        return name, (side, 0.0, 0.0)
    network, block, part = parts_of(name)
    return network, (side, float(part or 1), float(block))
