"""Is the data fit to learn from, and is a score on it worth anything?

Looks for copies and near copies, one image under two labels, patients on both sides, shifted
prevalence, odd grey ranges and shortcuts. Changes nothing, blocks nothing, draws nothing.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np
from PIL import Image

from ..predictor import to_image
from ..progress import Progress
from ..store import Run
from .load import Dataset

SPLITS = ("train", "val", "test")
SIDE = 64  # px, of the grey thumbnails that are compared
NEAR = 0.99  # least correlation of near duplicates
COARSE = 16  # px, of the averages that rule most pairs out
BLOCK = 2048  # images compared with as many others at once
KEPT_PAIRS = 5000  # listed of each kind; all are counted
SHORTCUT = 0.15  # balanced accuracy above chance at which six plain numbers count as a shortcut
CLEAN = "Audit: no copies, no shared groups and no shortcut found."
FEATURES = ("mean", "contrast", "darkest", "brightest", "foreground", "foreground contrast")


@dataclass(frozen=True)
class Pair:
    """Two images, each a (split, index), that are copies: `exact` pixels, or `near` by correlation."""

    kind: str
    first: tuple[str, int]
    second: tuple[str, int]
    correlation: float
    conflict: bool  # under two labels


@dataclass(frozen=True)
class Audit:
    """What was found. `rows` are the lines of audit.csv, `verdict` plain sentences, worst first."""

    rows: list[dict]
    pairs: list[Pair]  # at most KEPT_PAIRS of each kind
    twins: dict[str, np.ndarray]  # split -> (N,) bool: has an exact or near copy in an earlier split
    verdict: list[str]

    @property
    def leaks(self) -> bool:
        """Whether any image or patient of one split is met again in another."""
        return any(row["check"] in LEAKS and row["count"] for row in self.rows)

    @property
    def findings(self) -> bool:
        """Whether the verdict is anything but praise."""
        return self.verdict != [CLEAN]

    def worst(self, kind: str, count: int) -> list[Pair]:
        """Pairs of a kind to look at first: under two labels, then across splits, then the most alike.

        Every image is shown once: a scan copied ten times would fill the sheet with its 45 pairs.
        """

        def order(pair):
            return (not pair.conflict, pair.first[0] == pair.second[0], -pair.correlation)

        chosen, met = [], set()
        for pair in sorted((pair for pair in self.pairs if pair.kind == kind), key=order):
            if len(chosen) < count and not met & {pair.first, pair.second}:
                chosen.append(pair)
                met |= {pair.first, pair.second}
        return chosen


LEAKS = ("exact copies across splits", "near copies across splits", "groups across splits")


def audit(data: Dataset, progress: Callable[[int, int], None] = lambda done, total: None) -> Audit:
    """Audit a `Dataset`, at the teacher's resolution where it is larger. `progress` hears of images."""
    splits = {name: getattr(data, name) for name in SPLITS}
    labels = np.concatenate([s.labels for s in splits.values()])
    home = np.repeat(np.arange(3), [len(s.labels) for s in splits.values()])  # (N,) 0 train, 1 val, 2 test
    where = np.concatenate([np.arange(len(s.labels)) for s in splits.values()])
    digests, thumbs, numbers = _read(splits, progress)

    pairs, rows = [], []
    touched = np.zeros((len(labels), 3), bool)  # image i has a copy in split s
    found = {"exact": _exact_pairs(digests), "near": _near_only(thumbs, digests)}
    for kind, candidates in found.items():
        counts = np.zeros((3, 3), int)  # images of the later split with a copy in the earlier one
        conflicts, kept = 0, []
        seen = np.zeros((len(labels), 3), bool)
        for i, j, correlation in candidates:
            seen[j, home[i]] = seen[i, home[j]] = True
            conflict = bool(labels[i] != labels[j])
            conflicts += conflict
            if len(kept) < KEPT_PAIRS:
                ends = [(SPLITS[home[k]], int(where[k])) for k in (i, j)]
                kept.append(Pair(kind, *ends, correlation, conflict))
        touched |= seen
        for a in range(3):
            for b in range(a, 3):
                counts[a, b] = seen[home == b, a].sum()
        rows += _copy_rows(kind, counts, conflicts, home)
        pairs += kept
    rows += (
        _group_rows(splits) + _class_rows(splits, data.classes) + _range_rows(splits, numbers, data.classes)
    )
    probe = shortcut(numbers["train"], splits["train"].labels, numbers["test"], splits["test"].labels)
    rows.append(_row("shortcut probe", split="test", value=probe, of=1 / len(data.classes)))
    twins = {
        name: touched[home == k][:, :k].any(axis=1) if k else np.zeros((home == 0).sum(), bool)
        for k, name in enumerate(SPLITS)
    }
    return Audit(rows, pairs, twins, _verdict(rows, twins))


