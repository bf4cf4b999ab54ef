"""Which images are copies of one another: the same pixels, or nearly so.

Near copies are found by the correlation of grey thumbnails (`near`). Of images with the same pixels one
stands for all: a thousand blank slices are not gone through as half a million pairs. Knows of images (rows
of an array) and labels; what a copy means for a score is said in `audit`.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, islice, product
from typing import NamedTuple

import numpy as np

from .dataset import SPLITS, UNLABELLED_SPLIT
from .near import BLOCK, Recall, Search, products_of
from .thumbnails import Thumbnails

MOST_PAIRS = 5000  # listed of each kind; all are counted
DIGEST = "S32"  # of an array of digests: all are of 32 bytes, so that no byte 0 at an end is lost

Candidate = tuple[int, int]  # the rows of two images
Blocks = Iterable[tuple[Sequence | np.ndarray, Thumbnails]]  # digests (n,) and thumbnails of n images


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
    count: int  # of all pairs, those that are not listed too
    conflicts: int  # pairs under two labels
    in_split: np.ndarray  # (N, 3) bool: has the image a copy in train, val, test
    recall: Recall | None = None  # of an approximate search


def pixel_digest(image: np.ndarray) -> bytes:
    """sha256 of an image's pixels: equal for exact copies."""
    return hashlib.sha256(np.ascontiguousarray(image).data).digest()


# Images that are equal


