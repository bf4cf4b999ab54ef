"""The CSV files of a results folder read back: texts as they were written, numbers as numbers.

pandas alone reads a class called "NA", "None" or "null" as missing, "true" and "01" as a bool and a number.
"""

from pathlib import Path

import pandas as pd

from ..predictor import text_of

# columns that hold names of the user's own; all others are the product's words, or numbers
NAMES = (
    *("class", "true", "predicted", "other_class", "name", "set"),  # of classes
    *("teacher", "network", "model", "recipe", "layer", "tensor"),
    *("column", "group", "best_group", "worst_group"),
    *("data", "teacher_weights", "file", "other_file", "word", "sha256"),
)


def read_csv(path: Path) -> pd.DataFrame:
    """A table as `Store.write_csv` and `predict` write it; an empty cell is missing (NaN), and no other is.

    Raises `OSError` and `ValueError`.
    """
    table = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(NAMES, str))
    texts = [column for column in table if not pd.api.types.is_numeric_dtype(table[column])]
    table[texts] = table[texts].map(text_of)
    return table.rename(columns=text_of)
