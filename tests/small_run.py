"""What tests of a small finished run share: its settings, and how to look into its folder."""

import pandas as pd

# a run of seconds
QUICK = ["--teachers", "mobilenet", "--weights", "none", "--views", "2", "--epochs", "2"]
QUICK += ["--scratch-epochs", "1"]
SHAPE, CLASSES = (16, 16, 3), ("a", "b", "c")  # of the small networks of the fixture `files`


def table(results, name):
    """A CSV file of a results folder."""
    return pd.read_csv(results / name)


def stages(results):
    """{finished stage: when it was made}, to see whether one was made again."""
    return {note.parent.name: note.stat().st_mtime_ns for note in (results / "work").glob("*/stage.json")}
