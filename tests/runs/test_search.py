"""A part of a grid that is too large to try all of it: what Optuna asks for, and a run by it."""

import math
from dataclasses import replace

import pytest
from small_run import SMALL, pictures_of_one_pixel, stages, table, teachers_of_one_convolution
from test_plan import KNOWN

from kdtf.cli import main
from kdtf.config import Config
from kdtf.runs.plan import plan
from kdtf.runs.planner import grid
from kdtf.runs.records import Candidate
from kdtf.runs.search import AT_ONCE, Trial, ask

pytest.importorskip("optuna")
LAST = {"0.25": 12, "0.5": 9, "0.75": 8, "": 6}  # the last block of each part within a budget
PARTS = {"0.25": 0.25, "0.5": 0.5, "0.75": 0.75, "": 1.0}
CUTS = [
    Candidate(f"cut:mobilenetv2:{block}" + (f":{part}" if part else ""), side)
    for part, last in LAST.items()
    for block in range(1, last + 1)
    for side in (32, 64)
]
OTHERS = [Candidate("dscnn", side) for side in (32, 64)]


def accuracy(candidate):
    """Deeper, wider and larger is better, with less and less to gain; half as good from random weights."""
    if not candidate.network.startswith("cut:"):
        return 0.4
    _, _, block, part = f"{candidate.network}:".split(":")[:4]
    return 1 - math.exp(-0.25 * int(block) * PARTS[part] ** 0.5 - 0.01 * candidate.side)


def searched(every, count, seed):
    trials = []
    while len(trials) < count:
        trials += [Trial(own, accuracy(own)) for own in ask(every, trials, AT_ONCE, seed)]
    return trials


def test_a_third_of_a_grid_holds_one_of_its_best_three():
    """By chance 24 of 72 miss all of three with a probability of 0.29, and the best with 0.67."""
    best = sorted(CUTS + OTHERS, key=accuracy)[-3:]
    found = [{own.candidate for own in searched(CUTS + OTHERS, 24, seed)} for seed in range(5)]
    assert all(tried & set(best) for tried in found)
    assert sum(best[-1] in tried for tried in found) >= 4


def test_nothing_is_asked_for_twice_and_the_same_trials_give_the_same_answer():
    every = CUTS[:6] + OTHERS
    trials = searched(every, len(every), seed=3)
    assert {own.candidate for own in trials} == set(every) and len(trials) == len(every)
    assert trials == searched(every, len(every), seed=3) != searched(every, len(every), seed=4)
    last = searched(every, len(every), seed=2**32 - 1)  # the largest seed of a run
    assert {own.candidate for own in last} == set(every)


ANY = {"students": ("cut:mobilenetv2:*:*", "cnn3"), "sides": (32, 64)}


def with_cuts(facts):
    cuts = {
        Candidate(f"cut:mobilenetv2::{part}" if part else "cut:mobilenetv2", side): (
            f"cut:mobilenetv2:{last}" + (f":{part}" if part else "")
        )
        for part, last in LAST.items()
        for side in (32, 64)
    }
    return replace(facts, cuts=cuts)


def test_any_block_and_any_part_are_all_that_the_budget_allows():
    config = Config().with_values(ANY)
    start = plan(config, KNOWN)
    assert start.cuts.keys() == with_cuts(KNOWN).cuts.keys() and not start.groups and not start.frontier
    every = grid(config, with_cuts(KNOWN))
    assert set(every) == {*CUTS, Candidate("cnn3", 32), Candidate("cnn3", 64)}
    assert plan(config, with_cuts(KNOWN)).frontier.keys() == set(every)


def test_a_network_that_two_names_mean_is_one():
    config = Config().with_values({"students": ("cut:mobilenetv2", "cut:mobilenetv2:*"), "sides": (32,)})
    every = grid(config, with_cuts(KNOWN))
    assert sorted(own.network for own in every) == [f"cut:mobilenetv2:{block}" for block in range(1, 7)]
    assert plan(config, with_cuts(KNOWN)).frontier.keys() == set(every)


def test_with_trials_those_alone_are_planned_that_were_asked_for():
    config = Config().with_values({**ANY, "trials": 6})
    facts = with_cuts(KNOWN)
    assert not plan(config, facts).frontier and not plan(config, facts).groups
    asked = (CUTS[3], CUTS[40])
    assert tuple(plan(config, replace(facts, asked=asked)).frontier) == asked


def test_a_run_tries_as_many_as_it_may_and_goes_on_where_it_was(tiny, tmp_path, capfd):
    command = ["--data", str(tiny), "--results", str(tmp_path), *SMALL, "--recipes", "int8"]
    command += ["--students", "cnn3", "baseline", "--sides", "12", "14", "16", "--trials", "5"]
    with pictures_of_one_pixel(), teachers_of_one_convolution():
        assert main(command) == 0
        said = capfd.readouterr().err
        made = stages(tmp_path)
        assert main(command) == 0
    assert stages(tmp_path) == made
    for trials in (4, 5):
        assert f"To try next, which makes {trials} of at most 5 trials: " in said
    rows = table(tmp_path, "frontier.csv")
    tried = {(row.network, row.side) for row in rows.itertuples()}
    assert len(tried) == 5 and len(rows) == 10 and rows.chosen.sum() == 1
    assert tried < {(network, side) for network in ("cnn3", "baseline") for side in (12, 14, 16)}


def test_one_trial_compares_nothing(tmp_path, capsys):
    assert main(["--students", "cnn3", "cnn5", "--trials", "1", "--results", str(tmp_path / "r")]) == 2
    assert "--trials must be at least 2. Got 1." in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
