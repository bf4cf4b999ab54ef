"""Every name and weights file that a run will look up, before anything is done.

What can be looked up without Keras, which takes seconds to start, comes first.
"""

import os
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

from ..config import LABELLERS, Config
from ..data.dataset import Dataset
from ..distill.losses import LOSSES, check_rule
from ..distill.optim import OPTIMIZERS, SCHEDULES
from ..errors import require, require_known
from ..extras import require_extras
from ..files import Digest, file_digest
from ..models.cut_names import is_cut, parts_of, to_budget, with_parts
from ..models.cuts import MIN_SIDE
from ..models.registry import HEADS, canonical
from ..models.students import STUDENTS, check_student, is_chain
from ..models.weights import WeightSource
from ..records import Rule
from ..tflite.recipes import RECIPES
from .hands import check_engine
from .kinds import KINDS
from .tracking import check_tracking

MODULES = {
    "pillow": "PIL",
    "scikit-learn": "sklearn",
}  # what packages are imported as, where not by their name
PAGE = ("jinja2",)  # what the report is written with: it decides no result


def check_names(config: Config) -> None:
    """Raise `UserError` for a name or file that is not there, or a student that cannot be compressed.

    Starts no TensorFlow, and leaves to `check_networks` what only Keras knows.
    """
    check_packages()
    check_tracking(config.run)
    check_engine(config.run)
    labeller = config.teacher.labeller
    require_extras(f"--labeller {labeller}", *LABELLERS[labeller])
    if config.student.trials:
        require_extras("--trials", "optuna")
    source, distil = WeightSource(config.teacher.weights), config.distil
    own = [canonical(name) for name in config.teacher.teachers if not name.startswith("keras:")]
    others = {name for name in config.teacher.teachers if name.startswith("keras:")}
    for name in own:
        source.path(name)
    require_known("--head", config.teacher.head, ("own", *HEADS))
    for flag, name in _students(config):
        check_student(name, flag)
    for network in _cut_networks(config):
        source.path(network)
    student, teacher = config.student, config.teacher
    for flag, name, registry in (
        ("--optimizer", student.optimizer, OPTIMIZERS),
        ("--schedule", student.schedule, SCHEDULES),
        ("--teacher-optimizer", teacher.teacher_optimizer, OPTIMIZERS),
        ("--teacher-schedule", teacher.teacher_schedule, SCHEDULES),
    ):
        require_known(flag, name, registry)
    require_known("--loss", distil.loss, LOSSES)
    check_rule(Rule(distil.alpha, distil.temperature, distil.loss, distil.options()))
    fits = not (config.teacher.ensemble and LOSSES[distil.loss].takes_features)
    rule = "a loss on logits alone with --ensemble, whose teachers have no features in common"
    require(fits, "--loss", rule, distil.loss)
    selectable = [name for name, row in RECIPES.items() if row.selectable]
    for recipe in config.quantize.recipes:
        require_known("--recipes", recipe, selectable)
    seed, seeds = config.run.seed, config.evidence.seeds
    alone = config.run.jobs == 1 and config.run.engine == "local"
    require(alone or not teacher.mirror, "--mirror", "given without --jobs and --engine", "a GPU a job")
    require(seed + seeds <= 2**32, "--seed", f"at most {2**32 - seeds} with --seeds {seeds}", seed)
    count = len({*own, *others}) * (config.evidence.seeds if config.evidence.teacher_seeds else 1)
    require(not config.teacher.ensemble or count > 1, "--ensemble", "of at least two teachers", count)
    if config.quantize.compress:
        chains = [name for name, row in STUDENTS.items() if row.chain]
        for flag, name in _students(config):
            require(is_chain(name), flag, f"one of {', '.join(chains)} for --compress", name)


def check_packages() -> None:
    """Raise `UserError` for a package that a run will import and that is not installed; imports none.

    Those of --compress are an extra, of which `check_networks` says more.
    """
    kinds = (row.packages for name, row in KINDS.items() if name != "compressed-file")
    for package in dict.fromkeys((*chain(*kinds), *PAGE)):
        installed = find_spec(MODULES.get(package, package.replace("-", "_")))
        hint = "`pip install .` where kdtf lies installs all that it needs."
        require(installed, f"The Python package {package}", "installed", "nothing of that name", hint)


def check_networks(config: Config) -> None:
    """Raise `UserError` for a `keras:NAME` that is not there, its weights file, or packages that are missing.

    Starts TensorFlow.
    """
    from ..distill.replicas import check_devices
    from ..tflite import compress

    if config.teacher.mirror:
        check_devices()
    for file in filter(None, weight_files(config).values()):
        require(os.access(file, os.R_OK), "--weights", "a file that can be read", str(file))
    if config.quantize.compress:
        compress.libraries()


def check_sides(config: Config, data: Dataset) -> None:
    """Raise `UserError` where a student would see more than the images hold, or less than it can take.

    Starts no TensorFlow.
    """
    most = min(data.train.teacher_pixels.shape[1:3])
    for side in config.student.sides:
        require(side <= most, "--sides", f"at most the images' {most} px", side)
    side = min(config.student.sides or data.train.pixels.shape[1:3])
    for _, name in _students(config):
        least = MIN_SIDE if is_cut(name) else STUDENTS[name].min_side
        require(side >= least, "image side", f"at least {least} px for {name}", side)


def _students(config: Config) -> list[tuple[str, str]]:
    """(setting, name) of the students of a run; of one of any block that which the budget decides."""
    student = config.student
    written = [("--students", own) for own in student.students] or [("--student", student.student)]
    names = [(flag, to_budget(name)) for flag, own in written for name in with_parts(own)]
    return [*names, *([("--baseline", student.baseline)] if student.baseline else [])]


def _cut_networks(config: Config) -> list[str]:
    """The networks that students are cut from."""
    return [parts_of(name)[0] for _, name in _students(config) if is_cut(name)]


def teachers_of(config: Config) -> tuple[str, ...]:
    """The teachers of a run by their names in the registry, each once. Raises `UserError`."""
    return tuple(dict.fromkeys(canonical(name) for name in config.teacher.teachers))


def weight_files(config: Config) -> dict[str, Path | None]:
    """{network: the file that --weights means for it, None where it means none}: teachers, and cut students.

    Raises `UserError` where a folder lacks the file of a network.
    """
    source = WeightSource(config.teacher.weights)
    networks = dict.fromkeys((*teachers_of(config), *_cut_networks(config)))
    return {name: source.path(name) for name in networks}


def weight_digests(config: Config, digest: Digest = file_digest) -> dict[str, str | None]:
    """{network: sha256 of the file that --weights means for it, None where it means none}."""
    return {name: digest(file) if file else None for name, file in weight_files(config).items()}


def loss_options(config: Config) -> tuple[tuple[str, float], ...]:
    """Every parameter of the loss's own with its value: those that were set, and the others' defaults."""
    return tuple({**LOSSES[config.distil.loss].options, **dict(config.distil.options())}.items())
