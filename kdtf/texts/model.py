"""Words to a class: one scikit-learn pipeline of a bag of words and multinomial naive Bayes.

A model is saved as the numbers that make it, in JSON, and rebuilt from them: no pickle, so that a file
from elsewhere can be wrong but cannot run anything. Naive Bayes takes words for independent, which
leaves its order of texts useful and its probabilities too near 0 and 1.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UserError, require
from ..sections import section_dict
from .corpus import TextConfig, words

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

FORMAT = "kdtf report text model 1"
KEYS = ("format", "settings", "stop_words", "vocabulary", "log_prior", "log_likelihood")
# scikit-learn's English stop words hold these, and "no acute disease" is not "acute disease". A bag of
# words loses what a "no" belongs to, so keeping them moves the threshold more than the order of texts on
# OpenI, where 97 % of normal and 92 % of abnormal texts hold one. Over 20 folds of its training part: AUC
# 0.969 with them, 0.968 without, accuracy 0.921 and 0.922. On test: AUC 0.975 and 0.974, accuracy 0.919
# and 0.935 (12 texts in dispute), which decided nothing: it is not what test is for.
NEGATIONS = frozenset(["no", "not", "nor", "without", "never", "none", "neither", "nothing", "cannot"])


@dataclass(frozen=True)
class Tokenizer:
    """A text to the words that count: stop words out, the others in dictionary form if `lemmas`.

    Lemmas took accuracy from 0.917 to 0.921 over 20 folds of OpenI's training part, AUC stayed at 0.969.
    """

    stop: frozenset[str]
    lemmas: bool

    def __call__(self, text: str) -> list[str]:
        counted = [word for word in words(text) if word not in self.stop]
        return [lemma(word) for word in counted] if self.lemmas else counted


@lru_cache(maxsize=65536)
def lemma(word: str) -> str:
    """The dictionary form of an English word, in lower case ("opacities": "opacity")."""
    from simplemma import lemmatize

    return lemmatize(word, "en").lower()  # some, like "ap", come back as acronyms


def stop_words(negations: bool) -> frozenset[str]:
    """scikit-learn's English stop words, without the negations if these are to be kept."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return ENGLISH_STOP_WORDS - NEGATIONS if negations else ENGLISH_STOP_WORDS


@dataclass(frozen=True)
class TextModel:
    """A fitted pipeline and the settings it was made with, whose labels are its classes."""

    settings: TextConfig
    pipeline: "Pipeline"

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their probabilities."""
        return self.settings.labels

    def probabilities(self, texts: Iterable[str]) -> np.ndarray:
        """Texts (N,) to probabilities (N, K). A text without a known word gets the classes' shares.

        Raises `UserError` for anything but strings.
        """
        require(not isinstance(texts, str), "texts", "a list of strings", "a string")
        texts = list(texts)
        other = next((type(text).__name__ for text in texts if not isinstance(text, str)), None)
        require(other is None, "texts", "a list of strings", other)
        return self.pipeline.predict_proba(texts) if texts else np.empty((0, len(self.classes)))

    def classify(self, texts: Iterable[str]) -> list[tuple[str, float]]:
        """The likeliest class of each text, and its probability."""
        return [(self.classes[row.argmax()], float(row.max())) for row in self.probabilities(texts)]

    def characteristic_words(self, count: int) -> list[dict]:
        """Of each class the `count` words that speak most for it, with the times each class used them.

        `log_odds` is log P(word | class) - log P(word | other classes), what a word adds to the model's
        score where there are two. Words are ranked by `z`, the same over its standard error (Monroe,
        Colaresi and Quinn 2008): the log odds alone put words met once or twice first. Only of a model
        just fitted: the counts are not saved.
        """
        names, counts = self.pipeline["bag"].get_feature_names_out(), self.pipeline["bayes"].feature_count_
        alpha, rows = self.settings.alpha, []
        for k, name in enumerate(self.classes):
            own, rest = counts[k] + alpha, counts.sum(axis=0) - counts[k] + alpha  # (V,)
            odds = np.log(own / own.sum()) - np.log(rest / rest.sum())
            z = odds / np.sqrt(1 / own + 1 / rest)
            for rank, v in enumerate(np.argsort(-z, kind="stable")[:count], 1):
                row = {"class": name, "rank": rank, "word": names[v], "log_odds": odds[v], "z": z[v]}
                times = zip(self.classes, counts[:, v], strict=True)
                rows.append({**row, **{f"times in {other}": int(n) for other, n in times}})
        return rows

    def to_json(self) -> dict:
        """The model as JSON values, which `load_model` reads; floats keep every bit."""
        bag, bayes = self.pipeline["bag"], self.pipeline["bayes"]
        return {
            "format": FORMAT,
            "settings": {k: v for k, v in section_dict(self.settings).items() if k != "results"},
            "stop_words": sorted(bag.tokenizer.stop),
            "vocabulary": bag.get_feature_names_out().tolist(),
            "log_prior": bayes.class_log_prior_.tolist(),
            "log_likelihood": bayes.feature_log_prob_.tolist(),
        }


def make_pipeline(
    settings: TextConfig, stop: frozenset[str], vocabulary: list[str] | None = None
) -> "Pipeline":
    """The pipeline, not yet fitted; with a `vocabulary` its bag of words needs no fitting."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import Pipeline

    bag = CountVectorizer(
        tokenizer=Tokenizer(stop, settings.lemmas),
        token_pattern=None,
        lowercase=False,  # the tokenizer does it
        ngram_range=(1, settings.ngrams),
        min_df=1 if vocabulary else settings.min_count,
        vocabulary=vocabulary,
    )
    return Pipeline([("bag", bag), ("bayes", MultinomialNB(alpha=settings.alpha))])


