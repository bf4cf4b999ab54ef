"""Every setting, its default, its help line and its rule, in one place.

A section is a frozen record checked at birth. The command line, the TOML presets and
the manifest are all made from these fields; none of them holds a default of its own.
"""

import math
import sys
import tomllib
import types
import typing
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

from .errors import UserError, require, require_known

SIDES = (8, 1024)  # px, the least and the most that the side of a square image may be asked to be
DEMO = Path(__file__).with_name("demo.toml")
DEFAULT_TEACHERS = ("vgg16", "vgg19", "resnet", "densenet", "efficientnet", "nasnetmobile", "xception")


def option(default: Any, help: str, metavar: str | None = None) -> Any:
    """A field with its help line: the flag is the field's name with dashes."""
    return field(default=default, metadata={"help": help, "metavar": metavar})


def _fits(value: Any, kind: Any) -> bool:
    """Does `value` have the type a field declares? An int may stand for a float, a bool for neither."""
    if isinstance(kind, types.UnionType):
        return any(_fits(value, k) for k in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(v, typing.get_args(kind)[0]) for v in value)
    if kind is float:
        large = isinstance(value, int) and abs(value) > sys.float_info.max
        return isinstance(value, int | float) and not isinstance(value, bool) and not large
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _as_declared(value: Any, kind: Any) -> Any:
    """A value that fits, in the type a field declares: 2 and 2.0 are one setting, and so one stage's key."""
    if isinstance(kind, types.UnionType):
        kind = next(k for k in typing.get_args(kind) if _fits(value, k))
    if typing.get_origin(kind) is tuple:
        return tuple(_as_declared(v, typing.get_args(kind)[0]) for v in value)
    return float(value) if kind is float else value


def _is_bounded(value: Any) -> bool:
    """Is a number finite, and small enough for TensorFlow's integers where it is whole?"""
    if isinstance(value, tuple):
        return all(map(_is_bounded, value))
    if isinstance(value, int):
        return abs(value) < 2**63
    return not isinstance(value, float) or math.isfinite(value)


