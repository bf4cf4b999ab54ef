"""Figures are drawn from records and hold what they were given."""

import matplotlib
import numpy as np
import pytest

from kdtf.evidence.calibration import Reliability
from kdtf.evidence.tables import ranking_curves, subsets
from kdtf.records import GroundTruth, Predictions
from kdtf.report import figures, probability_figures

HISTORY = [
    {"phase": p, "accuracy": 0.5, "loss": 1.0, "cross_entropy": 1.0, "val_accuracy": 0.4, "val_loss": 1.2,
     "val_cross_entropy": 1.2}
    for p in ("head", "head", "whole network")
]  # fmt: skip
ROWS = [
    dict(zip(("teacher", "model", "recipe", "accuracy", "size_kib", "latency_ms"), row, strict=True))
    for row in (
        ("alone", "alone", "keras", 0.7, 2400, 1.0),
        ("vgg16", "teacher", "keras", 0.9, 60000, 30.0),
        ("vgg16", "distilled", "keras", 0.8, 2400, 1.0),
        ("vgg16", "distilled", "int8", 0.79, 620, 0.1),
    )
]
INTERVALS = {
    ("alone", "alone"): (0.6, 0.8),
    ("vgg16", "teacher"): (0.85, 0.94),
    ("vgg16", "distilled"): (0.7, 0.9),
}
ERRORS = [
    {"recipe": recipe, "layer": layer, "snr_db": decibels, "worst": int(decibels == 20)}
    for recipe in ("int8", "int4")
    for layer, decibels in (("0 CONV_2D", 40), ("1 FULLY_CONNECTED", 20))
]


def texts(figure):
    return " ".join(t.get_text() for t in figure.findobj(matplotlib.text.Text))


def ranking():
    labels = np.arange(12) % 3
    probs = np.random.default_rng(0).dirichlet([1, 1, 1], 12)
    (part,) = subsets(GroundTruth(("a", "b", "c"), labels, labels), np.ones(12, bool), 0)
    ranks = {"teacher": ranking_curves(Predictions("vgg16", "teacher", "keras", 0, probs, probs), part)}
    return probability_figures.Ranking("vgg16", ("a", "b", "c"), ranks)


BINS = Reliability(*map(np.array, ([0.5, 0.9], [0.4, 0.8], [3, 9], [0.1, 0.5], [0.8, 0.9])))
RECORDS = {
    "quantization_errors": figures.QuantizationErrors("vgg16", ERRORS),
    "curves": figures.Curves("vgg16", {"teacher": HISTORY, "alone": HISTORY}),
    "confusion": figures.Confusion("Test", ("ill", "well"), np.array([[5, 1], [2, 7]])),
    "comparison": figures.Accuracies(ROWS, INTERVALS),
    "pareto": figures.Accuracies(ROWS, INTERVALS),
    "ranking": ranking(),
    "reliability": probability_figures.ReliabilityCurves("vgg16", {"distilled": (BINS, 0.1)}),
}


def drawing(name, synthetic=False):
    module = probability_figures if name in ("ranking", "reliability") else figures
    return getattr(module, f"draw_{name}")(RECORDS[name], synthetic=synthetic)


@pytest.mark.parametrize("name", RECORDS)
def test_every_figure_becomes_a_png_and_says_when_it_is_synthetic(name):
    figure = drawing(name, synthetic=True)
    assert figures.png(figure).startswith(b"\x89PNG")
    assert figures.SYNTHETIC in texts(figure)
    assert figures.SYNTHETIC not in texts(drawing(name))


def test_the_worst_layer_of_every_recipe_is_ringed():
    (axis,) = drawing("quantization_errors").axes
    assert [c.get_offsets().tolist() for c in axis.collections] == [[[1.0, 20.0]], [[1.0, 20.0]]]
    assert [t.get_text() for t in axis.get_xticklabels()] == ["0 CONV_2D", "1 FULLY_CONNECTED"]


def test_the_same_record_gives_the_same_bytes():
    assert figures.png(drawing("comparison", True)) == figures.png(drawing("comparison", True))


