"""Pairs of images that are nearly equal, by the correlation of their grey thumbnails.

Up to `MOST_EXACT` images all pairs are gone through and none is missed. Of more images those pairs are
compared that fall into one leaf of any of several trees of random splits, so that the time grows with the
number of images and not with its square; what that misses is measured. Memory holds blocks of images alone.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from .arrays import KeptRows, forget
from .thumbnails import COARSE, SIDE, Thumbnails

NEAR = 0.99  # least correlation of near copies
BLOCK = 2048  # images compared with as many others at once
DENSE = 0.02  # of the pairs of two blocks: above it one product of matrices is quicker than one for each pair
ROUNDING = 2e-5  # the most by which these two kinds of products differ; 1e-6 was measured
ROOM = 1e-3  # by which averages of 16 bits may seem further apart, squared; 3e-4 is the most
STRIP = 256  # rows of a block that are compared with another block at once
AXES = 32  # numbers an image that are looked at first
FITTED = 16_384  # images that axes and splits are found on, at most
PRODUCTS = 256  # dot products of thumbnails taken at once: 8 MiB

MOST_EXACT = 200_000  # images of which all pairs are gone through
TREES, LEAF = 8, 1024  # of an approximate search: trees, and images a leaf at most, about
LEAVES = 32  # between which what was read of files is given back
DRAWN = 2000  # images of which all pairs are gone through nevertheless, to measure what is missed
SEED = 0  # of splits and of the images drawn

Rows = tuple[np.ndarray, np.ndarray]  # the rows i (P,) and j (P,) of P pairs
IsNew = Callable[[np.ndarray, np.ndarray], np.ndarray]  # places i (P,) and j (P,) to (P,) bool


class Recall(NamedTuple):
    """What an approximate search found of the near pairs that some drawn images have among all."""

    images: int  # compared
    drawn: int
    pairs: int  # of the drawn images
    found: int


# What is looked at first


class Axes(NamedTuple):
    """Orthonormal axes (256, AXES) of averages, those of the largest variance, and their centre (256,).

    Distances along them are no larger than between the averages, nor those than between thumbnails.
    """

    centre: np.ndarray
    axes: np.ndarray
    spread: np.ndarray  # (AXES,) standard deviations

    @classmethod
    def of(cls, thumbs: Thumbnails, rows: np.ndarray) -> "Axes":
        """Those of some rows (n,)."""
        coarse = thumbs.coarse[_spaced(rows)].astype(np.float32)
        centre = coarse.mean(axis=0) if len(coarse) else np.zeros(COARSE**2, np.float32)
        products = (coarse - centre).T @ (coarse - centre)
        variances, axes = np.linalg.eigh(products.astype(np.float64) / max(1, len(coarse)))
        kept = slice(-1, -AXES - 1, -1)
        return cls(centre, axes[:, kept].astype(np.float32), np.sqrt(np.maximum(variances[kept], 0)))

    def points(self, coarse: np.ndarray) -> np.ndarray:
        """Averages (n, 256) as (n, AXES + 2) float32: a product with another's `turned` is -d^2 / 2."""
        along = (coarse.astype(np.float32) - self.centre) @ self.axes
        half = np.square(along).sum(axis=1, keepdims=True) / 2
        return np.concatenate([along, np.ones_like(half), -half], axis=1)


def _turned(points: np.ndarray) -> np.ndarray:
    """Points (n, AXES + 2) as the other side of a product takes them."""
    return points[:, [*range(AXES), AXES + 1, AXES]]


