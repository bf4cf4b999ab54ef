"""What the name of a folder says: a split, masks, no more than pictures, a patient. Owns these words.

Case, digits, separators and words such as "set" or "data" make no difference: "1. Training_Set" is train.
"""

import re

SPLIT_WORDS = {
    "train": ("train", "training", "trn", "trainval"),
    "val": ("val", "valid", "validation", "dev", "development"),
    "test": ("test", "testing", "tst", "eval", "evaluation", "holdout", "heldout"),
}
SPLIT_OF = {word: split for split, own in SPLIT_WORDS.items() for word in own}
# they say nothing beside another word; those that may be grown together with it ("trainset") first
GROWN = ("dataset", "data", "sets", "set", "images", "image", "imgs", "img")
FILLERS = {*GROWN, "split", "folder", "files", "file", "samples", "cases", "part", "the", "of", "all"}
PICTURES = {
    *("image", "images", "img", "imgs", "picture", "pictures", "pic", "pics", "photo", "photos", "frame"),
    *("frames", "slice", "slices", "scan", "scans", "series", "data", "files", "raw", "original"),
    *("originals", "png", "pngs", "jpg", "jpgs", "jpeg", "jpegs", "tif", "tiff", "bmp", "dcm", "dicom"),
    *("dicoms",),
}
MASKS = {"mask", "masks", "segmentation", "segmentations", "annotation", "annotations", "groundtruth"}
# masks only where nothing else is in the name
MASKS_ALONE = {"seg", "segs", "label", "labels", "gt", "contour", "contours", "roi", "rois", "overlays"}
# of the name of an image without its ending, where it is the mask of another
MASK_ENDING = re.compile(r"[ _.-]+(masks?|seg|segmentation|gt|label|groundtruth)[ _.-]*\d*$", re.IGNORECASE)
PARTS = {"part", "fold", "batch", "chunk", "folder", "dir"}
SUBJECTS = {
    *("patient", "patients", "pat", "pt", "subject", "subj", "sub", "person", "case", "study", "scan", "pid"),
    *("series", "exam", "visit", "session", "ses", "seq", "id", "slice", "image", "img", "sample", "volume"),
    *("vol", "ct", "cxr", "mr", "acc"),
}


def split_of(name: str) -> str | None:
    """The split that a folder of this name is, or None.

    >>> split_of("Training"), split_of("test_set"), split_of("b. Validation Data"), split_of("tested")
    ('train', 'test', 'val', None)
    """
    return SPLIT_OF.get("".join(_telling(name)))


def without_split(name: str) -> tuple[str, str | None]:
    """(`normal`, `train`) of a name such as `train_normal`; (name, None) where it has no word of a split."""
    telling = _telling(name)
    splits = [SPLIT_OF[word] for word in telling if word in SPLIT_OF]
    rest = "".join(word for word in telling if word not in SPLIT_OF)
    return (rest, splits[0]) if rest and len(splits) == 1 else (name, None)


def is_masks(name: str) -> bool:
    """Does a name say masks and nothing else? `with_mask` may be a class, `lung_masks` lies below one."""
    telling = _telling(name)
    return "".join(telling) in MASKS | MASKS_ALONE


def tells_of_masks(name: str) -> bool:
    """Is there a word for masks in a name, or nothing but one?"""
    telling = _telling(name)
    return is_masks(name) or bool(MASKS & set(telling)) or "groundtruth" in "".join(telling)


def is_pictures(name: str) -> bool:
    """Does a name say images and nothing else? A folder of it adds nothing to the one around it."""
    own = _words(name)
    return bool(own) and PICTURES.issuperset(own)


def has_number(name: str) -> bool:
    """Is there a digit in a name? Patients and series are numbered."""
    return any(character.isdigit() for character in name)


def mask_ending(stem: str) -> str:
    """What `_mask` is in `chest1_mask`, the name of an image without its ending; "" where it is no mask."""
    match = MASK_ENDING.search(stem)
    return match[0] if match else ""


def is_patient(name: str) -> bool:
    """Is it a number of a patient, a series or an image, and says so, as `patient7` does?"""
    own = _words(name)
    return has_number(name) and bool(own) and own[0] in SUBJECTS


def is_part(name: str) -> bool:
    """Is it a numbered part of a larger set of images: `images_001`, `HAM10000_images_part_1`?"""
    own = _words(name)
    return has_number(name) and bool(own) and (is_pictures(name) or own[-1] in PARTS)


def is_subject(name: str) -> bool:
    """Is it the number of a patient, a series or an image, rather than that of a class as in `grade2`?

    A number of one or two digits says neither: 0 and 1 are classes, 1 to 9 may be patients.
    """
    own = _words(name)
    if not own:
        return (name.startswith("0") and len(name) > 1) or sum(map(str.isdigit, name)) > 2
    return has_number(name) and (is_patient(name) or len(own[0]) == 1)


def _words(name: str) -> list[str]:
    """The words of a name in lower case, without digits: TrainSet_2 is train and set."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [word for word in re.split(r"[\W\d_]+", apart.casefold()) if word]


def _telling(name: str) -> list[str]:
    """The words of a name that say something."""
    return [_ungrown(word) for word in _words(name) if word not in FILLERS and len(word) > 1]


def _ungrown(word: str) -> str:
    stems = (word.removesuffix(filler) for filler in GROWN if word.endswith(filler))
    return next((stem for stem in stems if stem in SPLIT_OF), word)
