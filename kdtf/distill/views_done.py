"""How far a pass over views has come, on disk: a view that is whole is not inferred again after a kill."""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from ..files import written_aside
from .fit import SECONDS


class ViewsDone:
    """The streams of a pass and a note of them: whole views, and size and sha256 of each stream up to there.

    Streams whose beginning is not what the note says are begun again, and so are all without a note.
    """

    def __init__(self, beginning: Path | None, outs: Sequence[Path]):
        self.outs, self.note = outs, beginning and beginning.with_name(f"{beginning.name}.json")
        names = list(outs)
        if beginning is not None:
            names = [beginning.with_name(f"{beginning.name}-{out.name}") for out in outs]
        self.streams, self.views, self.written = names, 0, time.monotonic()
        self.hashes = [hashlib.sha256() for _ in outs]
        self.ends: list[tuple[int, str]] = []  # of the streams after the last whole view

    def opened(self) -> list[IO[bytes]]:
        """The streams, each open at the end of its last whole view."""
        sizes = self._restore()
        files: list[IO[bytes]] = []
        for stream, size in zip(self.streams, sizes, strict=True):
            file = stream.open("r+b" if size else "wb")
            file.truncate(size)
            file.seek(size)
            files.append(file)
        return files

    def _restore(self) -> list[int]:
        """Where the streams end that can be gone on with; zeros where they cannot."""
        fresh = [0] * len(self.outs)
        try:
            note = json.loads(self.note.read_text()) if self.note else {}
            views, ends = int(note["views"]), [(int(size), str(sha)) for size, sha in note["streams"]]
            hashes = [_hash(stream, size) for stream, (size, _) in zip(self.streams, ends, strict=True)]
        except (OSError, ValueError, LookupError, TypeError):
            return fresh
        if views < 1 or [own.hexdigest() for own in hashes] != [sha for _, sha in ends]:
            return fresh
        self.views, self.hashes, self.ends = views, hashes, ends
        return [size for size, _ in ends]

    def hashed(self, i: int, file: IO[bytes]) -> "Hashed":
        """Stream `i`, of which is known what was written to it."""
        return Hashed(file, self.hashes[i])

    def advance(self, files: Sequence[IO[bytes]]) -> None:
        """Another view is whole: keep that when it is time to."""
        self.views += 1
        self.ends = [(file.tell(), own.hexdigest()) for file, own in zip(files, self.hashes, strict=True)]
        if time.monotonic() - self.written > SECONDS:
            self.keep(files)

    def keep(self, files: Sequence[IO[bytes]]) -> None:
        """Note the views that are whole, once they are on the disk."""
        if self.note is None or not self.ends:
            return
        for file in files:
            file.flush()
            os.fsync(file.fileno())
        with written_aside(self.note) as note:
            note.write(json.dumps({"views": self.views, "streams": self.ends}).encode())
        self.written = time.monotonic()

    def publish(self) -> None:
        """Give the whole streams their names."""
        for stream, out in zip(self.streams, self.outs, strict=True):
            os.replace(stream, out)


class Hashed(NamedTuple):
    """A file to write to, and the digest of what was written."""

    file: IO[bytes]
    digest: Any  # of hashlib

    def write(self, content: Any) -> None:
        """Bytes, to both."""
        self.digest.update(content)
        self.file.write(content)


def _hash(path: Path, size: int) -> Any:
    """The digest of the first so many bytes of a file. Raises `ValueError` where there are fewer."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while size:
            part = file.read(min(size, 1 << 20))
            if not part:
                raise ValueError(f"{path} is shorter than it was")
            digest.update(part)
            size -= len(part)
    return digest
