"""Distil chest CT and X-ray classifiers: `python main.py --help`."""

import sys

from kdtf.cli import main

if __name__ == "__main__":
    sys.exit(main())
