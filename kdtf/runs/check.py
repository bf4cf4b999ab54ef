"""Every name and weights file that a run will look up, before anything is done."""

from pathlib import Path

from ..config import Config
from ..distill.losses import LOSSES, check_rule
from ..distill.optim import OPTIMIZERS, SCHEDULES
from ..errors import require, require_known
from ..files import file_digest
from ..models.registry import canonical
from ..models.students import STUDENTS
from ..models.weights import WeightSource
from ..records import Rule
from ..tflite import qat
from ..tflite.recipes import RECIPES, recipes_of_run


def check_settings(config: Config) -> None:
    """Raise `UserError` for a name or file that is not there, or a network that cannot be fine-tuned."""
    student, teacher, distil = config.student, config.teacher, config.distil
    names = (
        ("--student", student.student, STUDENTS),
        ("--baseline", student.baseline or student.student, STUDENTS),
        ("--loss", distil.loss, LOSSES),
        ("--optimizer", student.optimizer, OPTIMIZERS),
        ("--schedule", student.schedule, SCHEDULES),
        ("--teacher-optimizer", teacher.teacher_optimizer, OPTIMIZERS),
        ("--teacher-schedule", teacher.teacher_schedule, SCHEDULES),
    )
    for flag, name, registry in names:
        require_known(flag, name, registry)
    weight_files(config)
    check_rule(Rule(distil.alpha, distil.temperature, distil.loss, distil.options()))
    selectable = [name for name, row in RECIPES.items() if row.selectable]
    for recipe in config.quantize.recipes:
        require_known("--recipes", recipe, selectable)
    recipes = recipes_of_run(config.quantize.recipes, config.quantize.compress)
    if any(RECIPES[recipe].tuning for recipe in recipes):
        qat.libraries()
        chains = [name for name, row in STUDENTS.items() if row.chain]
        for name in filter(None, (student.student, student.baseline)):
            require(name in chains, "--student", f"one of {', '.join(chains)} for fine-tuned files", name)


def teachers_of(config: Config) -> tuple[str, ...]:
    """The teachers of a run by their names in the registry, each once. Raises `UserError`."""
    return tuple(dict.fromkeys(canonical(name) for name in config.teacher.teachers))


def weight_files(config: Config) -> dict[str, Path | None]:
    """{teacher: the file that --weights means for it, None where it means none}.

    Raises `UserError` where a folder lacks the file of a teacher.
    """
    source = WeightSource(config.teacher.weights)
    return {name: source.path(name) for name in teachers_of(config)}


def weight_digests(config: Config) -> dict[str, str | None]:
    """{teacher: sha256 of the file that --weights means for it, None where it means none}."""
    return {name: file_digest(file) if file else None for name, file in weight_files(config).items()}
