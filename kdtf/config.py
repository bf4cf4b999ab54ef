"""Every setting, its default, its help line and its rule, in one place.

A section is a frozen record checked at birth. The command line, the TOML presets and
the manifest are all made from these fields; none of them holds a default of its own.
"""

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from .errors import require, require_known
from .sections import Section, flag, option, section_dict
from .settings_file import read_toml

MOST_VIEWS = 10_000  # a training sees one view of an image an epoch, and no more of them than it has epochs
MOST_JOBS = 1024
MOST_FOLDS = 20
SIDES = (8, 1024)  # px, the least and the most that the side of a square image may be asked to be
TRACKERS = ("mlflow",)
ENGINES = ("local", "ray", "slurm")
LABELLERS: dict[str, tuple[str, ...]] = {  # {name: modules that an extra brings}
    "auto": (),
    "keras": (),
    "litert": (),
    "openvino": ("openvino",),
    "openvino-bf16": ("openvino",),
}
STORE_VIEWS = ("auto", "all", "student", "none")
SETS = ("threshold", "adaptive")  # of `predictor`, which stands alone and would bring NumPy
DEMO = Path(__file__).with_name("demo.toml")
DEFAULT_TEACHERS = ("vgg16", "vgg19", "resnet", "densenet", "efficientnet", "nasnetmobile", "xception")


@dataclass(frozen=True)
class DataConfig(Section):
    """data: what is read"""

    data: str = option("FData", "folder of arrays, or an .npz file with MedMNIST or Keras keys", "DIR|FILE")
    unlabelled: str | None = option(
        None, "folder with X_unlabelled.npy, or a .npy file [those of --data]", "DIR|FILE"
    )
    demo: bool = option(False, "a synthetic chest phantom and a short recipe: nothing is downloaded")
    class_names: tuple[str, ...] = option((), "names of the labels 0, 1, ... [those of classes.txt]", "NAME")
    image_size: int | None = option(None, "side of the student's input in pixels [the arrays' own]", "PX")
    strict: bool = option(False, "stop with exit code 3 where splits share images or patients")
    val_fraction: float = option(0.1, "part of train split off as val where there is no val pair", "F")

    def check(self) -> None:
        alone = not self.demo or self.data == DataConfig.data
        require(alone, "--demo", "given without --data", self.data, "Choose one of the two.")
        alone = not self.demo or self.unlabelled is None
        require(alone, "--demo", "given without --unlabelled", self.unlabelled, "Choose one of the two.")
        low, high = SIDES
        fits = self.image_size is None or low <= self.image_size <= high
        require(fits, flag("image_size"), f"between {low} and {high}", self.image_size)
        names = self.class_names
        good = len(set(names)) == len(names) and all([n.strip()] == n.splitlines() for n in names)
        require(good, flag("class_names"), "names of one line that all differ, none of them empty", names)
        known = all(name.isascii() or name == name.encode(errors="replace").decode() for name in names)
        require(known, flag("class_names"), "text in UTF-8", names)
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
    store_views: str = option(
        "auto",
        "keep on disk all, the student's, or none; auto: what fits, all up to 16 GiB",
        "WHICH",
        key=False,
    )

    def check(self) -> None:
        require_known("--store-views", self.store_views, STORE_VIEWS)
        self._at_least(1, "views")
        rule, hint = f"at most {MOST_VIEWS}", "A student sees one an epoch."
        require(self.views <= MOST_VIEWS, flag("views"), rule, self.views, hint)
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
    head: str = option("own", "own, or linear: one Dense layer on pooled features, after dropout", "NAME")
    head_dropout: float = option(0.3, "dropout of --head linear", "F")
    head_epochs: int | None = option(
        None, "epochs of the head on the frozen pretrained base; 0 leaves the phase out [--epochs]", "N"
    )
    head_rate: float = option(1e-3, "learning rate of the head on the frozen base", "R")
    freeze: bool = option(False, "keep the base frozen in the head phase even when its weights are random")
    fine_tune_epochs: int = option(20, "epochs of the whole pretrained network after the head", "N")
    fine_tune_rate: float | None = option(
        None, "its peak learning rate [1e-3, and 1e-4 for a network without BatchNormalization]", "R"
    )
    scratch_epochs: int = option(40, "epochs of the whole network when its weights are random", "N")
    scratch_rate: float | None = option(
        None, "its peak learning rate [1e-3, and 1e-4 for a network without BatchNormalization]", "R"
    )
    teacher_optimizer: str = option("Adam", "optimizer of the whole network, by its Keras name", "NAME")
    teacher_schedule: str = option("CosineDecay", "its learning rate's course, by its Keras name", "NAME")
    teacher_weight_decay: float = option(0.0, "its decoupled weight decay", "W")
    teacher_warmup: float = option(0.05, "part of its steps spent warming up (CosineDecay)", "F")
    teacher_clipnorm: float | None = option(None, "largest norm of a weight's gradient", "NORM")
    label_smoothing: float = option(0.0, "part of each of its labels spread over all classes", "F")
    fine_tune_batch_size: int = option(32, "images per step while the whole network trains", "N")
    patience: int = option(
        15, "epochs without a better val accuracy before the whole network stops; 0 keeps the last", "N"
    )
    ensemble: bool = option(False, "the mean of all teachers and seeds as one more teacher, nearly free")
    best_of: bool = option(False, "distil from the teacher that is best on val alone")
    teacher_momentum: float = option(0.9, "momentum of the teacher's BatchNormalization statistics", "M")
    mirror: bool = option(False, "train the whole network on all GPUs at once, a part of a batch on each")
    labeller: str = option(
        "auto",
        "what labels views: keras, litert, openvino, openvino-bf16 (an extra), or auto: litert where that is "
        "faster",
        "NAME",
    )

    def check(self) -> None:
        require(len(self.teachers) > 0, flag("teachers"), "at least one name", self.teachers)
        self._positive("teacher_size", "head_rate", "fine_tune_rate", "scratch_rate", "teacher_clipnorm")
        self._at_least(0, "fine_tune_epochs", "scratch_epochs", "teacher_weight_decay", "patience")
        self._at_least(0, *(("head_epochs",) if self.head_epochs is not None else ()))
        self._at_least(1, "fine_tune_batch_size")
        self._fraction("teacher_momentum", "teacher_warmup")
        require_known(flag("labeller"), self.labeller, LABELLERS)
        for name in ("head_dropout", "label_smoothing"):
            require(0 <= getattr(self, name) < 1, flag(name), "in [0, 1)", getattr(self, name))


