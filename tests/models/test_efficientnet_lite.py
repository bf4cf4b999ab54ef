"""EfficientNet-Lite0: its size, its names, and that the published weights know dogs."""

import keras
import numpy as np
import pytest
from PIL import Image

from kdtf.errors import UserError
from kdtf.models.efficientnet_lite import efficientnetlite0, load_published
from kdtf.models.teachers import build_base
from kdtf.models.weights import WeightSource

FILE = "efficientnet_lite0.npz"
BREEDS = {  # folders of Imagewoof: their places among ImageNet's 1,000 classes
    "n02086240": 155,
    "n02087394": 159,
    "n02088364": 162,
    "n02089973": 167,
    "n02093754": 182,
    "n02096294": 193,
    "n02099601": 207,
    "n02105641": 229,
    "n02111889": 258,
    "n02115641": 273,
}


@pytest.fixture(scope="module")
def network():
    pixels = keras.Input((64, 64, 3))
    return keras.Model(pixels, efficientnetlite0(pixels))


def test_it_has_the_weights_of_the_published_one(network):
    assert network.count_params() + 1280 * 1000 + 1000 == 4_694_024
    assert network.output.shape == (None, 2, 2, 1280)
    assert sum(layer.name.endswith("add") for layer in network.layers) == 9


def test_it_knows_dogs(shared_weights, shared_data):
    """0.742 of 120 pictures of ten breeds were right among these ten, by the README of the weights."""
    base = build_base("efficientnetlite0", (224, 224, 3), WeightSource(str(shared_weights))).model
    pictures, breeds = [], []
    for folder, place in BREEDS.items():
        for file in sorted((shared_data / "imagewoof64" / "val" / folder).iterdir())[:6]:
            with Image.open(file) as image:
                pictures.append(np.asarray(image.convert("RGB").resize((224, 224))))
            breeds.append(place)
    with np.load(shared_weights / FILE) as arrays:
        weights, bias = arrays["_fc.weight"], arrays["_fc.bias"]
    batches = np.split(np.stack(pictures).astype("float32"), 3)
    features = np.concatenate([base(batch, training=False) for batch in batches])
    places = np.array(list(BREEDS.values()))
    named = places[(features @ weights + bias)[:, places].argmax(axis=1)]
    assert (named == breeds).mean() > 0.6  # a tenth by chance; scaling off by a sign gives 0.1 to 0.2


def test_weights_of_another_network_are_refused_in_one_line(tmp_path, network):
    np.savez(tmp_path / FILE, **{"_conv_stem.weight": np.zeros((3, 3, 3, 8), np.float32)})
    with pytest.raises(ValueError):
        load_published(network, str(tmp_path / FILE))
    np.savez(tmp_path / FILE, other=np.zeros(3))
    with pytest.raises(UserError, match="--weights must fit efficientnetlite0") as caught:
        build_base("efficientnetlite0", (32, 32, 1), WeightSource(str(tmp_path)))
    assert "\n" not in str(caught.value)
