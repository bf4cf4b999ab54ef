"""Distil chest CT and X-ray classifiers: `python main.py --help`."""

import sys

from kdtf.__main__ import run

if __name__ == "__main__":
    sys.exit(run())
