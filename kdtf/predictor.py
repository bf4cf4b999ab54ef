"""A `.tflite` student and the `.json` beside it: images in, probabilities out.

This file stands alone: copy it next to a bundle and it works with numpy, pillow and ai-edge-litert (or
TensorFlow) only, and with pydicom where there are DICOM files. It imports nothing of kdtf, trains
nothing, and refuses a damaged image with a reason instead of repairing it. `kdtf.prepare` makes training
images with the same functions, so that a device sees what training saw.

    predictor = Predictor("vgg16_Student_int8.tflite")
    for row in predictor.rows(["scans", "one.png"]):    # files and folders, in constant memory
        print(row.file, row.label, row.probability, row.uncertain, row.warning or row.error)
    probs = predictor(pixels)    # arrays (N, H, W, C) 0..255 -> (N, K), as the file gives them

`python predictor.py vgg16_Student_int8.tflite scans one.png` prints such rows.
"""

import base64
import csv
import hashlib
import json
import math
import os
import re
import shutil
import struct
import sys
import textwrap
import time
import tokenize
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image
    from pydicom import Dataset

BATCH = 64  # images a call: larger ones gain nothing on a CPU and cost memory
FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
IMAGES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}
DICOM = {".dcm", ".dicom", ".ima"}
DICOM_MAGIC, DICOM_MAGIC_AT = b"DICM", 128  # bytes
NPY_MAGIC = b"\x93NUMPY"
MOST_SIDE = 8192  # px: what a card may ask images to be prepared to
FULL_16_BIT = (0, 65535)
BITS_12 = 4096
TEMPERATURES = (0.001, 1000.0)  # from and to, of a card; kdtf fits them between 0.05 and 20
SETS = ("threshold", "adaptive")  # how prediction sets are made: see `fits`
FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")  # how text begins that spreadsheets run
LEAST_PATH = 16  # characters of a path that are left on the narrowest screen
USE = "Research use only. Not a medical device."
SLACK = 1e-4  # what resampling in floats may overshoot 0, 1 or 255 by
# What decoders raise, between them, on damaged or hostile files.
UNREADABLE = (
    *(ValueError, TypeError, OSError, EOFError, SyntaxError, RuntimeError, LookupError, AttributeError),
    *(ArithmeticError, MemoryError, struct.error, zlib.error, tokenize.TokenError),
)


class BundleError(ValueError):
    """A bundle or an input that cannot be used. Its text is one line."""


class Unusable(Exception):
    """An image that cannot be taken. Its text is the reason: no path and nothing out of a header."""


# A bundle


def read_bundle(path: str | Path) -> tuple[bytes, dict[str, Any]]:
    """The bytes of a `.tflite` and the card in the `.json` beside it.

    Raises `BundleError` when a file is missing or damaged, or the two do not belong together.
    """
    path = Path(path)
    beside = path.with_suffix(".json")
    try:
        for seconds in (0.1, 0.3, 0.0):  # to wait where a run has replaced one of the two so far
            model = path.read_bytes()
            card = json.loads(beside.read_text(encoding="utf-8"))
            if isinstance(card, dict) and card.get("sha256") == hashlib.sha256(model).hexdigest():
                break
            time.sleep(seconds)
    except OSError as error:
        raise BundleError(
            f"A bundle must be a .tflite and a .json file. {error.filename}: {error.strerror}."
        ) from None
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{beside} must be valid JSON. It is not: {error}.") from None
    if not _describes_a_student(card):
        raise BundleError(f"{beside} must describe a kdtf student. It does not.")
    least, most = TEMPERATURES
    if not least <= card.get("temperature", 1.0) <= most:
        rule = f"a temperature between {least:g} and {most:g}"
        raise BundleError(f"{beside} must have {rule}. Got {card['temperature']!r}.")
    if hashlib.sha256(model).hexdigest() != card["sha256"]:
        raise BundleError(f"{path} must be the file its .json was written for. Their sha256 differ.")
    return model, card


def _describes_a_student(card: Any) -> bool:
    """Has the card what running it needs, in the types it needs? Scaling and thresholds may be missing."""
    try:
        taken, typical = card["input"], card.get("training_images", {})
        prepared = taken.get("prepared", {})
        numbers = [
            *(card.get("temperature", 1.0), *prepared.get("window", ())),
            *card.get("thresholds", {}).values(),
            *(value for ends in typical.values() for value in ends),
        ]
        sizes = [*(taken[k] for k in ("height", "width", "channels")), prepared.get("side", 0)]
        return (
            all(isinstance(name, str) for name in (card["sha256"], *card["classes"]))
            and all(type(size) is int for size in sizes)
            and all(type(number) in (int, float) and math.isfinite(number) for number in numbers)
            and all(len(ends) == 3 for ends in typical.values())
            and len(prepared.get("window", ())) in (0, 2)
            and 0 <= prepared.get("side", 0) <= MOST_SIDE
            and isinstance(card.get("output_tensor", {}), dict)
            and _has_set_rule(card.get("prediction_sets"))
            and all(isinstance(sentence, str) for sentence in card.get("answer_limits", []))
            and patterns_of(card).shape[1] == THUMBNAIL**2
            and card.get("temperature", 1.0) > 0
        )
    except (TypeError, KeyError, AttributeError, OverflowError, ValueError):
        return False


