"""The names that people give their classes, in pictures: other scripts, emoji, dollar signs.

The font of all pictures has Latin, Greek, Cyrillic and Arabic letters. What it lacks is taken from a font of
this machine that has it; what none has is written in words, without a warning for every letter.
"""

import unicodedata
from contextlib import suppress
from functools import cache

import matplotlib
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

LAST_RESORT = "Last Resort"  # begins the family of a font that draws a box for every letter there is
UNDRAWN = ("Cf", "Mn", "Me")  # joiners, selectors, marks: they have no shape of their own


@cache
def _letters(path: str) -> frozenset[int]:
    """The code points that a font file can draw; none of one that Matplotlib cannot use, as colour emoji."""
    with suppress(OSError, RuntimeError, ValueError):
        return frozenset(get_font(path).get_charmap())
    return frozenset()


@cache
def _family_with(letter: str) -> str | None:
    """A family of fonts of this machine that has a letter which the usual one lacks."""
    upright = (font for font in fontManager.ttflist if font.style == "normal" and font.weight == 400)
    fonts = sorted({(f.name, f.fname) for f in upright if not f.name.startswith(LAST_RESORT)})
    return next((family for family, path in fonts if ord(letter) in _letters(path)), None)


def _foreign(text: str) -> list[str]:
    """The letters of a text that the usual font lacks, each once."""
    if text.isascii() and text.isprintable():
        return []
    usual = _letters(str(findfont(FontProperties())))
    return [letter for letter in dict.fromkeys(text) if ord(letter) not in usual and letter != "\n"]


def drawable(text: str) -> str:
    """A text in letters that fonts of this machine have, and what none has in brackets.

    An emoji by its Unicode name, "[lungs]"; a letter by its code point, "[80ba]".
    """
    for letter in _foreign(text):
        if not _family_with(letter):
            text = text.replace(letter, _in_words(letter))
    return text


def _in_words(letter: str) -> str:
    kind, code = unicodedata.category(letter), f"{ord(letter):04x}"
    if kind in UNDRAWN:
        return ""
    return f"[{unicodedata.name(letter, code).lower() if kind[0] == 'S' else code}]"


def fit_fonts(figure: Figure) -> None:
    """Give the texts of a figure fonts that have all their letters; a dollar sign begins no formula."""
    for text in figure.findobj(Text):
        words = text.get_text()
        if "$" in words:
            text.set_parse_math(False)
        families = list(filter(None, map(_family_with, _foreign(words))))
        if families:
            text.set_fontfamily([*matplotlib.rcParams["font.family"], *dict.fromkeys(families)])
