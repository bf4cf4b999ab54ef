"""Which versions of packages made a result."""

from collections.abc import Iterable
from importlib import metadata

PACKAGES = (
    "tensorflow",
    "keras",
    "ai-edge-litert",
    "litert-quantizer",
    "tf-keras",
    "tensorflow-model-optimization",
    "numpy",
    "pandas",
    "scikit-learn",
    "seaborn",
    "matplotlib",
)


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """What is installed of `packages`, those that decide a run's result unless told otherwise."""
    installed = {}
    for package in packages:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            installed[package] = "not installed"
    return installed