@dataclass(frozen=True)
class StudentConfig(Section):
    """student: the small network, trained alone and distilled under the same budget"""

    student: str = option("cnn3", "which student, or cut:NETWORK[:BLOCK[:PART]] of a pretrained one", "NAME")
    students: tuple[str, ...] = option(
        (), "compare these, go on with the smallest that is good on val", "NAME"
    )
    sides: tuple[int, ...] = option((), "likewise, each at these sides of its input [the arrays' own]", "PX")
    trials: int | None = option(
        None, "how many of these to try, those that Optuna asks for (extra search) [all]", "N"
    )
    baseline: str | None = option(None, "another small network, trained alone, to compare with", "NAME")
    epochs: int = option(300, "epochs of the student, and of a teacher's head on cached features", "N")
    batch_size: int = option(256, "images per step of the student and of a head", "N")
    learning_rate: float = option(1e-3, "the student's peak learning rate", "R")
    optimizer: str = option("Adam", "the student's optimizer, by its Keras name", "NAME")
    schedule: str = option("CosineDecay", "its learning rate's course, by its Keras name", "NAME")
    weight_decay: float = option(0.0, "its decoupled weight decay", "W")
    clipnorm: float | None = option(None, "largest norm of a weight's gradient", "NORM")
    warmup: float = option(0.05, "part of its steps spent warming up (CosineDecay)", "F")
    student_momentum: float = option(0.9, "momentum of the student's BatchNormalization statistics", "M")
    student_dropout: float = option(0.5, "dropout before the student's logits", "F")
    budget_kib: float = option(64.0, "most KiB of the int8 file of a cut:NETWORK without a BLOCK", "KIB")
    budget_kmacs: float | None = option(None, "most thousand multiply-accumulates of it", "N")
    budget_arena_kib: float | None = option(None, "most KiB of working memory of it", "KIB")

    def check(self) -> None:
        self._at_least(1, "epochs", "batch_size")
        self._at_least(0, "weight_decay")
        if self.trials is not None:
            self._at_least(2, "trials")
        for side in self.sides:
            require(SIDES[0] <= side <= SIDES[1], "--sides", f"between {SIDES[0]} and {SIDES[1]}", side)
        self._positive("learning_rate", "clipnorm", "budget_kib", "budget_kmacs", "budget_arena_kib")
        self._fraction("warmup", "student_momentum")
        require(0 <= self.student_dropout < 1, flag("student_dropout"), "in [0, 1)", self.student_dropout)


@dataclass(frozen=True)
class DistilConfig(Section):
    """distillation: alpha * CE + (1 - alpha) * T^2 * KL"""

    alpha: float = option(0.5, "weight of the true label; of the teacher with --loss soft-ce", "A")
    temperature: float = option(2.0, "softens both sets of logits", "T")
    loss: str = option("kd", "which distillation loss; an unknown name is answered with all of them", "NAME")
    unlabelled_share: float = option(
        0.5, "part of a batch that is unlabelled images, where there are any; 0 leaves them out", "F"
    )
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
        require(0 <= self.unlabelled_share < 1, "--unlabelled-share", "in [0, 1)", self.unlabelled_share)
        self._positive("temperature")
        self._different("alphas", "temperatures")
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
        self._seed("calibration_seed")