def _spaced(rows: np.ndarray, most: int = FITTED) -> np.ndarray:
    """At most so many of some rows, evenly spaced."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


# Two blocks


@dataclass(frozen=True, eq=False)
class _Block:
    """Some rows (n,) of thumbnails and their points (n, AXES + 2); remembers thumbnails that were made."""

    thumbs: Thumbnails
    rows: np.ndarray
    points: np.ndarray
    made: dict[int, np.ndarray] = field(default_factory=dict)

    def units(self, places: np.ndarray) -> np.ndarray:
        """The unit thumbnails (n, SIDE * SIDE) at some places of the block."""
        missing = np.array([place for place in places.tolist() if place not in self.made], np.int64)
        self.made.update(zip(missing.tolist(), self.thumbs.fine(self.rows[missing]), strict=True))
        made = [self.made[place] for place in places.tolist()]
        return np.stack(made) if made else np.zeros((0, SIDE * SIDE), np.float32)


def _near(first: _Block, second: _Block, least: float, is_new: IsNew | None = None) -> Rows:
    """The pairs of rows of two blocks whose dot product is at least `least`, in their order.

    Of a block with itself each pair once. With `is_new` only pairs of places of which it says so.
    """
    limit = 2 * (1 - least) + ROOM
    i, j = _close(first.points, _turned(second.points), -limit / 2)
    if first is second:
        i, j = i[i < j], j[i < j]
    i, j = _possible(first, second, i, j, limit)
    if is_new is not None and len(i):
        new = is_new(i, j)
        i, j = i[new], j[new]
    if not len(i):
        return i, j
    (own, i_own), (others, j_own) = np.unique(i, return_inverse=True), np.unique(j, return_inverse=True)
    units, other_units = first.units(own), second.units(others)
    near = np.zeros(len(i), bool)
    if len(i) > DENSE * len(first.rows) * len(second.rows):
        products = (units @ other_units.T)[i_own, j_own]
        near = products >= least + ROUNDING
        kept = products >= least - ROUNDING
        i, j, i_own, j_own, near = i[kept], j[kept], i_own[kept], j_own[kept], near[kept]
    unsure = np.flatnonzero(~near)
    near[unsure] = products_of(units, other_units, i_own[unsure], j_own[unsure]) >= least
    return first.rows[i[near]], second.rows[j[near]]


def _close(points: np.ndarray, turned: np.ndarray, least: float) -> Rows:
    """The places (i, j), in their order, of points whose product is at least `least`.

    A strip of products at a time, in memory that is used again: it stays in the cache, and a large array that
    is made anew costs more than what is computed in it.
    """
    products, close = (np.empty((STRIP, len(turned)), dtype) for dtype in (np.float32, bool))
    found = [np.zeros((0, 2), np.int64)]
    for start in range(0, len(points), STRIP):
        size = min(STRIP, len(points) - start)
        np.matmul(points[start : start + size], turned.T, out=products[:size])
        np.greater_equal(products[:size], least, out=close[:size])
        if close[:size].any():
            found.append(np.add(np.argwhere(close[:size]), (start, 0)))
    i, j = np.concatenate(found).T
    return i, j


def _possible(first: _Block, second: _Block, i: np.ndarray, j: np.ndarray, limit: float) -> Rows:
    """Those of some pairs of places whose averages are close enough, by their squared distance."""
    if not len(i):
        return i, j
    coarse = first.thumbs.coarse[first.rows].astype(np.float32)
    others = coarse if first is second else second.thumbs.coarse[second.rows].astype(np.float32)
    kept = np.zeros(len(i), bool)
    for start in range(0, len(i), BLOCK):
        part = slice(start, start + BLOCK)
        kept[part] = np.square(coarse[i[part]] - others[j[part]]).sum(axis=1) <= limit
    return i[kept], j[kept]


def products_of(first: np.ndarray, second: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """The dot products (P,) of the rows i (P,) of `first` and j (P,) of `second`, one by one."""
    parts = [slice(start, start + PRODUCTS) for start in range(0, len(i), PRODUCTS)]
    products = [np.einsum("nd,nd->n", first[i[part]], second[j[part]]) for part in parts]
    return np.concatenate([np.zeros(0, first.dtype), *products])


# All pairs, or those that trees bring together


@dataclass(frozen=True)
class _Forest:
    """Trees of splits at the median of random directions: near images are mostly in one leaf of some tree."""

    directions: np.ndarray  # (TREES, AXES, depth)
    thresholds: np.ndarray  # (TREES, 2 ** depth - 1), of the nodes level by level

    @classmethod
    def of(cls, points: np.ndarray, spread: np.ndarray) -> "_Forest":
        """Trees with leaves of at most about `LEAF` of points (n, AXES + 2)."""
        depth = max(1, math.ceil(math.log2(len(points) / LEAF)))
        directions = np.random.default_rng(SEED).normal(size=(TREES, AXES, depth)) * spread[:, None]
        directions = (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)
        some = points[_spaced(np.arange(len(points)), max(FITTED, 64 * 2**depth)), :AXES]
        return cls(directions, np.stack([_medians(some @ own) for own in directions]))

    def leaves(self, points: np.ndarray) -> np.ndarray:
        """The leaf (n, TREES) int32 of points (n, AXES + 2) in each tree."""
        leaves = np.zeros((len(points), len(self.directions)), np.int32)
        for t, (directions, thresholds) in enumerate(zip(self.directions, self.thresholds, strict=True)):
            along = points[:, :AXES] @ directions  # (n, depth)
            for level, values in enumerate(along.T):
                node = leaves[:, t] + 2**level - 1
                leaves[:, t] = 2 * leaves[:, t] + (values > thresholds[node])
        return leaves


def _medians(along: np.ndarray) -> np.ndarray:
    """The medians (2 ** depth - 1,) at which values (n, depth) are split, level by level."""
    leaf, medians = np.zeros(len(along), np.int64), []
    for level, values in enumerate(along.T):
        order = np.lexsort((values, leaf))
        ends = np.searchsorted(leaf[order], np.arange(2**level + 1))
        middle = np.minimum((ends[:-1] + ends[1:]) // 2, len(order) - 1)  # of an empty node any will do
        medians.append(values[order[middle]])
        leaf = 2 * leaf + (values > medians[-1][leaf])
    return np.concatenate(medians)


class Search:
    """Some rows (R,) of thumbnails, ready to be compared with one another and with others."""

    def __init__(self, thumbs: Thumbnails, rows: np.ndarray | None = None, more: int = 0):
        """All rows unless some are given, but for those of one grey level; `more` images come later."""
        rows = np.arange(len(thumbs.constant)) if rows is None else rows
        self.thumbs, self.rows = thumbs, rows[~thumbs.constant[rows]]
        self.axes = Axes.of(thumbs, self.rows)
        kept = KeptRows(AXES + 2, np.float32, thumbs.folder)
        for part in _blocks(len(self.rows)):
            kept.append(self.axes.points(thumbs.coarse[self.rows[part]]))
            forget(thumbs.coarse)
        self.points = kept.mapped()
        self.forest: _Forest | None = None
        if len(self.rows) + more > MOST_EXACT and len(self.rows) > LEAF:
            self.forest = _Forest.of(self.points, self.axes.spread)
            self.leaves = self._kept_leaves(self.forest)
            self.by_leaf = self._by_leaf(self.forest) if more else []

    def pairs(self, least: float = NEAR) -> Iterator[Rows]:
        """The pairs of rows i < j whose dot product is at least `least`."""
        if self.forest is not None:
            yield from self._pairs_by_leaf(least)
            return
        for part in _blocks(len(self.rows)):
            own = self._block(part)
            forget(self.thumbs.coarse)
            yield _near(own, own, least)
            for later in _blocks(len(self.rows), part.stop):
                yield _near(own, self._block(later), least)

    def pairs_with(self, others: Thumbnails, rows: np.ndarray, least: float = NEAR) -> Iterator[Rows]:
        """The pairs of rows, one of these and one of some `rows` of others, as above."""
        rows = rows[~others.constant[rows]]
        points = self.axes.points(others.coarse[rows])
        if self.forest is not None:
            yield from self._pairs_by_leaf_with(others, rows, points, self.forest, least)
            return
        for part in _blocks(len(self.rows)):
            own = self._block(part)
            for other in _blocks(len(rows)):
                yield _near(own, _Block(others, rows[other], points[other]), least)

    @cached_property
    def recall(self) -> Recall | None:
        """What is missed, by all pairs of some drawn images; None where nothing is."""
        if self.forest is None:
            return None
        size = min(DRAWN, len(self.rows))
        drawn = np.sort(np.random.default_rng([SEED, 1]).choice(len(self.rows), size, replace=False))
        sample, pairs, found = self._block(drawn), 0, 0
        for part in _blocks(len(self.rows)):
            i, j = _near(sample, self._block(part), NEAR)
            forget(self.points)
            forget(self.thumbs.coarse)
            own, other = (self.leaves[np.searchsorted(self.rows, ends[i != j])] for ends in (i, j))
            pairs, found = pairs + len(own), found + int((own == other).any(axis=1).sum())
        return Recall(len(self.rows), size, pairs, found)

    def _kept_leaves(self, forest: _Forest) -> np.ndarray:
        """The leaf (R, TREES) of every row in each tree."""
        kept = KeptRows(TREES, np.int32, self.thumbs.folder)
        for part in _blocks(len(self.rows)):
            kept.append(forest.leaves(self.points[part]))
            forget(self.points)
        return kept.mapped()

    def _pairs_by_leaf(self, least: float) -> Iterator[Rows]:
        """The pairs that are in one leaf of any tree; each in the first tree that has it so."""
        for t in range(TREES):
            for count, members in enumerate(_groups(self.leaves[:, t])):
                if not count % LEAVES:
                    forget(self.points)
                    forget(self.thumbs.coarse)
                parts = [members[part] for part in _blocks(len(members))]
                for a, own in enumerate(parts):
                    first = self._block(own)
                    for others in parts[a:]:
                        second = first if others is own else self._block(others)
                        is_new = _apart(self.leaves[own, :t], self.leaves[others, :t])
                        yield _near(first, second, least, is_new)

    def _pairs_by_leaf_with(
        self, others: Thumbnails, rows: np.ndarray, points: np.ndarray, forest: _Forest, least: float
    ) -> Iterator[Rows]:
        """The same of these rows and some `rows` (n,) of others, of which the points are given."""
        leaves = forest.leaves(points)
        for t in range(TREES):
            order, ends = self.by_leaf[t]
            for places in _groups(leaves[:, t]):
                leaf = leaves[places[0], t]
                members = order[ends[leaf] : ends[leaf + 1]]
                second = _Block(others, rows[places], points[places])
                for part in _blocks(len(members)):
                    own = np.sort(members[part])
                    is_new = _apart(self.leaves[own, :t], leaves[places, :t])
                    yield _near(self._block(own), second, least, is_new)

    def _by_leaf(self, forest: _Forest) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of every tree the places (R,) leaf by leaf, and where each leaf begins and ends in them."""
        orders = [np.argsort(own, kind="stable").astype(np.int32) for own in self.leaves.T]
        every, trees = np.arange(forest.thresholds.shape[1] + 2), zip(self.leaves.T, orders, strict=True)
        return [(order, np.searchsorted(own[order], every)) for own, order in trees]

    def _block(self, places: slice | np.ndarray) -> _Block:
        return _Block(self.thumbs, self.rows[places], self.points[places])


def _blocks(count: int, start: int = 0) -> Iterator[slice]:
    """So many places, `BLOCK` at a time."""
    return (slice(i, min(i + BLOCK, count)) for i in range(start, count, BLOCK))


def _groups(leaf: np.ndarray) -> Iterator[np.ndarray]:
    """The places of every leaf, ascending, of leaves (n,)."""
    order = np.argsort(leaf, kind="stable")
    return iter(np.split(order, np.flatnonzero(np.diff(leaf[order])) + 1))


def _apart(first: np.ndarray, second: np.ndarray) -> IsNew:
    """Whether two places are in one leaf of none of the trees before, by their leaves (n, t) and (m, t)."""
    return lambda i, j: ~(first[i] == second[j]).any(axis=1)
