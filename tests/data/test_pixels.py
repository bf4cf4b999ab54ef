"""Range, scale and size of pixels, by value."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from kdtf.data import pixels as module
from kdtf.data.arrays import NamedArray
from kdtf.data.dataset import Split
from kdtf.data.pixels import PixelRange, float_scale, measure_range, pixels_at, resize, to_uint8
from kdtf.errors import UserError


@pytest.mark.parametrize("images_a_chunk", [1, 2, 100])
def test_the_range_of_an_array_is_that_of_all_its_chunks(monkeypatch, images_a_chunk):
    array = np.arange(60, dtype=np.float32).reshape(5, 2, 2, 3) - 7
    monkeypatch.setattr(module, "CHUNK_BYTES", images_a_chunk * array[0].nbytes)
    reports = []
    measured = measure_range(NamedArray("X_train.npy", array), reports.append)
    assert measured == PixelRange(-7, 52, hashlib.sha256(array.tobytes()).hexdigest())
    assert reports[-1] == 5 and reports == sorted(reports)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_image_that_is_not_finite_is_named(monkeypatch, value):
    array = np.zeros((9, 2, 2, 1))
    array[[5, 7], 1, 1] = value
    monkeypatch.setattr(module, "CHUNK_BYTES", 2 * array[0].nbytes)
    with pytest.raises(
        UserError, match=r"X_test\.npy must be finite numbers\. Got 'NaN or infinity in image 5'"
    ):
        measure_range(NamedArray("X_test.npy", array), lambda done: None)


def scale_of(**splits):
    """`float_scale` of arrays (dtype, low, high) by split."""
    arrays = {("X", s): NamedArray(f"X_{s}.npy", np.zeros(1, kind)) for s, (kind, _, _) in splits.items()}
    return float_scale(arrays, {("X", s): PixelRange(*ends, "") for s, (_, *ends) in splits.items()})


@pytest.mark.parametrize(
    "splits, scale",
    [
        (dict(train=("u1", 0, 255), test=("u1", 3, 90)), 1),
        (dict(train=("f4", 0, 1), test=("f4", 0.1, 0.8)), 255),
        (dict(train=("f4", 0, 255), test=("f4", 0, 200)), 1),
        (dict(train=("f4", -0.00009, 1.00009), test=("i4", 0, 255)), 255),  # resampled: a hair beyond
        (dict(train=("u1", 0, 255), test=("u1", 0, 0)), 1),  # a black split is no reason to doubt
    ],
)
def test_one_scale_for_the_floats_of_all_splits(splits, scale):
    assert scale_of(**splits) == scale


@pytest.mark.parametrize(
    "splits, message",
    [
        (dict(train=("f4", -1, 1)), r"pixels in X_train\.npy must be 0 or more\. Got -1.* not standardised"),
        (dict(train=("u2", 0, 4080)), r"must be at most 255\. Got 4080\. Window images of 12 or 16 bits"),
        (dict(train=("u1", 0, 1), test=("u1", 0, 1)), "must be 0..255. .* they lost their grey levels"),
        (dict(train=("u1", 0, 1), test=("u1", 0, 255)), "pixels in X_train.npy must be 0..255 as"),
        (dict(train=("i8", 0, 255), test=("u2", 0, 1)), "pixels in X_test.npy must be 0..255 as"),
        (dict(train=("f4", 0, 255), test=("f4", 0, 1)), r"1 in X_test\.npy and of 255 in X_train\.npy"),
        (dict(train=("f4", 0, 1.275)), r"must be 0\.\.1 or 0\.\.255\. Got 'a maximum of 1\.275'"),
    ],
)
def test_ranges_that_are_refused(splits, message):
    with pytest.raises(UserError, match=message):
        scale_of(**splits)


def test_floats_are_scaled_rounded_and_clipped_and_whole_numbers_pass():
    values = np.array([-0.1, 0, 0.5, 100 / 255, 1.0001])
    assert to_uint8(values, 255).tolist() == [0, 0, 128, 100, 255] and to_uint8(values, 255).dtype == np.uint8
    assert to_uint8(np.array([99.4, 99.6, 256.0]), 1).tolist() == [99, 100, 255]
    assert to_uint8(np.array([0, 200], np.int32), 255).tolist() == [0, 200]


@pytest.mark.parametrize("channels", [1, 3])
def test_resize_is_pillows_own(channels):
    images = np.random.default_rng(0).integers(0, 256, (4, 12, 20, channels), dtype=np.uint8)
    small = resize(images, 8)
    one = Image.fromarray(images[2].squeeze()).resize((8, 8), Image.Resampling.BILINEAR)
    assert small.shape == (4, 8, 8, channels) and np.array_equal(small[2].squeeze(), np.asarray(one))
    assert np.array_equal(resize(images, (12, 20)), images)
    assert np.all(resize(np.full_like(images, 77), (5, 3)) == 77)


def test_pixels_at_another_side_are_computed_where_they_are_many(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 1), np.uint8)
    split = Split(pixels, np.zeros(7, np.int64), None, pixels)
    whole = pixels_at(split, 8)
    assert isinstance(whole, np.ndarray) and np.array_equal(whole, resize(pixels, 8))
    monkeypatch.setattr(module, "MOST_HELD", whole.nbytes - 1)
    computed, rows = pixels_at(split, 8), np.array([5, 1])
    assert not isinstance(computed, np.ndarray) and (computed.shape, len(computed)) == ((7, 8, 8, 1), 7)
    assert np.array_equal(computed[2:4], whole[2:4]) and np.array_equal(computed[rows], whole[rows])
    assert pixels_at(split, 16) is pixels