@dataclass(frozen=True, eq=False)
class Equals:
    """Images (N,) in groups of equal ones, of which the first stands for all."""

    first: np.ndarray  # (N,) the row that stands for each image

    @classmethod
    def by(cls, *keys: Sequence | np.ndarray) -> "Equals":
        """Those are equal whose keys (N,) are."""
        codes = np.zeros(len(keys[0]), np.int64)
        for key in keys:
            own, inverse = np.unique(key, return_inverse=True)
            codes = codes * len(own) + inverse
            codes = np.unique(codes, return_inverse=True)[1]  # below N again
        first, inverse = np.unique(codes, return_index=True, return_inverse=True)[1:]
        return cls(first[inverse])

    @cached_property
    def rows(self) -> np.ndarray:
        """The rows that stand for others, ascending."""
        return np.flatnonzero(self.first == np.arange(len(self.first)))

    @cached_property
    def sizes(self) -> np.ndarray:
        """(N,) for how many images each row stands."""
        return np.bincount(self.first, minlength=len(self.first))

    @cached_property
    def _by_group(self) -> tuple[np.ndarray, np.ndarray]:
        """All images group by group, and where the group of each row begins in them."""
        return np.argsort(self.first, kind="stable"), np.cumsum(self.sizes) - self.sizes

    @property
    def pairs(self) -> int:
        """The number of pairs of equal images."""
        return int((self.sizes * (self.sizes - 1) // 2).sum())

    def of(self, row: int) -> Sequence[int]:
        """The images that a row stands for."""
        order, starts = self._by_group
        return order[starts[row] : starts[row] + self.sizes[row]].tolist()


def exact_pairs(digests: Sequence | np.ndarray) -> Iterator[Candidate]:
    """Every pair of images with the same pixels."""
    equals = Equals.by(digests)
    for row in np.flatnonzero(equals.sizes > 1).tolist():
        yield from combinations(equals.of(row), 2)


# Copies among labelled images


def find_copies(
    digests: Sequence | np.ndarray, thumbs: Thumbnails, labels: np.ndarray, home: np.ndarray
) -> dict[str, Copies]:
    """{"exact": `Copies`, "near": `Copies`} of images that are told apart by digest (N,) and by thumbnail.

    labels (N,), and `home` (N,), the place in `SPLITS` of each image's own split, ascending. A near copy is
    no exact one.
    """
    same_pixels = Equals.by(digests)
    exact, of_exact = list(islice(exact_pairs(digests), MOST_PAIRS)), _exact_counts(same_pixels, labels, home)
    near, of_near, recall = _near_copies(same_pixels, thumbs, labels, home)
    correlations = _correlations(thumbs, thumbs, near)
    starts = np.searchsorted(home, range(len(SPLITS)))

    def pair(kind: str, rows: Candidate, correlation: float) -> Pair:
        first, second = ((SPLITS[home[row]], int(row - starts[home[row]])) for row in rows)
        return Pair(kind, first, second, correlation, bool(labels[rows[0]] != labels[rows[1]]))

    near_list = [pair("near", rows, c) for rows, c in zip(near, correlations, strict=True)]
    return {
        "exact": Copies([pair("exact", rows, 1.0) for rows in exact], *of_exact),
        "near": Copies(near_list, *of_near, recall),
    }


def _correlations(first: Thumbnails, second: Thumbnails, pairs: list[Candidate]) -> list[float]:
    """Those of pairs of a row of `first` and one of `second`."""
    correlations: list[float] = []
    for start in range(0, len(pairs), BLOCK):
        i, j = np.array(pairs[start : start + BLOCK], np.int64).T
        (own, i), (others, j) = np.unique(i, return_inverse=True), np.unique(j, return_inverse=True)
        correlations += products_of(first.fine(own), second.fine(others), i, j).tolist()
    return correlations


Counts = tuple[int, int, np.ndarray]  # pairs, those under two labels, and (N, 3) bool as in `Copies`


def _exact_counts(same_pixels: Equals, labels: np.ndarray, home: np.ndarray) -> Counts:
    """What is said of exact copies, counted by groups instead of pair by pair."""
    in_split = np.zeros((len(home), len(SPLITS)), np.int64)
    np.add.at(in_split, (same_pixels.first, home), 1)
    in_split = in_split[same_pixels.first]
    in_split[np.arange(len(home)), home] -= 1  # no image is a copy of itself
    same_label = Equals.by(same_pixels.first, labels)
    return same_pixels.pairs, same_pixels.pairs - same_label.pairs, in_split > 0


def _near_copies(
    same_pixels: Equals, thumbs: Thumbnails, labels: np.ndarray, home: np.ndarray
) -> tuple[list[Candidate], Counts, Recall | None]:
    """The near copies that are listed, what is said of all, and how many an approximate search finds.

    One image stands for all of its pixels, label and split: what is true of it is true of them.
    """
    equals = Equals.by(same_pixels.first, labels, home)
    in_split = np.zeros((len(home), len(SPLITS)), bool)
    listed: list[Candidate] = []
    count = conflicts = 0
    search = Search(thumbs, equals.rows)
    for i, j in search.pairs():
        other = same_pixels.first[i] != same_pixels.first[j]
        i, j = i[other], j[other]
        in_split[i, home[j]] = in_split[j, home[i]] = True
        times = equals.sizes[i] * equals.sizes[j]
        count, conflicts = count + int(times.sum()), conflicts + int(times[labels[i] != labels[j]].sum())
        pairs = _members(equals, equals, i, j)
        listed += islice(((min(pair), max(pair)) for pair in pairs), MOST_PAIRS - len(listed))
    listed.sort(key=lambda pair: (pair[0] // BLOCK, pair[1] // BLOCK, *pair))
    return listed, (count, conflicts, in_split[equals.first]), search.recall


def _members(first: Equals, second: Equals, i: np.ndarray, j: np.ndarray) -> Iterator[Candidate]:
    """Of every pair of rows all pairs of the images that they stand for."""
    for a, b in zip(i.tolist(), j.tolist(), strict=True):
        yield from product(first.of(a), second.of(b))


# Copies of unlabelled images


def find_copies_among(
    digests: Sequence | np.ndarray, thumbs: Thumbnails, home: np.ndarray, blocks: Blocks, images: int = 0
) -> dict[str, Copies]:
    """{"exact": `Copies`, "near": `Copies`} that M unlabelled images have among labelled ones.

    The labelled images (N,) are told apart as in `find_copies`; the unlabelled ones, `images` in all, come
    in blocks of (digests, thumbnails), so that theirs are never in memory together. `in_split` is (M, 3).
    Pairs with train are told there, and neither counted nor listed: they are harmless.
    """
    labelled, before = _Labelled(digests, thumbs, home, images), 0
    starts = np.searchsorted(home, range(len(SPLITS)))
    pairs: dict[str, list[Pair]] = {"exact": [], "near": []}
    counts = {"exact": 0, "near": 0}
    in_split: dict[str, list[np.ndarray]] = {"exact": [], "near": []}
    for names, other_thumbs in blocks:
        others = np.asarray(names)
        room = {kind: MOST_PAIRS - len(own) for kind, own in pairs.items()}
        exact, near = labelled.exact(others, room["exact"]), labelled.near(others, other_thumbs, room["near"])
        for kind, found in (("exact", exact), ("near", near)):
            for i, j, correlation in found.listed:
                place = SPLITS[home[i]], int(i - starts[home[i]])
                pairs[kind].append(Pair(kind, place, (UNLABELLED_SPLIT, before + j), correlation, False))
            counts[kind] += found.count
            in_split[kind].append(found.in_split)
        before += len(others)
    return {kind: Copies(pairs[kind], counts[kind], 0, np.concatenate(in_split[kind])) for kind in pairs}


class _BlockCopies(NamedTuple):
    """What a block of n unlabelled images has among labelled ones."""

    listed: list[tuple[int, int, float]]  # row of a labelled image, place in the block, correlation
    count: int  # type: ignore[assignment]  # of pairs with val and test
    in_split: np.ndarray  # (n, 3) bool


class _Labelled:
    """The labelled images that blocks of others are compared with."""

    def __init__(self, digests: Sequence | np.ndarray, thumbs: Thumbnails, home: np.ndarray, more: int):
        self.thumbs, self.home, self.same_pixels = thumbs, home, Equals.by(digests)
        self.equals = Equals.by(self.same_pixels.first, home)
        self.search = Search(thumbs, self.equals.rows, more)
        self.digests, self.first = np.unique(digests, return_index=True)  # (U,) of different pixels
        in_splits = np.zeros((len(home), len(SPLITS)), np.int64)
        np.add.at(in_splits, (self.same_pixels.first, home), 1)
        self.in_splits = in_splits[self.first]  # (U, 3)

    def exact(self, digests: np.ndarray, room: int) -> _BlockCopies:
        """The copies of the same digest, of which `room` are listed."""
        rows = self._same(digests)
        counts = np.zeros((len(digests), len(SPLITS)), np.int64)
        counts[rows >= 0] = self.in_splits[np.searchsorted(self.digests, digests[rows >= 0])]
        pairs = (
            (i, j, 1.0)
            for j in np.flatnonzero(counts[:, 1:].any(axis=1)).tolist()
            for i in self.same_pixels.of(rows[j])
            if self.home[i]  # in val or test
        )
        return _BlockCopies(list(islice(pairs, room)), int(counts[:, 1:].sum()), counts > 0)

    def _same(self, digests: np.ndarray) -> np.ndarray:
        """(n,) the labelled row that stands for the same pixels as each digest; -1 where there is none."""
        place = np.minimum(np.searchsorted(self.digests, digests), len(self.digests) - 1)
        return np.where(self.digests[place] == digests, self.first[place], -1)

    def near(self, digests: np.ndarray, thumbs: Thumbnails, room: int) -> _BlockCopies:
        """The copies by thumbnails (n,), exact ones left out; `room` are listed."""
        own, same_pixels = Equals.by(digests), self._same(digests)
        in_split = np.zeros((len(digests), len(SPLITS)), bool)
        listed: list[Candidate] = []
        count = 0
        for i, j in self.search.pairs_with(thumbs, own.rows):
            other = self.same_pixels.first[i] != same_pixels[j]
            in_split[j[other], self.home[i[other]]] = True
            tested = other & (self.home[i] > 0)
            i, j = i[tested], j[tested]
            count += int((self.equals.sizes[i] * own.sizes[j]).sum())
            listed += islice(_members(self.equals, own, i, j), room - len(listed))
        listed.sort()
        products = _correlations(self.thumbs, thumbs, listed)
        pairs = [(*pair, product) for pair, product in zip(listed, products, strict=True)]
        return _BlockCopies(pairs, count, in_split[own.first])