class Section:
    """Shared checks of the sections below."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]  # every section is a dataclass

    def __post_init__(self) -> None:
        kinds = typing.get_type_hints(type(self))
        for f in fields(self):
            value, kind = getattr(self, f.name), kinds[f.name]
            value = tuple(value) if isinstance(value, list) else value
            require(_fits(value, kind), flag(f.name), f"of type {_type_name(kind)}", value)
            object.__setattr__(self, f.name, _as_declared(value, kind))
        self.check()
        for f in fields(self):
            value = getattr(self, f.name)
            require(_is_bounded(value), flag(f.name), "finite and, if it is whole, below 2^63", value)

    def check(self) -> None:
        """Overridden where a value, not only a type, can be wrong."""

    def _positive(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            require(value is None or value > 0, flag(name), "positive", value)

    def _at_least(self, least: float, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            require(value >= least, flag(name), f"at least {least}", value)

    def _fraction(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            require(0 <= value <= 1, flag(name), "between 0 and 1", value)


def _type_name(kind: Any) -> str:
    if isinstance(kind, types.UnionType):
        return " or ".join(_type_name(k) for k in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return f"list of {_type_name(typing.get_args(kind)[0])}"
    return "nothing" if kind is types.NoneType else kind.__name__


def flag(name: str) -> str:
    """The command-line flag of a field."""
    return "--" + name.replace("_", "-")


@dataclass(frozen=True)
class DataConfig(Section):
    """data: what is read"""

    data: str = option("FData", "folder of arrays, or an .npz file with MedMNIST or Keras keys", "DIR|FILE")
    demo: bool = option(False, "a synthetic chest phantom and a short recipe: nothing is downloaded")
    class_names: tuple[str, ...] = option((), "names of the labels 0, 1, ... [those of classes.txt]", "NAME")
    image_size: int | None = option(None, "side of the student's input in pixels [the arrays' own]", "PX")
    strict: bool = option(False, "stop with exit code 3 where splits share images or patients")
    val_fraction: float = option(0.1, "part of train split off as val where there is no val pair", "F")

    def check(self) -> None:
        alone = not self.demo or self.data == DataConfig.data
        require(alone, "--demo", "given without --data", self.data, "Choose one of the two.")
        low, high = SIDES
        fits = self.image_size is None or low <= self.image_size <= high
        require(fits, flag("image_size"), f"between {low} and {high}", self.image_size)
        names = self.class_names
        good = len(set(names)) == len(names) and all([n.strip()] == n.splitlines() for n in names)
        require(good, flag("class_names"), "names of one line that all differ, none of them empty", names)
        require(0 < self.val_fraction <= 0.5, flag("val_fraction"), "above 0, at most 0.5", self.val_fraction)


@dataclass(frozen=True)
class ViewConfig(Section):
    """views: fixed augmented copies of the training images, each labelled once by the teacher"""

    views: int = option(16, "number of views, the first one the image itself; 1 is plain distillation", "V")
    flip: bool = option(True, "mirror left and right in half of the views; turn off where the side matters")
    shift: float = option(0.1, "largest shift, as a part of the side", "F")
    rotate: float = option(10.0, "largest rotation in degrees", "DEG")
    zoom: float = option(0.1, "largest zoom in or out, as a part of the side", "F")
    brightness: float = option(0.1, "largest relative change of brightness", "F")
    contrast: float = option(0.1, "largest relative change of contrast", "F")

    def check(self) -> None:
        self._at_least(1, "views")
        most = {"shift": 0.5, "rotate": 45, "zoom": 0.5, "brightness": 0.9, "contrast": 0.9}
        for name, limit in most.items():
            value = getattr(self, name)
            require(0 <= value <= limit, flag(name), f"between 0 and {limit}", value)


@dataclass(frozen=True)
class TeacherConfig(Section):
    """teachers: large networks, fine-tuned on the data"""

    teachers: tuple[str, ...] = option(DEFAULT_TEACHERS, "which teachers, in this order", "NAME")
    weights: str = option("auto", "auto, imagenet, none, a weights file, or a folder of them", "SOURCE")
    teacher_size: int | None = option(None, "side to which the teacher's graph resizes its input", "PX")
    head_rate: float = option(1e-3, "learning rate of the head on the frozen base", "R")
    freeze: bool = option(False, "keep the base frozen in the head phase even when its weights are random")
    fine_tune_epochs: int = option(20, "epochs of the whole pretrained network after the head", "N")
    fine_tune_rate: float = option(3e-4, "its peak learning rate", "R")
    scratch_epochs: int = option(40, "epochs of the whole network when its weights are random", "N")
    scratch_rate: float | None = option(
        None, "its peak learning rate [1e-3, and 1e-4 for a network without BatchNormalization]", "R"
    )
    teacher_optimizer: str = option("Adam", "optimizer of the whole network, by its Keras name", "NAME")
    teacher_schedule: str = option("CosineDecay", "its learning rate's course, by its Keras name", "NAME")
    teacher_weight_decay: float = option(0.0, "its decoupled weight decay", "W")
    fine_tune_batch_size: int = option(32, "images per step while the whole network trains", "N")
    patience: int = option(15, "epochs without a better val accuracy before the whole network stops", "N")
    teacher_momentum: float = option(0.9, "momentum of the teacher's BatchNormalization statistics", "M")

    def check(self) -> None:
        require(len(self.teachers) > 0, flag("teachers"), "at least one name", self.teachers)
        self._positive("teacher_size", "head_rate", "fine_tune_rate", "scratch_rate")
        self._at_least(0, "fine_tune_epochs", "scratch_epochs", "teacher_weight_decay")
        self._at_least(1, "fine_tune_batch_size", "patience")
        self._fraction("teacher_momentum")


@dataclass(frozen=True)
class StudentConfig(Section):
    """student: the small network, trained alone and distilled under the same budget"""

    student: str = option("cnn3", "which student, or cut:NETWORK[:BLOCK] of a pretrained one", "NAME")
    baseline: str | None = option(None, "another small network, trained alone, to compare with", "NAME")
    epochs: int = option(300, "epochs of the student, and of a teacher's head on cached features", "N")
    batch_size: int = option(256, "images per step of the student and of a head", "N")
    learning_rate: float = option(1e-3, "the student's peak learning rate", "R")
    optimizer: str = option("Adam", "the student's optimizer, by its Keras name", "NAME")
    schedule: str = option("CosineDecay", "its learning rate's course, by its Keras name", "NAME")
    weight_decay: float = option(0.0, "its decoupled weight decay", "W")
    warmup: float = option(0.05, "part of its steps spent warming up (CosineDecay)", "F")
    student_momentum: float = option(0.9, "momentum of the student's BatchNormalization statistics", "M")
    student_dropout: float = option(0.5, "dropout before the student's logits", "F")
    budget_kib: float = option(64.0, "most KiB of the int8 file of a cut:NETWORK without a BLOCK", "KIB")
    budget_kmacs: float | None = option(None, "most thousand multiply-accumulates of it", "N")
    budget_arena_kib: float | None = option(None, "most KiB of working memory of it", "KIB")

    def check(self) -> None:
        self._at_least(1, "epochs", "batch_size")
        self._at_least(0, "weight_decay")
        self._positive("learning_rate", "budget_kib", "budget_kmacs", "budget_arena_kib")
        self._fraction("warmup", "student_momentum")
        require(0 <= self.student_dropout < 1, flag("student_dropout"), "in [0, 1)", self.student_dropout)


@dataclass(frozen=True)
class DistilConfig(Section):
    """distillation: alpha * CE + (1 - alpha) * T^2 * KL"""

    alpha: float = option(0.5, "weight of the true label; of the teacher with --loss soft-ce", "A")
    temperature: float = option(2.0, "softens both sets of logits", "T")
    loss: str = option("kd", "which distillation loss; an unknown name is answered with all of them", "NAME")
    alphas: tuple[float, ...] = option((), "try these on the first seed and keep the best on val", "A")
    temperatures: tuple[float, ...] = option((), "likewise, with every one of --alphas", "T")
    loss_options: tuple[str, ...] = option((), "a loss's own parameters [its defaults]", "NAME=VALUE")

    def options(self) -> tuple[tuple[str, float], ...]:
        """The loss's own parameters as (name, value). Raises `UserError` for what is no finite number."""
        return tuple(self._option(text) for text in self.loss_options)

    @staticmethod
    def _option(text: str) -> tuple[str, float]:
        name, _, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        require(math.isfinite(number), flag("loss_options"), "NAME=VALUE, the value a number", text)
        return name.strip(), number

    def check(self) -> None:
        self.options()
        self._fraction("alpha")
        self._positive("temperature")
        for alpha in self.alphas:
            require(0 <= alpha <= 1, flag("alphas"), "between 0 and 1", alpha)
        for temperature in self.temperatures:
            require(temperature > 0, flag("temperatures"), "positive", temperature)