def _has_set_rule(sets: Any) -> bool:
    """Can prediction sets be made by this part of a card? Cards of kdtf before 0.2.0 have none."""
    if not sets and isinstance(sets, dict | None):
        return True
    numbers = [sets["coverage"], *sets["quantiles"].values()]
    return (
        sets["method"] in SETS
        and all(type(number) in (int, float) and 0 <= number <= 1 for number in numbers)
        and 0 < sets["coverage"] < 1
    )


def open_interpreter(model: bytes, name: str | Path, threads: int = 1) -> Any:
    """The LiteRT interpreter of a model's bytes, tensors allocated; `name` is what errors call it.

    It has run once: a damaged model may be read, and fail only then. Raises `BundleError` where the bytes
    are no model.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:  # older installations have the interpreter inside TensorFlow only
        from tensorflow.lite.python.interpreter import Interpreter
    try:
        interpreter = Interpreter(model_content=model, num_threads=threads)
        interpreter.allocate_tensors()
        interpreter.invoke()
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise BundleError(f"{name} must be a TFLite model. It cannot be read: {reason}.") from None
    return interpreter


class Row(NamedTuple):
    """What is said of one image."""

    file: str
    index: int  # type: ignore[assignment]  # of the image in a `.npy` file; 0 elsewhere
    label: str  # the class of the largest probability; "" where the image could not be read
    probability: float  # of that class, calibrated
    uncertain: bool  # below the threshold of that class, or as likely as another one
    warning: str  # in what the image is unlike the training images, or ""
    error: str  # why the image could not be read, or ""
    probs: np.ndarray  # (K,) calibrated; empty where the image could not be read
    statistics: dict[str, float] | None = None  # of `STATISTICS`; None where the image could not be read
    prediction_set: tuple[str, ...] | None = None  # the classes it may be; None where the card has no rule

    def record(self, classes: tuple[str, ...]) -> dict[str, Any]:
        """The row as a line of a table; what is not known is empty."""
        read, names = not self.error, self.prediction_set
        return {
            "file": self.file,
            "index": self.index,
            "class": self.label,
            "probability": f"{self.probability:.6g}" if read else "",
            "uncertain": int(self.uncertain) if read else "",
            "set": "" if names is None else set_in_words(names, classes),
            "set_size": "" if names is None else len(names),
            "warning": self.warning if read else f"not read: {self.error}",
            **{f"p {name}": f"{p:.6g}" for name, p in zip(classes, self.probs, strict=False)},
        }


class Waiting(NamedTuple):
    """An image on its way to the student, or the reason why there is none."""

    file: str
    index: int  # type: ignore[assignment]
    pixels: np.ndarray | None  # (H, W, C) uint8
    warning: str = ""
    error: str = ""


class Predictor:
    """Runs one bundle.

    Args:
        path: the `.tflite` file; its `.json` is expected beside it under the same name.
        threads: CPU threads of the interpreter.

    Raises `BundleError` when a file is missing or damaged, or the two do not belong together.
    """

    def __init__(self, path: str | Path, threads: int = 1):
        model, self.card = read_bundle(path)
        self._interpreter = open_interpreter(model, path, threads)
        self.classes: tuple[str, ...] = tuple(self.card["classes"])
        self.limits: tuple[str, ...] = tuple(self.card.get("answer_limits", ()))  # of every answer
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]
        taken = self.card["input"]
        self.shape = (taken["height"], taken["width"], taken["channels"])
        found = (*map(int, self._input["shape"][1:]), int(self._output["shape"][-1]))
        if found != (*self.shape, len(self.classes)):
            raise BundleError(f"{path} must have the input and classes its .json states. It has others.")
        for told, tensor in (("input", self._input), ("output_tensor", self._output)):
            self._check(path, self.card.get(told, {}), tensor)

    @staticmethod
    def _check(path: str | Path, told: dict[str, Any], tensor: dict[str, Any]) -> None:
        """Does a tensor have the type, scale and zero point that the card states, where it states them."""
        scale, zero = tensor["quantization"]
        has = {"dtype": np.dtype(tensor["dtype"]).name, "scale": scale, "zero_point": zero}
        if any(told.get(name, value) != value for name, value in has.items()):
            raise BundleError(f"{path} must have the types and scales its .json states. It has {has}.")

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels (N, H, W, C), 0..255, to probabilities (N, K) float32, rows summing to 1.

        As the file gives them; `calibrated` scales them by the temperature of the card.
        """
        if pixels.ndim != 4 or pixels.shape[1:] != self.shape:
            sides = ", ".join(map(str, self.shape))
            raise BundleError(f"pixels must be shaped (N, {sides}). Got {pixels.shape}.")
        parts = [self._run(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.classes)), np.float32)

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        index = self._input["index"]
        if len(pixels) != self._interpreter.get_input_details()[0]["shape"][0]:
            self._interpreter.resize_tensor_input(index, pixels.shape)
            self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(index, quantized(pixels, self._input))
        self._interpreter.invoke()
        raw = self._interpreter.get_tensor(self._output["index"])  # (N, K)
        scale, zero = self._output["quantization"]
        probs = (raw.astype(np.float32) - zero) * scale if scale else raw.astype(np.float32)
        total = probs.sum(axis=1, keepdims=True)
        return probs / np.where(total > 0, total, 1)  # 8-bit steps of 1/256 do not add up exactly

    def calibrated(self, probs: np.ndarray) -> np.ndarray:
        """Probabilities (N, K) at the temperature of the card, which was fitted on val."""
        return tempered(probs, self.card.get("temperature", 1.0))

    def uncertain(self, probs: np.ndarray) -> np.ndarray:
        """(N,) bool: is the top class of calibrated probabilities (N, K) below its threshold in the card?

        Or is another class as likely? A class without a threshold is uncertain then alone.
        """
        thresholds = self.card.get("thresholds", {})
        return uncertain(probs, np.array([thresholds.get(name, 0.0) for name in self.classes]))

    def prediction_sets(self, probs: np.ndarray) -> list[tuple[str, ...] | None]:
        """For each of calibrated probabilities (N, K): the classes that the image may be of, by `members`.

        None of a card without quantiles.
        """
        rule = self.card.get("prediction_sets")
        if not rule:
            return [None] * len(probs)
        inside = members(probs, self.classes, rule)
        return [tuple(name for name, own in zip(self.classes, row, strict=True) if own) for row in inside]

    def rows(self, sources: str | Path | Iterable[str | Path]) -> Iterator[Row]:
        """A `Row` per image of files and folders, in order, `BATCH` images in memory at a time.

        PNG, JPEG, TIFF, BMP, DICOM and `.npy` files (H, W), (H, W, C), (N, H, W) or (N, H, W, C), C 1
        or 3. Folders are walked in the order of names; what is no image by its name is left out there.
        An image that cannot be read has a row with `error`, and so has a source that is missing. Raises
        `BundleError` where all sources are.
        """
        if isinstance(sources, (str, Path)):
            sources = [sources]
        paths = [Path(source) for source in sources]
        if paths and not any(source.exists() for source in paths):
            raise BundleError(f"{paths[0]} must be an image, a .npy file or a folder. Nothing is there.")
        waiting = []
        for file in (file for source in paths for file in files_of(source)):
            for image in self._images(file):
                waiting.append(image)
                if len(waiting) == BATCH:
                    yield from self._predicted(waiting)
                    waiting = []
        yield from self._predicted(waiting)

    def _predicted(self, images: list[Waiting]) -> Iterator[Row]:
        there = [image.pixels for image in images if image.pixels is not None]
        if there:
            pixels = np.stack(there)  # (N, H, W, C)
            probs = self.calibrated(self(pixels))
            values = statistics(pixels, patterns_of(self.card))
            sets, unlike_words = self.prediction_sets(probs), self._unlike(values)
            found = zip(probs, self.uncertain(probs), unlike_words, _by_image(values), sets, strict=True)
        for image in images:
            if image.pixels is None:
                yield Row(image.file, image.index, "", np.nan, False, "", image.error, np.zeros(0))
                continue
            p, uncertain, unlike, numbers, own_set = next(found)
            said = "; ".join(filter(None, (image.warning, unlike)))
            top = int(p.argmax())
            row = Row(image.file, image.index, self.classes[top], float(p[top]), bool(uncertain), said, "", p)
            yield row._replace(statistics=numbers, prediction_set=own_set)

    def unlike(self, pixels: np.ndarray) -> list[str]:
        """For each of pixels (N, H, W, C): in what it lies far outside the training images, or ""."""
        return self._unlike(statistics(pixels, patterns_of(self.card)))

    def _unlike(self, values: dict[str, np.ndarray]) -> list[str]:
        known = self.card.get("training_images", {})
        said: list[list[str]] = [[] for _ in values["brightness"]]
        for name, (least, most) in likeness(known).items():
            low, _, high = known[name]
            for i, value in enumerate(values[name]):
                if not least <= value <= most:
                    said[i].append(f"{name} {value:.0f} (theirs {low:.0f} to {high:.0f})")
        return [f"{UNLIKE}: {', '.join(parts)}" if parts else "" for parts in said]

    def _images(self, file: Path) -> Iterator[Waiting]:
        """The image of a file, or all images of a `.npy` file, one at a time."""
        try:
            kind = _kind(file)
            if kind == "npy":
                yield from self._array_images(file)
            else:
                yield self._one_image(file, read_dicom if kind == "dicom" else read_image)
        except Unusable as reason:
            yield Waiting(str(file), 0, None, error=str(reason))

    def _one_image(self, file: Path, read: Callable[..., "Picture"]) -> Waiting:
        prepared = self.card["input"].get("prepared", {})
        with warnings.catch_warnings():
            # pydicom's quote headers, and a header holds the patient; Pillow's bomb is refused by its size
            warnings.simplefilter("ignore")
            picture = read(file, tuple(prepared.get("window", ())))
        pixels = self.pixels(picture.image)
        said = [_small(picture.image.size, self.shape)]
        if picture.peak is not None and picture.peak < BITS_12:
            said.append(f"16 bits, but nothing above {picture.peak}: 12-bit data look almost black")
        if picture.stretched:
            said.append("no window in the file: its darkest level is black here, its brightest white")
        return Waiting(str(file), 0, pixels, "; ".join(filter(None, said)))

    def pixels(self, image: "Image") -> np.ndarray:
        """A Pillow image of mode L or RGB as (H, W, C) uint8, made as `prepare` made the training images."""
        prepared = self.card["input"].get("prepared", {})
        side, keep_aspect = prepared.get("side", 0), prepared.get("keep_aspect", False)
        if side and (side, side) != self.shape[:2]:  # the run made its input of larger arrays
            image = to_image(to_pixels(image, (side, side, self.shape[2]), keep_aspect))
        return to_pixels(image, self.shape, keep_aspect)

    def _array_images(self, file: Path) -> Iterator[Waiting]:
        array, scale = map_images(file)
        for i, values in enumerate(array):
            if values.dtype == np.uint8:
                pixels = np.array(values)
            else:
                pixels = np.clip(np.rint(values.astype(np.float32) * scale), 0, 255).astype(np.uint8)
            if pixels.shape != self.shape:
                pixels = to_pixels(to_image(pixels), self.shape)
            yield Waiting(str(file), i, pixels, _small(values.shape[1::-1], self.shape))


