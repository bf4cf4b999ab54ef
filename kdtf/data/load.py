"""Whatever the user has becomes a checked `Dataset` of uint8 pixels and int64 labels.

Everything is mapped and looked at in chunks, so the images never sit in memory together. All checks run
before anything is written; the user's own files are never written to. Nothing here draws augmented
views (`views`), and nothing after this module checks pixels or labels again.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..config import DataConfig
from ..digests import PIXELS, Digests, State, file_state
from ..errors import UserError, require
from ..files import require_file
from ..records import Subgroups
from .arrays import FILE_NAMES, Arrays, At, Files, NamedArray, map_npy, unpacked
from .dataset import SPLITS, UNLABELLED, UNLABELLED_SPLIT, Dataset, DataSource, OnProgress, Split
from .labels import label_notes, read_groups, read_labels, split_off
from .pixels import PixelRange, PixelStore, float_scale, measure_range, sha256_of
from .provenance import PROVENANCE
from .shards import gathered
from .subgroups import files_beside, read_tables, subgroup_notes, subgroups_of
from .unlabelled import as_copies, choose_files, folder_files, unlabelled_note

CLASSES = "classes.txt"  # of a data folder: a name a line


def load(
    path: str | Path,
    work: Path,
    *,
    class_names: tuple[str, ...] = (),
    image_size: int | None = None,
    val_fraction: float = DataConfig.val_fraction,
    seed: int = 0,
    unlabelled: str | Path | None = None,
    progress: OnProgress | None = None,
) -> Dataset:
    """Load a folder of .npy files or an .npz with MedMNIST or Keras keys; `work` takes converted copies.

    `class_names` go before those of classes.txt. With `image_size` the student's pixels are resized to that
    side, and the teacher keeps the originals. Without validation files, `val_fraction` of train is split off
    by `seed`: by class, and by group where groups are known. Groups that scores are told apart by are in
    subgroups_{split}.csv beside the arrays. Images without labels are X_unlabelled.npy of the folder, or what
    `unlabelled` names: a folder with such a file, or a .npy file. `progress` hears of images checked. Raises
    `UserError`, having written nothing.
    """
    source = DataSource(path, class_names, image_size, val_fraction, seed, unlabelled)
    return open_source(source, Path(work), progress)


def open_source(
    source: DataSource, work: Path, progress: OnProgress | None = None, digests: Digests | None = None
) -> Dataset:
    """`load` by the settings of a source; `work` takes converted copies, or has them. Raises `UserError`.

    Files that did not change since they were read, by the `digests` of `work`, are not read again.
    """
    known = digests or Digests(work)
    data = _opened(source, work, progress or _unheard, known)
    known.save()
    return data


def _opened(source: DataSource, work: Path, progress: OnProgress, digests: Digests) -> Dataset:
    settings = DataConfig(  # checked at birth, by the rules of a run
        class_names=source.class_names, image_size=source.image_size, val_fraction=source.val_fraction
    )
    path, loader = Path(source.path), _Loader(work, source, progress, digests)
    for file in (path, path / CLASSES, path / PROVENANCE):
        require_file(file, "--data")
    if path.is_dir():
        synthetic = (path / "SYNTHETIC.txt").exists()
        names = settings.class_names or _read_class_names(path / CLASSES)
        with gathered(path, work, digests.of) as joined:
            return loader.load(_files_of_folder(path, joined), names, synthetic)
    require(path.exists(), "data", "a folder of .npy files or one .npz file", str(path), "Nothing is there.")
    with unpacked(path, work, digests.of) as files:
        return loader.load(files, settings.class_names)


def _unheard(done: int, total: int) -> None:
    """Progress that nobody follows."""


@dataclass(frozen=True)
class _Loader:
    """What one `load` was asked for, and its steps from files to a `Dataset`."""

    work: Path
    source: DataSource
    progress: OnProgress
    digests: Digests

    def load(self, files: Files, names: tuple[str, ...], synthetic: bool = False) -> Dataset:
        """Check the arrays, split validation off where there is none, store what is not uint8 yet."""
        files, file_notes = choose_files(files, self.source.unlabelled)
        states = {at: (file, file_state(file)) for at, (_, file) in files.items()}  # before they are opened
        arrays = {at: NamedArray(name, map_npy(file, name)) for at, (name, file) in files.items()}
        arrays, copy_notes = _checked(arrays)
        splits = [split for split in SPLITS if ("X", split) in arrays]
        subgroups = self._read_subgroups(arrays)
        labels, classes = read_labels({s: arrays["y", s] for s in splits}, names)
        groups = {at[1]: read_groups(source) for at, source in arrays.items() if at[0] == "groups"}
        pixels = {at: a.with_channels() for at, a in arrays.items() if at[0] in ("X", "teacher")}
        ranges = self._measure_ranges(pixels, states)
        # the labelled images first: how they become uint8 does not depend on the others
        scale = float_scale(pixels, {at: r for at, r in ranges.items() if at[1] != UNLABELLED_SPLIT})
        rows = {}
        if "val" not in splits:
            train, val = split_off(
                labels["train"], groups.get("train"), self.source.val_fraction, self.source.seed
            )
            rows = {"train": train, "val": val}
        store = PixelStore(
            self.work, pixels, ranges, float_scale(pixels, ranges), rows, self.source.image_size
        )
        notes = ["The folder says that its images are synthetic (SYNTHETIC.txt)."] if synthetic else []
        notes += store.notes() + self._split_note(arrays["X", "train"].name, rows, "train" in groups)
        notes += label_notes(labels, classes, names) + subgroup_notes(subgroups)
        parts = {split: _split(store, split, labels, groups, subgroups) for split in SPLITS}
        unlabelled = _unlabelled(store, groups)
        notes += [*file_notes, *copy_notes, *([unlabelled_note(unlabelled)] if unlabelled else [])]
        taken = [[split, rows.tolist()] for split, rows in rows.items()]
        return Dataset(
            parts["train"],
            parts["val"],
            parts["test"],
            classes,
            _digest([len(classes), scale, taken], store, parts),
            tuple(notes),
            synthetic,
            str(Path(self.source.path)),
            self.source,
            unlabelled,
            _digest([store.scale], store, {UNLABELLED_SPLIT: unlabelled}) if unlabelled else "",
        )

    def _read_subgroups(self, arrays: Arrays) -> dict[str, tuple[Subgroups, ...]]:
        """{split: columns} of the tables beside the arrays, which are told by their file alone."""
        images = {at[1]: len(array.array) for at, array in arrays.items() if at[0] == "X"}
        return subgroups_of(read_tables(files_beside(Path(self.source.path), SPLITS), images))

    def _split_note(self, name: str, rows: dict[str, np.ndarray], by_group: bool) -> list[str]:
        if not rows:
            return []
        count, total = len(rows["val"]), len(rows["val"]) + len(rows["train"])
        how = f"{'by class and group' if by_group else 'stratified'}, seed {self.source.seed}"
        missing = name.replace("train", "val", 1)
        return [f"No {missing}: {count} of the {total} training images were split off as validation ({how})."]

    def _measure_ranges(
        self, pixels: Arrays, states: dict[At, tuple[Path, State | None]]
    ) -> dict[At, PixelRange]:
        """What a pass over each array finds, or found when its file was as it is."""
        total, ranges = sum(len(p.array) for p in pixels.values()), {}
        before = 0
        for at, source in pixels.items():
            file, state = states[at if at in states else ("X", at[1])]  # an array may be taken as a copy
            read = partial(_read_range, source, partial(self._measured, before, total))
            ranges[at] = PixelRange(*self.digests.recall(file, PIXELS, read, state))
            before += len(source.array)
            self._measured(0, total, before)
        return ranges

    def _measured(self, before: int, total: int, images: int) -> None:
        self.progress(before + images, total)


def _read_range(source: NamedArray, progress: Callable[[int], None]) -> list:
    """`measure_range` as a list."""
    return list(measure_range(source, progress))


# What the files are


def _files_of_folder(path: Path, joined: Files) -> Files:
    """The files of a data folder, and those that were `joined` from its shards and stores."""
    names = {(kind, split): FILE_NAMES[kind].format(split) for kind in FILE_NAMES for split in SPLITS}
    present = {at for at, name in names.items() if (path / name).is_file()} | joined.keys()
    splits = [s for s in SPLITS if s != "val" or {("X", "val"), ("y", "val")} & present]
    kinds = ("X", "y", "teacher") if (path / "teacher").is_dir() else ("X", "y")
    expected = ", ".join(names[kind, split] for split in SPLITS for kind in ("X", "y"))
    for at in [(kind, split) for split in splits for kind in kinds]:
        hint = "X_val.npy and y_val.npy may both be left out." if at[1] == "val" else ""
        rule = f"in the data folder, which holds {expected}"
        require(at in present, names[at], rule, f"no such file in {path}", hint)
    files = {at: (name, path / name) for at, name in names.items() if at in present and at[1] in splits}
    own = {at: file for at, file in joined.items() if at[1] in (*splits, UNLABELLED_SPLIT)}
    return files | folder_files(path) | own


def _read_class_names(path: Path) -> tuple[str, ...]:
    if not path.exists():
        return ()
    try:
        names = [line.strip() for line in path.read_text("utf-8-sig").rstrip().splitlines()]
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"classes.txt must be a text file in UTF-8. Got: {error}.") from error
    require(names and all(names), "classes.txt", "one name a line, none of them empty", names)
    twice = sorted({name for name in names if names.count(name) > 1})
    require(not twice, "classes.txt", "names that all differ", twice)
    return tuple(names)


def _checked(arrays: Arrays) -> tuple[Arrays, list[str]]:
    """(arrays, notes), once every array is known to fit the others. Reads headers alone."""
    for split in [s for s in SPLITS if {("X", s), ("y", s)} & arrays.keys()]:
        for kind in ("X", "y"):  # an .npz may hold half a validation split
            other = arrays.get(("X", split)) or arrays["y", split]
            rule = "both images and labels"
            require((kind, split) in arrays, f"the {split} split", rule, f"{other.name} alone")
    for (kind, _), source in arrays.items():
        if kind in ("X", "teacher"):
            _check_image_shape(source)
    arrays, notes = as_copies(arrays)
    for at, source in arrays.items():
        _check_fits(at, source, arrays)
    return arrays, notes


def _check_image_shape(source: NamedArray) -> None:
    shape, dtype = source.array.shape, source.array.dtype
    require(dtype.kind in "uif", source.name, "whole or floating-point numbers", str(dtype))
    fits = len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))
    first = len(shape) == 4 and shape[1] in (1, 3)
    hint = "Channels come last: np.moveaxis(x, 1, -1) puts them there." if first else ""
    require(fits, source.name, "shaped (N, H, W), (N, H, W, 1) or (N, H, W, 3)", shape, hint)
    require(shape[0] > 0, source.name, "at least one image", shape)
    require(min(shape) > 0, source.name, "images of at least one pixel", shape)


def _check_fits(at: tuple[str, str], source: NamedArray, arrays: Arrays) -> None:
    """One array against the student's images of its split, and against the same kind in train."""
    (kind, split), shape = at, source.array.shape
    images, train = arrays.get(("X", split)) or arrays["teacher", split], arrays["X", "train"]
    rule = f"as long as {images.name}, which has {len(images.array)}"
    require(len(shape) > 0 and shape[0] == len(images.array), source.name, rule, shape)
    if kind == "X":
        own, expected = source.image_shape, train.image_shape
        require(own == expected, source.name, f"of images shaped like those in {train.name}, {expected}", own)
    if kind == "teacher":
        own, small = source.image_shape, images.image_shape
        larger = all(t >= s for t, s in zip(own, small, strict=True)) and own[2] == small[2]
        rule = f"of images at least as large as, and with the channels of, {images.name}, {small}"
        require(larger, source.name, rule, own)
        same = own == arrays["teacher", "train"].image_shape
        require(same, source.name, "of images shaped like those in teacher/X_train.npy", own)


