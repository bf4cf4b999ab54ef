"""The door: whatever the user has becomes a checked `Dataset` of uint8 pixels and int64 labels.

Everything is mapped and looked at in chunks, so the images never sit in memory together. All checks run
before anything is written; the user's own files are never written to. Nothing here draws augmented
views (`views`), and nothing after this module checks pixels or labels again.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UserError, require
from ..predictor import to_image, to_pixels
from .arrays import SPLITS, Named, map_npy, unpacked, write_npy
from .labels import label_notes, read_groups, read_labels, split_off

CHUNK_BYTES = 32 << 20  # of source pixels looked at in one go
SLACK = 1e-4  # what resampling in floats may overshoot 0, 1 or 255 by
FOLDER = {"X": "X_{}.npy", "y": "y_{}.npy", "groups": "groups_{}.npy", "teacher": "teacher/X_{}.npy"}

Progress = Callable[[int, int], None]  # (done, total)


@dataclass(frozen=True)
class Split:
    pixels: np.ndarray  # (N, H, W, C) uint8 0..255, mapped, read-only: what the student sees
    labels: np.ndarray  # (N,) int64
    groups: np.ndarray | None  # (N,) str: patient or study, where known
    teacher_pixels: (
        np.ndarray
    )  # (N, H', W', C) uint8, same images and order; is `pixels` without a larger copy


@dataclass(frozen=True)
class Dataset:
    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    digest: str  # 16 hex digits of sha256 over all that makes up the splits: see `_digest`
    notes: tuple[str, ...]  # what the door decided, one plain sentence each
    synthetic: bool = False
    source: str = ""


@dataclass(frozen=True)
class _Scan:
    """What one pass over an array of pixels found."""

    low: float
    high: float
    sha: str


_Arrays = dict[tuple[str, str], Named]  # by (kind, split), kind a key of FOLDER


def load(
    path,
    work: Path,
    *,
    class_names: tuple[str, ...] = (),
    image_size: int | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
    progress: Progress | None = None,
) -> Dataset:
    """Load a folder of .npy files or an .npz with MedMNIST or Keras keys; `work` takes converted copies.

    `class_names` go before those of classes.txt. With `image_size` the student's pixels are resized to that
    side, and the teacher keeps the originals. Without validation files, `val_fraction` of train is split off
    by `seed`: by class, and by group where groups are known. `progress` hears of images checked. Raises
    `UserError`, having written nothing.
    """
    size_ok = image_size is None or (isinstance(image_size, int) and 8 <= image_size <= 1024)
    require(size_ok, "image_size", "a whole number of pixels from 8 to 1024", image_size)
    require(0 < val_fraction <= 0.5, "val_fraction", "above 0 and at most 0.5", val_fraction)
    path, work = Path(path), Path(work)
    door = _Door(work, image_size, val_fraction, seed, progress or (lambda done, total: None), str(path))
    if path.is_dir():
        synthetic = (path / "SYNTHETIC.txt").exists()
        names = class_names or _read_classes(path / "classes.txt")
        return door.build(_open_folder(path), names, synthetic)
    require(path.exists(), "data", "a folder of .npy files or one .npz file", str(path), "Nothing is there.")
    with unpacked(path, work) as files:
        arrays = {at: Named(name, map_npy(file, name)) for at, (name, file) in files.items()}
        return door.build(arrays, class_names)


@dataclass(frozen=True)
class _Door:
    work: Path
    image_size: int | None
    val_fraction: float
    seed: int
    progress: Progress
    source: str

    def build(self, arrays: _Arrays, names: tuple[str, ...] = (), synthetic: bool = False) -> Dataset:
        splits = _check_shapes(arrays)
        labels, classes = read_labels({s: arrays["y", s] for s in splits}, names)
        groups = {s: read_groups(arrays["groups", s]) for s in splits if ("groups", s) in arrays}
        pixels = {at: _with_channel(a) for at, a in arrays.items() if at[0] in ("X", "teacher")}
        scans = self._scan_all(pixels)
        scale = _float_scale(pixels, scans)
        rows = {}
        if "val" not in splits:
            train, val = split_off(labels["train"], groups.get("train"), self.val_fraction, self.seed)
            rows = {"train": train, "val": val}
        store = _Store(self.work, pixels, scans, scale, rows, self.image_size)
        notes = ["The folder says that its images are synthetic (SYNTHETIC.txt)."] if synthetic else []
        notes += store.notes() + self._split_note(arrays["X", "train"].name, rows, "train" in groups)
        notes += label_notes(labels, classes, names)
        done = {}
        for split in SPLITS:
            origin, take = store.origin(split), rows.get(split, slice(None))
            student, teacher = store.split(split)
            group = groups[origin][take] if origin in groups else None
            done[split] = Split(student, _frozen(labels[origin][take]), _frozen(group), teacher)
        made = (classes, _digest(store, done, classes), tuple(notes), synthetic, self.source)
        return Dataset(done["train"], done["val"], done["test"], *made)

    def _split_note(self, name: str, rows: dict[str, np.ndarray], by_group: bool) -> list[str]:
        if not rows:
            return []
        count, total = len(rows["val"]), len(rows["val"]) + len(rows["train"])
        how = f"{'by class and group' if by_group else 'stratified'}, seed {self.seed}"
        missing = name.replace("train", "val", 1)
        return [f"No {missing}: {count} of the {total} training images were split off as validation ({how})."]

    def _scan_all(self, pixels: _Arrays) -> dict[tuple[str, str], _Scan]:
        total, done, scans = sum(len(p.array) for p in pixels.values()), 0, {}
        for at, named in pixels.items():
            scans[at] = _scan(named, lambda n, before=done: self.progress(before + n, total))
            done += len(named.array)
        return scans


# What the files are


def _open_folder(path: Path) -> _Arrays:
    names = {(kind, split): FOLDER[kind].format(split) for kind in FOLDER for split in SPLITS}
    there = {at for at, name in names.items() if (path / name).is_file()}
    splits = [s for s in SPLITS if s != "val" or {("X", "val"), ("y", "val")} & there]
    kinds = ("X", "y", "teacher") if (path / "teacher").is_dir() else ("X", "y")
    expected = ", ".join(names[kind, split] for split in SPLITS for kind in ("X", "y"))
    for at in [(kind, split) for split in splits for kind in kinds]:
        hint = "X_val.npy and y_val.npy may both be left out." if at[1] == "val" else ""
        rule = f"in the data folder, which holds {expected}"
        require(at in there, names[at], rule, f"no such file in {path}", hint)
    files = {at: name for at, name in names.items() if at in there and at[1] in splits}
    return {at: Named(name, map_npy(path / name, name)) for at, name in files.items()}


def _read_classes(path: Path) -> tuple[str, ...]:
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


def _check_shapes(arrays: _Arrays) -> list[str]:
    """The splits there are, once every array has been found to fit the others. Reads headers alone."""
    splits = [s for s in SPLITS if {("X", s), ("y", s)} & arrays.keys()]
    for split in splits:
        for kind in ("X", "y"):  # an .npz may hold half a validation split
            other = arrays.get(("X", split)) or arrays["y", split]
            require(
                (kind, split) in arrays, f"the {split} split", "both images and labels", f"{other.name} alone"
            )
    for (kind, _), named in arrays.items():
        if kind in ("X", "teacher"):
            _check_image_shape(named)
    first = arrays["X", "train"]
    for (kind, split), named in arrays.items():
        x, shape = arrays["X", split], named.array.shape
        rule = f"as long as {x.name}, which has {len(x.array)}"
        require(len(shape) > 0 and shape[0] == len(x.array), named.name, rule, shape)
        if kind == "X":
            rule = f"of images shaped like those in {first.name}, {_side(first)}"
            require(_side(named) == _side(first), named.name, rule, _side(named))
        if kind == "teacher":
            larger = all(t >= s for t, s in zip(_side(named), _side(x), strict=True))
            rule = f"of images at least as large as, and with the channels of, {x.name}, {_side(x)}"
            require(larger and _side(named)[2] == _side(x)[2], named.name, rule, _side(named))
            same = _side(named) == _side(arrays["teacher", "train"])
            require(same, named.name, "of images shaped like those in teacher/X_train.npy", _side(named))
    return splits


def _check_image_shape(named: Named) -> None:
    shape, dtype = named.array.shape, named.array.dtype
    require(dtype.kind in "uif", named.name, "whole or floating-point numbers", str(dtype))
    fits = len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))
    first = len(shape) == 4 and shape[1] in (1, 3)
    hint = "Channels come last: np.moveaxis(x, 1, -1) puts them there." if first else ""
    require(fits, named.name, "shaped (N, H, W), (N, H, W, 1) or (N, H, W, 3)", shape, hint)
    require(shape[0] > 0, named.name, "at least one image", shape)
    require(min(shape) > 0, named.name, "images of at least one pixel", shape)


def _side(named: Named) -> tuple[int, int, int]:
    """(H, W, C) of the images, C being 1 where the array has no such axis."""
    return (*named.array.shape[1:], 1)[:3]


def _with_channel(named: Named) -> Named:
    array = named.array
    return Named(named.name, array[..., None] if array.ndim == 3 else array)


# Pixels


def _slices(n: int, bytes_each: int) -> Iterator[slice]:
    step = max(1, CHUNK_BYTES // max(1, bytes_each))
    return (slice(i, min(i + step, n)) for i in range(0, n, step))


def _scan(named: Named, progress: Callable[[int], None]) -> _Scan:
    """Range and sha256 of the raw bytes in one pass; NaN and infinity end it."""
    sha, low, high = hashlib.sha256(), np.inf, -np.inf
    for part in _slices(len(named.array), named.array[0].nbytes):
        chunk = np.ascontiguousarray(named.array[part])
        lowest, highest = float(chunk.min()), float(chunk.max())
        if not (np.isfinite(lowest) and np.isfinite(highest)):
            image = part.start + int(np.argmin(np.isfinite(chunk).all(axis=(1, 2, 3))))
            require(False, named.name, "finite numbers", f"NaN or infinity in image {image}")
        low, high = min(low, lowest), max(high, highest)
        sha.update(chunk)
        progress(part.stop)
    return _Scan(low, high, sha.hexdigest())


def _float_scale(pixels: _Arrays, scans: dict) -> int:
    """What floating-point pixels are multiplied by, 255 or 1: one answer for all splits."""
    for at, scan in scans.items():
        name = pixels[at].name
        hint = "Give pixels that are not standardised: 0..255, or 0..1 in floats."
        require(scan.low >= -SLACK, f"pixels in {name}", "0 or more", round(scan.low, 4), hint)
        hint = "Window images of 12 or 16 bits to 0..255 first."
        require(scan.high <= 255 + SLACK, f"pixels in {name}", "at most 255", round(scan.high, 4), hint)
    floats = {pixels[at].name: s.high for at, s in scans.items() if pixels[at].array.dtype.kind == "f"}
    whole = {pixels[at].name: s.high for at, s in scans.items() if pixels[at].array.dtype.kind != "f"}
    hint = "They look like 0..1 pixels cast to integers: they lost their grey levels."
    require(not whole or max(whole.values()) > 1, "whole-number pixels", "0..255", "0..1 in all splits", hint)
    unit = {name: high for name, high in floats.items() if high <= 1 + SLACK}
    rest = {name: high for name, high in floats.items() if high > 1 + SLACK}
    if unit and rest:
        low, high = next(iter(unit.items())), next(iter(rest.items()))
        got = f"a maximum of {low[1]:.4g} in {low[0]} and of {high[1]:.4g} in {high[0]}"
        raise UserError(
            f"floating-point pixels must have one range in all splits, 0..1 or 0..255. Got {got}."
        )
    ok = not rest or max(rest.values()) > 2
    require(
        ok, "floating-point pixels", "0..1 or 0..255", f"a maximum of {max(rest.values(), default=0):.4g}"
    )
    return 255 if unit else 1


def _to_uint8(chunk: np.ndarray, scale: int) -> np.ndarray:
    if chunk.dtype.kind != "f":
        return chunk.astype(np.uint8)
    return np.clip(np.rint(chunk.astype(np.float32) * scale), 0, 255).astype(np.uint8)


def resize(pixels: np.ndarray, side: int | tuple[int, int]) -> np.ndarray:
    """Resize images (N, H, W, C) uint8, C 1 or 3, by Pillow's antialiased triangle filter.

    `side` is that of a square, or (height, width). Returns (N, height, width, C) uint8.
    """
    height, width = (side, side) if isinstance(side, int) else side
    out = np.empty((len(pixels), height, width, pixels.shape[3]), np.uint8)
    for i, image in enumerate(pixels):
        out[i] = to_pixels(to_image(image), out.shape[1:])
    return out


@dataclass(frozen=True)
class _Store:
    """Checked arrays -> uint8 splits: the user's own file where it will do, else one copy in `work`."""

    work: Path
    pixels: _Arrays
    scans: dict[tuple[str, str], _Scan]
    scale: int
    rows: dict[str, np.ndarray]  # of train, for each split made out of it
    image_size: int | None

    def origin(self, split: str) -> str:
        return "train" if split in self.rows else split

    def shrinks(self) -> bool:
        side = self.image_size
        return side is not None and _side(self.pixels["X", "train"])[:2] != (side, side)

    def split(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """(student's, teacher's pixels), each (N, H, W, C) uint8; one object where they are the same."""
        student = self._stored("X", split, self.image_size if self.shrinks() else None)
        if ("teacher", "train") in self.pixels:
            return student, self._stored("teacher", split, None)
        return student, self._stored("X", split, None) if self.shrinks() else student

    def _stored(self, kind: str, split: str, side: int | None) -> np.ndarray:
        at = (kind, self.origin(split))
        array, rows, scale = self.pixels[at].array, self.rows.get(split), self.scale
        if array.dtype == np.uint8 and rows is None and side is None:
            return array
        index = np.arange(len(array)) if rows is None else rows
        scale = scale if array.dtype.kind == "f" else 1
        shape = (side, side, array.shape[3]) if side else array.shape[1:]
        upstream = [self.scans[at].sha, array.dtype.str, array.shape, scale, side, _sha(index.tobytes())]
        path = self.work / f"{kind}_{split}_{_sha(json.dumps(upstream).encode())[:16]}.npy"
        if path.exists():
            return map_npy(path, path.name)
        parts = (_to_uint8(array[index[part]], scale) for part in _slices(len(index), array[0].nbytes))
        return write_npy(path, (len(index), *shape), (resize(p, side) for p in parts) if side else parts)

    def notes(self) -> list[str]:
        x, notes = self.pixels["X", "train"], []
        converted = sorted({str(p.array.dtype) for p in self.pixels.values() if p.array.dtype != np.uint8})
        if converted:
            how = "multiplied by 255 and rounded" if self.scale == 255 else "rounded"
            notes.append(f"Pixels given as {', '.join(converted)} were {how} to whole numbers from 0 to 255.")
        size = "{}x{}".format(*_side(x))
        if self.shrinks():
            notes.append(
                f"Images of {size} were resized to {self.image_size}x{self.image_size} for the student."
            )
        if ("teacher", "train") in self.pixels:
            notes.append("The teacher sees teacher/, {}x{}.".format(*_side(self.pixels["teacher", "train"])))
        elif self.shrinks():
            notes.append(f"The teacher sees the images as they came, {size}.")
        return notes


def _frozen(array: np.ndarray | None) -> np.ndarray | None:
    if array is not None:
        array.setflags(write=False)
    return array


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _digest(store: _Store, splits: dict[str, Split], classes: tuple[str, ...]) -> str:
    """16 hex digits over the raw bytes of all pixel files, how they become uint8 and which rows of them
    are taken, the labels, groups and number of classes, not their names: these change no weight. The same
    images in another dtype have another digest."""
    parts = [len(classes), store.scale, [[split, rows.tolist()] for split, rows in store.rows.items()]]
    for at, scan in store.scans.items():
        parts.append([at, scan.sha, store.pixels[at].array.dtype.str, store.pixels[at].array.shape])
    for s in splits.values():
        groups = None if s.groups is None else s.groups.tolist()
        parts.append([s.pixels.shape, s.teacher_pixels.shape, s.labels.tolist(), groups])
    return _sha(json.dumps(parts).encode())[:16]
