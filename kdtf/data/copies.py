"""Which images are copies of one another: the same pixels, or nearly so.

Near copies are found by the correlation of grey thumbnails, all pairs of them, none missed. Knows of
images (rows of an array) and labels; what a copy means for a score is said in `audit`.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from PIL import Image

from .dataset import SPLITS, UNLABELLED_SPLIT

SIDE = 64  # px, of the grey thumbnails that are compared
NEAR = 0.99  # least correlation of near copies
COARSE = 16  # px, of the averages that rule most pairs out
BLOCK = 2048  # images compared with as many others at once
MOST_PAIRS = 5000  # listed of each kind; all are counted

Candidate = tuple[int, int, float]  # two rows, the smaller first, and their correlation


@dataclass(frozen=True)
class Pair:
    """Two images, each a (split, index), that are copies: `exact` pixels, or `near` by correlation."""

    kind: str
    first: tuple[str, int]
    second: tuple[str, int]
    correlation: float
    conflict: bool  # under two labels


@dataclass(frozen=True)
class Copies:
    """The copies of one kind that some images (N,) have: all labelled ones, or all without labels."""

    pairs: list[Pair]  # at most MOST_PAIRS
    conflicts: int  # pairs under two labels
    in_split: np.ndarray  # (N, 3) bool: has the image a copy in train, val, test


def pixel_digest(image: np.ndarray) -> bytes:
    """sha256 of an image's pixels: equal for exact copies."""
    return hashlib.sha256(np.ascontiguousarray(image).data).digest()


def thumbnail(grey: Image.Image) -> np.ndarray:
    """A grey image as (SIDE * SIDE,) float32."""
    small = grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(small, np.float32).ravel()


def exact_pairs(digests: Iterable[bytes]) -> Iterator[Candidate]:
    """Every pair of images with the same pixels."""
    for rows in _rows_by_digest(digests).values():
        yield from ((i, j, 1.0) for i, j in combinations(rows, 2))


def _rows_by_digest(digests: Iterable[bytes]) -> dict[bytes, list[int]]:
    rows_of: dict[bytes, list[int]] = {}
    for i, digest in enumerate(digests):
        rows_of.setdefault(digest, []).append(i)
    return rows_of


def near_pairs(thumbs: np.ndarray, least: float = NEAR) -> Iterator[Candidate]:
    """All pairs i < j of unit rows (N, SIDE * SIDE) whose dot product is at least `least`.

    Unit rows with correlation c are sqrt(2 (1 - c)) apart, and no further apart after averaging over
    4 x 4 squares (an orthogonal projection). So a product of a 16th of the size rules most pairs out,
    and misses none.
    """
    coarse = _coarse(thumbs)
    for a in range(0, len(thumbs), BLOCK):
        for b in range(a, len(thumbs), BLOCK):
            i, j = _possible(coarse[a : a + BLOCK], coarse[b : b + BLOCK], least)
            i, j = i + a, j + b
            yield from _correlated(thumbs, thumbs, i[i < j], j[i < j], least)


def near_pairs_between(first: np.ndarray, second: np.ndarray, least: float = NEAR) -> Iterator[Candidate]:
    """All pairs of unit rows, one of `first` (N, SIDE * SIDE), one of `second` (M, SIDE * SIDE), as above."""
    small, other = _coarse(first), _coarse(second)
    for a in range(0, len(first), BLOCK):
        for b in range(0, len(second), BLOCK):
            i, j = _possible(small[a : a + BLOCK], other[b : b + BLOCK], least)
            yield from _correlated(first, second, i + a, j + b, least)


def _coarse(thumbs: np.ndarray) -> np.ndarray:
    """Averages (N, COARSE * COARSE) of unit thumbnails (N, SIDE * SIDE), as lengths in the same space."""
    factor = SIDE // COARSE
    squares = thumbs.reshape(len(thumbs), COARSE, factor, COARSE, factor)
    return squares.sum(axis=(2, 4)).reshape(len(thumbs), -1) / factor


