"""Pairs of copies: all of them, by both definitions, in a fixed order."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from kdtf.data import copies as module
from kdtf.data.copies import (
    NEAR,
    Pair,
    Thumbnails,
    exact_pairs,
    find_copies,
    find_copies_among,
    near_pairs,
    near_pairs_between,
    pixel_digest,
    thumbnail,
)


def unit(images):
    """Rows (N, ...) without their mean, of length 1."""
    rows = images.reshape(len(images), -1).astype("float64")
    rows -= rows.mean(axis=1, keepdims=True)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("float32")


def listed(pairs):
    """Pairs of rows that come in arrays, one by one."""
    return [ends for i, j in pairs for ends in zip(i.tolist(), j.tolist(), strict=True)]


@pytest.mark.parametrize("dense", [0.0, 0.02, 1.0])  # by products of matrices alone, by either, by none
def test_near_pairs_are_those_of_the_full_correlation_matrix(monkeypatch, dense):
    """The coarse sieve misses none: compared with numpy.corrcoef over all pairs, many near the limit."""
    monkeypatch.setattr(module, "DENSE", dense)
    rng = np.random.default_rng(2)
    small = rng.integers(0, 256, (30, 8, 8), dtype=np.uint8)
    textures = [np.asarray(Image.fromarray(i).resize((64, 64), Image.Resampling.BICUBIC)) for i in small]
    base = np.repeat(textures, 4, axis=0).astype("float64")
    noisy = base + rng.normal(size=base.shape) * rng.uniform(0, 20, (len(base), 1, 1))
    expected = np.corrcoef(noisy.reshape(len(noisy), -1))
    i, j = np.nonzero(np.triu(expected >= NEAR, 1))
    assert 0 < len(i) < 30 * 6  # some pairs on either side
    assert listed(near_pairs(Thumbnails.of(unit(noisy)))) == list(zip(i.tolist(), j.tolist(), strict=True))
    digests, zeros = [bytes([row]) for row in range(len(base))], np.zeros(len(base), int)
    pairs = find_copies(digests, unit(noisy), zeros, zeros)["near"].pairs
    correlations = [expected[pair.first[1], pair.second[1]] for pair in pairs]
    assert [pair.correlation for pair in pairs] == pytest.approx(correlations, abs=1e-5)


def test_near_pairs_across_blocks(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 3)
    rows = np.eye(8, 4096, dtype="float32")
    rows[7] = rows[1]
    assert listed(near_pairs(Thumbnails.of(rows))) == [(1, 7)]


def test_exact_pairs_are_all_pairs_of_equal_pixels_in_order():
    images = np.zeros((5, 2, 2, 1), np.uint8)
    images[3:] = 1
    digests = [pixel_digest(image) for image in images]
    assert list(exact_pairs(digests)) == [(0, 1), (0, 2), (1, 2), (3, 4)]
    assert pixel_digest(images[:, ::-1][3]) == digests[4]  # by value, however it lies in memory


def test_a_thumbnail_is_pillows_reduction():
    grey = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 100), dtype=np.uint8))
    small = grey.resize((64, 64), Image.Resampling.BILINEAR)
    assert thumbnail(grey).shape == (4096,) and np.array_equal(
        thumbnail(grey).reshape(64, 64), np.asarray(small)
    )


@pytest.fixture
def copies():
    """Rows 0 to 3 are train, 4 and 5 val, 6 test: 0 = 2 = 6 exactly, 5 nearly 1; 6 has another label."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (7, 64, 64)).astype("float64")
    images[2] = images[6] = images[0]
    images[5] = images[1] + rng.normal(0, 3, (64, 64))
    digests = [pixel_digest(image) for image in images]
    labels, home = np.array([0, 1, 0, 1, 0, 1, 1]), np.array([0, 0, 0, 0, 1, 1, 2])
    return find_copies(digests, unit(images), labels, home)


def test_copies_are_pairs_with_places_in_their_splits(copies):
    exact, near = copies["exact"], copies["near"]
    assert exact.pairs == [
        Pair("exact", ("train", 0), ("train", 2), 1.0, False),
        Pair("exact", ("train", 0), ("test", 0), 1.0, True),
        Pair("exact", ("train", 2), ("test", 0), 1.0, True),
    ]
    (pair,) = near.pairs  # an exact copy is no near one
    assert (pair.first, pair.second, pair.conflict) == (("train", 1), ("val", 1), False)
    assert exact.conflicts == 2 and near.conflicts == 0


def test_copies_say_of_each_image_where_its_copies_are(copies):
    train, val, test = copies["exact"].in_split.T
    assert np.flatnonzero(train).tolist() == [0, 2, 6] and not val.any()
    assert np.flatnonzero(test).tolist() == [0, 2]
    assert np.argwhere(copies["near"].in_split).tolist() == [[1, 1], [5, 0]]


def test_all_pairs_count_and_the_first_are_listed(monkeypatch):
    monkeypatch.setattr(module, "MOST_PAIRS", 4)
    digests, thumbs = [b"same"] * 5, np.zeros((5, 4096), "float32")
    exact = find_copies(digests, thumbs, np.array([0, 0, 0, 0, 1]), np.zeros(5, int))["exact"]
    assert [pair.second[1] for pair in exact.pairs] == [1, 2, 3, 4] and exact.conflicts == 4
    assert exact.count == 10


@pytest.mark.parametrize("block", [3, 2048])
def test_pairs_between_two_sets_are_those_of_both_together(monkeypatch, block):
    monkeypatch.setattr(module, "BLOCK", block)
    rng = np.random.default_rng(4)
    base = rng.integers(0, 256, (20, 64, 64)).astype("float64")
    rows = unit(base[rng.integers(0, 20, 50)] + rng.normal(0, 4, (50, 64, 64)))
    first, second = rows[:30], rows[30:]
    wanted = {(i, j - 30) for i, j in listed(near_pairs(Thumbnails.of(rows))) if i < 30 <= j}
    pairs = listed(near_pairs_between(Thumbnails.of(first), Thumbnails.of(second)))
    assert set(pairs) == wanted and len(pairs) == len(wanted) > 5


@pytest.mark.parametrize("ends", [(0, 4), (0, 1, 2, 4), (0, 3, 4)])
def test_copies_of_unlabelled_images_do_not_depend_on_the_blocks(ends):
    """Labelled: rows 0, 1 train, 2 val, 3 test. Unlabelled: 0 is train 1, 1 nearly val 0, 2 is test 0."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 64, 64)).astype("float64")
    images[4], images[6] = images[1], images[3]
    images[5] = images[2] + rng.normal(0, 3, (64, 64))
    digests, thumbs = [pixel_digest(image) for image in images], unit(images)
    blocks = [(digests[a + 4 : b + 4], thumbs[a + 4 : b + 4]) for a, b in pairwise(ends)]
    copies = find_copies_among(digests[:4], thumbs[:4], np.array([0, 0, 1, 2]), blocks)
    assert np.argwhere(copies["exact"].in_split).tolist() == [[0, 0], [2, 2]]
    assert np.argwhere(copies["near"].in_split).tolist() == [[1, 1]]
    assert copies["exact"].pairs == [Pair("exact", ("test", 0), ("unlabelled", 2), 1.0, False)]
    (near,) = copies["near"].pairs
    assert (near.first, near.second) == (("val", 0), ("unlabelled", 1)) and NEAR <= near.correlation < 1
