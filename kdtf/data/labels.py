"""Labels and groups as they come to whole numbers and strings, and the validation split made of them."""

import numpy as np

from ..errors import require
from .arrays import NamedArray
from .dataset import SPLITS


def read_labels(
    files: dict[str, NamedArray], names: tuple[str, ...]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """({split: (N,) int64}, class names) of the splits' label arrays; `names` are the user's, or none.

    Raises `UserError` unless every label is one of the classes, every class is in train and two are in val.
    """
    parsed = {split: _whole_labels(array) for split, array in files.items()}
    widths = {width for _, width in parsed.values() if width}
    require(len(widths) <= 1, "one-hot labels", "of the same width in all splits", sorted(widths))
    labels = {split: values for split, (values, _) in parsed.items()}
    count = next(iter(widths), None) or len(names) or int(labels["train"].max()) + 1
    rule = f"one name for each of the {count} classes"
    require(len(names) in (0, count), "classes.txt or --class-names", rule, len(names))
    require(count >= 2, "classes", "at least 2", count)
    for split, values in labels.items():
        outside = values[(values < 0) | (values >= count)]
        first = int(outside[0]) if len(outside) else None
        rule = f"between 0 and {count - 1}"
        require(first is None, f"labels in {files[split].name}", rule, first, "Labels count from 0.")
    present = set(labels["train"].tolist())
    absent = next((k for k in range(count) if k not in present), None)
    label = f"class {absent}" + (f" ({names[absent]})" if names and absent is not None else "")
    hint = "Labels count from 0 without gaps."
    require(absent is None, files["train"].name, "labels with every class in them", f"none of {label}", hint)
    if "val" in labels:
        _check_val(files["val"].name, labels["val"])
    return labels, names or tuple(f"class {k}" for k in range(count))


def _check_val(name: str, labels: np.ndarray) -> None:
    """Raise `UserError` where all val images are of one class: no class has a threshold then."""
    present = np.unique(labels)
    hint = "Every choice is made on val. Give images of other classes, or no val: it is then split off train."
    require(len(present) > 1, name, "labels of at least two classes", f"class {present[0]} alone", hint)


def _whole_labels(source: NamedArray) -> tuple[np.ndarray, int | None]:
    """(labels (N,) int64, width of the one-hot rows if they are that)."""
    values, name = np.asarray(source.array), source.name
    rule = "whole numbers shaped (N,) or (N, 1), or one-hot rows shaped (N, K)"
    hint = "Names of classes go into classes.txt or after --class-names." if values.dtype.kind in "US" else ""
    require(values.dtype.kind in "buif", name, rule, str(values.dtype), hint)
    require(values.ndim in (1, 2), name, rule, values.shape)
    if values.ndim == 2 and values.shape[1] != 1:
        wrong = np.flatnonzero(~(np.isin(values, (0, 1)).all(axis=1) & (values.sum(axis=1) == 1)))
        row = f"row {wrong[0]}: {values[wrong[0]].tolist()}" if len(wrong) else None
        require(row is None, f"one-hot rows of {name}", "0 and 1, with a sum of 1", row)
        return values.argmax(axis=1).astype(np.int64), values.shape[1]
    values = values.reshape(-1)
    broken = values[~((values == np.rint(values)) & (np.abs(values.astype(np.float64)) < 2**31))]
    first = float(broken[0]) if len(broken) else None
    require(first is None, f"labels in {name}", "whole numbers", first)
    return values.astype(np.int64), None


def read_groups(source: NamedArray) -> np.ndarray:
    """(N,) str of whole numbers or strings (N,). Raises `UserError` for anything else."""
    groups = np.asarray(source.array)
    fits = groups.ndim == 1 and groups.dtype.kind in "iuUS"
    require(fits, source.name, "(N,) whole numbers or strings", f"{groups.dtype} {groups.shape}")
    is_bytes = groups.dtype.kind == "S"
    return np.char.decode(groups, "utf-8", "backslashreplace") if is_bytes else groups.astype(str)


def split_off(
    labels: np.ndarray, groups: np.ndarray | None, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sorted rows (train, val) of labels (N,), both holding every class; no group is on both sides.

    Raises `UserError` where there are too few images or groups for that.
    """
    smallest, count = int(np.bincount(labels).min()), round(fraction * len(labels))
    classes, parts = len(np.unique(labels)), len(labels if groups is None else np.unique(groups))
    name, rule = "train", "large enough to split validation off it, every class on both sides"
    size = f"{len(labels)} images, {smallest} in the smallest class, {parts} groups, val_fraction {fraction}"
    hint = "Give X_val and y_val, more images, or a greater val_fraction."
    require(min(smallest, parts) >= 2 and count >= classes, name, rule, size, hint)
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedShuffleSplit  # slow to import

    if groups is None:
        splitter = StratifiedShuffleSplit(10, test_size=count, random_state=seed)
    else:
        folds = min(max(2, round(1 / fraction)), smallest, parts)  # more of them are refused or warned of
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    pairs = splitter.split(labels, labels, groups)
    complete = [pair for pair in pairs if all(len(np.unique(labels[side])) == classes for side in pair)]
    require(complete, name, rule, size, hint)
    train, val = min(complete, key=lambda pair: abs(len(pair[1]) - count))
    return np.sort(train), np.sort(val)


def label_notes(labels: dict[str, np.ndarray], classes: tuple[str, ...], names: tuple[str, ...]) -> list[str]:
    """A sentence where no names were given, and one for each class that val or test lacks."""
    notes = [] if names else ["No names of classes were given (--class-names): they are numbered."]
    for split in [s for s in SPLITS[1:] if s in labels]:
        absent = sorted(set(range(len(classes))) - set(labels[split].tolist()))
        notes += [f"No image of {classes[k]!r} is in {split}." for k in absent]
    return notes
