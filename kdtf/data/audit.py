"""Is the data fit to learn from, and is a score on it worth anything?

Looks for copies and near copies, one image under two labels, patients on both sides, shifted
prevalence, odd grey ranges and shortcuts. Changes nothing, blocks nothing, draws nothing.
"""

from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np

from ..threads import one_thread
from ..words import plural
from .copies import Copies, Pair, find_copies, find_copies_among
from .dataset import SPLITS, UNLABELLED_SPLIT, Dataset, OnProgress, Split
from .near import BLOCK, MOST_EXACT, Recall
from .survey import counter, read_blocks, read_images

SHORTCUT = 0.15  # balanced accuracy above chance at which six plain numbers count as a shortcut
SHIFTED = 0.001  # p value below which the mixture of classes counts as another one
CHUNK = 65_536  # unlabelled images compared at once where the search is approximate: 34 MB of averages
PROBED = 100_000  # images of train that the shortcut probe is fitted on, at most, evenly spaced
CLEAN = "Audit: no copies, no shared groups and no shortcut found."
LEAKS = ("exact copies across splits", "near copies across splits", "groups across splits")


@dataclass(frozen=True)
class Audit:
    """What is odd about a data set. `rows` are the lines of audit.csv, `verdict` sentences, worst first."""

    rows: list[dict]
    pairs: list[Pair]  # at most MOST_PAIRS of each kind, and as many with unlabelled images
    has_copy: dict[str, np.ndarray]  # split -> (N,) bool: an exact or near copy is in an earlier split
    verdict: list[str]
    # (M,) int64, ascending: the unlabelled images to train on, no copies and no patients of val or test
    unlabelled_rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def leaks(self) -> bool:
        """Whether any image or patient of one labelled split is met again in another."""
        return any(row["check"] in LEAKS and row["count"] for row in self.rows)

    @property
    def shortcut(self) -> bool:
        """Whether brightness, contrast and size alone tell the classes apart."""
        return any(map(_gives_away, self.rows))

    @property
    def findings(self) -> bool:
        """Whether the verdict on the labelled images is anything but praise."""
        return self.verdict[0] != CLEAN

    def worst(self, kind: str, count: int) -> list[Pair]:
        """Pairs of a kind to look at first: under two labels, then across splits, then the most alike.

        Those with unlabelled images, which are left out of training, come last.
        Every image is in one of them at most: a scan copied ten times would fill the sheet with 45 pairs.
        """

        def order(pair: Pair) -> tuple:
            first, second = pair.first[0], pair.second[0]
            return (not pair.conflict, second == UNLABELLED_SPLIT, first == second, -pair.correlation)

        chosen: list[Pair] = []
        images: set[tuple[str, int]] = set()
        for pair in sorted((pair for pair in self.pairs if pair.kind == kind), key=order):
            if len(chosen) < count and not images & {pair.first, pair.second}:
                chosen.append(pair)
                images |= {pair.first, pair.second}
        return chosen

    def to_json(self) -> dict:
        """JSON values; `from_json` makes an equal record of them."""
        rows_with_copy = {name: np.flatnonzero(mask).tolist() for name, mask in self.has_copy.items()}
        unlabelled_rows = self.unlabelled_rows.tolist()
        return {**asdict(self), "has_copy": rows_with_copy, "unlabelled_rows": unlabelled_rows}

    @classmethod
    def from_json(cls, record: dict, data: Dataset) -> "Audit":
        """The audit of `data` that `to_json` gave as `record`."""
        pairs = [
            Pair(**{**pair, "first": tuple(pair["first"]), "second": tuple(pair["second"])})
            for pair in record["pairs"]
        ]
        has_copy = {
            name: np.isin(np.arange(len(split.labels)), record["has_copy"][name])
            for name, split in data.splits.items()
        }
        unlabelled_rows = np.array(record["unlabelled_rows"], np.int64)
        return cls(record["rows"], pairs, has_copy, record["verdict"], unlabelled_rows)


def audit(
    data: Dataset, progress: OnProgress = lambda done, total: None, folder: Path | None = None
) -> Audit:
    """Audit a `Dataset`, at the teacher's resolution where it is larger. `progress` hears of images.

    What is kept of each image while it runs, some 700 bytes, is in files without a name in `folder`, by
    default where temporary files are.
    """
    splits, others = data.splits, data.unlabelled
    labels = np.concatenate([split.labels for split in splits.values()])
    home = np.repeat(np.arange(len(splits)), [len(split.labels) for split in splits.values()])  # (N,)
    count_image = counter(len(labels) + (len(others.labels) if others else 0), progress)
    digests, thumbs, numbers = read_images(splits, count_image, folder)
    with one_thread():
        copies = find_copies(digests, thumbs, labels, home)
    in_split = np.logical_or.reduce([c.in_split for c in copies.values()])  # (N, 3)
    has_copy = {name: in_split[home == k][:, :k].any(axis=1) for k, name in enumerate(splits)}
    probed = np.unique(np.linspace(0, len(splits["train"].labels) - 1, PROBED).astype(np.int64))
    probe = shortcut_accuracy(
        numbers["train"][probed], splits["train"].labels[probed], numbers["test"], splits["test"].labels
    )
    rows = [
        *(row for kind, own in copies.items() for row in _copy_rows(kind, own, home)),
        *_group_rows(splits),
        *_class_rows(splits, data.classes),
        *_range_rows(splits, numbers, data.classes),
        _row("shortcut probe", split="test", value=probe, of=1 / len(data.classes)),
    ]
    pairs = [pair for own in copies.values() for pair in own.pairs]
    shortened, notes = _shortened(copies)
    missed, said = _missed(copies["near"].recall)
    verdict = [*_verdict(rows, has_copy, notes), *said]
    report = Audit([*rows, *shortened, *missed], pairs, has_copy, verdict)
    if others is None:
        return report
    images = len(others.labels)
    size = CHUNK if len(labels) + images > MOST_EXACT else BLOCK
    blocks = read_blocks(others.teacher_pixels, count_image, size)
    with one_thread():
        among = find_copies_among(digests, thumbs, home, blocks, images)
    return _with_unlabelled(report, splits, others, among)


