"""Packages that only some commands need: which extra of pyproject.toml brings each, and the one wording."""

from importlib.util import find_spec

from .errors import require

EXTRAS = {  # {module: (its package, the extra that brings it)}
    "pydicom": ("pydicom", "dicom"),
    "highdicom": ("highdicom", "dicom"),
    "ethosu": ("ethos-u-vela", "edge"),
    "tf2onnx": ("tf2onnx", "edge"),
    "onnx": ("onnx", "edge"),
    "onnxruntime": ("onnxruntime", "edge"),
    "fastapi": ("fastapi", "serve"),
    "uvicorn": ("uvicorn", "serve"),
    "mlflow": ("mlflow-skinny", "mlflow"),
    "zarr": ("zarr", "zarr"),
    "ray": ("ray", "ray"),
    "submitit": ("submitit", "slurm"),
    "openvino": ("openvino", "openvino"),
    "optuna": ("optuna", "search"),
}


def require_extras(purpose: str, *modules: str) -> None:
    """Raise `UserError` where one of these modules is not installed; `purpose` is the command or flag."""
    for module in modules:
        package, extra = EXTRAS[module]
        hint = f"`pip install '.[{extra}]'` where kdtf lies installs it."
        rule = f"installed for {purpose}"
        require(find_spec(module), f"The Python package {package}", rule, "nothing of that name", hint)
