"""The verdict on a log: what changed since when, in words, and how seldom it says so of unchanged images."""

import numpy as np
import pytest

from kdtf.data.typical import percentiles
from kdtf.drift.comparison import CHECKS
from kdtf.drift.expectation import Answers, Expectation, Reference
from kdtf.drift.reading import Log
from kdtf.drift.table import COLUMNS, drift_csv
from kdtf.drift.verdict import CHANGED, EXPECTED, FEW, NO_DRIFT, TOO_FEW, UNUSUAL, judged
from kdtf.drift.windows import NONE, by_number, by_period
from kdtf.predictor import STATISTICS

CLASSES = ("=1+1", "normal")
MONDAY = np.datetime64("2026-10-05")


def reference(values):
    return Reference(np.array(percentiles(values).split(), float), len(values))


@pytest.fixture(scope="module")
def expected():
    rng = np.random.default_rng(1)
    val = Answers(400, np.array([160, 240]), 40, 4)
    statistics = {
        name: {"train": reference(rng.normal(60, 10, 1000)), "val": reference(rng.normal(60, 10, 400))}
        for name in STATISTICS
    }
    return Expectation(CLASSES, statistics, val, val)


def log_of(weeks, seed=0, images=60, **shifts):
    """A log of so many weeks; `shifts` are {statistic: what each week adds to it}."""
    rng, count = np.random.default_rng(seed), weeks * images
    week = np.arange(count) // images
    values = {
        name: rng.normal(60, 10, count) + np.array(shifts.get(name, [0] * weeks))[week] for name in STATISTICS
    }
    named = (rng.random(count) < 0.6).astype(int)
    uncertain = rng.random(count) < np.array(shifts.get("uncertain", [0.1] * weeks))[week]
    times = (MONDAY + 7 * week).astype("datetime64[ms]") + np.arange(count) % images
    return Log(times, values, named, uncertain, rng.random(count) < 0.01, NONE, {}, {})


def verdict_of(log, expected):
    return judged(by_period(log.times, "week", log.unread), log, expected, np.random.default_rng(0))


def test_unchanged_images_are_no_drift(expected):
    verdict = verdict_of(log_of(8), expected)
    assert verdict.headline == NO_DRIFT and not verdict.drift
    assert verdict.sentences[0] == "The log has 480 images from 2026-10-05 to 2026-11-23, in 8 windows."
    assert all(len(own.checks) == len(CHECKS) for own in verdict.windows)