@dataclass(frozen=True)
class QuantizeConfig(Section):
    """quantization: the student as .tflite files"""

    recipes: tuple[str, ...] = option(
        ("float32", "float16", "dynamic", "int8"), "which recipes; also int16x8, int4, int8-qat", "NAME"
    )
    calibration_images: int = option(200, "training views that set the int8 ranges", "N")
    calibration_seed: int | None = option(None, "seed that draws them [--seed]", "N")
    mixed: bool = option(False, "where int8 loses over a point on val, its worst layer in float as well")
    compress: tuple[str, ...] = option((), "an int8 file pruned or clustered as well: prune, cluster", "NAME")
    qat_epochs: int = option(10, "epochs of fine-tuning with int8 in the loop, for int8-qat", "N")
    qat_rate: float = option(1e-5, "its peak learning rate", "R")
    compress_epochs: int = option(20, "epochs of fine-tuning for --compress", "N")
    compress_rate: float = option(3e-4, "its peak learning rate", "R")
    sparsity: float = option(0.5, "part of the weights that --compress prune sets to zero", "F")
    clusters: int = option(16, "values the weights of a layer share after --compress cluster", "N")

    def check(self) -> None:
        require(len(self.recipes) > 0, flag("recipes"), "at least one name", self.recipes)
        self._at_least(1, "calibration_images", "qat_epochs", "compress_epochs")
        self._at_least(2, "clusters")
        self._positive("qat_rate", "compress_rate")
        require(0 < self.sparsity < 1, flag("sparsity"), "above 0, below 1", self.sparsity)
        for name in self.compress:
            require_known(flag("compress"), name, ("prune", "cluster"))
        seed = self.calibration_seed
        require(seed is None or seed >= 0, flag("calibration_seed"), "at least 0", seed)


