"""Every name and weights file that a run will look up, before anything is done.

What can be looked up without Keras, which takes seconds to start, comes first.
"""

from pathlib import Path

from ..config import Config
from ..errors import require, require_known
from ..files import file_digest
from ..models.cut_names import is_cut, parts_of
from ..models.registry import canonical
from ..models.weights import WeightSource
from ..records import Rule
from ..tflite.recipes import RECIPES, recipes_of_run


def check_names(config: Config) -> None:
    """Raise `UserError` for a teacher, a weights file or a recipe that is not there. Starts no TensorFlow."""
    source = WeightSource(config.teacher.weights)
    for name in config.teacher.teachers:
        if not name.startswith("keras:"):  # a class of Keras: `check_networks` asks Keras
            source.path(canonical(name))
    selectable = [name for name, row in RECIPES.items() if row.selectable]
    for recipe in config.quantize.recipes:
        require_known("--recipes", recipe, selectable)


def check_networks(config: Config) -> None:
    """Raise `UserError` for a name or file that is not there, or a network that cannot be fine-tuned.

    Starts TensorFlow.
    """
    from ..distill.losses import LOSSES, check_rule
    from ..distill.optim import OPTIMIZERS, SCHEDULES
    from ..models.students import STUDENTS, check_student, is_chain
    from ..tflite import qat

    student, teacher, distil = config.student, config.teacher, config.distil
    names = (
        ("--loss", distil.loss, LOSSES),
        ("--optimizer", student.optimizer, OPTIMIZERS),
        ("--schedule", student.schedule, SCHEDULES),
        ("--teacher-optimizer", teacher.teacher_optimizer, OPTIMIZERS),
        ("--teacher-schedule", teacher.teacher_schedule, SCHEDULES),
    )
    for flag, name, registry in names:
        require_known(flag, name, registry)
    check_student(student.student)
    check_student(student.baseline or student.student, "--baseline")
    weight_files(config)
    check_rule(Rule(distil.alpha, distil.temperature, distil.loss, distil.options()))
    recipes = recipes_of_run(config.quantize.recipes, config.quantize.compress)
    if any(RECIPES[recipe].tuning for recipe in recipes):
        qat.libraries()
        chains = [name for name, row in STUDENTS.items() if row.chain]
        for name in filter(None, (student.student, student.baseline)):
            require(is_chain(name), "--student", f"one of {', '.join(chains)} for fine-tuned files", name)


def teachers_of(config: Config) -> tuple[str, ...]:
    """The teachers of a run by their names in the registry, each once. Raises `UserError`."""
    return tuple(dict.fromkeys(canonical(name) for name in config.teacher.teachers))


def weight_files(config: Config) -> dict[str, Path | None]:
    """{network: the file that --weights means for it, None where it means none}: teachers, and cut students.

    Raises `UserError` where a folder lacks the file of a network.
    """
    source = WeightSource(config.teacher.weights)
    students = filter(None, (config.student.student, config.student.baseline))
    cut = (parts_of(name)[0] for name in students if is_cut(name))
    return {name: source.path(name) for name in dict.fromkeys((*teachers_of(config), *cut))}


def weight_digests(config: Config) -> dict[str, str | None]:
    """{network: sha256 of the file that --weights means for it, None where it means none}."""
    return {name: file_digest(file) if file else None for name, file in weight_files(config).items()}


def loss_options(config: Config) -> tuple[tuple[str, float], ...]:
    """Every parameter of the loss's own with its value: those that were set, and the others' defaults."""
    from ..distill.losses import LOSSES

    return tuple({**LOSSES[config.distil.loss].options, **dict(config.distil.options())}.items())
