"""Several networks compared: the rows of frontier.csv, the sentence that opens the page, the picture."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from kdtf.evidence import choose
from kdtf.records import FileFacts, FileResult, FrontierFile, GroundTruth, Predictions, StudentResult
from kdtf.report.figures import Frontier, draw_frontier
from kdtf.report.frontier import frontier_in_words
from kdtf.report.page import render

LABELS = np.arange(40) % 2
TRUTH = GroundTruth(("well", "ill"), LABELS, LABELS)


def file(kib: float, wrong: int, *more_wrong: int) -> FrontierFile:
    """A file of so many KiB that is wrong on the first so many val images, a seed each."""
    results = []
    for seed, count in enumerate((wrong, *more_wrong)):
        says = np.where(np.arange(40) < count, 1 - LABELS, LABELS)
        probs = 0.8 * np.eye(2)[says] + 0.1
        facts = FileFacts("int8", "sha", int(1024 * kib), 1, 0.0, 1, 1, {}, {})
        predictions = Predictions("alone", "alone", "int8", seed, probs, probs, 1.0)
        results.append(FileResult(predictions, "k", None, StudentResult, facts, {}, {}, [], []))
    return FrontierFile("cnn3", 32, tuple(results), 1.0, 1.0)


def test_the_smallest_file_within_the_interval_of_the_best_is_chosen():
    # the best has 36 of 40 right: its interval reaches down to about 0.80
    files = [file(90, 4), file(30, 7), file(10, 20)]
    assert choose.val_interval(files[0], TRUTH, 0).low == pytest.approx(0.8, abs=0.03)
    assert choose.smallest_good(files, TRUTH, 0) == 1
    assert choose.smallest_good([files[0], files[2]], TRUTH, 0) == 0


def test_of_equally_good_files_the_interval_is_that_of_the_smallest_and_seeds_count_together():
    files = [file(90, 4), file(30, 4), file(10, 2, 6)]  # the last one by its mean
    assert [choose.val_interval(own, TRUTH, 0).value for own in files] == pytest.approx([0.9] * 3)
    assert choose.smallest_good(files, TRUTH, 0) == 2


def test_a_row_for_every_file_with_its_costs_and_scores(subjects):
    rows = subjects.run.frontier_rows
    assert [row["teacher"] for row in rows] == ["alone", "baseline", "vgg16"]  # equally large
    study = subjects.run.study
    for row in rows:
        own = next(f for f in subjects.run.frontier if f.files[0].predictions.teacher == row["teacher"])
        right = [f.predictions.test_probs.argmax(1) == study.truth.test for f in own.files]
        assert row["accuracy"] == pytest.approx(np.mean(right))
        assert row["clean_accuracy"] == pytest.approx(np.mean([r[6:] for r in right]))
        assert row["low"] < row["accuracy"] < row["high"]
        assert (row["kib"], row["kmacs"], row["arena_kib"], row["seeds"]) == (2.0, 12.5, 30.0, 2)
    assert sum(row["chosen"] for row in rows) == 1 and all(r["within"] for r in rows if r["chosen"])


def test_a_run_with_one_network_has_no_such_rows(subjects):
    assert replace(subjects.run, frontier=()).frontier_rows is None


def test_the_page_opens_with_the_chosen_file_in_words(subjects, results):
    rows = pd.read_csv(results / "frontier.csv").to_dict("records")
    sentence = frontier_in_words(rows, 24)
    assert sentence.startswith("Of 3 files compared, cnn3 at 8 px is the smallest (2.0 KiB)")
    page = render(results)
    assert sentence in page and "What small networks reach" in page
    assert page.index("What small networks reach") < page.index("Every model")


def test_squares_in_the_picture_are_the_scores_without_copies(subjects):
    rows = subjects.run.frontier_rows
    for axis in draw_frontier(Frontier(rows)).axes:
        squares = [line for line in axis.lines if line.get_marker() == "s"]
        assert [line.get_ydata()[0] for line in squares] == [row["clean_accuracy"] for row in rows]
    sound = [row | {"clean_accuracy": row["accuracy"]} for row in rows]  # no image has a copy
    assert not any(line.get_marker() == "s" for line in draw_frontier(Frontier(sound)).axes[0].lines)