def _missed(recall: Recall | None) -> tuple[list[dict], list[str]]:
    """(lines of audit.csv, sentences) on near copies that an approximate search may have missed."""
    if recall is None:
        return [], []
    share = recall.found / recall.pairs if recall.pairs else None
    check, drawn = "near copies found by the approximate search", f"{recall.drawn:,} drawn images"
    row = _row(check, count=recall.found, of=recall.pairs, value=share)
    measured = f"{recall.found:,} of the {recall.pairs:,} near pairs of {drawn} were found"
    measured = measured if recall.pairs else f"{drawn} have none at all"
    sentence = f"Near copies of {recall.images:,} different images were searched approximately: {measured}."
    return [row], [sentence]


def _shortened(copies: dict[str, Copies], where: str = "") -> tuple[list[dict], list[str]]:
    """(lines of audit.csv, sentences) on the pairs of copies that are counted and not listed, if any."""
    rows, sentences = [], []
    for kind, own in copies.items():
        listed = len(own.pairs)
        if own.count > listed:
            rows.append(_row(f"pairs of {kind} copies listed", split=where, count=listed, of=own.count))
            among = " with unlabelled images" if where else ""
            pairs = f"the {own.count:,} pairs of {kind} copies{among}"
            sentences.append(f"Of {pairs} {listed:,} are listed; all are counted.")
    return rows, sentences


def _with_unlabelled(
    report: Audit, splits: dict[str, Split], others: Split, copies: dict[str, Copies]
) -> Audit:
    """The audit, and what there is to say of unlabelled images with their copies among the labelled ones.

    An unlabelled image leaks where it, or another one of its group, is in val or test. With train it may
    share both.
    """
    size, own = len(others.labels), UNLABELLED_SPLIT
    groups = {
        name: np.isin(others.groups, split.groups)  # (M,)
        for name, split in splits.items()
        if others.groups is not None and split.groups is not None
    }
    copied = np.logical_or.reduce([c.in_split[:, 1:].any(axis=1) for c in copies.values()])  # (M,)
    shared = np.logical_or.reduce([groups.get(name, np.zeros(size, bool)) for name in SPLITS[1:]])  # (M,)
    usable = np.flatnonzero(~(copied | shared))
    rows = [
        _row("unlabelled images", split=own, count=size),
        *(
            _row(f"{kind} copies among unlabelled images", split=own, other=name, count=int(n), of=size)
            for kind, found in copies.items()
            for name, n in zip(SPLITS, found.in_split.sum(axis=0), strict=True)
        ),
        *(
            _row("groups among unlabelled images", split=own, other=name, count=int(mask.sum()), of=size)
            for name, mask in groups.items()
        ),
        _row("unlabelled images used", split=own, count=len(usable), of=size),
    ]
    shortened, notes = _shortened(copies, own)
    verdict = [*report.verdict, *notes]
    if len(usable) < size:
        left = size - len(usable)
        what = [f"{plural(left, 'a copy', 'copies')} of val or test images"] * bool(copied.any())
        what += [f"of {plural(left, 'a group', 'groups')} (patients) in val or test"] * bool(shared.any())
        are, reason = plural(left, "is", "are"), " or ".join(what)
        images = f"{left:,} of the {size:,} unlabelled images"
        verdict = [*verdict, f"{images} {are} {reason} and {are} left out."]
    pairs = [*report.pairs, *(pair for found in copies.values() for pair in found.pairs)]
    return Audit([*report.rows, *rows, *shortened], pairs, report.has_copy, verdict, usable)


def _row(
    check: str,
    *,
    split: str = "",
    other: str = "",
    name: str = "",
    count: int | None = None,
    of: float | None = None,
    value: float | None = None,
) -> dict:
    """A line of audit.csv: what was looked for, where, how many of how many, and a figure."""
    return {
        "check": check,
        "split": split,
        "other": other,
        "name": name,
        "count": count,
        "of": of,
        "value": value,
    }


