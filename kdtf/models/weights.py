"""Where a teacher's weights come from: ImageNet through Keras, a file, a folder of files, or chance."""

import os
import textwrap
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UserError, require
from .registry import Teacher, row_of

if TYPE_CHECKING:
    import keras

Build = Callable[..., "keras.Model"]  # of a network, by `weights` and other arguments of its builder

# what Keras and h5py raise, between them, on files that do not fit or are damaged
DAMAGED = (
    *(ValueError, TypeError, OSError, LookupError, RuntimeError, AttributeError, Warning),
    *(ArithmeticError, MemoryError, zipfile.BadZipFile, zlib.error),
)
NOT_DOWNLOADED = "random weights, as ImageNet's could not be downloaded"
OFFLINE = (
    "ImageNet weights cannot be downloaded here: teachers start from random weights. "
    "Give --weights DIR with the official files for pretrained ones."
)
CHOICES = ("auto", "imagenet", "none")  # of --weights, beside a file or a folder


class WeightSource:
    """`--weights auto|imagenet|none|FILE|DIR`, resolved per teacher; remembers that the net is down."""

    def __init__(self, choice: str):
        self.choice, self.offline = choice, False
        if choice not in CHOICES:
            exists = Path(choice).is_file() or Path(choice).is_dir()
            require(exists, "--weights", "auto, imagenet, none, or an existing file or folder", choice)

    def load(self, name: str, build: Build) -> "tuple[keras.Model, bool, str]":
        """`build(weights=..., **arguments)` with the right weights; see `teachers.Base` for what is returned.

        Raises `UserError` for weights that cannot be downloaded or do not fit.
        """
        row, path = row_of(name), self.path(name)
        if path:
            return self._from_path(name, row, path, build)
        if self.choice == "none":
            return build(weights=None), False, "random weights, by --weights none"
        if not row.published:
            return build(weights=None), False, "random weights, none are published"
        try:
            if self.offline and not _cached(row):
                raise ConnectionError("offline")
            return build(weights="imagenet"), True, "ImageNet weights from Keras"
        except Exception as error:  # Keras raises a bare Exception when a download fails
            if not isinstance(error, ConnectionError) and "fetch failure" not in str(error):
                raise
            if self.choice == "imagenet":
                raise UserError(
                    f"--weights imagenet must be able to download the weights of {name}. It could not. "
                    "Give --weights DIR with the official files, or --weights none."
                ) from None
        self.offline = True
        return build(weights=None), False, NOT_DOWNLOADED

    def path(self, name: str) -> Path | None:
        """The weights file `--weights FILE|DIR` means for this network, None for the other choices.

        Raises `UserError` where a folder has none for it.
        """
        if self.choice in CHOICES:
            return None
        path = Path(self.choice)
        if path.is_dir():
            official = row_of(name).files
            files = [path / file for file in official if (path / file).is_file()]
            rule = f"a folder that holds {' or '.join(official) or 'a file'} for {name}"
            require(files, "--weights", rule, self.choice)
            path = files[0]
        return path

    @staticmethod
    def _from_path(name: str, row: Teacher, path: Path, build: Build) -> "tuple[keras.Model, bool, str]":
        arguments = row.files.get(path.name, {})
        try:
            with warnings.catch_warnings():
                # of a damaged file Keras would load what it finds and leave the rest random
                warnings.filterwarnings("error", "Skipping nested container|.*could not be loaded")
                network = build(weights=str(path), **arguments)
            require(all(map(_finite, network.get_weights())), "--weights", "finite numbers", path.name)
            if row.module == "efficientnet":
                _scale_as_imagenet(network)
            return network, True, f"pretrained weights from {path.name}"
        except DAMAGED as error:
            reason = textwrap.shorten(str(error), 160, placeholder=" ...")
            raise UserError(f"--weights must fit {name}. {path} does not: {reason}.") from None


def _scale_as_imagenet(network: "keras.Model") -> None:
    """Make up for a layer that Keras adds to EfficientNet for `weights="imagenet"` and not for a file.

    There the input is divided by sqrt(sqrt(variance)) once more (its weights were trained so:
    tensorflow/tensorflow#49930). The same is had by a larger variance, whatever file it came from.
    """
    from keras.layers import Normalization
    from keras.src.applications.efficientnet import IMAGENET_STDDEV_RGB

    layer = next(layer for layer in network.layers if isinstance(layer, Normalization))
    mean, variance, *count = layer.get_weights()
    layer.set_weights([mean, variance * np.array(IMAGENET_STDDEV_RGB), *count])
    layer.finalize_state()


def _finite(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).all())


def _cached(row: Teacher) -> bool:
    """Whether Keras has this network's ImageNet weights on disk already."""
    home = os.environ.get("KERAS_HOME", Path.home() / ".keras")
    return any((Path(home) / "models" / file).exists() for file in row.files)
