"""How many stages a run has and how long they may take: guesses that become exact as facts become known."""

from dataclasses import replace

import pytest
from test_plan import FACTS, KNOWN

from kdtf.config import Config
from kdtf.progress import Place
from kdtf.records import Rule
from kdtf.runs.forecast import DEMO_SECONDS, SHORT, Forecast, guessed
from kdtf.runs.kinds import KINDS
from kdtf.runs.plan import plan
from kdtf.runs.records import Candidate
from kdtf.store import Store

SETTINGS = {
    "plain": {},
    "several seeds": {"seeds": 3, "teacher_seeds": True},
    "rules tried": {"alphas": (0.1, 0.5), "temperatures": (2.0, 4.0)},
    "the best of": {"best_of": True},
    "an ensemble": {"ensemble": True},
    "mixed": {"mixed": True},
    "a cut": {"student": "cut:mobilenetv2"},
    "several networks": {"students": ("cnn3", "cnn5"), "baseline": "baseline"},
    "a grid": {"students": ("cut:mobilenetv2:*:*", "cnn3"), "sides": (32, 64)},
    "trials": {"students": ("cut:mobilenetv2:*:*", "cnn3"), "trials": 6},
}


def folders(config, facts):
    return {task.folder for task in plan(config, facts).tasks()}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_guess_makes_the_plan_whole(name):
    """It ends with the report over all, whatever is not known yet."""
    config = Config().with_values(SETTINGS[name])
    whole = plan(config, guessed(config, FACTS))
    assert whole.report is not None and len(whole.groups) >= 3
    assert folders(config, FACTS) < folders(config, guessed(config, FACTS))


def test_weights_are_guessed_from_what_is_published():
    """vgg16's are; of cnn5 there are none."""
    origins = guessed(Config(), FACTS).origins
    assert {name: own.pretrained for (name, _), own in origins.items()} == {"vgg16": True, "cnn5": False}
    none = guessed(Config().with_values({"weights": "none"}), FACTS).origins
    assert not any(own.pretrained for own in none.values())


def test_what_is_known_is_not_guessed():
    config = Config()
    facts = guessed(config, KNOWN)
    assert {key: facts.origins[key] for key in KNOWN.origins} == dict(KNOWN.origins)
    assert folders(config, KNOWN) == folders(config, facts)
    rule = Rule(0.3, 3.0)
    chosen = replace(KNOWN, rules={"vgg16": rule}, candidate=Candidate("cnn5"), best_teacher="cnn5")
    facts = guessed(config, chosen)
    assert facts.rules["vgg16"] == rule and facts.candidate == Candidate("cnn5")
    assert facts.best_teacher == "cnn5"


def test_the_number_rises_by_one_to_the_total(tmp_path):
    config, finished = Config(), set()
    forecast, tasks = Forecast(config, Store(tmp_path)), list(plan(Config(), KNOWN).tasks())
    places = []
    for task in tasks:
        places.append(forecast.place(KNOWN, task, finished))
        finished.add(task.folder)
    assert [place[:2] for place in places] == [(i, len(tasks)) for i in range(1, len(tasks) + 1)]
    assert all(place.own is None for place in places)  # nothing was made to guess seconds by


def test_seconds_are_those_of_the_runs_own_stages_or_the_demos_in_proportion(tmp_path):
    config, store = Config(), Store(tmp_path)
    forecast = Forecast(config, store)
    student, *others = [task for task in plan(config, KNOWN).tasks() if task.kind == "student"]
    forecast.learn(plan(config, KNOWN).audit, 9.0)
    assert forecast.place(KNOWN, student, set()).own is None  # an audit tells nothing of trainings
    forecast = Forecast(config, store)
    forecast.learn(student, 2 * DEMO_SECONDS["student"])
    place = forecast.place(KNOWN, others[0], {student.folder})
    assert place.own == 2 * DEMO_SECONDS["student"]
    left = [t for t in plan(config, KNOWN).tasks() if t not in (student, others[0])]
    expected = sum(2 * DEMO_SECONDS.get(task.kind, SHORT) for task in left)
    assert place.others == pytest.approx(expected) and place.total == len(left) + 2
    (store.work / others[1].folder).mkdir(parents=True)  # stands already, of an earlier run
    shorter = forecast.place(KNOWN, others[0], {student.folder})
    assert shorter.others == pytest.approx(expected - 2 * DEMO_SECONDS["student"])


def test_only_kinds_that_are_there_have_seconds():
    assert DEMO_SECONDS.keys() <= KINDS.keys() and Place(1, 2).own is None
