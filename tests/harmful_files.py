"""Harmed input and the contract it is held to, for test_hostile.py and benchmarks/hostile.py.

The contract: exit code 2 and one line about it, or a correct result; never a traceback, a signal, a
hang, more than 2 GiB of memory, or a change outside the folder a command was told to write to.
"""

import contextlib
import hashlib
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, NoReturn

import harmful_trees
import numpy as np
from harmful_bytes import harm
from PIL import Image

SECONDS, MEMORY = 60, 2 * 2**30
CLASSES = ("a", "b")
SIDE = 8


class Outcome(NamedTuple):
    """What a command did: exit code (negative: the signal), stderr, seconds, bytes, files it changed."""

    code: int
    error: str
    seconds: float
    memory: int
    changed: list[str]
    wrong: str = ""  # what a result that was called right is not

    def broken(self) -> str:
        """Which part of the contract does not hold, or ""."""
        lines = [line for line in self.error.splitlines() if line.startswith(("Error:", "Stopped:"))]
        if "Traceback" in self.error or self.code not in (0, 2, 3):
            return f"exit code {self.code}: {self.error[-600:]}"
        if self.code == 2 and len(lines) != 1:
            return f"not one line: {self.error[-600:]}"
        if self.changed:
            return f"changed {self.changed}"
        if self.wrong:
            return self.wrong
        if self.memory > MEMORY:
            return f"{self.memory / 2**20:.0f} MiB"
        return "" if self.seconds < SECONDS else f"{self.seconds:.0f} s"


def snapshot(folder: Path, out: Path) -> dict[str, str]:
    """{file: digest} of everything in `folder` but what lies in `out`."""
    files = (p for p in folder.rglob("*") if p.is_file() and out not in p.parents)
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def obey(argv: list[str], folder: Path, out: Path) -> Outcome:
    """`main(argv)` in a forked process in `folder`; it may write to `out` alone."""
    before, started = snapshot(folder, out), time.monotonic()
    log = folder.parent / f"{folder.name}.stderr"
    child = os.fork()
    if not child:
        _child(argv, folder, log)
    with contextlib.suppress(ChildProcessError):
        _, status, usage = os.wait4(child, 0)
    after = snapshot(folder, out)
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    error = log.read_text(errors="replace")
    log.unlink()
    seconds = time.monotonic() - started
    return Outcome(os.waitstatus_to_exitcode(status), error, seconds, usage.ru_maxrss * 1024, changed)


def _child(argv: list[str], folder: Path, log: Path) -> NoReturn:
    """The command in this process, which it ends; stderr goes to `log`."""
    code = 99
    try:
        signal.alarm(SECONDS)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for number, path, how in ((1, os.devnull, os.O_WRONLY), (2, log, os.O_WRONLY | os.O_CREAT)):
            os.dup2(os.open(path, how), number)
        sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(n, "w", closefd=False)) for n in (1, 2))
        os.chdir(folder)
        from kdtf.cli.entry import main

        code = main(argv)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


# Good input: every kind makes some in a folder and returns the files that may be harmed and the command


def arrays(folder: Path) -> Path:
    """A folder of arrays with every optional file."""
    rng = np.random.default_rng(0)
    data = folder / "data"
    (data / "teacher").mkdir(parents=True)
    for split, count in (("train", 24), ("val", 8), ("test", 8)):
        np.save(data / f"X_{split}.npy", rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8))
        np.save(data / f"y_{split}.npy", np.arange(count) % 2)
        np.save(data / f"groups_{split}.npy", np.array([f"{split}{i // 2}" for i in range(count)]))
        shape = (count, 2 * SIDE, 2 * SIDE, 3)
        np.save(data / "teacher" / f"X_{split}.npy", rng.integers(0, 256, shape, dtype=np.uint8))
    (data / "classes.txt").write_text("\n".join(CLASSES))
    return data


def npy(folder: Path, bundle: Path):
    data = arrays(folder)
    files = [p for p in data.rglob("*") if p.is_file()]
    return files, ["audit", "--data", str(data), "--results", "out"]


def npz(folder: Path, bundle: Path):
    data = arrays(folder)
    parts = {}
    for split in ("train", "val", "test"):
        parts[f"{split}_images"] = np.load(data / f"X_{split}.npy")
        parts[f"{split}_labels"] = np.load(data / f"y_{split}.npy")[:, None]
    shutil.rmtree(data)
    np.savez_compressed(folder / "data.npz", **parts)
    return [folder / "data.npz"], ["audit", "--data", "data.npz", "--results", "out"]