def audited(run: Run, data: Dataset, progress: Progress) -> Audit:
    """The audit of `data`, from the run's finished stage where it stands."""

    def make(folder):
        with progress.bar("auditing the data", 1) as advance:
            found = audit(data, lambda done, total: advance(done / total))
        plain = {**asdict(found), "twins": {k: np.flatnonzero(v).tolist() for k, v in found.twins.items()}}
        (folder / "audit.json").write_text(json.dumps(plain))

    settings = {"near": NEAR, "side": SIDE, "classes": data.classes}
    stage = run.stage("audit", settings, data.digest, make=make)
    plain = json.loads((stage.path / "audit.json").read_text())
    pairs = [Pair(**{**p, "first": tuple(p["first"]), "second": tuple(p["second"])}) for p in plain["pairs"]]
    sizes = {name: len(getattr(data, name).labels) for name in SPLITS}
    twins = {name: np.isin(np.arange(sizes[name]), found) for name, found in plain["twins"].items()}
    return Audit(plain["rows"], pairs, twins, plain["verdict"])


def _row(check, *, split="", other="", name="", count=None, of=None, value=None) -> dict:
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


def _read(splits, progress):
    """One pass over all pixels: digests (N,), thumbnails (N, 4096), plain numbers {split: (n, 6)}."""
    total = sum(len(s.labels) for s in splits.values())
    thumbs = np.empty((total, SIDE * SIDE), np.float32)
    digests, numbers, done = [], {}, 0
    for name, split in splits.items():
        found = np.empty((len(split.labels), len(FEATURES)))
        for i, image in enumerate(split.teacher_pixels):
            digests.append(hashlib.sha256(np.ascontiguousarray(image)).digest())
            grey = to_image(image).convert("L")
            thumb = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32)
            thumbs[done] = thumb.ravel()
            found[i] = _numbers(np.asarray(grey))
            done += 1
            if done % 100 == 0 or done == total:
                progress(done, total)
        numbers[name] = found
    thumbs -= thumbs.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(thumbs, axis=1, keepdims=True)
    thumbs /= np.where(norm > 0, norm, 1)  # now a dot product is a correlation; a constant image has none
    return digests, thumbs, numbers


def _numbers(grey: np.ndarray) -> tuple:
    """What could give the class away without looking: brightness, contrast, range, size of the body."""
    body = grey > 25  # a tenth of the range
    inside = grey[body] if body.any() else grey
    return grey.mean(), grey.std(), grey.min(), grey.max(), body.mean(), inside.std()


def _exact_pairs(digests) -> Iterator[tuple[int, int, float]]:
    """Every pair of images with the same pixels."""
    alike: dict[bytes, list[int]] = {}
    for i, digest in enumerate(digests):
        alike.setdefault(digest, []).append(i)
    for group in alike.values():
        yield from ((i, j, 1.0) for i, j in combinations(group, 2))


def _near_only(thumbs, digests) -> Iterator[tuple[int, int, float]]:
    return (pair for pair in near_pairs(thumbs) if digests[pair[0]] != digests[pair[1]])


