"""The teachers, one row per name: all that goes with a network of Keras Applications."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from ..errors import require_known
from ..lazy_keras import KerasTensor, keras, layers
from . import networks


def pooled(maps: KerasTensor) -> KerasTensor:
    """Global average pooling: maps (N, h, w, F) to features (N, F)."""
    return layers.GlobalAveragePooling2D()(maps)


def dense_head(features: KerasTensor, classes: int) -> KerasTensor:
    """Dense 512 ReLU, dropout 0.5, Dense K: features (N, F) to logits (N, K)."""
    x = layers.Dense(512, activation="relu")(features)
    x = layers.Dropout(0.5)(x)
    return layers.Dense(classes, name="logits")(x)


def conv_head(maps: KerasTensor, classes: int) -> KerasTensor:
    """Dropout 0.5, Conv 512 3x3 ReLU, MaxPool 7x7 stride 1, Dense 64, Dense K: maps (N, h, w, F) to logits.

    Where the maps are smaller than 7 the window is as large as they are.
    """
    x = layers.Dropout(0.5)(maps)
    x = layers.Conv2D(512, 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D([min(7, side) for side in x.shape[1:3]], strides=1)(x)
    x = layers.Dense(64, activation="relu")(layers.Flatten()(x))
    return layers.Dense(classes, name="logits")(x)


def linear_head(features: KerasTensor, classes: int, dropout: float) -> KerasTensor:
    """Dropout, Dense K on features (N, F), or maps (N, h, w, F) that are pooled first, to logits (N, K)."""
    x = pooled(features) if len(features.shape) == 4 else features
    return layers.Dense(classes, name="logits")(layers.Dropout(dropout)(x))


HEADS = {"linear": linear_head}  # beside "own", the head of a teacher's row


@dataclass(frozen=True)
class Teacher:
    """One network.

    `builder` is a class of `keras.applications`, or a function of `networks` in lower case; `module`
    the module of Keras with its `preprocess_input`. `files` maps the official names of its ImageNet
    weights (without top) to the builder arguments they were trained with; the first is the one Keras
    downloads. `arguments` are those of the builder that hold for all of them. `scaling`, a factor and an
    offset of pixels 0..255, stands for the module where there is none. `published` says whether Keras has
    ImageNet weights for it. `neck` makes of the last maps the features that are cached where the base is
    frozen, `head` of the features the logits. `min_side` in pixels. `litert` says that LiteRT labels at
    least 1.4 times as fast as Keras (`benchmarks/labelling.py`).
    """

    builder: str
    module: str
    files: dict[str, dict] = field(default_factory=dict)
    min_side: int = 32
    aliases: tuple[str, ...] = ()
    published: bool = True
    scaling: tuple[float, float] | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    neck: Callable[[KerasTensor], KerasTensor] = pooled
    head: Callable[[KerasTensor, int], KerasTensor] = dense_head
    litert: bool = False

    def build(self, **arguments: Any) -> keras.Model:
        """The network itself, by the arguments of its builder."""
        arguments = {**self.arguments, **arguments}
        if self.builder.islower():
            return networks.as_application(getattr(networks, self.builder))(**arguments)
        return getattr(keras.applications, self.builder)(**arguments)

    def preprocess(self, pixels: KerasTensor) -> KerasTensor:
        """Pixels 0..255 as the network was trained to take them."""
        if self.scaling:
            return layers.Rescaling(*self.scaling)(pixels)
        return import_module(f"keras.applications.{self.module}").preprocess_input(pixels)


_TF = "weights_tf_dim_ordering_tf_kernels"
_ALPHAS = {"1_0": 1.0, "7_5": 0.75, "5_0": 0.5, "2_5": 0.25}
_ALPHAS_V2 = ("1.0", "1.4", "1.3", "0.75", "0.5", "0.35")

TEACHERS = {
    "vgg16": Teacher("VGG16", "vgg16", {f"vgg16_{_TF}_notop.h5": {}}),
    "vgg19": Teacher("VGG19", "vgg19", {f"vgg19_{_TF}_notop.h5": {}}),
    "resnet": Teacher("ResNet50", "resnet", {f"resnet50_{_TF}_notop.h5": {}}, aliases=("resnet50",)),
    "densenet": Teacher(
        "DenseNet121", "densenet", {f"densenet121_{_TF}_notop.h5": {}}, aliases=("densenet121",)
    ),
    "efficientnet": Teacher(
        "EfficientNetB3",
        "efficientnet",
        {"efficientnetb3_notop.h5": {}},
        aliases=("efficientnetb3",),
        litert=True,
    ),
    "nasnetmobile": Teacher(
        "NASNetMobile",
        "nasnet",
        {"nasnet_mobile_no_top.h5": {}, "NASNet-mobile-no-top.h5": {}},
        aliases=("nasnet",),
    ),
    "xception": Teacher("Xception", "xception", {f"xception_{_TF}_notop.h5": {}}, min_side=71),
    "mobilenet": Teacher(
        "MobileNet",
        "mobilenet",
        {f"mobilenet_{a}_224_tf_no_top.h5": {"alpha": v} for a, v in _ALPHAS.items()},
        litert=True,
    ),
    "mobilenetv2": Teacher(
        "MobileNetV2",
        "mobilenet_v2",
        {f"mobilenet_v2_{_TF}_{a}_224_no_top.h5": {"alpha": float(a)} for a in _ALPHAS_V2},
        litert=True,
    ),
    # the minimalistic form, which int8 suits; the other one is keras:MobileNetV3Small
    "mobilenetv3small": Teacher(
        "MobileNetV3Small",
        "mobilenet",
        {"weights_mobilenet_v3_small_minimalistic_224_1.0_float_no_top_v2.h5": {}},
        arguments={"minimalistic": True, "include_preprocessing": False},
        litert=True,
    ),
    "efficientnetb0": Teacher("EfficientNetB0", "efficientnet", {"efficientnetb0_notop.h5": {}}, litert=True),
    "densenet-conv": Teacher(
        "DenseNet121", "densenet", {f"densenet121_{_TF}_notop.h5": {}}, neck=lambda maps: maps, head=conv_head
    ),
    "efficientnetlite0": Teacher(
        "efficientnetlite0",
        "",
        {"efficientnet_lite0.npz": {}},
        published=False,
        scaling=(1 / 128, -127 / 128),
        aliases=("efficientnet-lite0",),
        litert=True,
    ),
    "resnet18": Teacher("resnet18", "mobilenet", published=False),
    "cnn5": Teacher("cnn5", "mobilenet", published=False),
}

GENERIC = "keras-"  # begins the names of any other class of Keras
# px; every other class of Keras takes 32
LARGE_SIDES = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}


def canonical(name: str) -> str:
    """The registry name behind a name or alias, in any case. Raises `UserError` for an unknown one."""
    if name.startswith("keras:"):
        name = GENERIC + name.partition(":")[2]  # a colon would not do in the names of files
        row_of(name)
        return name
    names = {alias: own for own, row in TEACHERS.items() for alias in (own, *row.aliases)}
    spelling = name.lower() if name.lower() in names else name.lower().replace("-", "")
    if spelling not in names:
        require_known("--teachers", name, [*TEACHERS, "keras:NAME"])
    return names[spelling]


def row_of(name: str) -> Teacher:
    """The row of a canonical name: of the registry, or of any class of `keras.applications`.

    Raises `UserError` where Keras has no such class.
    """
    if not name.startswith(GENERIC):
        return TEACHERS[name]
    applications, builder = keras.applications, name.removeprefix(GENERIC)
    classes = [n for n in dir(applications) if n[0].isupper()]
    require_known("--teachers keras:", builder, classes)
    module = getattr(applications, builder).__module__.rpartition(".")[2]
    return Teacher(builder, module, min_side=LARGE_SIDES.get(builder, 32))
