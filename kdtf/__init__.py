"""Distil large chest CT and X-ray classifiers into `.tflite` students small enough to deploy."""

__version__ = "0.1.0"
