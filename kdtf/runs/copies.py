"""The copies of images and labels under `work/`, converted or unpacked: read again only as they were written.

`data` makes them and finds them by their names, which tell what they were made of. What is in them is known
here by its digest. Touches no file that does not bear such a name.
"""

import json
import re
from pathlib import Path

from ..files import disk_errors, written_aside
from ..store import Store

NOTE = "copies.json"
COPY = re.compile(r"[A-Za-z]+_[a-z]+_[0-9a-f]{16}\.npy")


def remove_damaged(store: Store) -> None:
    """Take away copies that are not as they were written: they are made again.

    Those of which nothing is noted, because a run was killed before it was, go with them.
    """
    noted = _noted(store)
    for file in _copies(store):
        if noted.get(file.name) == store.digests.of(file):
            continue
        if file.name in noted:
            store.warn(f"{file.name} was damaged and is made again.")
        with disk_errors(store.root):
            file.unlink()


def note(store: Store) -> None:
    """Keep the digests of the copies that are there; those noted before are not read again."""
    noted = _noted(store)
    digests = {file.name: noted.get(file.name) or store.digests.of(file) for file in _copies(store)}
    if digests != noted:
        with disk_errors(store.root), written_aside(store.work / NOTE) as file:
            file.write((json.dumps(digests, indent=1) + "\n").encode())


def _copies(store: Store) -> list[Path]:
    """The files under `work` that bear the names of copies."""
    files = sorted(store.work.glob("*.npy"))
    return [own for own in files if COPY.fullmatch(own.name) and own.is_file() and not own.is_symlink()]


def _noted(store: Store) -> dict[str, str]:
    """{name: digest} of copies; nothing where there is no note, or none that can be read."""
    try:
        noted = json.loads((store.work / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return {str(name): str(digest) for name, digest in noted.items()} if isinstance(noted, dict) else {}
