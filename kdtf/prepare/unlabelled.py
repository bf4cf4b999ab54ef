"""Images without labels: those in `unlabelled/` at the top of a source, or those of a folder of their own."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from ..data.dataset import UNLABELLED_SPLIT
from ..errors import require
from ..progress import Progress
from .formats import FORMATS
from .listing import Listing, list_source
from .settings import PrepareConfig

FOLDERS = ("unlabelled", "unlabeled")  # in any case

Files = dict[str, tuple[Path, str]]  # {its name in tables and errors: (file, row of FORMATS)}


def set_apart(source: Path, listing: Listing) -> tuple[Listing, Files]:
    """(the listing without it, the images in it) of the folder `unlabelled/` of a source."""

    tops = {folder for folder in listing.folders if folder.casefold() in FOLDERS}
    inside = {path for path in (*listing.folders, *listing.images) if path.split("/")[0] in tops}
    files = {file: (source / file, name) for file, name in listing.images.items() if file in inside}
    images = {file: name for file, name in listing.images.items() if file not in inside}
    folders = [folder for folder in listing.folders if folder not in inside]
    return replace(listing, images=images, folders=folders), files


def chosen_files(own: Files, settings: PrepareConfig, progress: Progress) -> tuple[Files, Counter[str]]:
    """(images, {reason: files left out}) of `--unlabelled` where that is given, else the source's `own`.

    Raises `UserError` where --unlabelled holds no image.
    """
    if settings.unlabelled is None:
        return own, Counter()
    folder = Path(settings.unlabelled)
    listing = list_source(folder, "--unlabelled")
    nothing = f"none in {settings.unlabelled!r}. {listing.ignored_note()}".strip()
    require(listing.images, "--unlabelled", f"a folder of images: {', '.join(FORMATS)}", nothing)
    if own:
        progress.say(instead_note(len(own)))
    files = {f"{UNLABELLED_SPLIT}/{file}": (folder / file, name) for file, name in listing.images.items()}
    return files, listing.ignored


def instead_note(count: int) -> str:
    """What is said where the source has `count` unlabelled images that are not taken."""
    return f"The unlabelled images are those of --unlabelled, not the {count} of the source."