def _copy_rows(kind: str, copies: Copies, home: np.ndarray) -> list[dict]:
    """Images of each split with a copy in it, or in an earlier one, and pairs under two labels."""
    rows = []
    for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)):
        check = f"{kind} copies within a split" if a == b else f"{kind} copies across splits"
        own = home == b
        count, size = int(copies.in_split[own, a].sum()), int(own.sum())
        rows.append(_row(check, split=SPLITS[b], other=SPLITS[a], count=count, of=size))
    return [*rows, _row(f"{kind} copies under two labels", count=copies.conflicts)]


def _group_rows(splits: dict[str, Split]) -> list[dict]:
    """Groups (patients) that two splits share."""
    rows = []
    for a, b in combinations(SPLITS, 2):
        first, second = splits[a].groups, splits[b].groups
        if first is not None and second is not None:
            shared = np.intersect1d(first, second)
            rows.append(
                _row("groups across splits", split=b, other=a, count=len(shared), of=len(np.unique(second)))
            )
    return rows


def _class_rows(splits: dict[str, Split], classes: tuple[str, ...]) -> list[dict]:
    """Images per class and split, and how surprising each split's mixture is next to train's."""
    from scipy.stats import chi2_contingency

    counts = {name: np.bincount(s.labels, minlength=len(classes)) for name, s in splits.items()}
    rows = [
        _row("class count", split=name, name=c, count=int(n), of=int(total.sum()), value=n / total.sum())
        for name, total in counts.items()
        for c, n in zip(classes, total, strict=True)
    ]
    for name in ("val", "test"):
        p = chi2_contingency(np.stack([counts["train"], counts[name]])).pvalue
        rows.append(_row("prevalence shift (chi-square p)", split=name, other="train", value=float(p)))
    return rows


def _range_rows(
    splits: dict[str, Split], numbers: dict[str, np.ndarray], classes: tuple[str, ...]
) -> list[dict]:
    """Mean, darkest and brightest grey level of every class and split."""
    rows = []
    for name, split in splits.items():
        for k, c in enumerate(classes):
            own = numbers[name][split.labels == k]
            if len(own):
                rows.append(_row("grey level, mean", split=name, name=c, value=float(own[:, 0].mean())))
                rows.append(_row("grey level, darkest", split=name, name=c, value=float(own[:, 2].min())))
                rows.append(_row("grey level, brightest", split=name, name=c, value=float(own[:, 3].max())))
    return rows


def shortcut_accuracy(
    train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray
) -> float:
    """Balanced test accuracy of a logistic regression on six plain numbers an image (n, 6).

    Brightness, contrast, range and the size of what is not black: a class that these give away can be
    told without looking at the lung. The mean is over the classes that occur in test, as in `evidence`.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import recall_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, class_weight="balanced"))
    predicted = model.fit(train, train_labels).predict(test)
    occurring = np.unique(test_labels)
    return float(recall_score(test_labels, predicted, labels=occurring, average="macro"))


def _verdict(rows: list[dict], has_copy: dict[str, np.ndarray], notes: list[str]) -> list[str]:
    """The findings in words, then `notes`; one sentence of praise where there is nothing to find."""
    sentences = []
    for name in ("test", "val"):
        count, size = int(has_copy[name].sum()), len(has_copy[name])
        if count:
            earlier = "train or val" if name == "test" else "train"
            clean = "read the clean ones beside them" if count < size else "no image is left for clean ones"
            sentences.append(
                f"{count} of the {size} {name} images {plural(count, 'has', 'have')} an exact or near copy "
                f"in {earlier}: raw scores are too good; {clean}."
            )
    findings = filter(None, map(_finding, rows))
    sentences += [*(text for _, text in sorted(findings, key=lambda finding: finding[0])), *notes]
    return sentences or [CLEAN]


def _gives_away(row: dict) -> bool:
    """Whether a line of audit.csv is of the shortcut probe, and that is far above chance."""
    return row["check"] == "shortcut probe" and row["value"] > row["of"] + SHORTCUT


def _finding(row: dict) -> tuple[int, str] | None:
    """What a line of audit.csv means for a score, after its rank of harm; None where all is well."""
    check, split, count, of, value = (row[key] for key in ("check", "split", "count", "of", "value"))
    if check == "groups across splits" and count:
        text = (
            f"{count} of the {of} groups (patients) of {split} {plural(count, 'is', 'are')} also in "
            f"{row['other']}: scores do not speak for new patients."
        )
        return 0, text
    if check.endswith("under two labels") and count:
        return 1, f"Pairs of {check.split()[0]} copies under two different labels: {count}."
    if check.startswith("prevalence shift") and value < SHIFTED:
        text = (
            f"The classes are mixed differently in {split} than in train (chi-square p {value:.2g}): "
            "accuracy and predictive values shift with them."
        )
        return 3, text
    if _gives_away(row):
        text = (
            f"Brightness, contrast and size alone reach a balanced accuracy of {value:.2f} "
            f"(chance {of:.2f}): a model may go by them instead of by what the images show."
        )
        return 2, text
    if check == "exact copies within a split" and count:
        images = f"{count} of the {of} {split} images {plural(count, 'has', 'have')}"
        return 4, f"{images} an exact copy in {split} itself."
    return None
