"""What travels between packages: frozen records that can be pickled, and nothing that computes.

A model is named by four words, which are columns of every table: `teacher` (or "alone", "baseline"),
`model` (one of "teacher", "distilled", "alone", "baseline"), `recipe` ("keras" or that of a `.tflite`) and
`seed`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

OUTSIDE_KEYS = {"key": False}  # of a field that decides no result
KERAS = "keras"  # the recipe of what is no `.tflite`
ENSEMBLE = "ensemble"  # the teacher that is the mean of all others
UNKNOWN = "unknown"  # the group of an image of which that is not known
WITH_UNLABELLED = "-unlabelled"  # ends the name of students that learn from unlabelled images too


class Predictions(NamedTuple):
    """A model and what it said: probabilities on val (n, K) and test (N, K), milliseconds for one image."""

    teacher: str
    model: str
    recipe: str
    seed: int
    val_probs: np.ndarray
    test_probs: np.ndarray
    latency_ms: float | None = None

    @property
    def name(self) -> dict[str, Any]:
        """The four words that name the model, as columns of a table."""
        return {"teacher": self.teacher, "model": self.model, "recipe": self.recipe, "seed": self.seed}


class Subgroups(NamedTuple):
    """One way of telling images apart, by sex, age or scanner: which of its groups each image is in.

    `member` (N,) int64 are indices into `groups`, which are the same for all splits.
    """

    column: str
    groups: tuple[str, ...]
    member: np.ndarray

    @property
    def counts(self) -> tuple[int, ...]:
        """Images of each group."""
        return tuple(np.bincount(self.member, minlength=len(self.groups)).tolist())


class GroundTruth(NamedTuple):
    """What is known of the val and test images: class names, labels (n,) and (N,), groups of test (N,).

    `groups` and `val_groups` (n,) are patients; `val_met` (n,) bool the val images that have a copy, or
    another image of their patient, in train; `subgroups` those of test by which scores are told apart,
    `in_train` the training images of each, where that is known.
    """

    classes: tuple[str, ...]
    val: np.ndarray
    test: np.ndarray
    groups: np.ndarray | None = None
    subgroups: tuple[Subgroups, ...] = ()
    in_train: tuple[tuple[int, ...], ...] = ()
    val_groups: np.ndarray | None = None
    val_met: np.ndarray | None = None


class Agreement(NamedTuple):
    """A student and its teacher on some images: parts that they get right, part where both say one class."""

    images: str  # "train", "unlabelled", "val" or "test"
    count: int  # type: ignore[assignment]
    teacher_right: float | None  # None of images without labels
    student_right: float | None
    agreement: float


class TensorError(NamedTuple):
    """How far an operator's output in one `.tflite` is from the same operator's in another."""

    layer: str  # "3 CONV_2D": its place in the float file, casts not counted
    tensor: str
    weighted: bool  # does it have weights, and so a precision of its own to keep
    cosine: float
    snr_db: float  # signal power to error power, decibels
    max_abs: float
    weights_snr_db: float | None  # the same of its weights


@dataclass(frozen=True)
class Training:
    """How a network is fitted.

    `rate` is the peak learning rate; None leaves it to the network. With `patience` the weights of the best
    epoch on val are kept, and training stops after so many epochs without a better one; without it
    all epochs are trained and the last weights kept. `warmup` is the part of the steps in which a cosine
    rises, `clipnorm` the largest norm of each weight's gradient, `label_smoothing` the part of a label that
    is spread over all classes, `unlabelled_share` the part of a batch that unlabelled images take.
    """

    epochs: int
    batch_size: int
    rate: float | None
    optimizer: str = "Adam"
    schedule: str = "CosineDecay"
    warmup: float = 0.0
    weight_decay: float = 0.0
    patience: int | None = None
    clipnorm: float | None = None
    label_smoothing: float = 0.0
    unlabelled_share: float = 0.0


@dataclass(frozen=True)
class WeightsChoice:
    """Where weights come from: a choice of --weights, or "file" with the sha256 of the file that it means.

    `path` says where that file, or its folder, lies on this machine; it decides nothing and is in no key.
    """

    choice: str = "none"
    file: str | None = None
    path: str | None = field(default=None, metadata=OUTSIDE_KEYS)

    @property
    def source(self) -> str:
        """The choice as `WeightSource` takes it."""
        return self.path or self.choice


@dataclass(frozen=True)
class TeacherHead:
    """What makes logits of a teacher's features: "own", its row's, or one of `registry.HEADS`.

    `dropout` is of a head that has it as a setting.
    """

    name: str = "own"
    dropout: float = 0.0


@dataclass(frozen=True)
class TeacherNetwork:
    """A network of the registry and where its weights come from.

    `size` is the side in px to which the graph resizes its input, `momentum` that of BatchNormalization.
    `origin` says in words where the weights came from, and `pretrained` whether they are anybody's but the
    random generator's, once that has been found out.
    """

    name: str
    weights: WeightsChoice
    size: int | None
    momentum: float
    seed: int
    head: "TeacherHead"
    origin: str | None = None
    pretrained: bool | None = None


@dataclass(frozen=True)
class StudentNetwork:
    """A row of `STUDENTS`, or a cut network, with its settings.

    Momentum of BatchNormalization, dropout, seed of its weights; where those of a cut network come from;
    side of its input in px, None for that of the data's own arrays.
    """

    name: str
    momentum: float
    dropout: float
    seed: int
    weights: WeightsChoice = WeightsChoice()
    side: int | None = None


@dataclass(frozen=True)
class Budget:
    """What the int8 file of a cut network may cost; None: as much as it likes."""

    kib: float
    kmacs: float | None = None  # thousand multiply-accumulates of one image
    arena_kib: float | None = None  # working memory by LiteRT's plan


@dataclass(frozen=True)
class CutCost:
    """A cut network `cut:NETWORK:BLOCK` and what its int8 file costs, as `Budget` counts."""

    name: str
    kib: float
    kmacs: float
    arena_kib: float

    def over(self, budget: Budget) -> list[str]:
        """The respects in which it exceeds a budget, by their names in both; none where it fits."""
        limits = [(name, getattr(budget, name)) for name in ("kib", "kmacs", "arena_kib")]
        return [name for name, most in limits if most is not None and getattr(self, name) > most]


@dataclass(frozen=True)
class RepresentativeViews:
    """Training views that set the ranges of int8: how many, and the seed that draws them.

    TFLite calls them the representative dataset.
    """

    images: int
    seed: int


@dataclass(frozen=True)
class Tuning:
    """Fine-tuning of a finished student for a small file, by `recipes.QAT` or a row of `compress.METHODS`.

    `rule` is what the student was distilled with, None for one trained alone; `sparsity` and `clusters`
    are of the methods that have them.
    """

    method: str
    epochs: int
    rate: float
    batch_size: int
    rule: "Rule | None"
    sparsity: float | None = None
    clusters: int | None = None


@dataclass(frozen=True)
class Rule:
    """What a student is distilled with: alpha, the temperature of distillation, a row of `LOSSES`.

    `options` are (name, value) of that loss's own parameters, where they have not their defaults.
    """

    alpha: float
    temperature: float
    loss: str = "kd"
    options: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class FileFacts:
    """What is read from the bytes of a `.tflite`.

    `pixels` and `probs` are the types, scales and zero points of input and output.
    """

    recipe: str
    sha256: str
    bytes: int
    gzip_bytes: int
    sparsity: float
    quantized_tensors: int
    weight_tensors: int
    pixels: dict[str, Any]
    probs: dict[str, Any]


@dataclass(frozen=True)
class DataSheet:
    """What every card says of the data: what they are, what training images look like, what they cannot tell.

    `shape` is the student's input (H, W, C); `prepared` how `prepare` made the images, where it did;
    `training_images` {statistic: [low, median, high]}, `training_layout` their main patterns in base64.
    """

    classes: tuple[str, ...]
    digest: str
    shape: tuple[int, int, int]
    synthetic: bool
    prepared: dict[str, Any]
    training_images: dict[str, list[float]]
    training_layout: str
    images: dict[str, int]  # by split
    limits: list[str]  # a sentence each
    # of train, val and test, what later images are compared with: see `data.typical.reference`
    reference: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class TeacherResult:
    """A finished teacher."""

    predictions: Predictions
    key: str  # of its labels
    weights: str  # where its weights came from, in words
    pretrained: bool
    parameters: int | None  # None of one that was not trained at all
    size_kib: float | None
    train_seconds: float
    history: list[dict[str, Any]]  # a row an epoch


@dataclass(frozen=True)
class StudentResult:
    """A finished student, distilled or trained alone. `folder` holds `student.keras` and `student.h5`."""

    predictions: Predictions
    key: str
    folder: Path
    network: str  # a row of `STUDENTS`, or a cut network
    weights: str  # where its weights began, in words
    rule: Rule | None  # what it was distilled with; None of one trained alone
    teacher_weights: str | None  # where its teacher's weights came from, in words
    training: dict[str, Any]  # epochs, rate, optimizer, ...: how it was fitted
    versions: dict[str, str]  # of the packages that trained it
    parameters: int
    size_kib: float
    train_seconds: float
    history: list[dict[str, Any]]
    agreement: tuple[Agreement, ...] = ()  # with its teacher on what they learnt from, of the first seed
    labelled_by: str | None = None  # "Keras", "LiteRT and OpenVINO": what computed its teacher's labels


@dataclass(frozen=True)
class FileResult:
    """A finished `.tflite` of a student. `folder` holds `model.tflite`."""

    predictions: Predictions
    key: str
    folder: Path
    student: StudentResult
    facts: FileFacts
    made_with: dict[str, Any]  # the settings of its recipe: representative views, fine-tuning
    versions: dict[str, str]  # of the packages that made it of the student
    history: list[dict[str, Any]]  # of its fine-tuning, empty where there was none
    errors: list[TensorError]  # by layer, against the float file


@dataclass(frozen=True)
class FrontierFile:
    """One kind of small file of a run that compares several: a network at a side in px, from every seed.

    `files` are those of its seeds in order; multiply-accumulates (thousands) and working memory by
    LiteRT's plan are of one image and the same for all of them.
    """

    network: str
    side: int
    files: tuple[FileResult, ...]
    kmacs: float
    arena_kib: float

    @property
    def kib(self) -> float:
        """Size of the first seed's file."""
        return self.files[0].facts.bytes / 1024


