"""The command line: `python main.py`, `python -m kdtf` and the installed `kdtf`."""

from .entry import main

__all__ = ["main"]
