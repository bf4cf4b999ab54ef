"""The recipes of `.tflite` files, one row each: all that goes with a recipe's name. Imports nothing heavy."""

from collections.abc import Iterable
from dataclasses import dataclass

QAT = "qat"  # int8 in the loop


@dataclass(frozen=True)
class Recipe:
    """Storage types of weights and activations, of input and output, and what comes before or is left out.

    `tuning` is `QAT` or a row of `compress.METHODS`: the student is fine-tuned for this file first.
    `selectable` says whether --recipes may name it, `mark` is its marker in pictures (Matplotlib's).
    """

    weights: str
    activations: str
    pixels: str = "float32"
    tuning: str = ""
    selectable: bool = True
    mark: str = "P"

    @property
    def static_range(self) -> bool:
        """Are the ranges of its activations set beforehand, by representative images."""
        return self.activations.startswith("int")

    @property
    def scheme(self) -> str:
        """`wi8_ai8`: weights int8, activations int8; fp32 is float32."""
        weights, activations = (
            t.replace("float", "fp").replace("int", "i") for t in (self.weights, self.activations)
        )
        return f"w{weights}_a{activations}"


RECIPES = {
    "float32": Recipe("float32", "float32", mark="s"),
    "float16": Recipe("float16", "float32", mark="^"),
    "dynamic": Recipe("int8", "float32", mark="v"),
    "int8": Recipe("int8", "int8", pixels="uint8", mark="D"),
    "int16x8": Recipe("int8", "int16", pixels="int16", mark="<"),
    "int4": Recipe("int4", "float32", mark=">"),
    "int8-qat": Recipe("int8", "int8", pixels="uint8", tuning=QAT, mark="p"),
    "int8-prune": Recipe("int8", "int8", pixels="uint8", tuning="prune", mark="X"),
    "int8-cluster": Recipe("int8", "int8", pixels="uint8", tuning="cluster", mark="h"),
    "int8-mixed": Recipe("int8", "int8", pixels="uint8", selectable=False, mark="d"),  # where int8 loses
}


# the settings that a method of fine-tuning obeys: {what it is to the method: field of QuantizeConfig}
TUNING_SETTINGS = {
    QAT: {"epochs": "qat_epochs", "rate": "qat_rate"},
    "prune": {"epochs": "compress_epochs", "rate": "compress_rate", "sparsity": "sparsity"},
    "cluster": {"epochs": "compress_epochs", "rate": "compress_rate", "clusters": "clusters"},
}


def recipes_of_run(recipes: Iterable[str], compress: Iterable[str]) -> list[str]:
    """The recipes a run makes: those picked, and an int8 one for each of --compress."""
    return list(dict.fromkeys([*recipes, *(f"int8-{method}" for method in compress)]))