CHANGES = {
    "to the end": ({"brightness": [0, 0, 0, 12, 12, 12]}, "brighter than in training since 2026-10-26"),
    "and back": (
        {"contrast": [0, -12, -12, 0, 0, 0]},
        "flatter than in training in 2 windows from 2026-10-12 to 2026-10-19",
    ),
    "once": (
        {"layout": [0, 0, 20, 0, 0, 0]},
        "laid out otherwise than in training in the window of 2026-10-19",
    ),
    "twice": (
        {"colour": [20, 0, 0, 0, 20, 20]},
        "more colourful than in training since 2026-11-02 and in 1 earlier window",
    ),
    "together": (
        {"brightness": [0, 0, 12, 12, 12, 12], "contrast": [0, 0, 12, 12, 12, 12]},
        "brighter, richer in contrast than in training since 2026-10-19",
    ),
    "one after the other": (
        {"brightness": [0, 0, 12, 12, 12, 12], "contrast": [0, 0, 0, 0, 0, -12]},
        "brighter than in training since 2026-10-19; flatter since 2026-11-09",
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_it_says_what_changed_since_when(case, expected):
    shifts, words = CHANGES[case]
    verdict = verdict_of(log_of(6, **shifts), expected)
    assert verdict.headline == f"The images changed: {words}." and verdict.drift
    name = next(iter(shifts))
    row = [own for own in verdict.windows if own.checks[CHECKS.index(name)].state == CHANGED][-1]
    check, where = row.checks[CHECKS.index(name)].check, "there" if case == "once" else "in the last of them"
    medians = f"{check.observed[0]:.1f} {where}, {check.expected[0]:.1f} in {check.against}"
    assert verdict.sentences[0] == f"Median {name}: {medians}."
    weeks = [any(shift[k] for shift in shifts.values()) for k in range(6)]
    assert [own.state == CHANGED for own in verdict.windows] == weeks


def test_answers_have_a_sentence_with_their_figures(expected):
    verdict = verdict_of(log_of(4, uncertain=[0.1, 0.1, 0.1, 0.6]), expected)
    share = 100 * verdict.windows[3].checks[CHECKS.index("uncertain")].check.observed[0]
    assert verdict.headline == (
        f"More answers are uncertain since 2026-10-26 ({share:.1f} %, on val 10.0 %)."
    )


def test_another_spread_is_no_direction(expected):
    log = log_of(3)
    wide = 60 + 4 * (log.statistics["brightness"] - 60)
    verdict = verdict_of(log._replace(statistics={**log.statistics, "brightness": wide}), expected)
    assert verdict.headline.startswith("The images changed: spread otherwise in brightness than in training")


def test_a_small_change_of_many_images_is_not_told(expected):
    """Chance does not explain it, but its index is below 0.1."""
    log = log_of(1, images=5000, brightness=[2.5])
    (window,) = verdict_of(log, expected).windows
    own = window.checks[0]
    assert own.p_all < 0.05 and 0.02 < own.check.psi < 0.1 and own.state == EXPECTED


def test_few_images_are_not_compared(expected):
    verdict = verdict_of(log_of(2, images=19, brightness=[50, 50]), expected)
    assert verdict.headline == TOO_FEW and not verdict.drift
    assert [own.state for own in verdict.windows] == [FEW, FEW]
    assert verdict.sentences[1] == "2 windows have fewer than 20 images and are not compared."


def test_at_most_one_unchanged_window_in_20_is_unusual_and_hardly_a_log_has_a_change(expected):
    logs = [verdict_of(log_of(10, seed=seed), expected) for seed in range(8)]
    assert sum(own.state in (UNUSUAL, CHANGED) for verdict in logs for own in verdict.windows) <= 4
    assert sum(verdict.drift for verdict in logs) <= 1


def test_windows_by_time_and_by_number():
    days = ["2026-01-31", "2026-02-01", "2026-02-02", "2026-02-08", "2026-02-09"]  # Saturday to Monday
    times = np.array(days, "datetime64[ms]")
    cut = {
        period: [(own.name, own.images) for own in by_period(times, period)]
        for period in ("day", "week", "month")
    }
    assert cut["week"] == [("2026-01-26", 2), ("2026-02-02", 2), ("2026-02-09", 1)]
    assert cut["month"] == [("2026-01-01", 1), ("2026-02-01", 4)] and len(cut["day"]) == 5
    assert [(own.name, own.images) for own in by_number(times, 3)] == [
        ("#1 (2026-01-31)", 3), ("#2 (2026-02-08)", 2)
    ]  # fmt: skip


def test_images_that_could_not_be_read_are_counted_where_they_came():
    times = np.array(["2026-02-02", "2026-02-03", "2026-02-10"], "datetime64[ms]")
    unread = np.array(
        ["2026-01-20", "2026-02-02", "2026-02-09", "2026-02-11", "2026-02-11"], "datetime64[ms]"
    )
    weeks = by_period(times, "week", unread)
    assert [(own.name, own.images, own.unread) for own in weeks] == [
        ("2026-01-19", 0, 1), ("2026-02-02", 2, 1), ("2026-02-09", 1, 3)
    ]  # fmt: skip
    assert (weeks[0].first, weeks[0].last, weeks[2].last) == (unread[0], unread[0], unread[-1])
    assert weeks[2].unread_part == 0.75
    assert [(own.images, own.unread) for own in by_number(times, 2, unread)] == [(2, 3), (1, 2)]


def test_many_images_that_could_not_be_read_are_a_change_and_the_headline(expected):
    log = log_of(4)
    for count in (3, 20):
        verdict = verdict_of(log._replace(unread=np.full(count, log.times[70])), expected)
        part = 100 * count / (60 + count)
        told = f"{count} images could not be read, {part:.1f} % of those in the window of 2026-10-12."
        first = verdict.headline == told
        assert verdict.drift == first == (count == 20) and (first or told in verdict.sentences)
        assert verdict.windows[1].state == (CHANGED if first else EXPECTED)
    assert b"2026-10-12,2026-10-12T00:00:00.000Z,2026-10-12T00:00:00.059Z,60,20," in drift_csv(verdict)


def test_a_week_of_which_nothing_could_be_read_is_a_change(expected):
    log = log_of(3)
    verdict = verdict_of(log._replace(unread=np.full(25, MONDAY + 22).astype("datetime64[ms]")), expected)
    assert verdict.drift and verdict.windows[3].state == CHANGED and not verdict.windows[3].checks
    assert verdict.headline == "25 images could not be read, 100.0 % of those in the window of 2026-10-26."
    assert verdict.sentences[0] == "The log has 180 images from 2026-10-05 to 2026-10-27, in 4 windows."
    few = verdict_of(log._replace(unread=np.full(19, MONDAY + 22).astype("datetime64[ms]")), expected)
    assert not few.drift and few.windows[3].state == FEW


def test_the_table_has_a_row_a_check_and_runs_no_formula(expected):
    log = log_of(2, brightness=[0, 12])
    verdict = verdict_of(log._replace(named=np.zeros(120, int)), expected)
    header, *lines = drift_csv(verdict).decode().splitlines()
    assert header == ",".join(COLUMNS) and len(lines) == 2 * len(CHECKS)
    row = dict(zip(COLUMNS, lines[7].split(","), strict=True))
    assert (row["window"], row["check"], row["direction"], row["state"]) == (
        "2026-10-12", "brightness", "up", "changed"
    )  # fmt: skip
    assert float(row["observed"]) == pytest.approx(72, abs=3) and float(row["p_all"]) < 0.001
    assert [line.split(",")[7] for line in lines].count("'=1+1") == 2