def shards(folder: Path, bundle: Path):
    """The training images in three files."""
    data = arrays(folder)
    pixels = np.load(data / "X_train.npy")
    (data / "X_train.npy").unlink()
    for i, part in enumerate(np.split(pixels, 3)):
        np.save(data / f"X_train-{i:05}-of-00003.npy", part)
    return [*data.glob("*-of-*.npy")], ["audit", "--data", "data", "--results", "out"]


def _zarr(version: int):
    """The training images in a zarr store of a version of the format; its notes are harmed more often."""

    def make(folder: Path, bundle: Path):
        import zarr

        data = arrays(folder)
        store, pixels = data / "X_train.zarr", np.load(data / "X_train.npy")
        (data / "X_train.npy").unlink()
        shape = (9, SIDE, SIDE, 3)
        zarr.create_array(store, data=pixels, chunks=shape, zarr_format=version)
        files = [path for path in store.rglob("*") if path.is_file()]
        notes = [path for path in files if path.suffix == ".json" or path.name.startswith(".z")]
        return [*files, *notes * 2], ["audit", "--data", "data", "--results", "out"]

    return make


def _picture(ending: str, **options):
    def make(folder: Path, bundle: Path):
        values = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        path = folder / f"image.{ending}"
        Image.fromarray(values if ending != "bmp" else values[..., 0]).save(path, **options)
        return [path], ["predict", str(bundle), path.name, "--csv", "out/p.csv"]

    return make


