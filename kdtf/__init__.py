"""Distil chest CT and X-ray classifiers into small `.tflite` students, with the evidence of what was gained.

    import kdtf
    data = kdtf.load("FData")
    print(kdtf.audit(data).verdict)
    result = kdtf.run(kdtf.Config().with_values({"teachers": ["cnn5"], "results": "Results"}), data)
    result.tables()["summary"]

What is below is imported when it is used: `import kdtf` starts neither TensorFlow nor pandas.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from .api import audit, load, run
    from .config import Config
    from .data.dataset import Dataset
    from .distill.distiller import Distiller
    from .distill.losses import LOSSES
    from .models.registry import TEACHERS
    from .models.students import STUDENTS
    from .predictor import Predictor
    from .tflite.recipes import RECIPES

_HOMES = {
    "load": "api",
    "audit": "api",
    "run": "api",
    "Config": "config",
    "Dataset": "data.dataset",
    "Distiller": "distill.distiller",
    "Predictor": "predictor",
    "TEACHERS": "models.registry",
    "STUDENTS": "models.students",
    "LOSSES": "distill.losses",
    "RECIPES": "tflite.recipes",
}
__all__ = [
    "LOSSES",
    "RECIPES",
    "STUDENTS",
    "TEACHERS",
    "Config",
    "Dataset",
    "Distiller",
    "Predictor",
    "__version__",
    "audit",
    "load",
    "run",
]


def __getattr__(name: str) -> Any:
    """Import what the package offers when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
