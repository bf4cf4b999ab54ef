"""Students cut from pretrained networks: their names, their weights, grey images."""

import keras
import numpy as np
import pytest

from kdtf.errors import UserError
from kdtf.models.cut_names import (
    after_block,
    has_any_block,
    is_cut,
    needs_budget,
    parts_of,
    to_budget,
    up_to,
    with_parts,
)
from kdtf.models.cuts import CUTTABLE, build_cut, parse
from kdtf.models.students import check_student, exported, is_chain, new_student, save_undated
from kdtf.models.weights import WeightSource
from kdtf.records import StudentNetwork

NONE = WeightSource("none")
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1)).astype("float32")


def cut(name, channels=1, source=NONE, seed=0):
    settings = {"momentum": 0.8, "dropout": 0.1, "seed": seed, "source": source, "images": None}
    return build_cut(name, (32, 32, channels), 3, **settings)


def test_names_decode():
    assert parts_of("cut:mobilenetv2:10") == ("mobilenetv2", "10", "") and is_cut("cut:mobilenet")
    assert parts_of("cut:mobilenetv2:10:0.6") == ("mobilenetv2", "10", "0.6")
    assert needs_budget("cut:mobilenet") and not needs_budget("cut:mobilenet:3") and not needs_budget("cnn3")
    assert parse("cut:mobilenetv2:10") == ("mobilenetv2", 10, 1.0)
    assert parse("cut:mobilenetv2:10:0.6") == ("mobilenetv2", 10, 0.6)
    assert parse("cut:mobilenet") == ("mobilenet", None, 1.0)
    assert parse("cut:mobilenet::0.5") == ("mobilenet", None, 0.5) and needs_budget("cut:mobilenet::0.5")
    assert after_block("cut:mobilenet::0.5", 3) == "cut:mobilenet:3:0.5"
    assert after_block("cut:mobilenet", 3) == "cut:mobilenet:3"
    assert not is_chain("cut:mobilenet:3")  # fine-tuned files are not for it


def test_names_of_any_block_and_any_part_stand_for_several():
    parts = ["cut:mobilenet:3:0.25", "cut:mobilenet:3:0.5", "cut:mobilenet:3:0.75", "cut:mobilenet:3"]
    assert with_parts("cut:mobilenet:3:*") == parts
    assert with_parts("cut:mobilenet:*:*")[1::2] == ["cut:mobilenet:*:0.5", "cut:mobilenet:*"]
    assert with_parts("cut:mobilenet:3:0.6") == ["cut:mobilenet:3:0.6"] and with_parts("cnn3") == ["cnn3"]
    assert has_any_block("cut:mobilenet:*") and not has_any_block("cut:mobilenet::*")
    assert to_budget("cut:mobilenet:*:0.5") == "cut:mobilenet::0.5"
    assert to_budget("cut:mobilenet:*") == "cut:mobilenet" and needs_budget("cut:mobilenet")
    assert up_to("cut:mobilenet:2:0.5") == ["cut:mobilenet:1:0.5", "cut:mobilenet:2:0.5"]
    assert all(map(parse, with_parts("cut:mobilenet:3:*")))


@pytest.mark.parametrize(
    "name, text",
    [
        ("cut:mobilenetv2:99", "Did you mean 'cut:mobilenetv2:16'?"),
        ("cut:mobilenetv3small:12", "Did you mean 'cut:mobilenetv3small:11'?"),
        ("cut:mobilenetv2:0", "Did you mean 'cut:mobilenetv2:1'?"),
        ("cut:mobilenetv2:x", "cut:mobilenetv2:1 to cut:mobilenetv2:16"),
        ("cut:mobilenetv3", "Did you mean 'mobilenetv2'?"),
        ("cut:mobilenetv2:10:0", "the part of the channels above 0, at most 1"),
        ("cut:mobilenetv2::half", "the part of the channels above 0, at most 1"),
        ("cnn33", "Did you mean 'cnn3'?"),
    ],
)
def test_a_cut_that_does_not_exist_is_told_with_the_nearest(name, text):
    with pytest.raises(UserError) as caught:
        check_student(name, "--students")
    said = str(caught.value)
    assert text in said and said.startswith("--students ") and "\n" not in said


@pytest.mark.parametrize("network", CUTTABLE)
def test_every_network_can_be_cut_and_grows_with_its_blocks(network):
    last = len(CUTTABLE[network].blocks)
    students = [cut(f"cut:{network}:{block}")[0] for block in (1, last)]
    assert students[0].count_params() < students[1].count_params()
    for student in students:
        assert student.input.shape == (None, 32, 32, 1) and student.output.shape == (None, 3)
        norms = [la for la in student.layers if isinstance(la, keras.layers.BatchNormalization)]
        assert norms and {norm.momentum for norm in norms} == {0.8}
        assert np.isfinite(student(PIXELS)).all()


@pytest.mark.parametrize(
    "name, weights",
    [
        ("cut:mobilenetv2:10", 60_084),
        ("cut:mobilenetv2:10:0.6", 37_164),
        ("cut:mobilenetv2:6", 21_044),
        ("cut:mobilenetv3small:5", 42_292),
    ],
)
def test_the_sizes_that_were_measured(name, weights):
    """MobileNetV2 0.35 and MobileNetV3Small with four classes."""
    settings = {"momentum": 0.9, "dropout": 0.0, "seed": 0, "source": NONE, "images": None}
    student, origin, pretrained = build_cut(name, (32, 32, 1), 4, **settings)
    assert student.count_params() == weights and not pretrained and "random weights" in origin


