"""Where each image of a folder belongs, by the layout that was given or that the names at the top tell."""

from collections import Counter
from dataclasses import dataclass

from ..data.dataset import SPLITS
from ..errors import require
from ..progress import Progress
from .folder_names import split_of
from .layout import ANY, GROUP, SPLIT, Layout, Place, inferred, resolve_splits
from .layout_check import check_below, check_beside, check_classes, check_files
from .listing import ELSEWHERE, Listing


@dataclass(frozen=True)
class Places:
    """The images of a source by the folders they are in."""

    layout: Layout
    splits: dict[str, str]  # {folder: split}
    of_file: dict[str, Place]
    class_folders: list[Place]  # those without an image too; their groups are left out


def placed(listing: Listing, given: str | None, progress: Progress) -> Places:
    """The places of a listing by the layout that is `given`, or else by the names of its folders at the top.

    Counts images without a place in the listing. Raises `UserError`.
    """
    tops = [folder for folder in listing.folders if "/" not in folder]
    layout = inferred(tops) if given is None else Layout.of(given)
    splits: dict[str, str] = {}
    if SPLIT in layout.parts:
        splits = resolve_splits(layout.names_at(SPLIT, listing.folders))
        if any(split == "test" and split_of(folder) == "val" for folder, split in splits.items()):
            progress.say("There is no test folder: what is held out in val becomes the test.")
    folders_of = {file: file.split("/")[:-1] for file in listing.images}
    of_file = {file: place for file, path in folders_of.items() if (place := layout.place(path, splits))}
    listing.ignored[ELSEWHERE] += len(listing.images) - len(of_file)
    own = [layout.class_place(folder.split("/"), splits) for folder in listing.folders]
    class_folders = {place._replace(group=None) for place in own if place}
    order = sorted(class_folders, key=lambda place: (SPLITS.index(place.split or "train"), place.folder))
    return Places(layout, splits, of_file, order)


def check_meaning(places: Places, listing: Listing, is_given: bool, progress: Progress) -> None:
    """Raise `UserError` where folders may mean something else than the layout takes them for.

    Of a layout that `is_given` only what lies below it can. Warns of folders beside those of splits.
    """
    classes = sorted({place.folder for place in places.class_folders})
    check_below(places.of_file, places.layout, classes)
    check_files(places.of_file, places.layout)
    if not is_given:
        check_classes(classes, places.layout)
        beside = _images_beside(listing, places.splits) if places.splits else {}
        check_beside({top: {path[1] for path in own if path[1:]} for top, own in beside.items()}, classes)
        for top, own in beside.items():
            progress.warn(f"{top!r} is no split: its images ({len(own)}) are left out.")
    for folder, split in places.splits.items():
        loose = sum(folder in file.split("/")[:-1] for file in listing.images)
        empty = loose and all(place.split != split for place in places.of_file.values())
        hint = "Without labels they are for --unlabelled."
        require(not empty, f"images of {split}", "in folders of their classes", f"{loose} beside them", hint)


def warn_of_patients(places: Places, progress: Progress) -> None:
    """Warn where the folder of a class has several in it: whose images they are is then not known.

    Not of a layout with a last part `ANY`, which says so.
    """
    depth = len(places.layout.levels)
    paths = [file.split("/")[:-1] for file in places.of_file]
    below = {tuple(path[: depth + 1]) for path in paths if len(path) > depth}
    several = any(n > 1 for n in Counter(path[:-1] for path in below).values())
    if several and not places.layout.is_open:
        progress.warn(
            f"The {len(below)} folders below those of classes may be patients, whom a split does not keep "
            f"together: --layout {places.layout}/{GROUP} says that they are, --layout {places.layout}/{ANY} "
            "that they are not."
        )


def _images_beside(listing: Listing, splits: dict[str, str]) -> dict[str, list[list[str]]]:
    """{folder at the top that is no split: the folders of each image in it}."""
    beside: dict[str, list[list[str]]] = {}
    for file in listing.images:
        path = file.split("/")[:-1]
        if path and path[0] not in splits:
            beside.setdefault(path[0], []).append(path)
    return beside
