"""Teachers: Keras Applications networks on pixels 0..255, one registry row per name.

Preprocessing and resizing are layers of the graph, because `preprocess_input` overwrites the float
array it is given and is easily applied twice. Building and weights only: `train` fits.
"""

import os
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..errors import UserError, require, require_known

if TYPE_CHECKING:
    import keras

# Keras is imported inside the functions: a misspelt name is told at once, not after its start-up.


def pooled(maps):
    """Global average pooling: maps (N, h, w, F) to features (N, F)."""
    from keras import layers

    return layers.GlobalAveragePooling2D()(maps)


def dense_head(features, classes: int):
    """Dense 512 ReLU, dropout 0.5, Dense K: features (N, F) to logits (N, K)."""
    from keras import layers

    x = layers.Dense(512, activation="relu")(features)
    x = layers.Dropout(0.5)(x)
    return layers.Dense(classes, name="logits")(x)


def conv_head(maps, classes: int):
    """Dropout 0.5, Conv 512 3x3 ReLU, MaxPool 7x7 stride 1, Dense 64, Dense K: maps (N, h, w, F) to logits.

    Where the maps are smaller than 7 the window is as large as they are.
    """
    from keras import layers

    x = layers.Dropout(0.5)(maps)
    x = layers.Conv2D(512, 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D([min(7, side) for side in x.shape[1:3]], strides=1)(x)
    x = layers.Dense(64, activation="relu")(layers.Flatten()(x))
    return layers.Dense(classes, name="logits")(x)


@dataclass(frozen=True)
class Teacher:
    """One network.

    `builder` is a class of `keras.applications`, or a function of `networks` in lower case; `module`
    the module of Keras with its `preprocess_input`. `files` maps the official names of its ImageNet
    weights (without top) to the builder arguments they were trained with; the first is the one Keras
    downloads. `published` says whether Keras has ImageNet weights for it. `neck` makes of the last
    maps the features that are cached where the base is frozen, `head` of the features the logits.
    `min_side` in pixels.
    """

    builder: str
    module: str
    files: dict[str, dict] = field(default_factory=dict)
    min_side: int = 32
    aliases: tuple[str, ...] = ()
    published: bool = True
    neck: Callable = pooled
    head: Callable = dense_head

    def build(self, **arguments):
        if self.builder.islower():
            networks = import_module("kdtf.models.networks")
            return networks.as_application(getattr(networks, self.builder))(**arguments)
        return getattr(import_module("keras.applications"), self.builder)(**arguments)

    def preprocess(self, pixels):
        return import_module(f"keras.applications.{self.module}").preprocess_input(pixels)


# what Keras and h5py raise, between them, on files that do not fit or are damaged
DAMAGED = (ValueError, TypeError, OSError, LookupError, RuntimeError, AttributeError, Warning)
DAMAGED += (ArithmeticError, MemoryError, zipfile.BadZipFile, zlib.error)
NOT_DOWNLOADED = "random weights, as ImageNet's could not be downloaded"
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
        "EfficientNetB3", "efficientnet", {"efficientnetb3_notop.h5": {}}, aliases=("efficientnetb3",)
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
    ),
    "mobilenetv2": Teacher(
        "MobileNetV2",
        "mobilenet_v2",
        {f"mobilenet_v2_{_TF}_{a}_224_no_top.h5": {"alpha": float(a)} for a in _ALPHAS_V2},
    ),
    "efficientnetb0": Teacher("EfficientNetB0", "efficientnet", {"efficientnetb0_notop.h5": {}}),
    "densenet-conv": Teacher(
        "DenseNet121", "densenet", {f"densenet121_{_TF}_notop.h5": {}}, neck=lambda maps: maps, head=conv_head
    ),
    "resnet18": Teacher("resnet18", "mobilenet", published=False),
    "cnn5": Teacher("cnn5", "mobilenet", published=False),
}
ALIASES = {alias: name for name, row in TEACHERS.items() for alias in (name, *row.aliases)}


