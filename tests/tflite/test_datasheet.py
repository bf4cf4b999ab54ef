"""What every card of a run says of its data."""

import json
from dataclasses import replace

import numpy as np
import pytest

from kdtf.data.dataset import Dataset, Split
from kdtf.data.provenance import MADE_BY, PROVENANCE, prepared
from kdtf.data.typical import layout, typical
from kdtf.files import file_digest
from kdtf.predictor import patterns_of, statistics
from kdtf.tflite.datasheet import describe_data, limits

RNG = np.random.default_rng(0)


def split(count):
    pixels = RNG.integers(0, 256, (count, 16, 12, 3), dtype=np.uint8)
    return Split(pixels, np.arange(count) % 2, None, pixels)


DATA = Dataset(split(30), split(7), split(11), ("normal", "pneumonia"), "a4806d959a4a4623", ())


def test_it_is_of_the_students_images():
    larger = replace(DATA.train, teacher_pixels=np.zeros((30, 32, 24, 3), np.uint8))
    sheet = describe_data(replace(DATA, train=larger), {})
    assert (sheet.classes, sheet.digest, sheet.shape) == (DATA.classes, DATA.digest, (16, 12, 3))
    assert sheet.images == {"train": 30, "val": 7, "test": 11} and not sheet.synthetic
    patterns, unexplained = layout(DATA.train.pixels, DATA.val.pixels)
    assert sheet.training_images == {**typical(DATA.train.pixels), "layout": unexplained}
    assert sheet.training_layout == patterns and sheet.prepared == {}


def test_what_later_images_are_compared_with():
    """Percentiles of train and val; of val and test how many a device would warn of."""
    bright = replace(DATA.test, pixels=np.full((11, 16, 12, 3), 250, np.uint8))
    sheet = describe_data(replace(DATA, test=bright), {})
    assert {name: part["images"] for name, part in sheet.reference.items()} == sheet.images
    assert sheet.reference["test"] == {"images": 11, "unlike": 11}
    values = [float(text) for text in sheet.reference["val"]["quantiles"]["brightness"].split()]
    assert values == sorted(DATA.val.pixels.mean(axis=(1, 2, 3)).round(2))
    patterns = patterns_of({"training_layout": sheet.training_layout})
    own = statistics(DATA.train.pixels, patterns)["layout"]
    layout_of_train = [float(text) for text in sheet.reference["train"]["quantiles"]["layout"].split()]
    assert np.median(layout_of_train) > np.median(own) + 5  # measured where the patterns were not found


def test_how_prepare_made_the_images_is_told(tmp_path):
    np.save(tmp_path / "X_train.npy", DATA.train.pixels)
    note = {
        "made_by": MADE_BY,
        "settings": {"size": 16, "keep_aspect": False, "window": [40.0, 400.0]},
        "sha256": {"X_train.npy": file_digest(tmp_path / "X_train.npy")},
    }
    (tmp_path / PROVENANCE).write_text(json.dumps(note))
    sheet = describe_data(DATA, prepared(tmp_path))
    assert sheet.prepared == {"side": 16, "keep_aspect": False, "window": [40.0, 400.0]}


@pytest.mark.parametrize("synthetic", [False, True])
def test_its_limits_name_what_they_depend_on(synthetic):
    sentences = limits(replace(DATA, synthetic=synthetic))
    assert all(sentence.endswith(".") for sentence in sentences)
    assert "Temperature and thresholds were chosen on 7 images." in sentences
    assert any("synthetic phantom" in sentence for sentence in sentences) == synthetic
    assert describe_data(replace(DATA, synthetic=synthetic), {}).limits == sentences
