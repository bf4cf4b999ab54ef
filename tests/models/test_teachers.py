import keras
import numpy as np
import pytest

from kdtf.config import DEFAULT_TEACHERS
from kdtf.distill.train import batched
from kdtf.errors import UserError
from kdtf.models import teachers
from kdtf.models.teachers import (
    TEACHERS,
    WeightSource,
    build_base,
    build_head,
    canonical,
    prepared,
    with_head,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3)).astype("float32")


def source(choice="none", heard=None):
    return WeightSource(choice, (heard if heard is not None else []).append)


@pytest.mark.parametrize("name", TEACHERS)
def test_every_row_builds_trains_a_step_and_predicts(name):
    base = build_base(name, (32, 32, 1), source(), momentum=0.9)
    momenta = {
        b.momentum for b in base.model._flatten_layers() if isinstance(b, keras.layers.BatchNormalization)
    }
    assert momenta <= {0.9}
    model = with_head(base.model, build_head(name, base.model.output.shape[1:], 3))
    before = [w.copy() for w in model.get_weights()]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, run_eagerly=True)  # tracing takes a minute each
    assert np.isfinite(model.train_on_batch(PIXELS[..., :1], np.arange(6) % 3))
    changed = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert np.mean(changed) > 0.9  # the whole network, BatchNormalization's statistics among it
    logits = batched(model, batch_size=4)(PIXELS[..., :1].astype("uint8"))
    assert logits.shape == (6, 3) and np.isfinite(logits).all()


@pytest.mark.parametrize("name", TEACHERS)
def test_preprocessing_in_the_graph_is_that_of_keras(name):
    row = TEACHERS[name]
    pixels = keras.Input((32, 32, 3))
    got = keras.Model(pixels, prepared(pixels, row))(PIXELS).numpy()
    side = max(32, row.min_side)
    resized = keras.layers.Resizing(side, side)(PIXELS).numpy()
    assert np.allclose(got, row.preprocess(resized.copy()), atol=1e-4)


def test_a_grey_image_is_a_colour_image_with_equal_channels():
    grey, colour = keras.Input((32, 32, 1)), keras.Input((32, 32, 3))
    row = TEACHERS["vgg16"]
    a = keras.Model(grey, prepared(grey, row))(PIXELS[..., :1])
    b = keras.Model(colour, prepared(colour, row))(PIXELS[..., [0, 0, 0]])
    assert np.array_equal(a, b)


def test_the_graph_resizes_to_the_teachers_side():
    pixels = keras.Input((32, 48, 3))
    assert prepared(pixels, TEACHERS["vgg16"]).shape == (None, 48, 48, 3)
    assert prepared(pixels, TEACHERS["vgg16"], 64).shape == (None, 64, 64, 3)
    assert prepared(pixels, TEACHERS["xception"]).shape == (None, 71, 71, 3)


def test_the_default_set_and_the_aliases():
    assert tuple(TEACHERS)[:7] == DEFAULT_TEACHERS
    assert [canonical(n) for n in ("resnet50", "VGG16", "DenseNet-121", "mobilenetv2")] == [
        "resnet", "vgg16", "densenet", "mobilenetv2",
    ]  # fmt: skip


def test_an_unknown_teacher_lists_the_known_ones_and_the_nearest():
    with pytest.raises(
        UserError, match=r"^--teachers must be one of vgg16, .*Got 'densnet'\. Did you mean 'densenet'\?$"
    ):
        canonical("densnet")


def test_auto_falls_back_to_random_weights_and_warns_once(monkeypatch):
    monkeypatch.setattr(teachers.Teacher, "build", offline(teachers.Teacher.build))
    heard = []
    weights = source("auto", heard)
    bases = [build_base(name, (32, 32, 3), weights) for name in ("mobilenet", "mobilenetv2")]
    assert [b.pretrained for b in bases] == [False, False]
    assert all("could not be downloaded" in b.origin for b in bases)
    assert len(heard) == 1 and "random weights" in heard[0]


def offline(build):
    def refuse(row, *, weights, **arguments):
        if weights == "imagenet":
            raise Exception("URL fetch failure on https://example.org: None -- Name or service not known")
        return build(row, weights=weights, **arguments)

    return refuse


def test_imagenet_fails_clearly_offline(monkeypatch):
    monkeypatch.setattr(teachers.Teacher, "build", offline(teachers.Teacher.build))
    with pytest.raises(UserError, match=r"^--weights imagenet must be able to download the weights of vgg16"):
        build_base("vgg16", (32, 32, 3), source("imagenet"))


def test_weights_come_from_a_file_or_a_folder_under_their_official_names(tmp_path):
    alpha = {"mobilenet_2_5_224_tf_no_top.h5": 0.25}
    network = keras.applications.MobileNet(
        include_top=False, alpha=0.25, weights=None, input_shape=(32, 32, 3)
    )
    file = tmp_path / next(iter(alpha))
    network.save(file)
    for choice in (file, tmp_path):
        base = build_base("mobilenet", (32, 32, 3), source(str(choice)))
        assert base.pretrained and file.name in base.origin
        inner = next(layer for layer in base.model.layers if isinstance(layer, keras.Model))
        for a, b in zip(network.get_weights(), inner.get_weights(), strict=True):
            assert np.array_equal(a, b)


def test_a_weights_file_of_efficientnet_means_what_keras_means_by_it(tmp_path, monkeypatch):
    """Keras adds a scaling for weights="imagenet" that a file of the same weights would miss."""
    from keras.src.applications import efficientnet

    file = tmp_path / "efficientnetb3_notop.h5"
    network = keras.applications.EfficientNetB3(include_top=False, weights=None, input_shape=(32, 32, 3))
    norm = next(layer for layer in network.layers if isinstance(layer, keras.layers.Normalization))
    norm.set_weights([np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]) ** 2, np.array(0)])
    network.save(file)
    monkeypatch.setattr(efficientnet.file_utils, "get_file", lambda *args, **kwargs: str(file))
    official = build_base("efficientnet", (32, 32, 3), source("imagenet")).model(PIXELS)
    from_file = build_base("efficientnet", (32, 32, 3), source(str(tmp_path))).model(PIXELS)
    assert np.allclose(official, from_file, atol=1e-4)


def test_bad_weights_are_told(tmp_path):
    with pytest.raises(
        UserError, match=r"^--weights must be auto, imagenet, none, or an existing file or folder"
    ):
        source(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match=r"must be a folder that holds vgg16_weights.*notop\.h5 for vgg16"):
        build_base("vgg16", (32, 32, 3), source(str(tmp_path)))
    (tmp_path / "w.h5").write_bytes(b"not weights")
    with pytest.raises(UserError, match=r"^--weights must fit mobilenet"):
        build_base("mobilenet", (32, 32, 3), source(str(tmp_path / "w.h5")))


@pytest.mark.parametrize("name", ["mobilenet", "mobilenetv2"])
def test_the_real_pretrained_weights_load(shared_weights, name):
    base = build_base(name, (96, 96, 3), source(str(shared_weights)))
    assert base.pretrained and "224" in base.origin
    features = batched(base.model)(np.full((1, 96, 96, 3), 128, "uint8"))
    assert np.isfinite(features).all() and features.std() > 0
