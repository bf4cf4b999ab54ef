"""Names in pictures: emoji, other scripts and dollar signs are drawn or put in words, without a warning."""

import warnings

import numpy as np
import pytest
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.text import Text

from kdtf.report import figures, fonts, images
from kdtf.report.fonts import drawable

NAMES = ("🫁 lung", "肺炎", "a$b$c", "$\\frac{$", "\x1b[31mred", "👨‍⚕️")


@pytest.fixture
def no_other_fonts(monkeypatch):
    """A machine that has the fonts of Matplotlib alone."""
    monkeypatch.setattr(fonts, "_family_with", lambda letter: None)


@pytest.mark.parametrize(
    "text, drawn",
    [
        ("lung, ünïcödé ж", "lung, ünïcödé ж"),
        ("🫁 lung", "[lungs] lung"),
        ("肺炎", "[80ba][708e]"),
        ("a\nb", "a\nb"),
        ("\x1b[31m", "[001b][31m"),
        ("👨\U000e0067", "[man]"),  # a tag has no shape of its own
    ],
)
def test_what_no_font_has_is_put_in_words(text, drawn, no_other_fonts):
    assert drawable(text) == drawn


def confusion():
    return figures.draw_confusion(figures.Confusion(NAMES[0], NAMES, np.eye(len(NAMES), dtype=int)))


def examples():
    verdicts = [images.Verdict(np.zeros((4, 4, 1), np.uint8), name, NAMES[0], 0.5) for name in NAMES]
    return images.draw_examples(images.Examples(NAMES[1], verdicts))


@pytest.mark.parametrize("draw", [confusion, examples])
def test_pictures_of_any_names_are_drawn_without_a_warning(draw, no_other_fonts):
    """A formula that cannot be read ended a run; every letter without a shape was warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = draw()
        assert figures.png(figure).startswith(b"\x89PNG")
    texts = " ".join(text.get_text() for text in figure.findobj(Text))
    assert "[lungs]" in texts and "$\\frac{$" in texts and "\x1b" not in texts


def test_a_letter_is_taken_from_another_font_of_the_machine(monkeypatch):
    """Here one that STIX, which comes with Matplotlib, has beside DejaVu Sans."""
    letter = next(
        chr(code)
        for font in fonts.fontManager.ttflist
        if font.name == "STIXGeneral"
        for code in sorted(fonts._letters(font.fname))
        if code > 0x370 and fonts._foreign(chr(code)) and not 0xE000 <= code < 0xF900
    )
    assert drawable(letter) == letter
    figure = figures.titled(letter, False, (2, 1))
    fonts.fit_fonts(figure)
    (title,) = [text for text in figure.findobj(Text) if text.get_text() == letter]
    assert title.get_fontfamily()[-1] == fonts._family_with(letter)


def test_a_font_of_boxes_is_no_font():
    assert not (fonts._family_with("\U0001fac1") or "").startswith(fonts.LAST_RESORT)


@pytest.mark.parametrize("count, inches", [(4, 5.4), (12, 11.0), (60, 23.6)])
def test_a_confusion_matrix_stays_of_a_size_that_can_be_drawn(count, inches):
    """50 classes took 16 GB, as the whole figure was rendered for each of their names."""
    names, rendered = tuple(f"class {k}" for k in range(count)), []
    record = figures.Confusion("many", names, np.zeros((count, count), int))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RendererAgg, "__init__", lambda *arguments: rendered.append(arguments))
        figure = figures.draw_confusion(record)
    assert figure.get_size_inches().tolist() == pytest.approx([2 * inches, inches]) and not rendered
    axes = figure.axes
    assert [label.get_text() for label in axes[0].get_yticklabels()] == list(names)
    assert [label.get_text() for label in axes[1].get_xticklabels()] == list(names)
    assert len(axes[0].texts) == (count**2 if count <= 30 else 0)  # a number in every cell, of few
