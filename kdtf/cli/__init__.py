"""The command line: `python main.py`, `python -m kdtf` and the installed `kdtf`.

Arguments become settings, errors become one line and an exit code. The only package that prints or exits; it
computes nothing.
"""

from .entry import main

__all__ = ["main"]
