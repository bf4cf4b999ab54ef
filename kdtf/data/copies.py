"""Which images are copies of one another: the same pixels, or nearly so.

Near copies are found by the correlation of grey thumbnails, all pairs of them, none missed. Of images with
the same pixels one stands for all: a thousand blank slices are not gone through as half a million pairs.
Knows of images (rows of an array) and labels; what a copy means for a score is said in `audit`.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, islice, product
from typing import NamedTuple

import numpy as np
from PIL import Image

from .dataset import SPLITS, UNLABELLED_SPLIT

SIDE = 64  # px, of the grey thumbnails that are compared
NEAR = 0.99  # least correlation of near copies
COARSE = 16  # px, of the averages that rule most pairs out
BLOCK = 2048  # images compared with as many others at once
DENSE = 0.02  # of the pairs of two blocks: above it one product of matrices is quicker than one for each pair
ROUNDING = 2e-5  # the most by which these two kinds of products differ; 1e-6 was measured
MOST_PAIRS = 5000  # listed of each kind; all are counted

Candidate = tuple[int, int]  # the rows of two images
Rows = tuple[np.ndarray, np.ndarray]  # the rows i (P,) and j (P,) of P pairs
Blocks = Iterable[tuple[list[bytes], np.ndarray]]  # digests (n,) and unit thumbnails (n, SIDE * SIDE)


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


def pixel_digest(image: np.ndarray) -> bytes:
    """sha256 of an image's pixels: equal for exact copies."""
    return hashlib.sha256(np.ascontiguousarray(image).data).digest()


def thumbnail(grey: Image.Image) -> np.ndarray:
    """A grey image as (SIDE * SIDE,) float32."""
    small = grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(small, np.float32).ravel()


# Images that are equal


