"""A unit of work as a value: its key holds what decides its result, and nothing else."""

import pickle
from dataclasses import dataclass, replace

import numpy as np
import pytest

from kdtf.records import RepresentativeViews, Rule, Training
from kdtf.tasks import Task, plain

UPSTREAM = Task("views", "views", {"seed": 0})
TASK = Task(
    "student",
    "vgg16-student",
    {"training": Training(3, 8, None), "rule": Rule(0.1, 4.0)},
    {"labels": UPSTREAM},
    data="d1",
    version=2,
    environment={"keras": "3.15.1"},
)

OTHERS = {
    "kind": replace(TASK, kind="teacher"),
    "version": replace(TASK, version=3),
    "a package's version": replace(TASK, environment={"keras": "3.15.2"}),
    "determinism": replace(TASK, environment={"keras": "3.15.1", "deterministic": True}),
    "data": replace(TASK, data="d2"),
    "a setting": replace(TASK, settings={**TASK.settings, "rule": Rule(0.2, 4.0)}),
    "one setting more": replace(TASK, settings={**TASK.settings, "seed": 0}),
    "an option deep inside": replace(
        TASK, settings={**TASK.settings, "rule": Rule(0.1, 4.0, options=(("beta", 1.0),))}
    ),
    "an input's settings": replace(TASK, inputs={"labels": replace(UPSTREAM, settings={"seed": 1})}),
    "an input's part": replace(TASK, inputs={"views": UPSTREAM}),
    "no input": replace(TASK, inputs={}),
}


@pytest.mark.parametrize("changed", OTHERS)
def test_a_key_changes_with(changed):
    assert OTHERS[changed].key != TASK.key


def test_all_of_these_keys_differ_and_are_16_digits():
    keys = {TASK.key, *(task.key for task in OTHERS.values())}
    assert len(keys) == len(OTHERS) + 1 and all(len(key) == 16 and int(key, 16) for key in keys)


def test_a_key_does_not_change_with_names_nor_with_the_order_of_settings():
    assert replace(TASK, name="resnet-student").key == TASK.key
    assert replace(TASK, settings=dict(reversed(TASK.settings.items()))).key == TASK.key
    assert replace(TASK, inputs={"labels": replace(UPSTREAM, name="other")}).key == TASK.key
    assert TASK.folder == f"vgg16-student-{TASK.key}"


def test_a_task_travels_to_another_process():
    for task in (TASK, replace(TASK)):  # with its key computed and without
        other = pickle.loads(pickle.dumps(task))
        assert other == task and other.key == TASK.key and other.settings["rule"] == Rule(0.1, 4.0)


def test_a_note_says_how_it_was_made():
    assert TASK.note() == {
        "kind": "student",
        "version": 2,
        "environment": {"keras": "3.15.1"},
        "settings": plain(TASK.settings),
        "inputs": {"labels": UPSTREAM.folder},
        "data": "d1",
    }


def test_upstream_comes_before_what_needs_it():
    last = Task("report", "report", inputs={"student": TASK, "views": UPSTREAM})
    assert [task.name for task in last.upstream()] == ["views", "vgg16-student", "views"]


def test_records_become_json_values():
    @dataclass(frozen=True)
    class Nested:
        inner: RepresentativeViews
        pair: tuple[int, float]

    value = plain({"a": Nested(RepresentativeViews(4, 1), (1, 0.5)), 2: [None, True, "x"]})
    assert value == {
        "a": {"inner": {"images": 4, "seed": 1}, "pair": [1, 0.5]},
        "2": [None, True, "x"],
    }


@pytest.mark.parametrize("value", [np.zeros(2), np.int64(1), {1, 2}, object(), b"x", Rule])
def test_what_is_no_json_value_is_refused(value):
    with pytest.raises(TypeError, match=f"Got {type(value).__name__}"):
        plain({"settings": [value]})
    with pytest.raises(TypeError):
        _ = Task("x", "x", {"setting": value}).key