def dicom(folder: Path, bundle: Path):
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["kdtf"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("x", {}, file_meta=meta, preamble=bytes(128))
    data.PatientName, data.Rows, data.Columns = "Secret^Name", 20, 24
    data.SamplesPerPixel, data.BitsAllocated, data.BitsStored, data.HighBit = 1, 16, 12, 11
    data.PixelRepresentation, data.PhotometricInterpretation = 0, "MONOCHROME2"
    data.RescaleSlope, data.RescaleIntercept, data.WindowCenter, data.WindowWidth = 1, -1024, 40, 400
    data.PixelData = np.random.default_rng(0).integers(0, 4096, (20, 24), dtype=np.uint16).tobytes()
    data.save_as(folder / "image.dcm", enforce_file_format=True)
    return [folder / "image.dcm"], ["predict", str(bundle), "image.dcm", "--csv", "out/p.csv"]


def array_image(folder: Path, bundle: Path):
    np.save(folder / "image.npy", np.random.default_rng(0).integers(0, 256, (3, 9, 9), dtype=np.uint8))
    return [folder / "image.npy"], ["predict", str(bundle), "image.npy", "--csv", "out/p.csv"]


def prepare(folder: Path, bundle: Path):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in CLASSES:
            (folder / "images" / split / name).mkdir(parents=True)
            for i, ending in enumerate(("png", "jpg", "tif", "png", "png")):
                values = rng.integers(0, 256, (12, 12), dtype=np.uint8)
                Image.fromarray(values).save(folder / "images" / split / name / f"{i}.{ending}")
    files = [p for p in (folder / "images").rglob("*") if p.is_file()]
    return files, ["prepare", "images", "--out", "out/F", "--size", "8", "--workers", "1"]


def toml(folder: Path, bundle: Path):
    data = arrays(folder)
    text = "[data]\nstrict = true\n[student]\nepochs = 3\nlearning_rate = 1e-3\n"
    text += '[teacher]\nteachers = ["vgg16"]\n[distil]\nalphas = [0.1, 0.5]\n'
    (folder / "settings.toml").write_text(text)
    argv = ["audit", "--config", "settings.toml", "--data", str(data), "--results", "out"]
    return [folder / "settings.toml"], argv


def table(folder: Path, bundle: Path):
    rows = [
        f'{i},"finding {chr(97 + i % 26) * 3} heart {i}","clear word{i}",{"ab"[i % 2]}' for i in range(60)
    ]
    text = "id,findings,impression,label\n" + "\n".join(rows).replace(",a\n", ",normal\n")
    text = text.replace(",b\n", ",abnormal\n").removesuffix(",b") + ",abnormal\n"
    (folder / "reports.csv").write_text(text)
    return [folder / "reports.csv"], ["reports", "reports.csv", "--folds", "2", "--results", "out"]


def _own_bundle(folder: Path, bundle: Path) -> Path:
    for suffix in (".tflite", ".json"):
        shutil.copy(bundle.with_suffix(suffix), folder / f"own{suffix}")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(folder / "image.png")
    return folder / "own.tflite"


def tflite(folder: Path, bundle: Path):
    own = _own_bundle(folder, bundle)
    return [own], ["predict", own.name, "image.png", "--csv", "out/p.csv"]


def tflite_alone(folder: Path, bundle: Path):
    own = _own_bundle(folder, bundle)
    return [own], ["bench", own.name, "--results", "out", "--threads", "1"]


def card(folder: Path, bundle: Path):
    own = _own_bundle(folder, bundle)
    return [own.with_suffix(".json")], ["predict", own.name, "image.png", "--csv", "out/p.csv"]


def c_array(folder: Path, bundle: Path):
    own = _own_bundle(folder, bundle)
    return [own, own.with_suffix(".json")], ["c-array", own.name, "--out", "out"]


def npu(folder: Path, bundle: Path):
    own = _own_bundle(folder, bundle)
    return [own], ["npu", own.name, "--out", "out"]


def export(folder: Path, bundle: Path):
    """A float32 student, its card made to fit."""
    own = _own_bundle(folder, bundle.with_name(bundle.name.replace("int8", "float32")))
    return [own], ["export", own.name, "--to", "onnx", "--out", "out"]


def status(folder: Path, bundle: Path):
    """Notes of stages in a finished results folder."""
    shutil.copytree(RESULTS["folder"] / "work", folder / "r" / "work", ignore=shutil.ignore_patterns("*.npy"))
    return [*(folder / "r").rglob("stage.json")], ["status", "--results", "r"]


def finished(folder: Path, bundle: Path):
    """A finished results folder, which `report` reads; the page is all it may write."""
    shutil.copytree(RESULTS["folder"], folder / "r", ignore=shutil.ignore_patterns("work", "*.h5", "*.keras"))
    files = [p for p in (folder / "r").glob("*") if p.suffix in (".csv", ".json", ".png")]
    return files, ["report", "--results", "r"]


def trees(folder: Path, bundle: Path):
    """What the tree is, `attempt` draws: every try has another."""
    return [], ["prepare", "images", "--out", "out/F", "--size", "8", "--workers", "1"]


RESULTS: dict[str, Path] = {}  # "folder": a finished run, where there is one
KINDS: dict[str, Callable] = {
    "npy": npy,
    "npz": npz,
    "shards": shards,
    "zarr 2": _zarr(2),
    "zarr 3": _zarr(3),
    "png": _picture("png"),
    "jpeg": _picture("jpg"),
    "tiff": _picture("tif"),
    "bmp": _picture("bmp"),
    "dicom": dicom,
    "image npy": array_image,
    "prepare": prepare,
    "trees": trees,
    "toml": toml,
    "csv": table,
    "tflite": tflite,
    "tflite alone": tflite_alone,
    "tflite resigned": tflite,
    "card": card,
    "c-array": c_array,
    "report": finished,
    "status": status,
    "export": export,
    "npu": npu,
}
NEEDS = {"zarr 2": "zarr", "zarr 3": "zarr", "export": "tf2onnx", "npu": "ethosu"}  # modules of extras


def attempt(kind: str, folder: Path, bundle: Path, rng: random.Random) -> tuple[str, Outcome]:
    """One harmed input of a kind, in `folder`: what was done, and what came of it."""
    folder.mkdir(parents=True)
    (folder / "out").mkdir()
    files, argv = KINDS[kind](folder, bundle)
    if kind == "trees":
        return _attempt_tree(folder, argv, rng)
    path = rng.choice(sorted(files))
    how, content = harm(path.read_bytes(), rng)
    path.write_bytes(content)
    if kind in ("tflite resigned", "export"):
        resigned(path)
    out = folder / ("r" if kind == "report" else "out")
    return f"{path.name} {how}", obey(argv, folder, out)


def _attempt_tree(folder: Path, argv: list[str], rng: random.Random) -> tuple[str, Outcome]:
    """A tree of folders with a harmed image, read with the flags that say what it is, or without."""
    shape = rng.choice([*harmful_trees.SHAPES])
    tree = harmful_trees.SHAPES[shape](rng)
    flags = rng.choice([tree.flags, ()])
    path = rng.choice(harmful_trees.grow(tree, folder / "images", rng))
    how, content = harm(path.read_bytes(), rng)
    path.write_bytes(content)
    outcome = obey([*argv, *flags], folder, folder / "out")
    harmed = path.relative_to(folder / "images").as_posix()
    reason = harmful_trees.wrong(tree, flags, outcome.code, folder / "out/F", harmed)
    what = f"{shape} {[*tree.meaning][:4]} {' '.join(flags)}; {harmed} {how}"
    return what, outcome._replace(wrong=reason)


def resigned(own: Path) -> None:
    """Make a card fit its harmed `.tflite`, as whoever harmed it on purpose would."""
    facts = json.loads(own.with_suffix(".json").read_text())
    facts["sha256"] = hashlib.sha256(own.read_bytes()).hexdigest()
    own.with_suffix(".json").write_text(json.dumps(facts))