def fit(texts: Iterable[str], labels: np.ndarray, settings: TextConfig) -> TextModel:
    """A model of texts (N,) with labels (N,), every class present. Raises `UserError` without a word."""
    pipeline = make_pipeline(settings, stop_words(settings.negations))
    try:
        pipeline.fit(list(texts), labels)
    except ValueError as error:  # scikit-learn's for an empty vocabulary
        raise UserError(f"--min-count must leave words to count. Got {settings.min_count}: {error}") from None
    return TextModel(settings, pipeline)


def load_model(path: str | Path) -> TextModel:
    """The model of a JSON file, predicting as when it was saved. Raises `UserError` for any other file.

    Lemmas come from the installed simplemma: another version may know other forms.
    """
    path = Path(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"The text model must be readable. Got {str(path)!r} ({error.strerror}).") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path} must be a text model in JSON. It is damaged or something else.") from None
    try:
        return _rebuilt(record)
    except (UserError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{path} must be a text model as kdtf saves it. {error}") from None


def _rebuilt(record: dict) -> TextModel:
    missing = [key for key in KEYS if not isinstance(record, dict) or key not in record]
    require(not missing, "The file", f"an object of {', '.join(KEYS)}", missing, "These are missing.")
    require(record["format"] == FORMAT, "format", FORMAT, record["format"])
    settings = TextConfig(**record["settings"])
    vocabulary, stop = (_names(record, key) for key in ("vocabulary", "stop_words"))
    pipeline = make_pipeline(settings, frozenset(stop), vocabulary)
    bayes = pipeline["bayes"]  # what fit() would have left in it
    bayes.classes_, bayes.n_features_in_ = np.arange(len(settings.labels)), len(vocabulary)
    bayes.class_log_prior_ = _logs(record, "log_prior", (len(settings.labels),))
    bayes.feature_log_prob_ = _logs(record, "log_likelihood", (len(settings.labels), len(vocabulary)))
    return TextModel(settings, pipeline)


def _names(record: dict, key: str) -> list[str]:
    names = record[key]
    text = isinstance(names, list) and all(isinstance(name, str) for name in names)
    require(text and len(set(names)) == len(names) > 0, key, "a list of distinct words", type(names).__name__)
    return names


def _logs(record: dict, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Logarithms of probabilities that sum to 1 along the last axis: a changed number is noticed."""
    logs = np.asarray(record[key], dtype=np.float64)
    require(logs.shape == shape, key, f"shaped {shape}", logs.shape)
    total = np.exp(np.minimum(logs, 1)).sum(axis=-1)
    require(np.isfinite(logs).all(), key, "finite", "something else")
    require(np.allclose(total, 1, rtol=0, atol=1e-9), key, "logarithms of parts of 1", total.tolist())
    return logs