def near_pairs(thumbs: np.ndarray, least: float = NEAR) -> Iterator[tuple[int, int, float]]:
    """All pairs i < j of unit rows (N, 64 * 64) whose dot product is at least `least`.

    Unit rows with correlation c are sqrt(2 (1 - c)) apart, and no further apart after averaging over
    4 x 4 squares (an orthogonal projection). So a product of a 16th of the size rules most pairs out,
    and misses none.
    """
    factor = SIDE // COARSE
    squares = thumbs.reshape(len(thumbs), COARSE, factor, COARSE, factor)
    coarse = squares.sum(axis=(2, 4)).reshape(len(thumbs), -1) / factor  # (N, 256), lengths kept
    length = (coarse**2).sum(axis=1)  # (N,)
    for a in range(0, len(thumbs), BLOCK):
        for b in range(a, len(thumbs), BLOCK):
            apart = length[a : a + BLOCK, None] + length[None, b : b + BLOCK]
            apart -= 2 * (coarse[a : a + BLOCK] @ coarse[b : b + BLOCK].T)  # squared distances
            i, j = np.nonzero(apart <= 2 * (1 - least) + 1e-4)
            i, j = i + a, j + b
            i, j = i[i < j], j[i < j]
            for s in range(0, len(i), BLOCK):
                p, q = i[s : s + BLOCK], j[s : s + BLOCK]
                exact = np.einsum("nd,nd->n", thumbs[p], thumbs[q])
                for n in np.flatnonzero(exact >= least):
                    yield int(p[n]), int(q[n]), float(exact[n])


def _copy_rows(kind, counts, conflicts, home) -> list[dict]:
    rows = []
    for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)):
        check = f"{kind} copies within a split" if a == b else f"{kind} copies across splits"
        rows.append(
            _row(check, split=SPLITS[b], other=SPLITS[a], count=int(counts[a, b]), of=int((home == b).sum()))
        )
    return [*rows, _row(f"{kind} copies under two labels", count=conflicts)]


def _group_rows(splits) -> list[dict]:
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


def _class_rows(splits, classes) -> list[dict]:
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


def _range_rows(splits, numbers, classes) -> list[dict]:
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


def shortcut(train, train_labels, test, test_labels) -> float:
    """Balanced test accuracy of a logistic regression on six plain numbers an image (n, 6).

    Brightness, contrast, range and the size of what is not black: a class that these give away can be
    told without looking at the lung.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, class_weight="balanced"))
    present = np.unique(test_labels)
    predicted = model.fit(train, train_labels).predict(test)
    if len(present) == 1:
        return float(np.mean(predicted == test_labels))
    return float(balanced_accuracy_score(test_labels, predicted))


def _verdict(rows, twins) -> list[str]:
    """The findings in words; one sentence of praise where there is nothing to find."""
    told = []
    for name in ("test", "val"):
        count = int(twins[name].sum())
        if count:
            earlier = "train or val" if name == "test" else "train"
            told.append(
                f"{count} of the {len(twins[name])} {name} images have an exact or near copy in {earlier}: "
                "raw scores are too good; read the clean ones beside them."
            )
    for row in rows:
        if row["check"] == "groups across splits" and row["count"]:
            told.append(
                f"{row['count']} of the {row['of']} groups (patients) of {row['split']} are also in "
                f"{row['other']}: scores do not speak for new patients."
            )
        if row["check"].endswith("under two labels") and row["count"]:
            kind = row["check"].split()[0]
            told.append(f"Pairs of {kind} copies under two different labels: {row['count']}.")
        if row["check"].startswith("prevalence shift") and row["value"] < 0.001:
            told.append(
                f"The classes are mixed differently in {row['split']} than in train "
                f"(chi-square p {row['value']:.2g}): accuracy and predictive values shift with them."
            )
        if row["check"] == "shortcut probe" and row["value"] > row["of"] + SHORTCUT:
            told.append(
                f"Brightness, contrast and size alone reach a balanced accuracy of {row['value']:.2f} "
                f"(chance {row['of']:.2f}): a model may go by them instead of by what the images show."
            )
        if row["check"] == "exact copies within a split" and row["count"]:
            part = f"{row['count']} of the {row['of']} {row['split']} images"
            told.append(f"{part} have an exact copy in {row['split']} itself.")
    return told or [CLEAN]
