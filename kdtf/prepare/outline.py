"""What an import is going to write, in numbers: what is shown before anything is written."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..data.dataset import UNLABELLED_SPLIT
from .plan import Plan


@dataclass(frozen=True)
class Outline:
    """The classes of a source and how many images each split has of them; some may prove to be unreadable."""

    source: str  # its name
    layout: str  # how it was read: "SPLIT/CLASS" or "an .npz file" say
    folders: dict[str, str]  # {split: the folder it comes from}, where the source has splits
    classes: tuple[str, ...]
    counts: dict[str, tuple[int, ...]]  # {split: images of each class}
    groups: dict[str, int]  # {split: groups}, of those where groups are known
    unlabelled: int  # images

    @property
    def totals(self) -> dict[str, int]:
        """{split: images}, that of the unlabelled ones where there are any."""
        labelled = {split: sum(counts) for split, counts in self.counts.items()}
        return labelled | ({UNLABELLED_SPLIT: self.unlabelled} if self.unlabelled else {})


def outline_of(source: Path, plan: Plan) -> Outline:
    """The numbers of a plan."""
    counts, groups = {}, {}
    for split, items in plan.splits.items():
        own = {item.group for item in items} - {None}
        if own:
            groups[split] = len(own)
        if split != UNLABELLED_SPLIT:
            labels = Counter(item.label for item in items)
            counts[split] = tuple(labels[k] for k in range(len(plan.classes)))
    unlabelled = len(plan.splits.get(UNLABELLED_SPLIT, ()))
    return Outline(source.resolve().name, plan.layout, plan.folders, plan.classes, counts, groups, unlabelled)
