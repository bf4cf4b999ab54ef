"""Data sets full of copies: the same pixels thousands of times, or thousands of images nearly alike."""

from itertools import combinations

import numpy as np
import pytest

from kdtf.data import copies as listing
from kdtf.data import near as module
from kdtf.data.audit import CLEAN, audit, shortcut_accuracy
from kdtf.data.copies import MOST_PAIRS, find_copies, find_copies_among
from kdtf.data.dataset import UNLABELLED, Dataset, Split
from kdtf.data.near import NEAR
from kdtf.data.thumbnails import Thumbnails

MANY = 20_000
HOME = np.repeat([0, 1, 2], [MANY - 200, 100, 100])
FLAT = Thumbnails.of(np.broadcast_to(np.zeros(4096, np.float32), (MANY, 4096)))  # of images of one grey level


def test_twenty_thousand_equal_images_are_counted_and_not_gone_through():
    """Two hundred million pairs would take half an hour."""
    labels = np.arange(MANY) % 2
    copies = find_copies([b"same"] * MANY, FLAT, labels, HOME)
    exact, near = copies["exact"], copies["near"]
    assert exact.count == MANY * (MANY - 1) // 2 and exact.conflicts == (MANY // 2) ** 2
    assert exact.in_split.all() and len(exact.pairs) == MOST_PAIRS
    assert (near.count, near.conflicts, near.pairs) == (0, 0, []) and not near.in_split.any()


def test_flat_images_of_any_grey_level_are_near_nothing():
    digests = [bytes([i % 250]) for i in range(MANY)]
    copies = find_copies(digests, FLAT, np.zeros(MANY, int), HOME)
    assert copies["exact"].count == 250 * (80 * 79 // 2) and copies["near"].count == 0


def test_unlabelled_copies_of_equal_images_are_counted_too():
    blocks = [([b"same"] * 1000, Thumbnails.of(np.zeros((1000, 4096), np.float32)))] * 3
    exact = find_copies_among([b"same"] * MANY, FLAT, HOME, blocks)["exact"]
    assert exact.in_split.shape == (3000, 3) and exact.in_split.all()
    assert exact.count == 3000 * 200 and len(exact.pairs) == MOST_PAIRS  # with val and test
    assert exact.pairs[200].second == ("unlabelled", 1)


def crowd(count, rng):
    """Unit thumbnails of which about half the pairs are near copies, and their correlations."""
    images = rng.normal(size=4096) + rng.normal(size=(count, 4096)) * rng.uniform(0, 0.15, (count, 1))
    images -= images.mean(axis=1, keepdims=True)
    unit = images / np.linalg.norm(images, axis=1, keepdims=True)
    return unit.astype(np.float32), unit @ unit.T


@pytest.mark.parametrize("dense", [0.0, 0.02, 1.0])  # by products of matrices alone, by either, by none
@pytest.mark.parametrize("most", [10, 100_000])
def test_near_copies_of_many_are_those_of_all_pairs(monkeypatch, dense, most):
    monkeypatch.setattr(module, "DENSE", dense)
    monkeypatch.setattr(listing, "MOST_PAIRS", most)
    rng = np.random.default_rng(3)
    unit, correlations = crowd(60, rng)
    rows = np.r_[np.arange(60), rng.integers(0, 60, 60)]  # each image twice or so
    labels, home = rng.integers(0, 3, 120), np.repeat([0, 1, 2], 40)
    near = find_copies([bytes([row]) for row in rows], Thumbnails.of(unit[rows]), labels, home)["near"]
    alike = correlations[np.ix_(rows, rows)] >= NEAR
    wanted = [(i, j) for i, j in combinations(range(120), 2) if alike[i, j] and rows[i] != rows[j]]
    assert 1000 < len(wanted) == near.count
    assert near.conflicts == sum(labels[i] != labels[j] for i, j in wanted)
    in_split = np.zeros((120, 3), bool)
    for i, j in wanted:
        in_split[i, home[j]] = in_split[j, home[i]] = True
    assert np.array_equal(near.in_split, in_split)
    start = {"train": 0, "val": 40, "test": 80}
    ends = [tuple(start[split] + i for split, i in (pair.first, pair.second)) for pair in near.pairs]
    assert set(ends) <= set(wanted) and len(set(ends)) == len(ends) == min(most, len(wanted))
    assert ends == sorted(ends)


def data_of(images, unlabelled=None):
    """A data set of three splits, of which train has all but 20 images."""
    parts = np.split(images, [len(images) - 20, len(images) - 10])
    splits = [Split(part, np.arange(len(part)) % 2, None, part) for part in parts]
    more = unlabelled is not None and Split(
        unlabelled, np.full(len(unlabelled), UNLABELLED), None, unlabelled
    )
    return Dataset(*splits, ("a", "b"), "digest", (), unlabelled=more or None)


def test_the_audit_says_how_many_pairs_are_counted_and_not_listed(monkeypatch):
    monkeypatch.setattr(listing, "MOST_PAIRS", 100)
    blank = np.zeros((60, 8, 8, 1), np.uint8)
    report = audit(data_of(blank, blank[:9]))
    lines = [row for row in report.rows if row["check"] == "pairs of exact copies listed"]
    assert [(row["split"], row["count"], row["of"]) for row in lines] == [
        ("", 100, 1770),
        ("unlabelled", 100, 180),
    ]
    assert "Of the 1,770 pairs of exact copies 100 are listed; all are counted." in report.verdict
    sentence = "Of the 180 pairs of exact copies with unlabelled images 100 are listed; all are counted."
    assert sentence in report.verdict and len(report.pairs) == 200


def test_where_all_pairs_are_listed_the_audit_does_not_speak_of_it():
    report = audit(data_of(np.zeros((60, 8, 8, 1), np.uint8)))
    assert not any("listed" in row["check"] for row in report.rows)
    assert not any("listed" in sentence for sentence in report.verdict)


def test_near_copies_within_a_split_that_are_too_many_to_list_are_a_finding(monkeypatch):
    monkeypatch.setattr(listing, "MOST_PAIRS", 2)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 32, 32, 1), np.uint8)
    images[:4] = np.clip(images[:1].astype(int) + rng.integers(-3, 4, (4, 32, 32, 1)), 0, 255)
    report = audit(data_of(images))
    assert report.findings and CLEAN not in report.verdict and not report.leaks
    assert report.verdict[-1] == "Of the 6 pairs of near copies 2 are listed; all are counted."