@dataclass(frozen=True)
class EvidenceConfig(Section):
    """evidence: repeats and operating points"""

    seeds: int = option(1, "students trained alone and distilled from as many seeds", "N")
    teacher_seeds: bool = option(False, "train the teachers anew for every seed too")
    min_sensitivity: float | None = option(None, "sensitivity a threshold must reach on val [Youden]", "S")

    def check(self) -> None:
        self._at_least(1, "seeds")
        wanted = self.min_sensitivity
        require(wanted is None or 0 < wanted <= 1, flag("min_sensitivity"), "above 0, at most 1", wanted)


@dataclass(frozen=True)
class RunConfig(Section):
    """run"""

    results: str = option("Results", "folder of everything that is written", "DIR")
    fresh: bool = option(False, "forget the finished stages in --results and start over")
    seed: int = option(0, "seed of views, splits, initial weights and batches", "N")
    deterministic: bool = option(False, "same command, same bytes: slower, and no timings in the tables")
    threads: int | None = option(None, "CPU threads [TensorFlow decides]", "N")
    accept_versions: bool = option(False, "go on from stages that other versions of packages made")

    def check(self) -> None:
        self._at_least(0, "seed")
        self._positive("threads")
        require(self.threads is None or self.threads <= 1024, flag("threads"), "at most 1024", self.threads)


@dataclass(frozen=True)
class Config:
    """The whole of a run's settings, by section."""

    data: DataConfig = DataConfig()
    views: ViewConfig = ViewConfig()
    teacher: TeacherConfig = TeacherConfig()
    student: StudentConfig = StudentConfig()
    distil: DistilConfig = DistilConfig()
    quantize: QuantizeConfig = QuantizeConfig()
    evidence: EvidenceConfig = EvidenceConfig()
    run: RunConfig = RunConfig()

    @classmethod
    def demo(cls) -> "Config":
        """The settings of --demo: a synthetic phantom, and a recipe short enough for two cores."""
        return cls.from_dict(read_toml(DEMO))

    def with_values(self, values: dict[str, Any]) -> "Config":
        """A copy with flat `{field: value}` settings put in their sections. Unknown names raise."""
        homes = {f.name: s.name for s in fields(self) for f in fields(getattr(self, s.name))}
        changed: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            require_known("setting", name, homes)
            changed.setdefault(homes[name], {})[name] = value
        return replace(self, **{s: replace(getattr(self, s), **v) for s, v in changed.items()})

    def to_dict(self) -> dict[str, Any]:
        """Plain nested values, fit for JSON and for `from_dict`."""
        return {s.name: section_dict(getattr(self, s.name)) for s in fields(self)}

    @classmethod
    def from_dict(cls, nested: dict[str, Any]) -> "Config":
        """The inverse of `to_dict`; sections and fields may be left out. Unknown names raise `UserError`."""
        config = cls()
        for section, values in nested.items():
            require_known("section", section, [s.name for s in fields(cls)])
            require(isinstance(values, dict), f"[{section}]", "a table of settings", values)
            for name in values:
                require_known(f"setting in [{section}]", name, section_dict(getattr(config, section)))
            config = config.with_values(values)
        return config


def section_dict(section: Section) -> dict[str, Any]:
    """A section as plain JSON values."""
    values = {f.name: getattr(section, f.name) for f in fields(section)}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def read_toml(path: str | Path) -> dict[str, Any]:
    """The nested settings of a TOML preset. Raises `UserError` where it cannot be read."""
    path = Path(path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"--config must be a readable TOML file. Got {str(path)!r} ({error.strerror})."
        ) from None
    except (ValueError, RecursionError) as error:  # a number of too many digits, a table in a table in a ...
        raise UserError(f"--config must be valid TOML. {path} is not: {error}.") from None
