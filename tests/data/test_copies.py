"""Pairs of copies: all of them, by both definitions, in a fixed order."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from kdtf.data import copies as listing
from kdtf.data import near as module
from kdtf.data.arrays import KeptRows
from kdtf.data.copies import Pair, exact_pairs, find_copies, find_copies_among, pixel_digest
from kdtf.data.near import NEAR, Search
from kdtf.data.thumbnails import Thumbnails, thumbnail, unit_thumbnails


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
    search = Search(Thumbnails.of(unit(noisy)))
    assert listed(search.pairs()) == list(zip(i.tolist(), j.tolist(), strict=True)) and search.recall is None
    digests, zeros = [bytes([row]) for row in range(len(base))], np.zeros(len(base), int)
    pairs = find_copies(digests, Thumbnails.of(unit(noisy)), zeros, zeros)["near"].pairs
    correlations = [expected[pair.first[1], pair.second[1]] for pair in pairs]
    assert [pair.correlation for pair in pairs] == pytest.approx(correlations, abs=1e-5)


def test_near_pairs_across_blocks(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 3)
    rows = np.eye(8, 4096, dtype="float32")
    rows[7] = rows[1]
    assert listed(Search(Thumbnails.of(rows)).pairs()) == [(1, 7)]


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
    return find_copies(digests, Thumbnails.of(unit(images)), labels, home)


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
    monkeypatch.setattr(listing, "MOST_PAIRS", 4)
    digests, thumbs = [b"same"] * 5, Thumbnails.of(np.zeros((5, 4096), "float32"))
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
    wanted = {(i, j - 30) for i, j in listed(Search(Thumbnails.of(rows)).pairs()) if i < 30 <= j}
    pairs = listed(Search(Thumbnails.of(first)).pairs_with(Thumbnails.of(second), np.arange(20)))
    assert set(pairs) == wanted and len(pairs) == len(wanted) > 5


@pytest.mark.parametrize("ends", [(0, 4), (0, 1, 2, 4), (0, 3, 4)])
def test_copies_of_unlabelled_images_do_not_depend_on_the_blocks(ends):
    """Labelled: rows 0, 1 train, 2 val, 3 test. Unlabelled: 0 is train 1, 1 nearly val 0, 2 is test 0."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 64, 64)).astype("float64")
    images[4], images[6] = images[1], images[3]
    images[5] = images[2] + rng.normal(0, 3, (64, 64))
    digests, thumbs = [pixel_digest(image) for image in images], unit(images)
    blocks = [(digests[a + 4 : b + 4], Thumbnails.of(thumbs[a + 4 : b + 4])) for a, b in pairwise(ends)]
    copies = find_copies_among(digests[:4], Thumbnails.of(thumbs[:4]), np.array([0, 0, 1, 2]), blocks)
    assert np.argwhere(copies["exact"].in_split).tolist() == [[0, 0], [2, 2]]
    assert np.argwhere(copies["near"].in_split).tolist() == [[1, 1]]
    assert copies["exact"].pairs == [Pair("exact", ("test", 0), ("unlabelled", 2), 1.0, False)]
    (near,) = copies["near"].pairs
    assert (near.first, near.second) == (("val", 0), ("unlabelled", 1)) and NEAR <= near.correlation < 1


@pytest.fixture
def many():
    """Unit thumbnails (600, 4096), of which each fifth is nearly another one, and their near pairs i < j."""
    rng = np.random.default_rng(5)
    small = rng.integers(0, 256, (600, 8, 8), dtype=np.uint8)
    grown = [np.asarray(Image.fromarray(i).resize((64, 64), Image.Resampling.BICUBIC)) for i in small]
    images = np.stack(grown).astype("float64")
    images[::5] = images[1::5] + rng.normal(size=(120, 64, 64)) * rng.uniform(0, 12, (120, 1, 1))
    rows = unit(images)
    return rows, set(map(tuple, np.argwhere(np.triu(rows @ rows.T >= NEAR, 1)).tolist()))


@pytest.fixture
def approximate(monkeypatch):
    """Trees are used, of many leaves, each looked at in several blocks."""
    for name, value in (("MOST_EXACT", 100), ("LEAF", 16), ("BLOCK", 5)):
        monkeypatch.setattr(module, name, value)


def test_an_approximate_search_tells_each_pair_once_and_what_part_it_finds(many, approximate):
    rows, wanted = many
    search = Search(Thumbnails.of(rows))
    pairs = listed(search.pairs())
    assert set(pairs) <= wanted and len(pairs) == len(set(pairs)) >= 0.95 * len(wanted) > 80
    # all images are drawn here: each pair is met from both of its ends
    assert search.recall == (600, 600, 2 * len(wanted), 2 * len(pairs))


def test_one_tree_misses_some_pairs_and_the_recall_says_so(many, approximate, monkeypatch):
    monkeypatch.setattr(module, "TREES", 1)
    rows, wanted = many
    search = Search(Thumbnails.of(rows))
    pairs = listed(search.pairs())
    assert len(pairs) < len(wanted) and search.recall.found == 2 * len(pairs)


def test_an_approximate_search_between_two_sets_finds_the_pairs_of_both(many, approximate):
    rows, wanted = many
    first, second = Thumbnails.of(rows[:303]), Thumbnails.of(np.concatenate([rows[303:], rows[1:31:5]]))
    pairs = listed(Search(first, more=303).pairs_with(second, np.arange(303)))
    between = {(i, j - 303) for i, j in wanted if i < 303 <= j} | {(1 + 5 * k, 297 + k) for k in range(6)}
    assert between <= set(pairs) and len(pairs) == len(set(pairs))


def test_many_images_are_those_to_come_too(many, monkeypatch):
    monkeypatch.setattr(module, "MOST_EXACT", 700)
    monkeypatch.setattr(module, "LEAF", 16)
    thumbs = Thumbnails.of(many[0])
    assert Search(thumbs, more=100).recall is None and Search(thumbs, more=101).recall is not None


def test_what_is_kept_of_an_image_is_half_a_kibibyte(tmp_path):
    thumbs = Thumbnails.of(unit(np.random.default_rng(0).normal(size=(10, 64, 64))))
    assert thumbs.coarse.nbytes == 10 * 512
    kept = KeptRows(3, np.float32, tmp_path)
    for start in range(0, 10, 4):
        kept.append(np.arange(start, min(start + 4, 10))[:, None] * [1, 2, 3])
    rows = kept.mapped()
    assert np.array_equal(rows, np.arange(10)[:, None] * [1, 2, 3]) and rows.dtype == np.float32
    assert not list(tmp_path.iterdir())  # it has no name


def test_thumbnails_made_one_by_one_and_together_are_the_same_bits():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 40, 30, 1), dtype=np.uint8)
    one_by_one = [unit_thumbnails(pixels, np.array([row]))[0] for row in range(9)]
    assert np.array_equal(np.stack(one_by_one), unit_thumbnails(pixels, np.arange(9)))
