"""Open data sets by name: downloaded, resumed, checked against the published checksum.

Writes the file the owner publishes, or what can be read without unpickling. Kaggle's sets need an
account: for them there are the steps and commands.
"""

import hashlib
import os
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np

from ..errors import UserError, require, require_known
from ..files import disk_errors, require_file
from ..progress import Progress

CHUNK = 1 << 20  # bytes
TIMEOUT = 30  # seconds without an answer


@dataclass(frozen=True)
class Source:
    """Where a data set is, its published MD5, its licence, and what is made of the download.

    `unpack(archive, out)` returns what to hand to `--data` or `prepare`; `flags` are those of `prepare`.
    """

    url: str
    md5: str
    licence: str
    file: str
    unpack: Callable[[Path, Path], Path] = lambda archive, out: archive
    flags: tuple[str, ...] = ()

    def use_of(self, path: Path) -> tuple[str, ...]:
        """The command, without the program's name, that takes what `unpack` returned."""
        return ("prepare", str(path), *self.flags) if path.is_dir() else ("audit", "--data", str(path))


@dataclass(frozen=True)
class AccountSet:
    """A data set on Kaggle, which wants an account: its name there, and the folder it unpacks to."""

    slug: str
    folder: str
    flags: tuple[str, ...]  # of `prepare`

    @property
    def page(self) -> str:
        """The address of its page."""
        return f"https://www.kaggle.com/datasets/{self.slug}"

    @property
    def download(self) -> tuple[str, ...]:
        """The command of Kaggle's own program that brings it."""
        return ("kaggle", "datasets", "download", "-d", self.slug, "--unzip")

    @property
    def use(self) -> tuple[str, ...]:
        """The command, without the program's name, that takes the folder."""
        return ("prepare", self.folder, *self.flags)


def _cifar10(archive: Path, out: Path) -> Path:
    """The binary version (3,073 bytes an image: label, red, green, blue) as an .npz with Keras' keys."""
    parts = {}
    with tarfile.open(archive) as tar:
        for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
            raw = cast("IO[bytes]", tar.extractfile(f"cifar-10-batches-bin/{name}.bin")).read()
            parts[name] = np.frombuffer(raw, np.uint8).reshape(-1, 3073)
    test = parts.pop("test_batch")
    arrays = {}
    for split, rows in (("train", np.concatenate(list(parts.values()))), ("test", test)):
        arrays[f"x_{split}"] = rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        arrays[f"y_{split}"] = rows[:, :1]
    converted = out / "cifar10.npz"
    np.savez_compressed(converted, allow_pickle=False, **arrays)
    return converted


def _untar(archive: Path, out: Path) -> Path:
    """The folder inside a .tgz; the "data" filter refuses paths and links that lead outside."""
    with tarfile.open(archive) as tar:
        top = next(iter(tar)).name.split("/")[0]
        tar.extractall(out, filter="data")
    return out / top


_MEDMNIST = {
    "pathmnist": ("a8b06965200029087d5bd730944a56c1", "CC BY 4.0"),
    "dermamnist": ("0744692d530f8e62ec473284d019b0c7", "CC BY-NC 4.0"),
    "octmnist": ("c68d92d5b585d8d81f7112f81e2d0842", "CC BY 4.0"),
    "pneumoniamnist": ("28209eda62fecd6e6a2d98b1501bb15f", "CC BY 4.0"),
    "retinamnist": ("bd4c0672f1bba3e3a89f0e4e876791e4", "CC BY 4.0"),
    "breastmnist": ("750601b1f35ba3300ea97c75c52ff8f6", "CC BY 4.0"),
    "bloodmnist": ("7053d0359d879ad8a5505303e11de1dc", "CC BY 4.0"),
    "tissuemnist": ("ebe78ee8b05294063de985d821c1c34b", "CC BY 4.0"),
    "organamnist": ("68e3f8846a6bd62f0c9bf841c0d9eacc", "CC BY 4.0"),
    "organcmnist": ("b9ceb9546e10131b32923c5bbeaea2b1", "CC BY 4.0"),
    "organsmnist": ("9ab87b696fb54e2a387ebe992d6ed5f1", "CC BY 4.0"),
}
SOURCES = {
    name: Source(f"https://zenodo.org/records/10519652/files/{name}.npz?download=1", *row, f"{name}.npz")
    for name, row in _MEDMNIST.items()  # checksums of MedMNIST 3.0.2; ChestMNIST has many labels an image
}
SOURCES["cifar10"] = Source(
    # not Keras' copy, which is a pickle
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "c32a1d4ab5d03f1284b67883e8d87530",
    "no licence stated; cite Krizhevsky 2009",
    "cifar-10-binary.tar.gz",
    _cifar10,
)
SOURCES["imagewoof"] = Source(
    "https://s3.amazonaws.com/fast-ai-imageclas/imagewoof2-160.tgz",
    "3d200a7be99704a0d7509be2a9fbfe15",
    "ImageNet's terms: research only",
    "imagewoof2-160.tgz",
    _untar,
    ("--size", "64"),
)

