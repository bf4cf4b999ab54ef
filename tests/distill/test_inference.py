"""A network as a function of arrays, and its outputs for all views on disk."""

import keras
import numpy as np

from kdtf.distill.inference import infer_views, inference_of
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
    stored = infer_views(lambda x: x.astype("float32") * 2, views, tmp_path / "l.npy", Progress(), "")
    assert isinstance(stored, np.memmap) and np.array_equal(stored, views.astype("float32") * 2)
    assert np.array_equal(np.load(tmp_path / "l.npy"), stored)