@dataclass(frozen=True, eq=False)
class Equals:
    """Images (N,) in groups of equal ones, of which the first stands for all."""

    first: np.ndarray  # (N,) the row that stands for each image

    @classmethod
    def by(cls, *keys: Iterable[object]) -> "Equals":
        """Those are equal whose keys are, each given for all images."""
        rows: dict[tuple[object, ...], int] = {}
        every = enumerate(zip(*keys, strict=True))
        return cls(np.array([rows.setdefault(key, row) for row, key in every], np.int64))

    @cached_property
    def rows(self) -> np.ndarray:
        """The rows that stand for others, ascending."""
        return np.unique(self.first)

    @cached_property
    def sizes(self) -> np.ndarray:
        """(N,) for how many images each row stands."""
        return np.bincount(self.first, minlength=len(self.first))

    @property
    def pairs(self) -> int:
        """The number of pairs of equal images."""
        return int((self.sizes * (self.sizes - 1) // 2).sum())

    def of(self, row: int) -> Sequence[int]:
        """The images that a row stands for."""
        return np.flatnonzero(self.first == row).tolist()


def exact_pairs(digests: Iterable[bytes]) -> Iterator[Candidate]:
    """Every pair of images with the same pixels."""
    for rows in _rows_by_digest(digests).values():
        yield from combinations(rows, 2)


def _rows_by_digest(digests: Iterable[bytes]) -> dict[bytes, list[int]]:
    rows_of: dict[bytes, list[int]] = {}
    for i, digest in enumerate(digests):
        rows_of.setdefault(digest, []).append(i)
    return rows_of


# Images that are nearly equal


class Thumbnails(NamedTuple):
    """Unit thumbnails (N, SIDE * SIDE), the rows (R,) of them that are compared, and averages of these."""

    units: np.ndarray
    rows: np.ndarray
    averages: np.ndarray  # (R, COARSE * COARSE), lengths in the same space

    @classmethod
    def of(cls, units: np.ndarray, rows: np.ndarray | None = None) -> "Thumbnails":
        """Those of some rows, or of all, that are no constant images: these are near nothing."""
        rows = np.arange(len(units)) if rows is None else rows
        rows = rows[np.array([units[row].any() for row in rows.tolist()], bool)]
        starts = range(0, len(rows), BLOCK)
        averages = [_averages(units[rows[start : start + BLOCK]]) for start in starts]
        return cls(units, rows, np.concatenate([np.zeros((0, COARSE**2), units.dtype), *averages]))

    def blocks(self) -> Iterator["Thumbnails"]:
        """The same, `BLOCK` rows at a time."""
        for start in range(0, len(self.rows), BLOCK):
            part = slice(start, start + BLOCK)
            yield Thumbnails(self.units, self.rows[part], self.averages[part])


def _averages(units: np.ndarray) -> np.ndarray:
    """Thumbnails (N, SIDE * SIDE) over squares, (N, COARSE * COARSE), by which no two get further apart."""
    factor = SIDE // COARSE
    squares = units.reshape(len(units), COARSE, factor, COARSE, factor)
    return squares.sum(axis=(2, 4)).reshape(len(units), -1) / factor


def near_pairs(thumbs: Thumbnails, least: float = NEAR) -> Iterator[Rows]:
    """All pairs of rows i < j of unit thumbnails whose dot product is at least `least`.

    Unit rows with correlation c are sqrt(2 (1 - c)) apart, and no further apart after averaging over
    4 x 4 squares (an orthogonal projection). So a product of a 16th of the size rules most pairs out,
    and misses none.
    """
    blocks = list(thumbs.blocks())
    for a, own in enumerate(blocks):
        for others in blocks[a:]:
            i, j = _near(own, others, least)
            yield i[i < j], j[i < j]


def near_pairs_between(first: Thumbnails, second: Thumbnails, least: float = NEAR) -> Iterator[Rows]:
    """All pairs of rows, one of `first`, one of `second`, as above."""
    for own in first.blocks():
        for others in second.blocks():
            yield _near(own, others, least)


def _near(first: Thumbnails, second: Thumbnails, least: float) -> Rows:
    """The pairs of rows of two blocks whose dot product is at least `least`, in their order."""
    i, j = _possible(first.averages, second.averages, least)
    if len(i) > DENSE * len(first.rows) * len(second.rows):
        products = first.units[first.rows] @ second.units[second.rows].T
        i, j = np.nonzero(products >= least - ROUNDING)
        near = products[i, j] >= least + ROUNDING
    else:
        near = np.zeros(len(i), bool)
    i, j, unsure = first.rows[i], second.rows[j], np.flatnonzero(~near)
    near[unsure] = _products(first.units, second.units, i[unsure], j[unsure]) >= least
    return i[near], j[near]


def _possible(first: np.ndarray, second: np.ndarray, least: float) -> Rows:
    """Rows (i, j) of averages (N, D) and (M, D) that are close enough for thumbnails as alike as `least`."""
    apart = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)[None]
    apart -= 2 * (first @ second.T)  # squared distances
    i, j = np.nonzero(apart <= 2 * (1 - least) + 1e-4)
    return i, j


def _products(first: np.ndarray, second: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """The dot products (P,) of the rows i (P,) of `first` and j (P,) of `second`, one by one."""
    parts = [slice(start, start + BLOCK) for start in range(0, len(i), BLOCK)]
    products = [np.einsum("nd,nd->n", first[i[part]], second[j[part]]) for part in parts]
    return np.concatenate([np.zeros(0, first.dtype), *products])


# Copies among labelled images


def find_copies(
    digests: list[bytes], thumbs: np.ndarray, labels: np.ndarray, home: np.ndarray
) -> dict[str, Copies]:
    """{"exact": `Copies`, "near": `Copies`} of images that are told apart by digest and by unit thumbnail.

    labels (N,), and `home` (N,), the place in `SPLITS` of each image's own split, ascending. A near copy is
    no exact one.
    """
    same_pixels = Equals.by(digests)
    exact, of_exact = list(islice(exact_pairs(digests), MOST_PAIRS)), _exact_counts(same_pixels, labels, home)
    near, of_near = _near_copies(same_pixels, thumbs, labels, home)
    correlations = _products(thumbs, thumbs, *np.array(near, np.int64).reshape(-1, 2).T)
    starts = np.searchsorted(home, range(len(SPLITS)))

    def pair(kind: str, rows: Candidate, correlation: float) -> Pair:
        first, second = ((SPLITS[home[row]], int(row - starts[home[row]])) for row in rows)
        return Pair(kind, first, second, correlation, bool(labels[rows[0]] != labels[rows[1]]))

    near_list = [pair("near", rows, c) for rows, c in zip(near, correlations.tolist(), strict=True)]
    return {
        "exact": Copies([pair("exact", rows, 1.0) for rows in exact], *of_exact),
        "near": Copies(near_list, *of_near),
    }


Counts = tuple[int, int, np.ndarray]  # pairs, those under two labels, and (N, 3) bool as in `Copies`


def _exact_counts(same_pixels: Equals, labels: np.ndarray, home: np.ndarray) -> Counts:
    """What is said of exact copies, counted by groups instead of pair by pair."""
    in_split = np.zeros((len(home), len(SPLITS)), np.int64)
    np.add.at(in_split, (same_pixels.first, home), 1)
    in_split = in_split[same_pixels.first]
    in_split[np.arange(len(home)), home] -= 1  # no image is a copy of itself
    same_label = Equals.by(same_pixels.first.tolist(), labels.tolist())
    return same_pixels.pairs, same_pixels.pairs - same_label.pairs, in_split > 0


def _near_copies(
    same_pixels: Equals, thumbs: np.ndarray, labels: np.ndarray, home: np.ndarray
) -> tuple[list[Candidate], Counts]:
    """The near copies that are listed, and what is said of all.

    One image stands for all of its pixels, label and split: what is true of it is true of them.
    """
    equals = Equals.by(same_pixels.first.tolist(), labels.tolist(), home.tolist())
    in_split = np.zeros((len(home), len(SPLITS)), bool)
    listed: list[Candidate] = []
    count = conflicts = 0
    for i, j in near_pairs(Thumbnails.of(thumbs, equals.rows)):
        other = same_pixels.first[i] != same_pixels.first[j]
        i, j = i[other], j[other]
        in_split[i, home[j]] = in_split[j, home[i]] = True
        times = equals.sizes[i] * equals.sizes[j]
        count, conflicts = count + int(times.sum()), conflicts + int(times[labels[i] != labels[j]].sum())
        pairs = _members(equals, equals, i, j)
        listed += islice(((min(pair), max(pair)) for pair in pairs), MOST_PAIRS - len(listed))
    listed.sort(key=lambda pair: (pair[0] // BLOCK, pair[1] // BLOCK, *pair))
    return listed, (count, conflicts, in_split[equals.first])


def _members(first: Equals, second: Equals, i: np.ndarray, j: np.ndarray) -> Iterator[Candidate]:
    """Of every pair of rows all pairs of the images that they stand for."""
    for a, b in zip(i.tolist(), j.tolist(), strict=True):
        yield from product(first.of(a), second.of(b))


# Copies of unlabelled images


def find_copies_among(
    digests: list[bytes], thumbs: np.ndarray, home: np.ndarray, blocks: Blocks
) -> dict[str, Copies]:
    """{"exact": `Copies`, "near": `Copies`} that M unlabelled images have among labelled ones.

    The labelled images (N,) are told apart as in `find_copies`; the unlabelled ones come in blocks of
    (digests, unit thumbnails), so that theirs are never in memory together. `in_split` is (M, 3). Pairs
    with train are told there, and neither counted nor listed: they are harmless.
    """
    labelled, starts, before = _Labelled(digests, thumbs, home), np.searchsorted(home, range(len(SPLITS))), 0
    pairs: dict[str, list[Pair]] = {"exact": [], "near": []}
    counts = {"exact": 0, "near": 0}
    in_split: dict[str, list[np.ndarray]] = {"exact": [], "near": []}
    for others, other_thumbs in blocks:
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

    def __init__(self, digests: list[bytes], thumbs: np.ndarray, home: np.ndarray):
        rows_of = _rows_by_digest(digests)
        self.home, self.same_pixels = home, Equals.by(digests)
        self.equals = Equals.by(digests, home.tolist())
        self.thumbs = Thumbnails.of(thumbs, self.equals.rows)
        self.first = {digest: rows[0] for digest, rows in rows_of.items()}
        self.in_splits = {d: np.bincount(home[rows], minlength=len(SPLITS)) for d, rows in rows_of.items()}
        self.tested = {d: [i for i in rows if home[i]] for d, rows in rows_of.items()}  # in val or test

    def exact(self, digests: list[bytes], room: int) -> _BlockCopies:
        """The copies of the same digest, of which `room` are listed."""
        none = np.zeros(len(SPLITS), np.int64)
        counts = np.array([self.in_splits.get(digest, none) for digest in digests])  # (n, 3)
        pairs = ((i, j, 1.0) for j, digest in enumerate(digests) for i in self.tested.get(digest, ()))
        return _BlockCopies(list(islice(pairs, room)), int(counts[:, 1:].sum()), counts > 0)

    def near(self, digests: list[bytes], thumbs: np.ndarray, room: int) -> _BlockCopies:
        """The copies by unit thumbnails (n, SIDE * SIDE), exact ones left out; `room` are listed."""
        own, same_pixels = Equals.by(digests), np.array([self.first.get(digest, -1) for digest in digests])
        in_split = np.zeros((len(digests), len(SPLITS)), bool)
        listed: list[Candidate] = []
        count = 0
        for i, j in near_pairs_between(self.thumbs, Thumbnails.of(thumbs, own.rows)):
            other = self.same_pixels.first[i] != same_pixels[j]
            in_split[j[other], self.home[i[other]]] = True
            tested = other & (self.home[i] > 0)
            i, j = i[tested], j[tested]
            count += int((self.equals.sizes[i] * own.sizes[j]).sum())
            listed += islice(_members(self.equals, own, i, j), room - len(listed))
        listed.sort()
        i, j = np.array(listed, np.int64).reshape(-1, 2).T
        products = _products(self.thumbs.units, thumbs, i, j).tolist()
        pairs = [(*pair, product) for pair, product in zip(listed, products, strict=True)]
        return _BlockCopies(pairs, count, in_split[own.first])