def cell(value: Any) -> Any:
    """A cell of a CSV file: text that spreadsheets would take for a formula gets a ' before it.

    They show such a cell as the text behind the ' and run nothing (OWASP, CSV injection). Text that
    begins with ' and would be a formula behind it gets another one, so that `text_of` gives every text
    back. Numbers stay.
    """
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def text_of(cell: Any) -> Any:
    """What `cell` was given."""
    formula = isinstance(cell, str) and cell.startswith("'") and FORMULA.match(cell)
    return cell[1:] if formula else cell


def saved(rows: Iterable[Row], classes: tuple[str, ...], path: str | Path) -> Iterator[Row]:
    """Pass `rows` on, each written as a line of CSV; `path` appears, whole, after the last of them.

    Texts are written as by `cell`: the names of files and classes are anybody's.
    """
    part = f"{path}.{os.getpid()}.part"
    try:
        # file names may hold bytes that are no UTF-8
        with open(part, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            columns = ["file", "index", "class", "probability", "uncertain", "set", "set_size", "warning"]
            table = csv.DictWriter(file, columns + [f"p {name}" for name in classes], lineterminator="\n")
            table.writeheader()
            for row in rows:
                table.writerow({column: cell(value) for column, value in row.record(classes).items()})
                yield row
        os.replace(part, path)
    finally:
        Path(part).unlink(missing_ok=True)


def printed(rows: Iterable[Row], classes: tuple[str, ...], width: int = 0) -> Iterator[tuple[Row, str]]:
    """Each row with its lines for a screen, in columns; above the first one stands a header.

    A warning stands below its image. No line is longer than `width` characters, 0 for lines of any length:
    warnings are broken, of a path the end is left. What could steer a terminal is escaped: the names of
    files and classes are anybody's. Of a prediction set its size is a column, and its classes stand below
    where they are not just the class that is named.
    """
    names = [escaped(name) for name in classes]
    side = max(len(name) for name in ("class", *names))
    started = False
    for row in rows:
        if row.error:
            yield row, f"Not read: {place_of(row)}: {escaped(row.error)}."
            continue
        unsure = "yes" if row.uncertain else "no"
        size = "" if row.prediction_set is None else f"{len(row.prediction_set)} of {len(names)}  "
        place, room = place_of(row), max(LEAST_PATH, width - side - 26 - len(size))
        if width and len(place) > room:
            place = "\u2026" + place[1 - room :]
        text = f"{escaped(row.label):<{side}}  {row.probability:11.3f}  {unsure:<9}  {size}{place}"
        for remark in _remarks(row, classes):
            text += "\n" + (textwrap.fill(remark, width, subsequent_indent="    ") if width else remark)
        heading = f"{'class':<{side}}  probability  uncertain  {'set' if size else '':<{len(size)}}file\n"
        yield row, text if started else heading + text
        started = True


def _remarks(row: Row, classes: tuple[str, ...]) -> Iterator[str]:
    """What stands below a row on a screen: its set where that is more or less than its class, its warning."""
    if row.prediction_set is not None and row.prediction_set != (row.label,):
        yield f"  Prediction set: {escaped(set_in_words(row.prediction_set, classes, why=True))}."
    if row.warning:
        yield f"  Warning: {escaped(row.warning)}."


def place_of(row: Row) -> str:
    """The file of a row, in a `.npy` file with the number of the image, as it can be printed."""
    return escaped(row.file) + (f"[{row.index}]" if row.index else "")


def escaped(text: str) -> str:
    """`text` with line breaks and what else cannot be printed as escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def quantized(pixels: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    """Pixels 0..255 in the type, scale and zero point of an interpreter's input tensor."""
    scale, zero = tensor["quantization"]
    if np.issubdtype(tensor["dtype"], np.floating):
        return pixels.astype(tensor["dtype"])
    limits = np.iinfo(tensor["dtype"])
    steps = np.rint(pixels / scale) + zero if (scale, zero) != (1.0, 0) else np.rint(pixels)
    return np.clip(steps, limits.min, limits.max).astype(tensor["dtype"])


def tempered(probs: np.ndarray, t: float) -> np.ndarray:
    """softmax(log p / T): the probabilities (N, K) at another temperature; their order stays."""
    z = np.log(np.clip(probs, 1e-7, 1)) / t
    z = np.exp(z - z.max(axis=1, keepdims=True))
    return z / z.sum(axis=1, keepdims=True)


# Prediction sets


def uncertain(probs: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """(N,) bool: is the top class of probabilities (N, K) below its cut (K,), or another one as likely?"""
    top = probs.max(axis=1, keepdims=True)
    return (top[:, 0] < cuts[probs.argmax(axis=1)]) | ((probs == top).sum(axis=1) > 1)


def fits(probs: np.ndarray, method: str) -> np.ndarray:
    """How well an image fits each class, (N, K) float64 of probabilities (N, K), by one of `SETS`.

    By "threshold" it is the probability of the class (LAC: Sadinle et al. 2019; Angelopoulos and Bates
    2021). By "adaptive" those of all classes that are no likelier are added, so that the likeliest class
    fits by 1: it is 1 less the score of Romano et al. 2020 without its random part (u = 1). Sums are taken
    in float64, in the order of the classes: whoever does so has the same bits.
    """
    probs = np.asarray(probs, np.float64)
    if method == "threshold":
        return probs
    sums = np.zeros_like(probs)
    for own in probs.T[..., None]:  # (N, 1) of each class
        sums += np.where(own <= probs, own, 0)
    return sums


def members(probs: np.ndarray, classes: tuple[str, ...], rule: dict[str, Any]) -> np.ndarray:
    """Which classes are in the sets of images of calibrated probabilities (N, K), by a card's `rule`: (N, K).

    Those whose fit is at least their quantile, compared in float64, and those that have none.
    """
    quantiles = np.array([rule["quantiles"].get(name, -np.inf) for name in classes])
    return fits(probs, rule["method"]) >= quantiles


def set_in_words(names: tuple[str, ...], classes: tuple[str, ...], *, why: bool = False) -> str:
    """A set of `names` of `classes` as people read it: "a", "a or b", "no class", "any class".

    The last two say `why`, where asked to.
    """
    if not names:
        return "no class" + ": most images of every class fit better" * why
    if len(names) == len(classes) > 1:
        return "any class" + ": it tells nothing" * why
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


# What images look like, in four numbers

STATISTICS = ("brightness", "contrast", "colour", "layout")
UNLIKE = "unlike the training images"  # begins the warning of an image that lies outside their range
THUMBNAIL = 8  # a side: what an image shows is gone, where it is bright and dark is left
SPREAD, LEVELS = 0.1, 2  # an image is unlike the others beyond their range by a tenth of it and two levels


def statistics(pixels: np.ndarray, patterns: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Of each of pixels (N, H, W, C) 0..255: {name: (N,)}.

    Mean grey level; its standard deviation; colour, the largest channel minus the smallest, 0 for a grey
    image; with `patterns` (K, 64) layout, what of its thumbnail is not made of them, in percent.
    """
    values = pixels.astype(np.float32)
    grey = values.mean(axis=3)  # (N, H, W)
    colour = (values.max(axis=3) - values.min(axis=3)).mean(axis=(1, 2))
    found = {"brightness": grey.mean(axis=(1, 2)), "contrast": grey.std(axis=(1, 2)), "colour": colour}
    return found if patterns is None else found | {"layout": unexplained(thumbnails(grey), patterns)}


def _by_image(values: dict[str, np.ndarray]) -> list[dict[str, float]]:
    """`statistics` as a table an image."""
    rows = zip(*(own.tolist() for own in values.values()), strict=True)
    return [dict(zip(values, row, strict=True)) for row in rows]


def thumbnails(grey: np.ndarray) -> np.ndarray:
    """Grey images (N, H, W) as 8 x 8 means, less their mean and of length 1: (N, 64). Zeros of flat ones."""
    height, width = grey.shape[1:]
    rows, columns = (np.arange(THUMBNAIL) * side // THUMBNAIL for side in (height, width))
    sums = np.add.reduceat(np.add.reduceat(grey.astype(np.float64), rows, axis=1), columns, axis=2)
    counts = [np.maximum(1, np.diff([*edges, side])) for edges, side in ((rows, height), (columns, width))]
    values = (sums / np.outer(*counts)).reshape(len(grey), -1)
    values -= values.mean(axis=1, keepdims=True)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)


def unexplained(values: np.ndarray, patterns: np.ndarray) -> np.ndarray:
    """What of thumbnails (N, 64) is not made of `patterns` (K, 64): (N,) of their variance, in percent."""
    return 100 * (1 - ((values @ patterns.T) ** 2).sum(axis=1))


def patterns_of(card: dict[str, Any]) -> np.ndarray:
    """The main patterns (K, 64) of a card's training images, of length 1 each; none of an older card."""
    stored = np.frombuffer(base64.b64decode(card.get("training_layout", ""), validate=True), np.int8)
    patterns = stored.reshape(-1, THUMBNAIL**2).astype(np.float64)
    return patterns / np.maximum(np.linalg.norm(patterns, axis=1, keepdims=True), 1)


def likeness(typical: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Of a card's {statistic: [low, median, high]}: the least and the most an image like those has."""
    ends = {name: typical[name] for name in STATISTICS if name in typical}
    slacks = {name: SPREAD * (high - low) + LEVELS for name, (low, _, high) in ends.items()}
    return {name: (ends[name][0] - slack, ends[name][2] + slack) for name, slack in slacks.items()}


def _small(size: tuple[int, int], shape: tuple[int, int, int]) -> str:
    """What to say of an image of `size` (width, height) that is smaller than the input (H, W, C)."""
    if size[0] >= shape[1] and size[1] >= shape[0]:
        return ""
    return f"tiny: {size[0]} x {size[1]} px, enlarged to {shape[1]} x {shape[0]}"


# Files


def files_of(source: Path, *, bare: bool = False) -> Iterator[Path]:
    """`source` itself, or what is an image by its name in that folder and below, in the order of names.

    DICOM files are by their first bytes too, whatever their name. With `bare` so is every name without an
    ending: DICOM files are called IM0003 or 1.2.840.7, and a damaged one has no first bytes.
    """
    if not source.is_dir():
        yield source
        return
    for folder, inner, names in os.walk(source):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            known = path.suffix.lower() in IMAGES | DICOM | {".npy"}
            known |= bare and (not path.suffix or path.suffix[1:].isdigit())  # a number is no ending
            if not name.startswith(".") and path.is_file() and (known or has_magic(path)):
                yield path


def _kind(file: Path) -> str:
    """One of npy, dicom and image: by the first bytes, or by an ending of the first two."""
    start = _start(file)
    if start.startswith(NPY_MAGIC) or file.suffix.lower() == ".npy":
        return "npy"
    dicom = start[DICOM_MAGIC_AT:] == DICOM_MAGIC or file.suffix.lower() in DICOM
    return "dicom" if dicom else "image"


def _start(file: Path) -> bytes:
    try:
        with open(file, "rb") as opened:
            return opened.read(DICOM_MAGIC_AT + len(DICOM_MAGIC))
    except OSError as error:
        raise Unusable(error.strerror) from None


def has_magic(path: Path) -> bool:
    """Does the file begin as DICOM files do? A file that cannot be read does not."""
    try:
        return _start(path)[DICOM_MAGIC_AT:] == DICOM_MAGIC
    except Unusable:
        return False


def map_images(path: Path) -> tuple[np.ndarray, int]:
    """The images (N, H, W, C) of a `.npy` file, mapped, and what they are to be multiplied by for 0..255.

    An array (H, W, 1) or (H, W, 3) is one image. Raises `Unusable`.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except UNREADABLE as error:
        raise Unusable(f"no .npy file of numbers that can be read: {_reason(error)}") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "uif" or not array.size:
        raise Unusable("not one array of numbers, or an empty one")
    shape = array.shape
    if array.ndim == 2:
        array = array[None, ..., None]
    elif array.ndim == 3:
        array = array[None] if shape[-1] in (1, 3) else array[..., None]
    if array.ndim != 4 or array.shape[-1] not in (1, 3):
        raise Unusable(f"an array of shape {shape}, not (N, H, W), (N, H, W, 1) or (N, H, W, 3)")
    if array.dtype == np.uint8:
        return array, 1
    ends = [(float(part.min()), float(part.max())) for part in array]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    if not np.isfinite(ends).all():
        raise Unusable("NaN or infinity among its numbers")
    if low < -SLACK or high > 255 + SLACK:
        raise Unusable(f"numbers from {low:.4g} to {high:.4g}, not 0..255 or, in floats, 0..1")
    return array, 255 if array.dtype.kind == "f" and high <= 1 + SLACK else 1


# Images: one file -> upright, opaque 8-bit pixels


class Picture(NamedTuple):
    image: "Image"  # of mode L or RGB
    peak: int | None = None  # largest value of a 16-bit grey image without a window
    stretched: bool = False  # are black and white the least and the largest value of a DICOM file?


def read_image(path: Path, window: tuple[float, ...] = ()) -> Picture:
    """Decode a PNG, JPEG, TIFF or BMP; `window` is (center, width) of 16- and 32-bit grey levels, or ().

    Without a window 16 bits are 0..65535, and 32 bits the image's own minimum to maximum. The bytes
    reach Pillow's decoders of these four formats and nothing else. Raises `Unusable`.
    """
    Pillow = _pillow()
    from PIL import ImageOps, UnidentifiedImageError

    try:
        with open(path, "rb") as file, Pillow.open(file, formats=FORMATS) as image:
            _check_picture(image)
            image.load()  # before the EXIF data: in a PNG they may follow the pixels
            ImageOps.exif_transpose(image, in_place=True)
            return _flatten(image, window)
    except UnidentifiedImageError:
        raise Unusable(f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image") from None
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning):
        raise Unusable(_too_large()) from None
    except UNREADABLE as error:
        raise Unusable(_reason(error)) from None


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError:
        raise BundleError("Images must be read by Pillow. It is missing: pip install pillow.") from None
    return Image


def _reason(error: Exception) -> str:
    """One line; the text of an OSError with a number names the path, so its reason alone."""
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


def check_pixels(width: int, height: int) -> None:
    """Raise `Unusable` above the number of pixels at which Pillow warns of a decompression bomb."""
    if width * height > (_pillow().MAX_IMAGE_PIXELS or np.inf):
        raise Unusable(_too_large())


def _too_large() -> str:
    return f"more than {_pillow().MAX_IMAGE_PIXELS:,} pixels: it may be a decompression bomb"


def _check_picture(image: "Image") -> None:
    check_pixels(*image.size)
    pages = getattr(image, "n_frames", 1) if image.format in ("TIFF", "PNG") else 1
    if pages > 1:
        raise Unusable(f"{pages} images in one file")


def _flatten(image: "Image", window: tuple[float, ...]) -> Picture:
    """Mode L or RGB; transparent parts lie on black."""
    Pillow = _pillow()
    if image.mode.startswith("I;16"):
        values = np.asarray(image)
        peak = None if window else int(values.max())
        return Picture(stretch(values, *(limits(*window) if window else FULL_16_BIT)), peak)
    if image.mode in ("I", "F"):
        values = np.asarray(image)
        if not np.isfinite(values).all():
            raise Unusable("NaN or infinity among its pixels")
        low_high = limits(*window) if window else (values.min(), values.max())
        return Picture(stretch(values, *low_high))
    if image.has_transparency_data:
        black = Pillow.new("RGBA", image.size, (0, 0, 0, 255))
        return Picture(Pillow.alpha_composite(black, image.convert("RGBA")).convert("RGB"))
    return Picture(image.convert("L" if image.mode in ("1", "L") else "RGB"))


def limits(center: float, width: float) -> tuple[float, float]:
    """The values that become black and white: DICOM's linear window (PS3.3 C.11.2.1.2.1)."""
    return center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2


def stretch(values: np.ndarray, low: float, high: float) -> "Image":
    """Grey levels (H, W) as a Pillow image, `low` as 0 and `high` as 255; a single level is black."""
    scale = 255 / (float(high) - float(low)) if high > low else 0
    levels = np.clip(np.rint((values - np.float64(low)) * scale), 0, 255).astype(np.uint8)
    return _pillow().fromarray(levels)


def to_image(pixels: np.ndarray) -> "Image":
    """Pixels (H, W, 1 or 3) uint8 as a Pillow image."""
    return _pillow().fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def to_pixels(image: "Image", shape: tuple[int, int, int], keep_aspect: bool = False) -> np.ndarray:
    """A Pillow image of mode L or RGB as (H, W, 1 or 3) uint8, H, W and channels of `shape`.

    By Pillow's antialiased triangle filter, stretched, or padded with black to keep the aspect.
    """
    Pillow = _pillow()
    height, width, channels = shape
    image = image.convert("L") if channels == 1 else image
    box, (across, down) = (width, height), image.size
    if keep_aspect and across * height >= down * width:
        box = (width, max(1, round(width * down / across)))
    elif keep_aspect:
        box = (max(1, round(height * across / down)), height)
    small = image.resize(box, Pillow.Resampling.BILINEAR)
    if box != (width, height):
        canvas = Pillow.new(small.mode, (width, height))
        canvas.paste(small, ((width - box[0]) // 2, (height - box[1]) // 2))
        small = canvas
    return np.asarray(small if channels == 1 else small.convert("RGB")).reshape(shape)


# DICOM, by pydicom's own functions. The reasons quote no header, because a header holds the patient.


def read_dicom(path: Path, window: tuple[float, ...] = ()) -> Picture:
    """Decode a single-frame DICOM image; `window` is (center, width) after rescaling, or () for the file's.

    Grey: rescaled, windowed (a file without a window: its lookup table, or else minimum to maximum),
    MONOCHROME1 inverted. Raises `Unusable`.
    """
    try:
        from pydicom import dcmread
        from pydicom.errors import BytesLengthException, InvalidDicomError
    except ImportError:
        raise Unusable("DICOM is read by pydicom, which is missing: pip install pydicom") from None
    try:
        with open(path, "rb") as file:
            data = dcmread(file)
            _check_dicom(data)
            grey = str(data.PhotometricInterpretation).startswith("MONOCHROME")
            stretched = grey and not window and _has_no_window(data)
            return Picture(_grey(data, window) if grey else _colour(data), stretched=stretched)
    except InvalidDicomError:
        raise Unusable("not a DICOM file") from None
    except (BytesLengthException, *UNREADABLE) as error:
        raise Unusable(f"pydicom cannot decode it ({type(error).__name__})") from None


def _check_dicom(data: "Dataset") -> None:
    from pydicom.pixels import get_decoder

    if "PixelData" not in data:
        raise Unusable("a DICOM file without an image")
    frames = int(data.get("NumberOfFrames") or 1)
    if frames > 1:
        raise Unusable(f"{frames} frames in one DICOM file")
    check_pixels(data.Columns, data.Rows)
    syntax = data.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated and not get_decoder(syntax).is_available:
        raise Unusable(f"no decoder is installed for {syntax.name}")


def _has_no_window(data: "Dataset") -> bool:
    ends = _first(data.get("WindowCenter")), _first(data.get("WindowWidth"))
    return None in ends and not data.get("VOILUTSequence")


def _grey(data: "Dataset", window: tuple[float, ...]) -> "Image":
    from pydicom.pixels import apply_rescale, apply_voi, apply_windowing, pixel_array

    values = apply_rescale(pixel_array(data), data)  # (H, W)
    center, width = window or (_first(data.get("WindowCenter")), _first(data.get("WindowWidth")))
    if center is not None and width is not None:
        shown = apply_windowing(values, _view(center, width, "LINEAR" if window else data))
        image = stretch(shown, 0, 255)
    elif data.get("VOILUTSequence"):
        bits = data.VOILUTSequence[0].LUTDescriptor[2]
        image = stretch(apply_voi(values, data), 0, 2**bits - 1)
    else:
        image = stretch(values, values.min(), values.max())
    inverted = data.PhotometricInterpretation == "MONOCHROME1"
    return _pillow().fromarray(255 - np.asarray(image)) if inverted else image


def _first(value: Any) -> Any:
    """The first of several windows; None where there is none."""
    from pydicom.multival import MultiValue

    return next(iter(value), None) if isinstance(value, MultiValue) else value


def _view(center: float, width: float, function: "str | Dataset") -> "Dataset":
    """What pydicom has to know to window values to 0..255: an unsigned 8-bit display."""
    from pydicom import Dataset

    view = Dataset()
    view.PhotometricInterpretation, view.BitsStored, view.PixelRepresentation = "MONOCHROME2", 8, 0
    view.WindowCenter, view.WindowWidth = float(center), float(width)
    view.VOILUTFunction = (
        function if isinstance(function, str) else function.get("VOILUTFunction") or "LINEAR"
    )
    return view


def _colour(data: "Dataset") -> "Image":
    from pydicom.pixels import apply_color_lut, pixel_array

    values = pixel_array(data)  # (H, W, 3), YBR already turned into RGB; (H, W) of palette indices
    if data.PhotometricInterpretation == "PALETTE COLOR":
        values = apply_color_lut(values, data)[..., :3]
        if values.dtype == np.uint16:
            values = np.rint(values / 257).astype(np.uint8)
    if values.dtype != np.uint8 or values.ndim != 3 or values.shape[2] != 3:
        raise Unusable(f"colour pixels of type {values.dtype} and shape {values.shape}")
    return _pillow().fromarray(values)


# python predictor.py FILE.tflite IMAGE...


def main(argv: list[str]) -> int:
    """Print what a bundle says of images; 0, or 2 where a file, or one of the images, cannot be used."""
    if len(argv) < 2:
        sys.stderr.write("usage: python predictor.py FILE.tflite IMAGE...\n")
        return 2
    unread = 0
    try:
        predictor = Predictor(argv[0])
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
        read = 0
        for row, text in printed(predictor.rows(argv[1:]), predictor.classes, width):
            unread, read = unread + bool(row.error), read + (not row.error)
            (sys.stderr if row.error else sys.stdout).write(text + "\n")
        sys.stdout.flush()
        for sentence in predictor.limits if read else ():
            sys.stderr.write(f"{escaped(sentence)}\n")
    except BundleError as error:
        sys.stderr.write(f"Error: {escaped(str(error))}\n")
        return 2
    except BrokenPipeError:  # the reader of stdout, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    return 2 if unread else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
