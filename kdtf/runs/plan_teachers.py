"""The tasks of teachers: one network from one seed, or the mean of several."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..config import Config
from ..distill.losses import LOSSES
from ..models.registry import TEACHERS
from ..records import ENSEMBLE, Rule, TeacherHead, TeacherNetwork, Training
from ..tasks import Task
from .planner import Planner, known
from .records import JOINED, Facts, LabelPart, TeacherTasks

RUNS = 20  # of one image, timed
UNDIVIDED = 1 << 18  # views of images that one task labels; of more, each task has a part
PART = 1 << 16  # images of a part at most: whole batches, so that labels do not depend on it


def label_parts(images: int, views: int) -> list[LabelPart]:
    """The parts in which a teacher labels so many views of so many images; none where one task does all."""
    if images * views <= UNDIVIDED:
        return []
    starts = range(0, images, PART)
    return [LabelPart(v, i, min(i + PART, images)) for v in range(views) for i in starts]


class TeacherPlanner(Planner):
    """Teachers over the views of the training images and, where there are any, of the unlabelled ones."""

    def __init__(self, config: Config, facts: Facts, views: Task, unlabelled: Task | None):
        super().__init__(config, facts)
        self.views, self.unlabelled = views, unlabelled

    def teacher(self, name: str, seed: int) -> TeacherTasks:
        """The tasks of a teacher: its origin alone, until that is known."""
        network = self.network(name, seed)
        origin = self.task("origin", self.stage_name(name, "origin", seed), {"network": network})
        outcome = self.facts.origins.get((name, seed))
        if outcome is None:
            return TeacherTasks(name, seed, origin)
        network = replace(network, origin=outcome.weights, pretrained=outcome.pretrained)

        def make(kind: str, settings: dict[str, Any], **inputs: Task) -> Task:
            own = {"network": network, **settings}
            stage = self.stage_name(name, kind.removeprefix("teacher-"), seed)
            return self.task(kind, stage, own, **inputs)

        settings = self.config.teacher
        training, features, epochs = [], None, settings.scratch_epochs
        labeller = self.labeller(name)
        headed = settings.head_epochs is None or settings.head_epochs > 0
        if headed and (outcome.pretrained or settings.freeze):
            features = make("features", labeller, views=self.views)
            training = [features, make("head", {"training": self.head_training()}, features=features)]
        if outcome.pretrained or features:
            epochs = settings.fine_tune_epochs
        if epochs:
            before = {"head": training[-1]} if training else {}
            mirror = {"mirror": True} if self.config.teacher.mirror else {}
            whole = {"training": self.whole_training(outcome.pretrained, epochs), **mirror}
            training.append(make("whole", whole, views=self.views, **before))
        trained = {"trained": training[-1]} if training else {}
        # the frozen base's features spare another pass through it
        source = {"features": features} if features and not epochs else {"views": self.views}
        labels = self.labels(make, "labels", self.facts.train_images, labeller, **source, **trained)
        evaluation = make("teacher-evaluation", {"runs": RUNS}, **trained)
        unlabelled = None
        if self.unlabelled:
            many = self.facts.unlabelled_images
            inputs = {"views": self.unlabelled, **trained}
            unlabelled = self.labels(make, "unlabelled-labels", many, labeller, **inputs)
        return TeacherTasks(name, seed, origin, tuple(training), labels, evaluation, unlabelled)

    def labels(
        self, make: Callable[..., Task], kind: str, images: int, labeller: dict[str, str], **inputs: Task
    ) -> Task:
        """The labels of so many images by the teacher whose tasks `make` makes: if many, of several tasks."""
        features = LOSSES[self.config.distil.loss].takes_features
        by = labeller if "views" in inputs else {}  # a head makes logits of cached features by Keras
        settings: dict[str, Any] = {"features": True, **by} if features else by
        whole = make(kind, settings, **inputs)
        divisible = "views" in inputs and not features  # which would be stored twice
        parts = label_parts(images, self.config.views.views) if divisible else []
        if not parts:
            return whole
        tasks = (make(kind, {**settings, "part": part}, **inputs) for part in parts)
        named = {f"part{i}": replace(own, name=f"{whole.name}-part{i}") for i, own in enumerate(tasks)}
        return self.task(JOINED, whole.name, {"parts": parts}, **named)

    def labeller(self, name: str) -> dict[str, str]:
        """The setting of what labels views, where that may be LiteRT."""
        chosen = self.config.teacher.labeller
        slow = name not in TEACHERS or not TEACHERS[name].litert
        return {} if chosen == "keras" or (chosen == "auto" and slow) else {"labeller": chosen}

    def network(self, name: str, seed: int) -> TeacherNetwork:
        """A teacher's network, before it is known where its weights come from."""
        settings = self.config.teacher
        head = TeacherHead(settings.head, 0.0 if settings.head == "own" else settings.head_dropout)
        size, momentum = settings.teacher_size, settings.teacher_momentum
        return TeacherNetwork(name, self.weights(name), size, momentum, seed, head)

    def head_training(self) -> Training:
        """A head on cached features: the student's epochs and batches."""
        student, teacher = self.config.student, self.config.teacher
        epochs = student.epochs if teacher.head_epochs is None else teacher.head_epochs
        return Training(epochs, student.batch_size, teacher.head_rate, schedule="constant", patience=epochs)

    def whole_training(self, pretrained: bool, epochs: int) -> Training:
        """The whole teacher: pretrained weights at one rate, random ones at another."""
        teacher = self.config.teacher
        return Training(
            epochs,
            teacher.fine_tune_batch_size,
            teacher.fine_tune_rate if pretrained else teacher.scratch_rate,
            teacher.teacher_optimizer,
            teacher.teacher_schedule,
            teacher.teacher_warmup,
            teacher.teacher_weight_decay,
            teacher.patience or None,
            teacher.teacher_clipnorm,
            teacher.label_smoothing,
        )

    def ensemble(self, members: tuple[TeacherTasks, ...], rule: Rule) -> TeacherTasks:
        """The mean of some teachers' probabilities, of their labels at the temperature that a rule takes."""
        temperature = rule.temperature if LOSSES[rule.loss].takes_temperature else 1.0
        unlabelled = None
        if self.unlabelled:
            labels = [own.unlabelled_labels for own in members]
            unlabelled = self.mean_labels("unlabelled-labels", labels, temperature)
        evaluations = {f"member{i}": known(own.evaluation) for i, own in enumerate(members)}
        return TeacherTasks(
            ENSEMBLE,
            self.first_seed,
            labels=self.mean_labels("labels", [own.labels for own in members], temperature),
            evaluation=self.task("ensemble-evaluation", f"{ENSEMBLE}-evaluation", {}, **evaluations),
            unlabelled_labels=unlabelled,
            members=members,
        )

    def mean_labels(self, stage: str, labels: list[Task | None], temperature: float) -> Task:
        """The labels of an ensemble, of those of its members."""
        inputs = {f"member{i}": known(task) for i, task in enumerate(labels)}
        settings = {"temperature": temperature}
        return self.task("ensemble-labels", f"{ENSEMBLE}-{stage}", settings, **inputs)

    def lessons(self, teacher: TeacherTasks, rule: Rule, unlabelled: bool) -> dict[str, Task]:
        """What a student learns from: a teacher's labels, of unlabelled images too if it is to have them."""
        if teacher.members:
            teacher = self.ensemble(teacher.members, rule)
        lessons = {"labels": known(teacher.labels)}
        if unlabelled:
            lessons["unlabelled_labels"] = known(teacher.unlabelled_labels)
            lessons["unlabelled_views"] = known(self.unlabelled)
        return lessons
