"""A network as a function of arrays, and its outputs for all views on disk."""

import keras
import numpy as np
import pytest

from kdtf.distill import inference as module
from kdtf.distill.inference import (
    InferredViews,
    infer_images,
    infer_views,
    inference_of,
    inferences_of,
)
from kdtf.progress import Progress

RNG = np.random.default_rng(0)


def test_a_function_of_arrays_gives_what_the_model_gives_whatever_the_length():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    x = RNG.normal(size=(7, 3)).astype("float32")
    outputs = inference_of(model, batch_size=3)
    for count in (1, 3, 7):
        assert np.allclose(outputs(x[:count]), model.predict(x[:count], verbose=0), atol=1e-6)


def test_the_outputs_for_views_are_stored_view_by_view(tmp_path):
    views = RNG.integers(0, 256, (3, 5, 2), dtype=np.uint8)
    paths = [tmp_path / "double.npy", tmp_path / "sum.npy"]

    def inferences(x):
        return [x.astype("float32") * 2, x.sum(1, keepdims=True)]

    infer_views(inferences, views, paths, Progress(), "")
    double, total = (np.load(path, mmap_mode="r") for path in paths)
    assert double.dtype == total.dtype == np.float32
    assert np.array_equal(double, views.astype("float32") * 2)
    assert np.array_equal(total, views.sum(-1, keepdims=True))


def test_the_outputs_for_images_are_stored_a_part_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 2)
    images = RNG.integers(0, 256, (5, 3), dtype=np.uint8)
    paths, seen = [tmp_path / "double.npy", tmp_path / "sum.npy"], []

    def inferences(x):
        seen.append(len(x))
        return [x.astype("float32") * 2, x.sum(1, keepdims=True)]

    infer_images(inferences, images, paths)
    double, total = map(np.load, paths)
    assert seen == [2, 2, 1] and double.dtype == total.dtype == np.float32
    assert np.array_equal(double, 2 * images.astype("float32"))
    assert np.array_equal(total, images.sum(1, keepdims=True))


def test_inferred_views_are_what_is_inferred_of_those_looked_at():
    views = RNG.integers(0, 256, (3, 5, 4, 4, 1), dtype=np.uint8)
    inferred = InferredViews(views, lambda x: x.astype("float32").mean(axis=(1, 2)), (1,))
    assert inferred.shape == (3, 5, 1)
    whole = views.astype("float32").mean(axis=(2, 3))
    rows = np.array([4, 0])
    assert np.array_equal(inferred[1, 2:4], whole[1, 2:4])
    assert np.array_equal(inferred[np.array([0, 2]), rows], whole[[0, 2], rows])


class Killed(BaseException):
    pass


@pytest.mark.parametrize("harm", ["", "stream", "note"])
def test_a_pass_goes_on_after_its_last_whole_view(harm, tmp_path):
    """Bit for bit, and no whole view is looked at again; what was damaged meanwhile is made again."""
    views = RNG.integers(0, 256, (4, 5, 2), dtype=np.uint8)
    paths, seen = [tmp_path / "double.npy", tmp_path / "sum.npy"], []

    def inferences(x):
        seen.append(len(seen))
        if len(seen) == 3:
            raise Killed
        return [x.astype("float32") * 2, x.sum(1, keepdims=True)]

    with pytest.raises(Killed):
        infer_views(inferences, views, paths, Progress(), "", tmp_path / "checkpoint")
    names = ["checkpoint-double.npy", "checkpoint-sum.npy", "checkpoint.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    if harm:
        path = tmp_path / {"stream": "checkpoint-sum.npy", "note": "checkpoint.json"}[harm]
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    infer_views(inferences, views, paths, Progress(), "", tmp_path / "checkpoint")
    assert len(seen) == (3 + 4 if harm else 3 + 2)
    undisturbed = [tmp_path / "a.npy", tmp_path / "b.npy"]
    infer_views(inferences, views, undisturbed, Progress(), "")
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in undisturbed]


def test_every_output_of_a_network_is_a_list_of_its_own():
    inputs = keras.Input((3,))
    x = keras.layers.Dense(4)(inputs)
    model = keras.Model(inputs, [x, keras.layers.Dense(2)(x)])
    pixels = RNG.normal(size=(7, 3)).astype("float32")
    outputs = inferences_of(model, batch_size=3)(pixels)
    for values, expected in zip(outputs, model.predict(pixels, verbose=0), strict=True):
        assert np.allclose(values, expected, atol=1e-6)
