"""Keras, imported when it is first used, so that rows of registries can be read without the seconds it takes.

For modules whose names are looked up before TensorFlow starts. Their annotations must not be evaluated.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    from keras import KerasTensor, layers, ops
else:

    class LazyModule:
        """Stands for a module until one of its attributes is asked for."""

        def __init__(self, name: str):
            self._name = name

        def __getattr__(self, attribute: str) -> Any:
            return getattr(import_module(self._name), attribute)

    keras, layers, ops = map(LazyModule, ("keras", "keras.layers", "keras.ops"))
    KerasTensor = object

__all__ = ["KerasTensor", "keras", "layers", "ops"]