@dataclass(frozen=True)
class SetRule:
    """By what the prediction sets of a `.tflite` are made, as its card tells it: see `evidence.conformal`.

    A class that val has too few images of has no quantile, and is in every set.
    """

    method: str  # one of `predictor.SETS`
    coverage: float  # the part of the images of every class that shall have it in their set
    quantiles: dict[str, float]  # by class: the least `predictor.fits` that is in the set
    val_images: dict[str, int]  # by class: what the quantiles are taken from, see `conformal.counted`
    rule: str  # the same in words
    by_patient: bool = False  # whether `val_images` are one image a patient


@dataclass(frozen=True)
class FileEvidence:
    """What test and val say of a `.tflite`, as its card tells it.

    `test` and `clean` are {metric: [value, low, high]}, ends of the 95 % interval; what is undefined is left
    out. `clean` is of the test images without a copy in train or val, empty where that is all of them.
    `answers` is, of val and test, {"classes": how often each class is named (K,), "uncertain": how often}.
    `subgroups` are scores by group, empty unless they are asked for; `set_coverage` how often on test the
    prediction sets of each class hold it, [value, low, high], and `set_limits` sentences on what test says
    against them.
    """

    temperature: float  # divides log p; chosen on val
    thresholds: dict[str, float]  # by class, of the probabilities at that temperature
    threshold_rule: str  # how they were chosen, in words
    prediction_sets: SetRule
    test: dict[str, list[float]]
    test_images: int
    clean: dict[str, list[float]]
    clean_images: int
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    subgroups: list[dict[str, Any]] = field(default_factory=list)
    set_coverage: dict[str, list[float]] = field(default_factory=dict)
    set_limits: list[str] = field(default_factory=list)


class Attention(NamedTuple):
    """Grad-CAM of some test images: their indices (n,) and {model: heat (n, h, w) in 0..1}."""

    images: np.ndarray
    heat: dict[str, np.ndarray]
