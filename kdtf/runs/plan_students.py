"""The tasks of students: networks, what they learn from, their files."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from ..config import Config
from ..models.cut_names import is_cut, parts_of
from ..records import Budget, RepresentativeViews, Rule, StudentNetwork, Training, Tuning, WeightsChoice
from ..tasks import Task
from ..tflite.recipes import QAT, RECIPES, TUNING_SETTINGS, recipes_of_run
from .planner import Planner, known
from .records import Candidate, Facts, StudentTasks

RUNS = {"student": 50, "file": 200}  # of one image, timed


class StudentPlanner(Planner):
    """Students over the views of the training images."""

    def __init__(self, config: Config, facts: Facts, views: Task):
        super().__init__(config, facts)
        self.views = views

    def rules(self) -> list[Rule]:
        """What students are distilled with: the settings, or the candidates to choose among on val."""
        distil = self.config.distil
        return [
            Rule(alpha, temperature, distil.loss, self.facts.loss_options or distil.options())
            for alpha in distil.alphas or (distil.alpha,)
            for temperature in distil.temperatures or (distil.temperature,)
        ]

    def cut(self, candidate: Candidate) -> Task:
        """The choice of the block after which a network is cut, by what its int8 file may cost."""
        student, network = self.config.student, parts_of(candidate.network)[0]
        settings = {
            "name": candidate.network,
            "side": candidate.side,
            "budget": Budget(student.budget_kib, student.budget_kmacs, student.budget_arena_kib),
            "weights": self.weights(network),
        }
        return self.task("cut", f"{network}-cut", settings)

    def student(
        self,
        teacher: str,
        model: str,
        seed: int,
        candidate: Candidate,
        rule: Rule | None = None,
        lessons: Mapping[str, Task] | None = None,
    ) -> StudentTasks:
        """A student: the same images an epoch, schedule and budget with a teacher and without.

        `lessons` are what it is distilled from by `rule`; without them it is trained alone.
        """
        network = self.facts.cuts.get(candidate, candidate.network)
        lessons = lessons or {}
        settings = {
            "network": self.network(network, seed, candidate.side),
            "training": self.training("unlabelled_labels" in lessons),
            "rule": rule,
        }
        name = self.stage_name(teacher, "student", seed)
        trained = self.task("student", name, settings, views=self.views, **lessons)
        name = self.stage_name(teacher, "student-evaluation", seed)
        evaluation = self.task("student-evaluation", name, {"runs": RUNS["student"]}, student=trained)
        return StudentTasks(teacher, model, seed, network, rule, trained, evaluation)

    def network(self, name: str, seed: int, side: int | None) -> StudentNetwork:
        """The network of a student, with the weights it begins with."""
        student = self.config.student
        weights = self.weights(parts_of(name)[0]) if is_cut(name) else WeightsChoice()
        return StudentNetwork(name, student.student_momentum, student.student_dropout, seed, weights, side)

    def training(self, unlabelled: bool) -> Training:
        """How a student is fitted."""
        student = self.config.student
        return Training(
            student.epochs,
            student.batch_size,
            student.learning_rate,
            student.optimizer,
            student.schedule,
            student.warmup,
            student.weight_decay,
            clipnorm=student.clipnorm,
            unlabelled_share=self.config.distil.unlabelled_share if unlabelled else 0.0,
        )

    def with_files(self, own: StudentTasks) -> StudentTasks:
        """A student with its `.tflite` files."""
        quantize = self.config.quantize
        name = self.stage_name(own.teacher, "conversion", own.seed)
        own = replace(own, conversion=self.task("conversion", name, {}, student=own.student))
        recipes = recipes_of_run(quantize.recipes, quantize.compress)
        files = {recipe: self.file(own, recipe) for recipe in recipes}
        complete = True
        if quantize.mixed and "int8" in files:
            complete = own.student.key in self.facts.lossy_layers
            layer = self.facts.lossy_layers.get(own.student.key)
            if layer is not None:
                files["int8-mixed"] = self.file(own, "int8-mixed", layer)
        return replace(own, files=files, complete=complete)

    def file(self, own: StudentTasks, recipe: str, layer: str | None = None) -> tuple[Task, Task]:
        """The file of a recipe and its evaluation; `layer` stays in float."""
        row, quantize = RECIPES[recipe], self.config.quantize
        drawn = self.first_seed if quantize.calibration_seed is None else quantize.calibration_seed
        representative = RepresentativeViews(quantize.calibration_images, drawn)
        # the mark is of pictures; all else of a row decides the file
        settings: dict[str, Any] = {
            "recipe": recipe,
            "row": {k: v for k, v in asdict(row).items() if k not in ("mark", "selectable")},
            "representative": representative if row.static_range else None,
        }
        name = self.stage_name(own.teacher, recipe, own.seed)
        views = {"views": self.views} if row.static_range else {}
        if row.tuning:
            settings |= {"tuning": self.tuning(row.tuning, own.rule), "seed": own.seed}
            # over the labelled images alone: few epochs at a low rate
            taught = {role: task for role, task in own.student.inputs.items() if role == "labels"}
            kind = "tuned-file" if row.tuning == QAT else "compressed-file"
            file = self.task(kind, name, settings, student=own.student, **views, **taught)
        else:
            settings |= {"in_float": layer, "side": own.student.settings["network"].side}
            file = self.task("file", name, settings, conversion=known(own.conversion), **views)
        evaluation = self.stage_name(own.teacher, f"{recipe}-evaluation", own.seed)
        return file, self.task("file-evaluation", evaluation, {"runs": RUNS["file"]}, file=file)

    def tuning(self, method: str, rule: Rule | None) -> Tuning:
        """Fine-tuning for a file, by the settings that its method obeys."""
        quantize = self.config.quantize
        own = {name: getattr(quantize, setting) for name, setting in TUNING_SETTINGS[method].items()}
        return Tuning(method, batch_size=self.config.student.batch_size, rule=rule, **own)
