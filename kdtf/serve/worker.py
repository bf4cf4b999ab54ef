"""A process that runs the student: bytes of an image in, JSON out. A fault of a decoder ends it alone.

Where the system has files in memory (Linux), an image never has a name in a folder; elsewhere it lies in a
temporary file while it is read. Nothing of it is kept.
"""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np

from ..native_log import native_noise
from ..predictor import DICOM_MAGIC, DICOM_MAGIC_AT, NPY_MAGIC, Predictor, Row, set_in_words

DICOM = bytes(DICOM_MAGIC_AT) + DICOM_MAGIC
ARRAYS = "a .npy file: send one image"
UNLOGGED = "unlogged"  # in an answer that could not be logged: why; the client is not told
Record = Callable[[Row], None]  # logs an answer; may raise `OSError`


def work(connection: Connection, bundle: str, record: Record | None = None) -> None:
    """Answer images until the other end is closed; the first message says that the student is loaded.

    `record` takes every answer.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes: the server ends its own
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with native_noise():
        predictor = Predictor(bundle)
    for nothing in (b"", DICOM):  # decoders are imported when they are first needed
        answer(predictor, nothing)
    _silence()
    connection.send_bytes(b"ready")
    while True:
        try:
            content = connection.recv_bytes()
        except (EOFError, OSError):
            return
        connection.send_bytes(json.dumps(answer(predictor, content, record), allow_nan=False).encode())


def _silence() -> None:
    """What decoders write about an image to stderr, from C too, goes nowhere: the log is the server's."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def answer(predictor: Predictor, content: bytes, record: Record | None = None) -> dict[str, Any]:
    """What a student says of the bytes of an image file: `answer_of` its row, as a value of JSON."""
    if content.startswith(NPY_MAGIC):
        row = Row("", 0, "", float("nan"), False, "", ARRAYS, np.zeros(0))
    else:
        with named(content) as path:
            (row,) = predictor.rows(path)
    said = answer_of(row, predictor.classes)
    if record:
        try:
            record(row)
        except OSError as error:  # the client is answered all the same
            said[UNLOGGED] = error.strerror or type(error).__name__
    return said


def answer_of(row: Row, classes: tuple[str, ...]) -> dict[str, Any]:
    """A row of `Predictor` as a value of JSON, all digits kept, without the name of its file."""
    if row.error:
        return {"error": row.error}
    return {
        "class": row.label,
        "probability": row.probability,
        "uncertain": row.uncertain,
        "prediction_set": None if row.prediction_set is None else list(row.prediction_set),
        "set": None if row.prediction_set is None else set_in_words(row.prediction_set, classes),
        "warning": row.warning,
        "probabilities": {name: float(p) for name, p in zip(classes, row.probs, strict=True)},
    }


@contextmanager
def named(content: bytes) -> Iterator[Path]:
    """A path under which bytes can be opened in this block."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("image")
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            yield Path(f"/proc/self/fd/{descriptor}")
        return
    with NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        yield Path(file.name)
