"""Training images in numbers: quantiles, and the patterns that tell other pictures from them."""

import numpy as np
import pytest

from kdtf.data import typical as module
from kdtf.data.typical import layout, percentiles, reference, typical
from kdtf.predictor import likeness, patterns_of, statistics, thumbnails


def test_typical_images_are_quantiles_over_all_batches():
    levels = np.repeat(np.arange(201), 1)
    pixels = np.broadcast_to(levels[:, None, None, None], (201, 4, 4, 3)).astype(np.uint8)
    known = typical(pixels)
    assert known == {"brightness": [1, 100, 199], "contrast": [0, 0, 0], "colour": [0, 0, 0]}


def test_percentiles_are_values_and_all_of_few():
    assert percentiles(np.array([3.0, 1.0, 2.004, 1.0])) == "1.00 1.00 2.00 3.00"
    values = np.random.default_rng(0).permutation(np.arange(1000.0))
    assert percentiles(values) == " ".join(f"{max(0, 10 * k - 1)}.00" for k in range(101))


def faces(count, seed):
    """(N, 16, 16, 1): a bright disc of any size and brightness in the middle, and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:16, :16] - 7.5
    discs = np.hypot(x, y) < rng.uniform(3, 7, (count, 1, 1))
    pixels = discs * rng.uniform(60, 200, (count, 1, 1)) + rng.normal(30, 5, (count, 16, 16))
    return np.clip(pixels, 0, 255).astype(np.uint8)[..., None]


def test_layout_tells_other_pictures_of_the_same_grey_levels():
    train, val, test = faces(200, 0), faces(40, 1), faces(100, 2)
    stored, (low, median, high) = layout(train, val)
    patterns = patterns_of({"training_layout": stored})
    assert np.allclose(np.linalg.norm(patterns, axis=1), 1) and np.allclose(patterns.sum(axis=1), 0, atol=0.1)
    assert len(patterns) < 5 and 0 < low < median < high < 60
    most = likeness({"layout": [low, median, high]})["layout"][1]
    upside = np.roll(test, (8, 8), axis=(1, 2))  # the disc in the corners: the same histogram
    values = [statistics(pixels, patterns)["layout"] for pixels in (test, upside, test // 2, 255 - test)]
    assert [float((left > most).mean()) for left in values] == [0, 1, 0, 0]  # brightness is not its matter
    assert statistics(np.full((1, 16, 16, 1), 9, np.uint8), patterns)["layout"] == 100  # flat: nothing known


@pytest.mark.parametrize("shape", [(5, 5, 1), (9, 30, 3), (64, 64, 1)])
def test_thumbnails_are_means_of_their_cells(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (3, *shape)).astype(np.uint8)
    grey, means = pixels.mean(axis=3), np.zeros((3, 64))
    for i in range(64):
        cell = [
            (n * side // 8, max(n * side // 8 + 1, (n + 1) * side // 8))
            for n, side in zip(divmod(i, 8), shape[:2], strict=True)
        ]
        means[:, i] = grey[:, slice(*cell[0]), slice(*cell[1])].mean(axis=(1, 2))
    means -= means.mean(axis=1, keepdims=True)
    assert np.allclose(thumbnails(grey), means / np.linalg.norm(means, axis=1, keepdims=True), atol=1e-9)


def test_layout_of_few_images():
    for count in (1, 2, 4):
        stored, left = layout(faces(count, 0), faces(1, 1))
        assert np.isfinite(left).all() and len(patterns_of({"training_layout": stored})) >= 1


@pytest.mark.parametrize("at_once", [7, 64])
def test_many_thumbnails_are_gone_through_in_parts(monkeypatch, at_once):
    train, val = faces(200, 0), faces(40, 1)
    stored, unexplained = layout(train, val)
    images = reference({"train": train, "val": val, "test": val}, {"layout": unexplained}, stored)
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    own_stored, own_unexplained = layout(train, val)
    assert own_unexplained == pytest.approx(unexplained, abs=0.02)
    assert np.allclose(*(patterns_of({"training_layout": own}) for own in (stored, own_stored)), atol=0.01)
    own = reference({"train": train, "val": val, "test": val}, {"layout": unexplained}, stored)
    for name, numbers in images["train"]["quantiles"].items():
        theirs = own["train"]["quantiles"][name]
        assert np.allclose(*(np.array(text.split(), float) for text in (numbers, theirs)), atol=0.02)