def test_the_comparison_writes_its_numbers():
    written = texts(drawing("comparison"))
    assert all(number in written for number in ("0.900", "0.800", "student alone (0.700)"))


def test_the_comparison_draws_its_intervals():
    (axis,) = drawing("comparison").axes
    (_, _, (whiskers,)) = axis.containers[1]
    assert np.allclose(whiskers.get_segments()[0][:, 1], (0.85, 0.94))


def test_the_confusion_matrix_writes_its_counts():
    assert {"5", "1", "2", "7", "ill", "well"} <= set(texts(drawing("confusion")).split())


def test_the_confusion_matrix_shows_parts_beside_counts():
    assert {"0.83", "0.17", "0.22", "0.78"} <= set(texts(drawing("confusion")).split())


def test_models_keep_their_colours_everywhere():
    colours = {style.label: style.colour for style in figures.MODELS.values()}
    lines = [line for axis in drawing("curves").axes for line in axis.lines]
    by_label = {line.get_label().split(",")[0]: line.get_color() for line in lines}
    points = drawing("reliability").axes[0]
    by_label[points.get_title().split("\n")[0]] = points.lines[1].get_color()
    named = by_label.keys() & colours.keys()
    assert named == {"teacher", "student alone", "student distilled"}
    assert all(by_label[label] == colours[label] for label in named)


def test_the_curves_mark_where_the_whole_network_starts():
    left = drawing("curves").axes[0]
    marks = [line for line in left.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == ":"]
    assert marks and marks[0].get_xdata()[0] == 2.5


def test_the_price_of_accuracy_names_the_models_and_recipes_that_it_has():
    figure = drawing("pareto")
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["teacher", "student alone", "student distilled", "keras", "int8"]
    assert [axis.get_xlabel() for axis in figure.axes] == ["size, KiB", "one image, ms"]


def test_without_timings_there_is_no_axis_for_them():
    rows = [{**row, "latency_ms": None} for row in ROWS]
    figure = figures.draw_pareto(figures.Accuracies(rows, INTERVALS))
    assert [axis.get_xlabel() for axis in figure.axes] == ["size, KiB"]


def test_a_teacher_without_a_file_of_weights_is_left_out_where_size_is_the_axis():
    rows = [{**row, "size_kib": None} if row["model"] == "teacher" else row for row in ROWS]
    sizes, times = figures.draw_pareto(figures.Accuracies([rows[1], *rows[:1], *rows[2:]], INTERVALS)).axes
    drawn = [sum(len(own.get_offsets()) for own in axis.collections) for axis in (sizes, times)]
    assert drawn[1] - drawn[0] == 1 and sizes.get_xlabel() == "size, KiB"


def test_a_reliability_diagram_has_points_with_intervals_over_the_images_of_each_bin():
    """Lines that join bins of two images are read as a course."""
    upper, lower = drawing("reliability").axes
    (points,) = upper.containers
    (_, _, (whiskers,)) = points
    assert np.allclose([s[:, 1] for s in whiskers.get_segments()], [[0.1, 0.8], [0.5, 0.9]])
    assert points[0].get_linestyle() == "None" and [bar.get_height() for bar in lower.patches] == [3, 9]


@pytest.mark.parametrize("name", RECORDS)
def test_no_legend_stands_on_the_data(name):
    assert not any(axis.get_legend() for axis in drawing(name).axes)


def test_the_chosen_file_is_ringed_and_copies_have_a_score_of_their_own():
    figure = figures.draw_pareto(figures.Accuracies(ROWS, INTERVALS, ("vgg16", "distilled", "int8")))
    rings = [c for c in figure.axes[0].collections if len(c.get_offsets()) and not len(c.get_facecolor())]
    assert [ring.get_offsets().tolist() for ring in rings] == [[[620, 0.79]]]
    rows = [{**row, "clean_accuracy": 0.5, "test_images": 9, "clean_images": 8} for row in ROWS]
    assert "without copies" in texts(figures.draw_comparison(figures.Accuracies(rows, INTERVALS)))
    assert "without copies" not in texts(drawing("comparison"))
    assert "seed 3" in texts(figures.draw_comparison(figures.Accuracies(ROWS, INTERVALS, seed=3)))