def _possible(first: np.ndarray, second: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows (i, j) of averages (N, D) and (M, D) that are close enough for thumbnails as alike as `least`."""
    apart = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)[None]
    apart -= 2 * (first @ second.T)  # squared distances
    i, j = np.nonzero(apart <= 2 * (1 - least) + 1e-4)
    return i, j


def _correlated(
    first: np.ndarray, second: np.ndarray, i: np.ndarray, j: np.ndarray, least: float
) -> Iterator[Candidate]:
    """Those of the pairs `i` of `first` and `j` of `second` whose dot product is at least `least`."""
    for s in range(0, len(i), BLOCK):
        p, q = i[s : s + BLOCK], j[s : s + BLOCK]
        exact = np.einsum("nd,nd->n", first[p], second[q])
        for n in np.flatnonzero(exact >= least):
            yield int(p[n]), int(q[n]), float(exact[n])


def find_copies(
    digests: list[bytes], thumbs: np.ndarray, labels: np.ndarray, home: np.ndarray
) -> dict[str, Copies]:
    """{"exact": `Copies`, "near": `Copies`} of images that are told apart by digest and by unit thumbnail.

    labels (N,), and `home` (N,), the place in `SPLITS` of each image's own split, ascending. A near copy is
    no exact one.
    """
    near = (pair for pair in near_pairs(thumbs) if digests[pair[0]] != digests[pair[1]])
    candidates = {"exact": exact_pairs(digests), "near": near}
    return {kind: _collect(kind, pairs, labels, home) for kind, pairs in candidates.items()}


def _collect(kind: str, candidates: Iterator[Candidate], labels: np.ndarray, home: np.ndarray) -> Copies:
    starts = np.searchsorted(home, range(len(SPLITS)))  # the first row of each split
    in_split = np.zeros((len(labels), len(SPLITS)), bool)
    conflicts = 0
    pairs: list[Pair] = []
    for i, j, correlation in candidates:
        in_split[j, home[i]] = in_split[i, home[j]] = True
        conflict = bool(labels[i] != labels[j])
        conflicts += conflict
        if len(pairs) < MOST_PAIRS:
            first, second = ((SPLITS[home[row]], int(row - starts[home[row]])) for row in (i, j))
            pairs.append(Pair(kind, first, second, correlation, conflict))
    return Copies(pairs, conflicts, in_split)


def find_copies_among(
    digests: list[bytes],
    thumbs: np.ndarray,
    home: np.ndarray,
    blocks: Iterable[tuple[list[bytes], np.ndarray]],
) -> dict[str, Copies]:
    """{"exact": `Copies`, "near": `Copies`} that M unlabelled images have among labelled ones.

    The labelled images (N,) are told apart as in `find_copies`; the unlabelled ones come in blocks of
    (digests, unit thumbnails), so that theirs are never in memory together. `in_split` is (M, 3). Pairs
    with train are counted there and not listed: they are harmless.
    """
    rows_of, starts, before = _rows_by_digest(digests), np.searchsorted(home, range(len(SPLITS))), 0
    pairs: dict[str, list[Pair]] = {"exact": [], "near": []}
    in_split: dict[str, list[np.ndarray]] = {"exact": [], "near": []}
    for others, other_thumbs in blocks:
        exact = ((i, j, 1.0) for j, digest in enumerate(others) for i in rows_of.get(digest, ()))
        near = (p for p in near_pairs_between(thumbs, other_thumbs) if digests[p[0]] != others[p[1]])
        for kind, candidates in (("exact", exact), ("near", near)):
            mask = np.zeros((len(others), len(SPLITS)), bool)
            for i, j, correlation in candidates:
                mask[j, home[i]] = True
                if home[i] and len(pairs[kind]) < MOST_PAIRS:
                    labelled = SPLITS[home[i]], int(i - starts[home[i]])
                    pairs[kind].append(
                        Pair(kind, labelled, (UNLABELLED_SPLIT, before + j), correlation, False)
                    )
            in_split[kind].append(mask)
        before += len(others)
    return {kind: Copies(pairs[kind], 0, np.concatenate(in_split[kind])) for kind in pairs}