GENERIC = "keras-"
# px; every other class of Keras takes 32
LARGE_SIDES = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}


def canonical(name: str) -> str:
    """The registry name behind a name or alias, in any case. Raises `UserError` for an unknown one."""
    if name.startswith("keras:"):
        name = GENERIC + name.partition(":")[2]  # a colon would not do in the names of files
        row_of(name)
        return name
    known = ALIASES.get(name.lower()) or ALIASES.get(name.lower().replace("-", ""))
    if known is None:
        require_known("--teachers", name, [*TEACHERS, "keras:NAME"])
    return known


def row_of(name: str) -> Teacher:
    """The row of a canonical name: of the registry, or of any class of `keras.applications`."""
    if not name.startswith(GENERIC):
        return TEACHERS[name]
    applications, wanted = import_module("keras.applications"), name.removeprefix(GENERIC)
    known = [n for n in dir(applications) if n[0].isupper()]
    require_known("--teachers keras:", wanted, known)
    module = getattr(applications, wanted).__module__.rpartition(".")[2]
    return Teacher(wanted, module, min_side=LARGE_SIDES.get(wanted, 32))


class Base(NamedTuple):
    """A headless network and where its weights came from.

    `model` maps pixels (N, H, W, C) to features (N, F), or to what the row's neck makes of the maps;
    `pretrained` says whether the weights are anybody's but the random generator's; `origin` is the
    phrase for the reports.
    """

    model: "keras.Model"
    pretrained: bool
    origin: str


class WeightSource:
    """`--weights auto|imagenet|none|FILE|DIR`, resolved per teacher; remembers that the net is down.

    `warn` is called once, with one line, when `auto` has to fall back to random weights.
    """

    def __init__(self, choice: str, warn: Callable[[str], None] = lambda text: None):
        self.choice, self.warn, self.offline = choice, warn, False
        if choice not in ("auto", "imagenet", "none"):
            known = Path(choice).is_file() or Path(choice).is_dir()
            require(known, "--weights", "auto, imagenet, none, or an existing file or folder", choice)

    def load(self, name: str, make: Callable) -> "tuple[keras.Model, bool, str]":
        """`make(weights=..., **arguments)` with the right weights; see `Base` for what is returned."""
        row = row_of(name)
        if self.choice == "none":
            return make(weights=None), False, "random weights, by --weights none"
        if self.choice in ("auto", "imagenet") and not row.published:
            return make(weights=None), False, "random weights, none are published"
        if self.choice not in ("auto", "imagenet"):
            return self._from_path(name, row, make)
        try:
            if self.offline and not _cached(row):
                raise ConnectionError("offline")
            return make(weights="imagenet"), True, "ImageNet weights from Keras"
        except Exception as error:  # Keras raises a bare Exception when a download fails
            if not isinstance(error, ConnectionError) and "fetch failure" not in str(error):
                raise
            if self.choice == "imagenet":
                raise UserError(
                    f"--weights imagenet must be able to download the weights of {name}. It could not. "
                    "Give --weights DIR with the official files, or --weights none."
                ) from None
        self.fell_back()
        return make(weights=None), False, NOT_DOWNLOADED

    def fell_back(self) -> None:
        """Say once that teachers start from random weights, and stop trying to download."""
        if not self.offline:
            self.warn(
                "ImageNet weights cannot be downloaded here: teachers start from random weights. "
                "Give --weights DIR with the official files for pretrained ones."
            )
        self.offline = True

    def path(self, name: str) -> Path | None:
        """The weights file `--weights FILE|DIR` means for this network, None for the other choices."""
        if self.choice in ("auto", "imagenet", "none"):
            return None
        path = Path(self.choice)
        if path.is_dir():
            files = row_of(name).files
            found = [path / file for file in files if (path / file).is_file()]
            wanted = f"a folder that holds {' or '.join(files) or 'a file'} for {name}"
            require(found, "--weights", wanted, self.choice)
            path = found[0]
        return path

    def _from_path(self, name, row, make):
        path = self.path(name)
        arguments = row.files.get(path.name, {})
        try:
            with warnings.catch_warnings():
                # of a damaged file Keras would load what it finds and leave the rest random
                warnings.filterwarnings("error", "Skipping nested container|.*could not be loaded")
                network = make(weights=str(path), **arguments)
            require(all(map(_finite, network.get_weights())), "--weights", "finite numbers", path.name)
            if row.module == "efficientnet":
                _scale_as_imagenet(network)
            return network, True, f"pretrained weights from {path.name}"
        except DAMAGED as error:
            reason = " ".join(str(error).split())[:160]
            raise UserError(f"--weights must fit {name}. {path} does not: {reason}.") from None


