"""Report texts: a CSV file to labelled texts, each of them once, and a text to its words.

Copies, texts without a word and rows of other labels are left out here, before anything is split: a
text met on both sides of a split is remembered, not understood. Knows no model and draws no numbers.
"""

import io
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np

from ..errors import UserError, require
from ..sections import Section, flag, option

MOST_CHARACTERS = 100_000  # of one field; the longest of OpenI's 3,955 reports has 1,412
PLACEHOLDER = "xxxx"  # stands for a removed word in de-identified reports
WORD = re.compile(r"\b[^\W\d_]{2,}\b")  # letters alone: "T12" and "8mm" say where and how large, not what


@dataclass(frozen=True)
class TextConfig(Section):
    """reports: naive Bayes on the texts of radiology reports"""

    # min_count, ngrams and alpha by balanced accuracy over 20 folds of OpenI's training part: 0.923 as
    # they are; min_count 2 0.918, ngrams 2 0.895, alpha 0.3 0.919 and 3 0.894
    text_columns: tuple[str, ...] = option(("findings", "impression"), "columns joined to one text", "NAME")
    label_column: str = option("label", "column of the label", "NAME")
    labels: tuple[str, ...] = option(("normal", "abnormal"), "labels kept; other rows are left out", "NAME")
    test_fraction: float = option(0.2, "part of the texts held out for test, by label", "F")
    folds: int = option(5, "parts of the cross-validation on the other texts", "N")
    min_count: int = option(1, "words found in fewer texts are left out", "N")
    ngrams: int = option(1, "longest run of words counted as one", "N")
    alpha: float = option(1.0, "added to the count of every word in every class", "A")
    negations: bool = option(True, "keep 'no', 'not', 'without' and their like, which stop words drop")
    lemmas: bool = option(True, "bring words to their dictionary form")
    seed: int = option(0, "seed of the split, the folds and the intervals", "N")
    results: str = option("Results", "folder of everything that is written", "DIR")

    def check(self) -> None:
        require(len(self.text_columns) > 0, flag("text_columns"), "at least one name", self.text_columns)
        require(
            self.label_column not in self.text_columns,
            flag("text_columns"), "other than the label's", self.text_columns,
        )  # fmt: skip
        require(len(set(self.labels)) >= 2, flag("labels"), "at least two different names", self.labels)
        require(len(set(self.labels)) == len(self.labels), flag("labels"), "named once each", self.labels)
        require(
            0 < self.test_fraction <= 0.5, flag("test_fraction"), "above 0, at most 0.5", self.test_fraction
        )
        require(1 <= self.ngrams <= 5, flag("ngrams"), "between 1 and 5", self.ngrams)
        require(0 <= self.seed < 2**32, flag("seed"), "between 0 and 4294967295", self.seed)
        self._at_least(2, "folds")
        self._at_least(1, "min_count")
        require(1e-6 <= self.alpha <= 1e6, flag("alpha"), "between 1e-6 and 1e6", self.alpha)

    @property
    def fewest(self) -> int:
        """Texts a label needs for at least one in test and one in every fold, rounding included."""
        return max(ceil(1 / self.test_fraction) + 1, ceil((self.folds + 1) / (1 - self.test_fraction)))