def test_where_every_test_image_is_a_copy_there_are_no_clean_scores_to_read():
    report = audit(data_of(np.zeros((60, 8, 8, 1), np.uint8)))
    assert report.verdict[0] == (
        "10 of the 10 test images have an exact or near copy in train or val: raw scores are too good; "
        "no image is left for clean ones."
    )


def test_a_class_that_is_missing_from_test_is_left_out_of_the_shortcut_probe(recwarn):
    """The mean recall is over the classes that occur, as in `evidence`; scikit-learn would warn."""
    train, labels = np.repeat(np.eye(6)[:3], 20, axis=0), np.repeat([0, 1, 2], 20)
    test = np.eye(6)[[0, 0, 2, 1, 1, 1]]  # the third image is taken for class 2, which does not occur
    assert shortcut_accuracy(train, labels, test, np.array([0, 0, 0, 1, 1, 1])) == pytest.approx(
        (2 / 3 + 1) / 2
    )
    assert not recwarn.list


def test_the_audit_says_what_an_approximate_search_finds(monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 32, 32, 1), np.uint8)
    images[:4] = np.clip(images[:1].astype(int) + rng.integers(-3, 4, (4, 32, 32, 1)), 0, 255)
    said = audit(data_of(images)).verdict
    for name, value in (("MOST_EXACT", 50), ("LEAF", 8)):
        monkeypatch.setattr(module, name, value)
    report = audit(data_of(images))
    (row,) = [row for row in report.rows if row["check"] == "near copies found by the approximate search"]
    assert row["of"] == 12 and row["value"] == row["count"] / 12  # six pairs, met from both ends
    found = f"{row['count']} of the 12 near pairs of 60 drawn images were found"
    sentence = f"Near copies of 60 different images were searched approximately: {found}."
    assert report.verdict == [*said, sentence]
    assert audit(data_of(images[4:])).verdict[-1].endswith("approximately: 56 drawn images have none at all.")
