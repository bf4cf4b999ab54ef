"""Images without labels at the door: which files they are in, and whose copy an array of them is.

They are optional. `load` checks their pixels as those of the other splits; which of them may be trained on
is said by the audit.
"""

from pathlib import Path

from ..errors import require
from .arrays import FILE_NAMES, Arrays, Files
from .dataset import UNLABELLED_SPLIT, Split

IMAGES, LABELS, LARGER = (("X", UNLABELLED_SPLIT), ("y", UNLABELLED_SPLIT), ("teacher", UNLABELLED_SPLIT))


def folder_files(folder: Path) -> Files:
    """The files of unlabelled images, labels and groups that are in a data folder."""
    names = {(kind, UNLABELLED_SPLIT): name.format(UNLABELLED_SPLIT) for kind, name in FILE_NAMES.items()}
    return {at: (name, folder / name) for at, name in names.items() if (folder / name).is_file()}


def choose_files(files: Files, place: str | Path | None) -> tuple[Files, list[str]]:
    """(the files to read, notes): unlabelled images are those in `place`, by default those among `files`.

    `place` is a folder with X_unlabelled.npy or one .npy file. Labels are left out. Raises `UserError` where
    there are no images in `place`, or labels, groups or the teacher's copy without images.
    """
    notes = []
    if place is not None:
        chosen = _files_of(Path(place))
        if IMAGES in files and files[IMAGES][1].resolve() != chosen[IMAGES][1].resolve():
            notes.append(f"The unlabelled images are those of --unlabelled, not {files[IMAGES][0]}.")
        files = {at: file for at, file in files.items() if at[1] != UNLABELLED_SPLIT} | chosen
    others = [name for (_, split), (name, _) in files.items() if split == UNLABELLED_SPLIT]
    images = FILE_NAMES["X"].format(UNLABELLED_SPLIT)
    require(not others or IMAGES in files, "unlabelled images", f"in {images}", f"{', '.join(others)} alone")
    if LABELS in files:
        notes.append(f"{files[LABELS][0]} was not read: these images count as unlabelled.")
    return {at: file for at, file in files.items() if at != LABELS}, notes


def _files_of(place: Path) -> Files:
    """The files that --unlabelled names."""
    if place.is_file() and place.suffix == ".npy":
        return {IMAGES: (place.name, place)}
    files = folder_files(place)
    missing = f"no such file in {str(place)!r}" if place.is_dir() else str(place)
    rule = f"a folder with {FILE_NAMES['X'].format(UNLABELLED_SPLIT)}, or one .npy file of images"
    hint = "`prepare --unlabelled` makes arrays of a folder of images."
    require(IMAGES in files, "--unlabelled", rule, missing, hint)
    return files


def as_copies(arrays: Arrays) -> tuple[Arrays, list[str]]:
    """(arrays, notes): unlabelled images of the teacher's size alone are its copy, not the student's.

    Raises `UserError` unless they have a teacher's copy where the other splits have one, and only there.
    """
    if IMAGES not in arrays:
        return arrays, []
    images, teacher = arrays[IMAGES], arrays.get(("teacher", "train"))
    if teacher is None:
        hint = "Name the file of the student's images alone: --unlabelled DIR/X_unlabelled.npy."
        rule = "left out where the other splits have no copy for the teacher"
        name = arrays[LARGER].name if LARGER in arrays else ""
        require(LARGER not in arrays, name, rule, "one for unlabelled images alone", hint)
        return arrays, []
    if LARGER in arrays:
        return arrays, []
    name, size, own = teacher.name, teacher.image_shape, images.image_shape
    larger = FILE_NAMES["teacher"].format(UNLABELLED_SPLIT)
    hint = f"Images of the student's size need {larger} beside them."
    require(own == size, images.name, f"of images shaped like those in {name}, {size}", own, hint)
    note = f"{images.name} has the size of {name}: the student's copies of it are resized from that."
    return {at: source for at, source in arrays.items() if at != IMAGES} | {LARGER: images}, [note]


def unlabelled_note(split: Split) -> str:
    """How many unlabelled images there are, in a sentence."""
    known = "known" if split.groups is not None else "unknown"
    return f"{len(split.labels):,} unlabelled images (groups {known})."
