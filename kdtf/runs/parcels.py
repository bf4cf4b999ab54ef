"""Finished stages as bytes, for machines that share no folder with the run."""

import io
import tarfile
from pathlib import Path

from ..files import disk_errors
from ..store import Store
from ..tasks import Task


def needed(task: Task, store: Store) -> list[str]:
    """The folders of the stages that a task is made of; where an input does not stand, what that is of."""
    folders: dict[str, None] = {}
    for own in task.inputs.values():
        stands = (store.work / own.folder).is_dir()
        folders |= dict.fromkeys([own.folder] if stands else needed(own, store))
    return list(folders)


def packed(folder: Path) -> bytes:
    """The files of a finished stage."""
    with io.BytesIO() as content:
        with tarfile.open(fileobj=content, mode="w") as tar:
            tar.add(folder, arcname="")
        return content.getvalue()


def unpacked(content: bytes, store: Store, name: str) -> None:
    """Put a stage of this name among those of `store`; where it stands already, that one is kept.

    Raises `UserError` where the disk refuses it.
    """

    def unpack(folder: Path) -> None:
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            tar.extractall(folder, filter="data")

    with disk_errors(store.root):
        store.receive(name, unpack)