@dataclass(frozen=True)
class Corpus:
    """Texts (N,), their labels (N,) int64 as places in `--labels`, their rows (N,) in the file from 0.

    `in_file` counts the file's rows by label, `removed` those that are not here by reason, and
    `conflicts` the texts that bear several labels.
    """

    texts: tuple[str, ...]
    labels: np.ndarray
    rows: np.ndarray
    in_file: dict[str, int]
    removed: dict[str, int]
    conflicts: int

    def part(self, places: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Some of the texts and their labels."""
        return [self.texts[i] for i in places], self.labels[places]


def words(text: str) -> list[str]:
    """The words of a text in lower case, placeholders left out.

    >>> words("1. No XXXX effusion, isn't x-XXXX'd.")
    ['no', 'effusion', 'is', 'not']
    """
    plain = re.sub(r"n['’]t\b", " not", text.lower())
    return [word for word in WORD.findall(plain) if PLACEHOLDER not in word]


def read_corpus(path: Path, settings: TextConfig) -> Corpus:
    """The texts of a CSV file that can be learned from, in the file's order.

    Two texts are the same where their words are. One kept of them is the first that bears the label
    most of them bear; where two labels are equally frequent, all of them are left out. Raises
    `UserError` for what is no table of texts, and where a label has too few.
    """
    table = read_table(Path(path), (*settings.text_columns, settings.label_column))
    texts = [" ".join(row) for row in zip(*(table[c] for c in settings.text_columns), strict=True)]
    names = np.array([name.strip() for name in table[settings.label_column]], dtype=object)
    labelled = np.flatnonzero(np.isin(names, settings.labels))
    keys = {i: tuple(words(texts[i])) for i in labelled}
    worded = np.array([i for i in labelled if keys[i]], dtype=np.int64)
    labels = np.array([settings.labels.index(names[i]) for i in worded], dtype=np.int64)
    places, tied, conflicts = distinct([keys[i] for i in worded], labels)
    rows, labels = worded[places], labels[places]
    in_file = {str(name): int((names == name).sum()) for name in np.unique(names)}
    _require_enough(labels, in_file, settings)
    removed = {
        "other label": len(names) - len(labelled),
        "without a word": len(labelled) - len(worded),
        "copies": len(worded) - tied - len(rows),
        "tied between labels": tied,
    }
    return Corpus(tuple(texts[i] for i in rows), labels, rows, in_file, removed, conflicts)


def distinct(keys: Sequence[Hashable], labels: np.ndarray) -> tuple[np.ndarray, int, int]:
    """One place for each distinct key, ascending; places left out by a tie; keys with several labels.

    The place is the first that bears the key's most frequent label; where two labels are equally
    frequent there is none.
    """
    places_of: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        places_of.setdefault(key, []).append(i)
    first, tied, conflicts = [], 0, 0
    for places in places_of.values():
        votes = np.bincount(labels[places])
        conflicts += int((votes > 0).sum() > 1)
        if (votes == votes.max()).sum() > 1:
            tied += len(places)
        else:
            first.append(next(i for i in places if labels[i] == votes.argmax()))
    return np.sort(np.array(first, dtype=np.int64)), tied, conflicts


def _require_enough(labels: np.ndarray, in_file: dict[str, int], settings: TextConfig) -> None:
    """Raise `UserError` where a label has too few texts; the message names the labels of the file."""
    counts = {name: int((labels == k).sum()) for k, name in enumerate(settings.labels)}
    listed = ", ".join(repr(name[:30]) for name in list(in_file)[:8]) + (", ..." if len(in_file) > 8 else "")
    require(
        min(counts.values()) >= settings.fewest,
        "Distinct texts of each label",
        f"at least {settings.fewest} for --folds {settings.folds} and "
        f"--test-fraction {settings.test_fraction}",
        counts,
        f"Labels in column {settings.label_column!r}: {listed or 'none'}.",
    )


def read_table(path: Path, columns: Sequence[str]) -> dict[str, list[str]]:
    """`columns` of a UTF-8 CSV file with a header, as text: "NA" and "None" stay what they are.

    Raises `UserError` for a file that cannot be read, or lacks a column.
    """
    import pandas as pd

    try:
        raw = path.read_bytes()
        require(b"\0" not in raw, str(path), "a CSV file of text", "bytes of 0")
        table = pd.read_csv(io.BytesIO(raw), dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"The CSV file must be readable. Got {str(path)!r} ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} must be UTF-8 text. Got {error.reason} at byte {error.start}.") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise UserError(f"{path} must be a CSV file with a header. {' '.join(str(error).split())}.") from None
    # pandas takes surplus leading fields for an index instead of complaining
    require(
        isinstance(table.index, pd.RangeIndex), str(path), "as wide as its header", "rows with more fields"
    )
    missing = [name for name in columns if name not in table]
    present = ", ".join(map(repr, table.columns[:30]))
    require(not missing, f"Columns of {path}", f"among {present}", missing)
    table = table[list(dict.fromkeys(columns))].fillna("")  # short rows
    for name in table:
        longest = max(map(len, table[name]), default=0)
        require(
            longest <= MOST_CHARACTERS,
            f"Column {name!r} of {path}",
            f"at most {MOST_CHARACTERS:,} characters long",
            longest,
            "A quotation mark that is never closed swallows the rows after it.",
        )
    return {name: table[name].tolist() for name in table}
