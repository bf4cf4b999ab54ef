"""Pictures of images say in words what they show in colours."""

import matplotlib
import numpy as np
import pytest

from kdtf.report import figures, images

VERDICTS = [
    images.Verdict(np.full((8, 8, channels), 99, np.uint8), "ill", predicted, 0.875)
    for channels, predicted in ((1, "well"), (3, "ill"))
]
HEAT = np.eye(4, dtype=np.float32)
COPIES = images.Copies((np.zeros((4, 4, 1)), np.ones((4, 4, 1))), ("train 1", "test 2"), "one split")
POINTS = COPIES._replace(images=(np.zeros((1, 1, 1)), np.ones((1, 1, 1))))


def texts(figure):
    return " ".join(t.get_text() for t in figure.findobj(matplotlib.text.Text))


LOOKS = [{"teacher": (verdict, HEAT), "alone": (verdict, 0 * HEAT)} for verdict in VERDICTS]
DRAWINGS = {
    "examples": (images.draw_examples, images.Examples("vgg16", VERDICTS)),
    "gradcam": (images.draw_gradcam, images.GradCam("vgg16", LOOKS)),
    "1 copies": (images.draw_contact_sheet, images.ContactSheet("Worst", [COPIES])),
    "copies of 1x1": (images.draw_contact_sheet, images.ContactSheet("Worst", [POINTS])),
    "4 copies": (images.draw_contact_sheet, images.ContactSheet("Worst", [COPIES] * 4)),
}


def drawing(name, synthetic=False):
    draw, record = DRAWINGS[name]
    return draw(record, synthetic=synthetic)


@pytest.mark.parametrize("name", DRAWINGS)
def test_every_figure_becomes_a_png_and_says_when_it_is_synthetic(name):
    figure = drawing(name, synthetic=True)
    assert figures.png(figure).startswith(b"\x89PNG")
    assert figures.SYNTHETIC in texts(figure)
    assert figures.SYNTHETIC not in texts(drawing(name))


def test_a_picture_says_in_words_what_the_model_said():
    words = texts(drawing("examples"))
    assert "well, 0.88\ntruly ill" in words and "ill, 0.88\nright" in words
    words = texts(drawing("gradcam"))
    assert "teacher" in words and "student alone" in words and "no part speaks for it" in words


def test_right_and_wrong_have_their_frames():
    frames = [axis.spines["top"].get_edgecolor() for axis in drawing("examples").axes[:2]]
    assert frames == [matplotlib.colors.to_rgba(colour) for colour in (images.WRONG, images.RIGHT)]


@pytest.mark.parametrize("count", [1, 4])
def test_every_pair_of_copies_is_shown_side_by_side(count):
    figure = drawing(f"{count} copies")
    assert [axis.get_xlabel() for axis in figure.axes] == ["train 1", "test 2"] * count
    assert texts(figure).count("one split") == count


def test_a_long_name_is_cut():
    verdict = VERDICTS[0]._replace(predicted="a" * 40)
    assert "a" * 23 + "…, 0.88" in texts(images.draw_examples(images.Examples("", [verdict])))


def test_a_long_file_name_keeps_its_end_under_a_copy():
    long = COPIES._replace(captions=("train 1\nill\nchest/" + "x" * 40 + "/000123 (3).png", "test 2"))
    (caption, _) = [
        axis.get_xlabel() for axis in images.draw_contact_sheet(images.ContactSheet("", [long])).axes
    ]
    name = caption.splitlines()[2]
    assert name.startswith("chest/") and name.endswith("/000123 (3).png") and len(name) == images.LINE


def test_grad_cam_has_a_colour_bar():
    assert "evidence for the class named: 0 none" in " ".join(a.get_ylabel() for a in drawing("gradcam").axes)
