"""Figures are drawn from records and hold what they were given."""

import numpy as np
import pytest

from kdtf.evidence.bootstrap import Reliability
from kdtf.evidence.tables import Scored, curves_of, subsets
from kdtf.report import figures as plots
from kdtf.report import images as pictures
from kdtf.report.files import png

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


SAID = [
    pictures.Said(np.full((8, 8, c), 99, np.uint8), "ill", said, 0.875)
    for c, said in ((1, "well"), (3, "ill"))
]
INTERVALS = {
    ("alone", "alone"): (0.6, 0.8),
    ("vgg16", "teacher"): (0.85, 0.94),
    ("vgg16", "distilled"): (0.7, 0.9),
}
HEAT = np.eye(4, dtype=np.float32)


def texts(figure):
    return " ".join(t.get_text() for t in figure.findobj(plots.matplotlib.text.Text))


def drawings(synthetic):
    labels = np.arange(12) % 3
    probs = np.random.default_rng(0).dirichlet([1, 1, 1], 12)
    part = subsets(
        type("D", (), {"test": type("S", (), {"labels": labels, "groups": None})}), np.ones(12, bool), 0
    )[0]
    ranks = {"teacher": curves_of(Scored("vgg16", "teacher", "keras", 0, probs, probs), part)}
    bins = Reliability(np.array([0.5, 0.9]), np.array([0.4, 0.8]), np.array([3, 9]))
    errors = [
        {"recipe": recipe, "layer": layer, "snr_db": decibels, "worst": int(decibels == 20)}
        for recipe in ("int8", "int4")
        for layer, decibels in (("0 CONV_2D", 40), ("1 FULLY_CONNECTED", 20))
    ]
    return {
        "quantization_error": plots.quantization_error(errors, "vgg16", synthetic=synthetic),
        "curves": plots.curves({"teacher": HISTORY, "alone": HISTORY}, "vgg16", synthetic=synthetic),
        "confusion": plots.confusion(
            np.array([[5, 1], [2, 7]]), ("ill", "well"), "Test", synthetic=synthetic
        ),
        "comparison": plots.comparison(ROWS, INTERVALS, synthetic=synthetic),
        "pareto": plots.pareto(ROWS, INTERVALS, synthetic=synthetic),
        "ranking": plots.ranking(ranks, ("a", "b", "c"), "vgg16", synthetic=synthetic),
        "reliability": plots.reliability({"distilled": (bins, 0.1)}, "vgg16", synthetic=synthetic),
        "examples": pictures.examples(SAID, "vgg16", synthetic=synthetic),
        "attention": pictures.attention(
            [{"teacher": (s, HEAT), "alone": (s, 0 * HEAT)} for s in SAID], "vgg16", synthetic=synthetic
        ),
        "pairs": pictures.pairs(
            [(np.zeros((4, 4, 1)), "train 1", np.ones((4, 4, 1)), "test 2", "copies")] * 4, "Worst"
        ),
    }


@pytest.mark.parametrize("name", drawings(False))
def test_every_figure_becomes_a_png_and_says_when_it_is_synthetic(name):
    figure = drawings(True)[name]
    assert png(figure).startswith(b"\x89PNG")
    if name != "pairs":
        assert plots.SYNTHETIC in texts(figure)
        assert plots.SYNTHETIC not in texts(drawings(False)[name])


def test_the_worst_layer_of_every_recipe_is_ringed():
    (axis,) = drawings(False)["quantization_error"].axes
    assert [c.get_offsets().tolist() for c in axis.collections] == [[[1.0, 20.0]], [[1.0, 20.0]]]
    assert [t.get_text() for t in axis.get_xticklabels()] == ["0 CONV_2D", "1 FULLY_CONNECTED"]


def test_the_same_record_gives_the_same_bytes():
    assert png(drawings(True)["comparison"]) == png(drawings(True)["comparison"])


def test_the_comparison_writes_its_numbers():
    shown = texts(drawings(False)["comparison"])
    assert all(number in shown for number in ("0.900", "0.800", "student alone (0.700)"))


def test_the_comparison_draws_its_intervals():
    (axis,) = drawings(False)["comparison"].axes
    (_, _, (whiskers,)) = axis.containers[1]
    assert np.allclose(whiskers.get_segments()[0][:, 1], (0.85, 0.94))


def test_the_confusion_matrix_writes_its_counts():
    shown = texts(drawings(False)["confusion"]).split()
    assert {"5", "1", "2", "7", "ill", "well"} <= set(shown)


def test_models_keep_their_colours_everywhere():
    for name in ("curves", "reliability"):
        lines = [line for axis in drawings(False)[name].axes for line in axis.lines]
        by_label = {line.get_label().split(",")[0]: line.get_color() for line in lines}
        for model, label in plots.LABELS.items():
            assert by_label.get(label, plots.COLOURS[model]) == plots.COLOURS[model]


def test_the_curves_mark_where_the_whole_network_starts():
    left = drawings(False)["curves"].axes[0]
    marks = [line for line in left.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == ":"]
    assert marks and marks[0].get_xdata()[0] == 2.5


def test_a_picture_says_in_words_what_the_model_said():
    assert "well, 0.88\ntruly ill" in texts(drawings(False)["examples"])
    assert "ill, 0.88\nright" in texts(drawings(False)["examples"])
    shown = texts(drawings(False)["attention"])
    assert "teacher" in shown and "student alone" in shown and "no part speaks for it" in shown


def test_right_and_wrong_have_their_frames():
    frames = [axis.spines["top"].get_edgecolor() for axis in drawings(False)["examples"].axes[:2]]
    named = plots.matplotlib.colors.to_rgba
    assert frames == [named(pictures.WRONG), named(pictures.RIGHT)]


def test_the_confusion_matrix_shows_parts_beside_counts():
    assert {"0.83", "0.17", "0.22", "0.78"} <= set(texts(drawings(False)["confusion"]).split())
