"""The kinds of tasks, one row each: the function that performs it and what its result depends on beside it.

A new kind of stage is a row here, its function, and the place in `plan` that asks for it. Imports nothing
heavy: the functions are found by name when a task is performed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

DETERMINISTIC = "deterministic"  # in an environment, beside the packages
DRAWN = ("numpy", "pillow")
TRAINED = ("tensorflow", "keras", "numpy")
LABELLED = {  # by the labeller that a task was given
    **{("labeller", name): ("ai-edge-litert",) for name in ("auto", "litert")},
    **{("labeller", name): ("openvino",) for name in ("openvino", "openvino-bf16")},
}
CONVERTED = ("tensorflow", "litert-quantizer", "ai-edge-litert", "numpy")
TUNED = (*CONVERTED, "keras", "tf-keras", "tensorflow-model-optimization")
REPORTED = ("numpy", "pandas", "scikit-learn", "scipy", "statsmodels", "matplotlib", "seaborn", "pillow")


@dataclass(frozen=True)
class Kind:
    """A kind of task. `function` is "module.name" in `runs`, "" of a report, which `close` writes.

    Raise `version` when what the function makes changes. `packages` are those whose versions decide the
    result, `reads_data` says whether it reads images or labels, `trains` whether --deterministic changes
    what it makes. `optional` are {(setting, value): packages} that decide it too where a task has that.
    """

    function: str
    packages: tuple[str, ...]
    version: int = 1
    reads_data: bool = False
    trains: bool = False
    optional: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)

    def load(self) -> Callable[..., None]:
        """The function itself: `function(workspace, **settings)`."""
        module, name = self.function.split(".")
        return getattr(import_module(f"{__package__}.{module}"), name)

    def environment(
        self, versions: Mapping[str, str], deterministic: bool, settings: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What a task of this kind with these settings runs in, as far as its result depends on it."""
        packages = list(self.packages)
        for (name, value), more in self.optional.items():
            packages += more if settings.get(name) == value else ()
        environment: dict[str, Any] = {package: versions[package] for package in packages}
        return {**environment, DETERMINISTIC: True} if self.trains and deterministic else environment


KINDS = {
    # 2: with unlabelled images; 3: short names of classes
    "phantom": Kind("data.draw_phantom", DRAWN, version=3),
    # 2: and of unlabelled images; 3: of pairs that are counted and not listed; 4: worst
    # findings first; 5: of more than 200,000 images near copies by trees, the probe on a part of train
    "audit": Kind("data.audit_data", (*DRAWN, "scikit-learn", "scipy"), version=5, reads_data=True),
    "folds": Kind("data.assign_folds", (*DRAWN, "scikit-learn", "scipy"), reads_data=True),
    # 2: what later images are compared with
    "datasheet": Kind("data.describe", DRAWN, version=2, reads_data=True),
    "views": Kind("data.draw_train_views", DRAWN, version=2, reads_data=True),  # 2: or computed
    "unlabelled-views": Kind("data.draw_unlabelled_views", DRAWN, reads_data=True),
    "origin": Kind("teacher.find_origin", TRAINED, reads_data=True),
    "features": Kind("teacher.extract_features", TRAINED, reads_data=True, trains=True, optional=LABELLED),
    # 2: with the fused Adam
    "head": Kind("teacher.train_head", TRAINED, version=2, reads_data=True, trains=True),
    # 2: with the fused batch normalization; 3: with the fused Adam, as below
    "whole": Kind("teacher.train_whole", TRAINED, version=3, reads_data=True, trains=True),
    "labels": Kind("teacher.label_views", TRAINED, reads_data=True, trains=True, optional=LABELLED),
    "unlabelled-labels": Kind(
        "teacher.label_unlabelled", TRAINED, reads_data=True, trains=True, optional=LABELLED
    ),
    "joined-labels": Kind("label_parts.join", ("numpy",)),
    "ensemble-labels": Kind("ensemble.label_views", ("numpy", "scipy")),
    "ensemble-evaluation": Kind("ensemble.evaluate", ("numpy",)),
    "teacher-evaluation": Kind("teacher.evaluate", TRAINED, reads_data=True, trains=True),
    "cut": Kind("files.choose_cut", (*CONVERTED, "keras"), reads_data=True),
    # 4: a network made thinner is fitted to images
    "student": Kind("student.train", TRAINED, version=4, reads_data=True, trains=True),
    "student-evaluation": Kind("student.evaluate", TRAINED, reads_data=True, trains=True),
    "agreement": Kind("agreement.compare", TRAINED, reads_data=True, trains=True),
    "attention": Kind("teacher.explain", TRAINED, reads_data=True, trains=True),
    "conversion": Kind("files.convert", CONVERTED),
    "file": Kind("files.make_file", CONVERTED, reads_data=True),
    # 2: int8 in the loop by Keras, of any student; 3: with the fused Adam
    "tuned-file": Kind(
        "files.make_tuned_file", (*CONVERTED, "keras"), version=3, reads_data=True, trains=True
    ),
    # 3: dropout draws from a generator that a checkpoint holds
    "compressed-file": Kind("files.make_tuned_file", TUNED, version=3, reads_data=True, trains=True),
    "file-evaluation": Kind("files.evaluate", ("ai-edge-litert", "numpy"), reads_data=True),
    # these write into the results folder itself
    # 2: of equally good thresholds the lowest, cells that spreadsheets take for formulas; 3: the verdict,
    # scores by the class named, pictures of the file itself, pairs of copies by file and row; 4: prediction
    # sets, scores by group; 6: copies of training images, and all but one image of a patient, count in no
    # set; 7: AUC by images, scores without copies in the picture of the frontier
    "student-report": Kind("", REPORTED, version=7, reads_data=True),
    "teacher-report": Kind("", REPORTED, version=7, reads_data=True),
    "run-report": Kind("", REPORTED, version=7, reads_data=True),
}
PACKAGES = tuple(
    dict.fromkeys(
        package
        for kind in KINDS.values()
        for packages in (kind.packages, *kind.optional.values())
        for package in packages
    )
)
