"""What the user may choose when images become arrays; every default and rule in one place."""

import math
import re
from dataclasses import dataclass

from ..config import SIDES
from ..errors import UserError, require
from ..sections import Section, flag, option
from .layout import GROUP, Layout
from .tags import require_tags


@dataclass(frozen=True)
class PrepareConfig(Section):
    """prepare: a folder of images, DICOM files or an .npz file becomes the arrays a run reads"""

    out: str = option("FData", "folder that takes the arrays", "DIR")
    layout: str | None = option(
        None,
        "what each level of folders is: SPLIT, CLASS, GROUP, ANY or its name [by names]",
        "PATH",
    )
    ignore: tuple[str, ...] = option(
        (), "folders or images of SOURCE to leave out: names, paths, patterns", "NAME"
    )
    unlabelled: str | None = option(None, "folder of images without labels [unlabelled/ of SOURCE]", "FOLDER")
    size: int = option(32, "side of the square images", "PX")
    teacher_size: int | None = option(None, "side of a second, larger copy for the teacher [none]", "PX")
    keep_aspect: bool = option(False, "pad with black to a square instead of stretching")
    grey: bool = option(False, "one channel instead of three")
    split: tuple[float, ...] = option(
        (0.8, 0.1, 0.1), "parts of train, val and test where the source has no such folders", "F"
    )
    group_regex: str | None = option(None, r"finds the patient in a file name: 'person(\d+)'", "REGEX")
    groups: str | None = option(None, "CSV file with columns file and group: the patient of each", "FILE")
    subgroups: str | None = option(
        None, "CSV file with a column file and others: sex, age band, scanner, ... of each", "FILE"
    )
    subgroup_tags: tuple[str, ...] = option(
        (), "groups by these tags of DICOM headers: PatientSex, PatientAge, ...", "TAG"
    )
    short_names: bool = option(False, "cut the names of classes at the first underscore")
    window: tuple[float, ...] = option(
        (), "CENTER and WIDTH of the grey levels kept, DICOM and 16-bit images [the file's own]", "N"
    )
    seed: int = option(0, "seed of the split", "N")
    workers: int | None = option(None, "images decoded at a time [one a CPU]", "N")
    strict: bool = option(False, "stop at an image that cannot be read instead of skipping it")
    dry_run: bool = option(False, "print classes and counts, and write nothing")

    def check(self) -> None:
        require(self.out, flag("out"), "the name of a folder", self.out)
        low, high = SIDES
        require(low <= self.size <= high, flag("size"), f"between {low} and {high}", self.size)
        larger = self.teacher_size is None or self.size < self.teacher_size <= high
        rule = f"above --size, which is {self.size}, and at most {high}"
        require(larger, flag("teacher_size"), rule, self.teacher_size)
        rule = "three positive parts, of train, val and test, with a sum of 1"
        whole = len(self.split) == 3 and min(self.split) > 0 and abs(sum(self.split) - 1) < 1e-6
        require(whole, flag("split"), rule, self.split)
        self._check_groups()
        require_tags(self.subgroup_tags)
        self._different("subgroup_tags")
        finite = len(self.window) == 2 and all(map(math.isfinite, self.window))
        fits = not self.window or (finite and self.window[1] > 1)
        require(fits, flag("window"), "CENTER and WIDTH, the width above 1", self.window)
        self._seed("seed")
        self._positive("workers")

    def _check_groups(self) -> None:
        one = self.group_regex is None or self.groups is None
        require(one, flag("groups"), "given without --group-regex", self.groups, "Choose one of the two.")
        layout = Layout.of(self.layout) if self.layout is not None else None
        by_folder = layout is not None and GROUP in layout.parts
        other = self.group_regex is not None or self.groups is not None
        rule = "without GROUP where --groups or --group-regex say what groups are"
        require(not (by_folder and other), flag("layout"), rule, self.layout, "Choose one of them.")
        try:
            re.compile(self.group_regex or "")
        except (re.error, RecursionError, OverflowError) as error:
            rule = "a regular expression"
            raise UserError(
                f"{flag('group_regex')} must be {rule}. Got {self.group_regex!r} ({error})."
            ) from None