@pytest.mark.parametrize("network", CUTTABLE)
def test_equal_cuts_are_equal_files(network, tmp_path):
    """The names of layers too: Keras' own would count what was built before in the process."""
    files = [tmp_path / "a.keras", tmp_path / "b.keras"]
    for file in files:
        save_undated(exported(cut(f"cut:{network}:2")[0]), file)
        keras.layers.ReLU()
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_grey_image_is_what_three_equal_channels_are(shared_weights):
    source = WeightSource(str(shared_weights))
    grey, origin, pretrained = cut("cut:mobilenetv2:4", source=source)
    colour, _, _ = cut("cut:mobilenetv2:4", channels=3, source=source)
    assert pretrained and "0.35" in origin
    assert np.allclose(grey(PIXELS), colour(np.repeat(PIXELS, 3, axis=-1)), atol=1e-4)


@pytest.fixture
def weights_v3(tmp_path):
    """A folder with a file of MobileNetV3Small, minimalistic, under the name of the official one."""
    network = keras.applications.MobileNetV3Small(
        input_shape=(32, 32, 3), minimalistic=True, include_top=False, weights=None
    )
    for values in network.weights:  # a new network's answers are all but 0
        if values.name == "moving_variance":
            values.assign(np.random.default_rng(1).uniform(0.05, 0.2, values.shape))
    network.save(tmp_path / "weights_mobilenet_v3_small_minimalistic_224_1.0_float_no_top_v2.h5")
    return tmp_path


def test_mobilenetv3small_takes_the_weights_that_keras_publishes(weights_v3, monkeypatch):
    from keras.src.applications import mobilenet_v3

    name, folder = "cut:mobilenetv3small:4", WeightSource(str(weights_v3))
    grey, origin, pretrained = cut(name, source=folder)
    assert pretrained and "minimalistic" in origin
    colour, _, _ = cut(name, channels=3, source=folder)
    assert np.allclose(grey(PIXELS), colour(np.repeat(PIXELS, 3, axis=-1)), atol=1e-4)
    assert not np.allclose(grey(PIXELS), cut(name)[0](PIXELS), atol=1e-2)
    monkeypatch.setattr(
        mobilenet_v3.file_utils, "get_file", lambda file, *args, **kwargs: str(weights_v3 / file)
    )
    downloaded, _, _ = cut(name, source=WeightSource("imagenet"))
    assert np.array_equal(downloaded(PIXELS), grey(PIXELS))


@pytest.mark.parametrize(
    "network, build, file, layer, channels",
    [
        ("mobilenet", keras.applications.MobileNet, "mobilenet_5_0_224_tf_no_top.h5", "conv_pw_1", 32),
        (
            *("mobilenetv2", keras.applications.MobileNetV2),
            *("mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.5_224_no_top.h5", "block_1_project", 16),
        ),
    ],
)
def test_a_cut_is_as_wide_as_the_official_file_of_its_weights(
    network, build, file, layer, channels, tmp_path
):
    """Half of the full width; without a file these layers have half as many channels."""
    build((32, 32, 3), alpha=0.5, include_top=False, weights=None).save(tmp_path / file)
    wide, _, pretrained = cut(f"cut:{network}:1", source=WeightSource(str(tmp_path)))
    assert pretrained and wide.get_layer(layer).filters == channels
    assert cut(f"cut:{network}:1")[0].get_layer(layer).filters == channels // 2


def test_weights_of_the_other_mobilenetv3small_are_refused(tmp_path):
    file = tmp_path / "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5"
    keras.applications.MobileNetV3Small((32, 32, 3), include_top=False, weights=None).save(file)
    with pytest.raises(UserError, match="--weights must fit mobilenetv3small") as caught:
        cut("cut:mobilenetv3small:4", source=WeightSource(str(file)))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="a folder that holds weights_mobilenet_v3_small_minimalistic"):
        cut("cut:mobilenetv3small:4", source=WeightSource(str(tmp_path)))


def test_the_head_is_drawn_from_the_seed_and_the_trunk_is_not(shared_weights):
    source = WeightSource(str(shared_weights))
    first, again, other = (cut("cut:mobilenet:2", source=source, seed=s)[0] for s in (0, 0, 1))
    assert np.array_equal(first(PIXELS), again(PIXELS)) and not np.array_equal(first(PIXELS), other(PIXELS))
    kernels = [student.get_layer("conv1").get_weights()[0] for student in (first, other)]
    assert np.array_equal(*kernels)


def test_other_students_take_no_weights():
    student, origin, pretrained = new_student(StudentNetwork("cnn3", 0.9, 0.5, 0), (32, 32, 1), 3, NONE, None)
    assert student.name == "cnn3" and origin == "random weights" and not pretrained


def test_images_that_are_too_small_are_told():
    with pytest.raises(UserError, match="image side must be at least 32 px for cut:mobilenet"):
        build_cut(
            "cut:mobilenet:1", (28, 28, 1), 2, momentum=0.9, dropout=0, seed=0, source=NONE, images=None
        )
