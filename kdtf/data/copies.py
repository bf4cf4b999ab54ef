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

from .dataset import SPLITS

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
    """The copies of one kind among all images (N,) of a data set."""

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
    rows_of: dict[bytes, list[int]] = {}
    for i, digest in enumerate(digests):
        rows_of.setdefault(digest, []).append(i)
    for rows in rows_of.values():
        yield from ((i, j, 1.0) for i, j in combinations(rows, 2))


def near_pairs(thumbs: np.ndarray, least: float = NEAR) -> Iterator[Candidate]:
    """All pairs i < j of unit rows (N, SIDE * SIDE) whose dot product is at least `least`.

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