def _scale_as_imagenet(network) -> None:
    """Make up for a layer that Keras adds to EfficientNet for `weights="imagenet"` and not for a file.

    There the input is divided by sqrt(sqrt(variance)) once more (its weights were trained so:
    tensorflow/tensorflow#49930). The same is had by a larger variance, whatever file it came from.
    """
    import numpy as np
    from keras.layers import Normalization
    from keras.src.applications.efficientnet import IMAGENET_STDDEV_RGB

    layer = next(layer for layer in network.layers if isinstance(layer, Normalization))
    mean, variance, *count = layer.get_weights()
    layer.set_weights([mean, variance * np.array(IMAGENET_STDDEV_RGB), *count])
    layer.finalize_state()


def _finite(values) -> bool:
    import numpy as np

    return bool(np.isfinite(values).all())


def _cached(row: Teacher) -> bool:
    """Whether Keras has this network's ImageNet weights on disk already."""
    home = os.environ.get("KERAS_HOME", Path.home() / ".keras")
    return any((Path(home) / "models" / file).exists() for file in row.files)


def prepared(pixels, row: Teacher, size: int | None = None):
    """Pixels 0..255 (N, H, W, C), C 1 or 3, as the network wants them: three channels, square, scaled.

    `size` is the side in px; never less than the network's smallest side.
    """
    from keras import layers

    height, width, channels = pixels.shape[1:]
    side = max(size or max(height, width), row.min_side)
    x = layers.Concatenate()([pixels] * 3) if channels == 1 else pixels
    if (height, width) != (side, side):
        x = layers.Resizing(side, side)(x)
    return row.preprocess(x)


def build_base(name, shape, source: WeightSource, *, size=None, momentum=0.9, seed=0) -> Base:
    """The network `name` without its head, on pixels of `shape` (H, W, C), C 1 or 3.

    `momentum` replaces that of every BatchNormalization: at the usual 0.99 the statistics never
    catch up in a few hundred steps. Raises `UserError` for weights that do not fit.
    """
    import keras

    keras.utils.set_random_seed(seed)
    row = row_of(name)
    pixels = keras.Input(shape, name="pixels")
    x = prepared(pixels, row, size)

    def make(weights, **arguments):
        return row.build(include_top=False, input_shape=x.shape[1:], weights=weights, **arguments)

    network, pretrained, origin = source.load(name, make)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = momentum
    features = row.neck(network(x))
    return Base(keras.Model(pixels, features, name=name), pretrained, origin)


def build_head(name: str, features, classes: int, seed=0) -> "keras.Model":
    """The head of the network `name`: features of shape (N, *features) to logits (N, K)."""
    import keras

    keras.utils.set_random_seed(seed)
    inputs = keras.Input(features, name="features")
    return keras.Model(inputs, row_of(name).head(inputs, classes), name="head")


def with_head(base: "keras.Model", head: "keras.Model") -> "keras.Model":
    """The whole teacher: pixels (N, H, W, C) to logits (N, K). Shares both parts' weights."""
    import keras

    return keras.Model(base.input, head(base.output), name=base.name)