INSTRUCTIONS = {
    # its folders of train name the stage of the tumour too, those of test do not
    "chest-ct": AccountSet(
        "mohamedhanyyy/chest-ctscan-images",
        "Data",
        ("--size", "32", "--teacher-size", "128", "--short-names"),
    ),
    # a normal chest has a number of its own, after IM; those that NORMAL2 goes before are counted apart
    "chest-xray-pneumonia": AccountSet(
        "paultimothymooney/chest-xray-pneumonia",
        "chest_xray",
        ("--size", "64", "--group-regex", r"(person\d+_[a-z]+|(?:NORMAL2-)?IM-\d+)"),
    ),
}


def fetch(name: str, out: Path, progress: Progress) -> Path:
    """Download the data set `name` into `out`, going on from where an earlier try stopped.

    Returns the file or folder made of it. Raises `UserError` for an unknown name, without a
    connection, for a wrong checksum, also of a file that was there, and where `out` cannot be written to.
    """
    require_known("fetch", name, [*SOURCES, *INSTRUCTIONS])
    require(name in SOURCES, "fetch", "a data set that can be had without an account", name)
    source, out = SOURCES[name], Path(out)
    archive = out / source.file
    with disk_errors(out, "--out"):
        out.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(archive):
            _check_saved(archive, source.md5)
        else:
            _download(source, archive, progress)
        progress.say(f"{name}: licence {source.licence}.")
        return source.unpack(archive, out)


def _check_saved(archive: Path, md5: str) -> None:
    """Raise `UserError` unless a file that was there before is the one that is published."""
    require_file(archive, str(archive))
    try:
        own = _md5(archive)
    except OSError as error:
        raise UserError(f"{archive} must be readable. Got: {error.strerror}.") from None
    hint = "Delete it, and the same command downloads it."
    require(own == md5, str(archive), f"the published file, with MD5 {md5}", own, hint)


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _download(source: Source, archive: Path, progress: Progress) -> None:
    part = archive.with_name(archive.name + ".part")
    require_file(part, str(part))
    try:
        _receive(source.url, part, progress)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"fetch must be able to reach {source.url}. It could not ({reason}). "
            f"The same command goes on from what is there; or save that address as {archive} yourself."
        ) from None
    md5 = _md5(part)
    if md5 != source.md5:
        part.unlink()
        raise UserError(f"{source.url} must have MD5 {source.md5}. Got {md5!r}; the download was deleted.")
    part.replace(archive)


def _receive(url: str, part: Path, progress: Progress) -> None:
    """Append what `part` lacks; start again where the server cannot continue."""
    size = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={size}-"} if size else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing is missing
            raise
        return
    with answer, open(part, "ab" if answer.status == 206 else "wb") as f:
        total = f.tell() + int(answer.headers.get("Content-Length", 0))
        with progress.bar(f"downloading {part.stem}", total) as advance:
            while block := answer.read(CHUNK):
                f.write(block)
                advance(f.tell())
        if f.tell() < total:
            raise ConnectionError("the connection closed early")