# What is made of them


def _split(
    store: PixelStore,
    split: str,
    labels: dict[str, np.ndarray],
    groups: dict[str, np.ndarray],
    subgroups: dict[str, tuple[Subgroups, ...]],
) -> Split:
    """The images of `split`, and their rows of the source's labels and groups."""
    origin, taken = store.origin(split), store.rows.get(split)
    rows = slice(None) if taken is None else taken
    student, teacher = store.split(split)
    own_groups = _frozen(groups[origin][rows]) if origin in groups else None
    columns = tuple(own._replace(member=_frozen(own.member[rows])) for own in subgroups.get(origin, ()))
    return Split(student, _frozen(labels[origin][rows]), own_groups, teacher, taken, columns)


def _unlabelled(store: PixelStore, groups: dict[str, np.ndarray]) -> Split | None:
    """The images without labels, where there are any."""
    source = store.pixels.get(("X", UNLABELLED_SPLIT)) or store.pixels.get(("teacher", UNLABELLED_SPLIT))
    if source is None:
        return None
    labels = np.full(len(source.array), UNLABELLED, np.int64)
    return _split(store, UNLABELLED_SPLIT, {UNLABELLED_SPLIT: labels}, groups, {})


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


def _digest(settings: list, store: PixelStore, splits: dict[str, Split]) -> str:
    """16 hex digits over `settings`, the raw bytes of the pixel files of `splits`, their labels and groups.

    The settings say how pixels become uint8 and, of labelled images, which rows are taken and the number of
    classes. Not the names of classes: these change no weight. The same images in another dtype have another
    digest.
    """
    parts, origins = [*settings], {store.origin(split) for split in splits}
    for at, measured in store.ranges.items():
        if at[1] in origins:
            array = store.pixels[at].array
            parts.append([at, measured.sha256, array.dtype.str, array.shape])
    for s in splits.values():
        groups = None if s.groups is None else s.groups.tolist()
        parts.append([s.pixels.shape, s.teacher_pixels.shape, s.labels.tolist(), groups])
    return sha256_of(json.dumps(parts).encode())[:16]