SHIP_RULES = (
    "ship_over_majority",
    "ship_sensitivity",
    "ship_distilled_loss",
    "ship_file_loss",
    "ship_val_images",
    "ship_group_accuracy",
)


@dataclass(frozen=True)
class EvidenceConfig(Section):
    """evidence: repeats and operating points"""

    seeds: int = option(1, "students trained alone and distilled from as many seeds", "N")
    teacher_seeds: bool = option(False, "train the teachers anew for every seed too")
    folds: int | None = option(
        None,
        "before distilling, compare teachers with the student alone by cross-validation over so many folds "
        "of train and val [on val alone]",
        "N",
    )
    min_sensitivity: float | None = option(None, "sensitivity a threshold must reach on val [Youden]", "S")
    coverage: float = option(
        0.9, "part of the images of every class that shall have it in their prediction set", "F"
    )
    sets: str = option("adaptive", "how prediction sets are made: threshold or adaptive", "HOW")
    ship_over_majority: float = option(
        0.0, "the report says no where accuracy is not so far above the share of the largest class", "F"
    )
    ship_sensitivity: float = option(0.5, "... where less of a class than this is named right", "S")
    ship_distilled_loss: float = option(0.0, "... where distilling lost more accuracy than this", "F")
    ship_file_loss: float = option(0.01, "... where the file lost more on val against its network", "F")
    ship_val_images: int = option(100, "... where val, by which files are chosen, is smaller", "N")
    ship_group_accuracy: float = option(
        0.5, "... where less of a large enough group of subgroups_test.csv is right; 0 asks nothing", "F"
    )
    card_subgroups: bool = option(False, "write the scores by group of subgroups_test.csv into the cards")

    def check(self) -> None:
        self._at_least(1, "seeds")
        self._at_least(0, "ship_val_images")
        folds = self.folds
        require(folds is None or 3 <= folds <= MOST_FOLDS, flag("folds"), f"3 to {MOST_FOLDS}", folds)
        for name in [name for name in SHIP_RULES if name != "ship_val_images"]:
            least, value = -1 if name == "ship_over_majority" else 0, getattr(self, name)
            require(least <= value <= 1, flag(name), f"between {least} and 1", value)
        require(0 < self.coverage < 1, flag("coverage"), "above 0, below 1", self.coverage)
        require_known(flag("sets"), self.sets, SETS)
        wanted = self.min_sensitivity
        require(wanted is None or 0 < wanted <= 1, flag("min_sensitivity"), "above 0, at most 1", wanted)


@dataclass(frozen=True)
class RunConfig(Section):
    """run"""

    results: str = option("Results", "folder of everything that is written", "DIR")
    fresh: bool = option(False, "forget the finished stages in --results and start over")
    seed: int = option(0, "seed of views, splits, initial weights and batches", "N")
    deterministic: bool = option(False, "same command, same bytes: slower, and no timings in the tables")
    threads: int | None = option(None, "CPU threads of a job [TensorFlow decides; all cores / jobs]", "N")
    jobs: int = option(1, "tasks of the run that are done side by side, each by a process of its own", "N")
    engine: str = option(
        "local", "where jobs run: local, ray: machines of a cluster, slurm (the last two: extras)", "NAME"
    )
    address: str | None = option(None, "Ray cluster: HOST:PORT, or auto [one of its own, on this host]", "A")
    slurm: tuple[str, ...] = option((), "what each job asks of Slurm: partition=gpu, time=600", "NAME=VALUE")
    verify: bool = option(False, "read all files, also those that did not change by size and times")
    accept_versions: bool = option(False, "go on from stages that other versions of packages made")
    log_dir: str | None = option(None, "folder for TensorBoard: the course of every training", "DIR")
    tracking: str | None = option(
        None, "log settings, scores and files of the run with: mlflow (an extra of kdtf)", "NAME"
    )

    def check(self) -> None:
        require(self.log_dir != "", flag("log_dir"), "a folder", self.log_dir)
        if self.tracking is not None:
            require_known(flag("tracking"), self.tracking, TRACKERS)
        self._seed("seed")
        self._positive("threads", "jobs")
        require(self.jobs <= MOST_JOBS, flag("jobs"), f"at most {MOST_JOBS}", self.jobs)
        require_known(flag("engine"), self.engine, ENGINES)
        for name, value, engine in (("address", self.address, "ray"), ("slurm", self.slurm, "slurm")):
            fits = not value or self.engine == engine
            require(fits, flag(name), f"given with --engine {engine}", value, f"Got --engine {self.engine}.")
        for text in self.slurm:
            good = all(part.strip() for part in text.partition("=")[::2])
            require(good, flag("slurm"), "NAME=VALUE", text)
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
