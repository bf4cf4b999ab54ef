"""Where weights come from: ImageNet, a file or a folder under official names, or chance."""

import keras
import numpy as np
import pytest

from kdtf.errors import UserError
from kdtf.models.registry import Teacher
from kdtf.models.teachers import build_base
from kdtf.models.weights import NOT_DOWNLOADED, OFFLINE, WeightSource

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")


@pytest.fixture
def downloads(monkeypatch, tmp_path):
    """The classes whose ImageNet weights were asked for, of a machine without a network."""
    build, classes = Teacher.build, []

    def refuse(row, *, weights, **arguments):
        if weights == "imagenet":
            classes.append(row.builder)
            raise Exception("URL fetch failure on https://example.org: None -- Name or service not known")
        return build(row, weights=weights, **arguments)

    monkeypatch.setattr(Teacher, "build", refuse)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))  # nothing was downloaded before
    return classes


def test_auto_falls_back_to_random_weights_and_asks_the_net_once(downloads):
    source = WeightSource("auto")
    assert not source.offline
    bases = [build_base(name, (32, 32, 3), source) for name in ("mobilenet", "mobilenetv2")]
    assert [base.pretrained for base in bases] == [False, False]
    assert [base.origin for base in bases] == [NOT_DOWNLOADED] * 2
    assert source.offline and downloads == ["MobileNet"]
    assert "random weights" in OFFLINE and "could not be downloaded" in NOT_DOWNLOADED


def test_imagenet_fails_clearly_offline(downloads):
    with pytest.raises(UserError, match=r"^--weights imagenet must be able to download the weights of vgg16"):
        build_base("vgg16", (32, 32, 3), WeightSource("imagenet"))


@pytest.mark.parametrize("choice", ["auto", "imagenet", "none"])
def test_what_is_not_published_is_not_asked_for(downloads, choice):
    base = build_base("cnn5", (32, 32, 3), WeightSource(choice))
    origin = "random weights, by --weights none" if choice == "none" else "random weights, none are published"
    assert (base.pretrained, base.origin, downloads) == (False, origin, [])


def test_weights_come_from_a_file_or_a_folder_under_their_official_names(tmp_path):
    network = keras.applications.MobileNet(
        include_top=False, alpha=0.25, weights=None, input_shape=(32, 32, 3)
    )
    file = tmp_path / "mobilenet_2_5_224_tf_no_top.h5"
    network.save(file)
    for choice in (file, tmp_path):
        source = WeightSource(str(choice))
        base = build_base("mobilenet", (32, 32, 3), source)
        assert source.path("mobilenet") == file
        assert base.pretrained and file.name in base.origin
        inner = next(layer for layer in base.model.layers if isinstance(layer, keras.Model))
        for a, b in zip(network.get_weights(), inner.get_weights(), strict=True):
            assert np.array_equal(a, b)


def test_the_other_choices_mean_no_file():
    assert [WeightSource(choice).path("vgg16") for choice in ("auto", "imagenet", "none")] == [None] * 3


def test_a_weights_file_of_efficientnet_means_what_keras_means_by_it(tmp_path, monkeypatch):
    """Keras adds a scaling for weights="imagenet" that a file of the same weights would miss."""
    from keras.src.applications import efficientnet

    file = tmp_path / "efficientnetb0_notop.h5"
    network = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    norm = next(layer for layer in network.layers if isinstance(layer, keras.layers.Normalization))
    norm.set_weights([np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]) ** 2, np.array(0)])
    network.save(file)
    monkeypatch.setattr(efficientnet.file_utils, "get_file", lambda *args, **kwargs: str(file))
    official = build_base("efficientnetb0", (32, 32, 3), WeightSource("imagenet")).model(PIXELS)
    from_file = build_base("efficientnetb0", (32, 32, 3), WeightSource(str(tmp_path))).model(PIXELS)
    largest = np.abs(official).max()  # 2e-5 with random weights
    assert np.allclose(official, from_file, rtol=0, atol=1e-4 * largest)


def test_bad_weights_are_refused(tmp_path):
    with pytest.raises(
        UserError, match=r"^--weights must be auto, imagenet, none, or an existing file or folder"
    ):
        WeightSource(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match=r"must be a folder that holds vgg16_weights.*notop\.h5 for vgg16"):
        build_base("vgg16", (32, 32, 3), WeightSource(str(tmp_path)))
    (tmp_path / "w.h5").write_bytes(b"not weights")
    with pytest.raises(UserError, match=r"^--weights must fit mobilenet"):
        build_base("mobilenet", (32, 32, 3), WeightSource(str(tmp_path / "w.h5")))


def test_weights_that_are_not_finite_are_refused(tmp_path):
    network = keras.applications.MobileNet(
        include_top=False, alpha=0.25, weights=None, input_shape=(32, 32, 3)
    )
    network.weights[0].assign(np.full(network.weights[0].shape, np.nan))
    network.save(tmp_path / "mobilenet_2_5_224_tf_no_top.h5")
    with pytest.raises(UserError, match=r"^--weights must be finite numbers\. Got 'mobilenet_2_5_224"):
        build_base("mobilenet", (32, 32, 3), WeightSource(str(tmp_path)))


@pytest.mark.parametrize("name", ["mobilenet", "mobilenetv2"])
def test_the_real_pretrained_weights_load(shared_weights, name):
    base = build_base(name, (96, 96, 3), WeightSource(str(shared_weights)))
    assert base.pretrained and "224" in base.origin
    features = np.asarray(base.model(np.full((1, 96, 96, 3), 128, "float32"), training=False))
    assert np.isfinite(features).all() and features.std() > 0
