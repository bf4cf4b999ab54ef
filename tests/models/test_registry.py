"""The names of teachers, and the rows behind them."""

import pytest

from kdtf.config import DEFAULT_TEACHERS
from kdtf.errors import UserError
from kdtf.models.registry import TEACHERS, canonical, row_of


def test_the_default_set_and_the_aliases():
    assert tuple(TEACHERS)[:7] == DEFAULT_TEACHERS
    assert [canonical(n) for n in ("resnet50", "VGG16", "DenseNet-121", "mobilenetv2")] == [
        "resnet", "vgg16", "densenet", "mobilenetv2",
    ]  # fmt: skip


@pytest.mark.parametrize("name", TEACHERS)
def test_every_name_and_alias_leads_to_its_row(name):
    for alias in (name, *TEACHERS[name].aliases):
        assert canonical(alias) == canonical(alias.upper()) == name
    assert row_of(name) is TEACHERS[name]


def test_any_class_of_keras_is_a_teacher():
    assert canonical("keras:EfficientNetV2B0") == "keras-EfficientNetV2B0"
    row = row_of("keras-EfficientNetV2B0")
    assert (row.builder, row.module, row.min_side) == ("EfficientNetV2B0", "efficientnet_v2", 32)
    assert row_of("keras-InceptionV3").min_side == 75


def test_an_unknown_teacher_lists_the_known_ones_and_the_nearest():
    with pytest.raises(
        UserError, match=r"^--teachers must be one of vgg16, .*Got 'densnet'\. Did you mean 'densenet'\?$"
    ):
        canonical("densnet")
    with pytest.raises(UserError, match=r"^--teachers keras: must be one of .*Did you mean 'ResNet50V2'\?$"):
        canonical("keras:ResNet50v2")
