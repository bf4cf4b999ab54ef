"""Settings and facts to tasks. Pure: reads no file, performs nothing, takes milliseconds.

Some tasks can only be named once others are done: whether a teacher has pretrained weights decides how it is
trained, val decides what a student is distilled with. Such outcomes are `Facts`; a plan made with fewer of
them ends earlier, and is made again when more are known.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, TypeVar

from .. import __version__
from ..config import Config
from ..models.cut_names import is_cut, needs_budget, parts_of
from ..records import (
    Budget,
    Calibration,
    Rule,
    StudentNetwork,
    TeacherNetwork,
    Training,
    Tuning,
    WeightsChoice,
)
from ..tasks import Task
from ..tflite.recipes import RECIPES, TUNING_SETTINGS, recipes_of_run
from .kinds import KINDS
from .records import Facts, Group, Plan, StudentTasks, TeacherTasks

GRADCAM_IMAGES = 4
RUNS = {"teacher": 20, "student": 50, "file": 200}  # of one image, timed
UNDISTILLED = ("alone", "baseline")  # students trained without a teacher
Known = TypeVar("Known")


def known(value: Known | None) -> Known:
    """What a plan has by the time it is asked for. Raises `LookupError` where it has not."""
    if value is None:
        raise LookupError("A plan must be made again with the facts that this needs.")
    return value


def phantom_task(seed: int, versions: Mapping[str, str]) -> Task:
    """The synthetic images of the demo."""
    kind = KINDS["phantom"]
    environment = kind.environment(versions, deterministic=False)
    return Task("phantom", "sample", {"seed": seed}, version=kind.version, environment=environment)


def audit_task(facts: Facts) -> Task:
    """The audit of the data; the classes are in its words."""
    return _Planner(Config(), facts).task("audit", "audit", {"classes": list(facts.classes)})


def plan(config: Config, facts: Facts) -> Plan:
    """The tasks of a run with these settings, as far as the facts tell them."""
    return _Planner(config, facts).plan()


class _Planner:
    """The settings and facts of one plan, and a method for each kind of task."""

    def __init__(self, config: Config, facts: Facts):
        self.config, self.facts = config, facts
        self.first_seed = config.run.seed
        self.seeds = [config.run.seed + i for i in range(config.evidence.seeds)]

    def task(self, kind: str, name: str, settings: Mapping[str, Any], **inputs: Task) -> Task:
        """A task of a kind, with what its row says."""
        row = KINDS[kind]
        return Task(
            kind,
            name,
            settings,
            inputs,
            data=self.facts.data if row.reads_data else "",
            version=row.version,
            environment=row.environment(self.facts.versions, self.config.run.deterministic),
        )

    def stage_name(self, teacher: str, stage: str, seed: int) -> str:
        """`vgg16-student`, and `vgg16-student-seed3` for the repeats."""
        return f"{teacher}-{stage}" + (f"-seed{seed}" if seed != self.first_seed else "")

    def plan(self) -> Plan:
        config = self.config
        self.audit = audit_task(self.facts)
        sheet = {"classes": list(self.facts.classes), "synthetic": self.facts.synthetic}
        self.datasheet = self.task("datasheet", "datasheet", {**sheet, "prepared": self.facts.prepared})
        views = {"policy": config.views, "seed": self.first_seed}
        self.views = self.task("views", "views", views)
        networks = {"alone": config.student.student, "baseline": config.student.baseline}
        cuts = {name: self.cut(name) for name in filter(None, networks.values()) if needs_budget(name)}
        if cuts.keys() - self.facts.cuts.keys():
            return Plan(self.audit, self.datasheet, self.views, cuts, (), None)
        groups = [self.undistilled(model, network) for model, network in networks.items() if network]
        alone = groups[0].students[0]
        groups += [self.distilled(name, alone, groups) for name in self.facts.teachers]
        report = None
        reports = {group.name: group.report for group in groups if group.report}
        if len(reports) == len(groups):
            report = self.report("run-report", "closing-report", groups, **reports)
        return Plan(self.audit, self.datasheet, self.views, cuts, tuple(groups), report)

    def undistilled(self, model: str, network: str) -> Group:
        """Students trained without a teacher, from every seed, and their files."""
        students = tuple(
            self.with_files(self.student(model, model, seed, network, None, None), None)
            for seed in self.seeds
        )
        group = Group(model, students=students)
        return self.reported(group, "student-report", []) if _complete(students) else group

    def distilled(self, name: str, alone: StudentTasks, others: list[Group]) -> Group:
        """A teacher from its seeds, the choice of a rule, its students from every seed, their files."""
        seeds = self.seeds if self.config.evidence.teacher_seeds else self.seeds[:1]
        teachers = tuple(self.teacher(name, seed) for seed in seeds)
        group = Group(name, teachers)
        if not all(teacher.labels for teacher in teachers):
            return group
        candidates = self.rules()
        rule = candidates[0] if len(candidates) == 1 else self.facts.rules.get(name)
        network = self.config.student.student
        if len(candidates) > 1:
            tried = (
                self.student(name, "distilled", teachers[0].seed, network, tried, teachers[0].labels)
                for tried in candidates
            )
            group = replace(group, candidates=tuple(tried))
        if rule is None:
            return group
        labels = [teacher.labels for teacher in teachers] * (len(self.seeds) // len(teachers))
        students = tuple(
            self.with_files(self.student(name, "distilled", seed, network, rule, own), own)
            for seed, own in zip(self.seeds, labels, strict=True)
        )
        group = replace(group, students=students)
        if not _complete(students):
            return group
        group = replace(group, attention=self.attention(teachers[0], alone, students[0]))
        return self.reported(group, "teacher-report", others)

    def rules(self) -> list[Rule]:
        """What students are distilled with: the settings, or the candidates to choose among on val."""
        distil = self.config.distil
        return [
            Rule(alpha, temperature, distil.loss, self.facts.loss_options or distil.options())
            for alpha in distil.alphas or (distil.alpha,)
            for temperature in distil.temperatures or (distil.temperature,)
        ]

    # Teachers

    def teacher(self, name: str, seed: int) -> TeacherTasks:
        """The tasks of a teacher: its origin alone, until that is known."""
        settings = self.config.teacher
        network = TeacherNetwork(
            name, self.weights(name), settings.teacher_size, settings.teacher_momentum, seed
        )
        origin = self.task("origin", self.stage_name(name, "origin", seed), {"network": network})
        outcome = self.facts.origins.get((name, seed))
        if outcome is None:
            return TeacherTasks(name, seed, origin)
        network = replace(network, origin=outcome.weights, pretrained=outcome.pretrained)

        def make(kind: str, settings: dict[str, Any], **inputs: Task) -> Task:
            own = {"network": network, **settings}
            stage = self.stage_name(name, kind.removeprefix("teacher-"), seed)
            return self.task(kind, stage, own, **inputs)

        training, features, epochs = [], None, settings.scratch_epochs
        if outcome.pretrained or settings.freeze:
            features = make("features", {}, views=self.views)
            training = [features, make("head", {"training": self.head_training()}, features=features)]
            epochs = settings.fine_tune_epochs
        if epochs:
            before = {"head": training[-1]} if training else {}
            whole = {"training": self.whole_training(outcome.pretrained, epochs)}
            training.append(make("whole", whole, views=self.views, **before))
        trained = {"trained": training[-1]} if training else {}
        # the frozen base's features spare another pass through it
        source = {"features": features} if features and not epochs else {"views": self.views}
        labels = make("labels", {}, **source, **trained)
        evaluation = make("teacher-evaluation", {"runs": RUNS["teacher"]}, **trained)
        return TeacherTasks(name, seed, origin, tuple(training), labels, evaluation)

    def head_training(self) -> Training:
        """A head on cached features: the student's epochs and batches."""
        student = self.config.student
        return Training(
            student.epochs,
            student.batch_size,
            self.config.teacher.head_rate,
            schedule="constant",
            patience=student.epochs,
        )

    def whole_training(self, pretrained: bool, epochs: int) -> Training:
        """The whole teacher: pretrained weights at a low rate, random ones at a higher one."""
        teacher = self.config.teacher
        return Training(
            epochs,
            teacher.fine_tune_batch_size,
            teacher.fine_tune_rate if pretrained else teacher.scratch_rate,
            teacher.teacher_optimizer,
            teacher.teacher_schedule,
            weight_decay=teacher.teacher_weight_decay,
            patience=teacher.patience,
        )

    def attention(self, teacher: TeacherTasks, alone: StudentTasks, distilled: StudentTasks) -> Task:
        """Grad-CAM of a teacher, its student and the one alone on the same images."""
        network = known(teacher.labels).settings["network"]
        trained = {"trained": teacher.training[-1]} if teacher.training else {}
        return self.task(
            "attention",
            f"{teacher.name}-gradcam",
            {"network": network, "images": GRADCAM_IMAGES, "seed": self.first_seed},
            audit=self.audit,
            distilled=distilled.student,
            alone=alone.student,
            **trained,
        )

    def weights(self, network: str) -> WeightsChoice:
        """--weights as it is meant for a network: what Keras has, nothing, or a file."""
        choice, file = self.config.teacher.weights, self.facts.weight_files.get(network)
        return WeightsChoice("file", file, choice) if file else WeightsChoice(choice)

    # Students and files

    def cut(self, name: str) -> Task:
        """The choice of the block after which a network is cut, by what its int8 file may cost."""
        student, network = self.config.student, parts_of(name)[0]
        settings = {
            "name": name,
            "budget": Budget(student.budget_kib, student.budget_kmacs, student.budget_arena_kib),
            "weights": self.weights(network),
        }
        return self.task("cut", f"{network}-cut", settings)

    def student(
        self, teacher: str, model: str, seed: int, network: str, rule: Rule | None, labels: Task | None
    ) -> StudentTasks:
        """A student: the same views, schedule and budget with a teacher and without."""
        student = self.config.student
        network = self.facts.cuts.get(network, network)
        weights = self.weights(parts_of(network)[0]) if is_cut(network) else WeightsChoice()
        settings = {
            "network": StudentNetwork(
                network, student.student_momentum, student.student_dropout, seed, weights
            ),
            "training": Training(
                student.epochs,
                student.batch_size,
                student.learning_rate,
                student.optimizer,
                student.schedule,
                student.warmup,
                student.weight_decay,
            ),
            "rule": rule,
        }
        inputs = {"views": self.views, **({"labels": labels} if labels else {})}
        trained = self.task("student", self.stage_name(teacher, "student", seed), settings, **inputs)
        evaluation = self.task(
            "student-evaluation",
            self.stage_name(teacher, "student-evaluation", seed),
            {"runs": RUNS["student"]},
            student=trained,
        )
        return StudentTasks(teacher, model, seed, network, rule, trained, evaluation)

    def with_files(self, own: StudentTasks, labels: Task | None) -> StudentTasks:
        """A student with its `.tflite` files; `labels` are those it was distilled from."""
        quantize = self.config.quantize
        name = self.stage_name(own.teacher, "conversion", own.seed)
        own = replace(own, conversion=self.task("conversion", name, {}, student=own.student))
        recipes = recipes_of_run(quantize.recipes, quantize.compress)
        files = {recipe: self.file(own, recipe, labels) for recipe in recipes}
        complete = True
        if quantize.mixed and "int8" in files:
            lossy = (own.teacher, own.seed)
            complete = lossy in self.facts.lossy_layers
            layer = self.facts.lossy_layers.get(lossy)
            if layer is not None:
                files["int8-mixed"] = self.file(own, "int8-mixed", labels, layer)
        return replace(own, files=files, complete=complete)

    def file(
        self, own: StudentTasks, recipe: str, labels: Task | None, layer: str | None = None
    ) -> tuple[Task, Task]:
        """The file of a recipe and its evaluation; `layer` stays in float."""
        row, quantize = RECIPES[recipe], self.config.quantize
        drawn = self.first_seed if quantize.calibration_seed is None else quantize.calibration_seed
        calibration = Calibration(quantize.calibration_images, drawn) if row.calibrated else None
        # the mark is of pictures; all else of a row decides the file
        settings: dict[str, Any] = {
            "recipe": recipe,
            "row": {k: v for k, v in asdict(row).items() if k not in ("mark", "selectable")},
            "calibration": calibration,
        }
        name = self.stage_name(own.teacher, recipe, own.seed)
        views = {"views": self.views} if row.calibrated else {}
        if row.tuning:
            settings |= {"tuning": self.tuning(row.tuning, own.rule), "seed": own.seed}
            taught = {"labels": labels} if labels else {}
            file = self.task("tuned-file", name, settings, student=own.student, **views, **taught)
        else:
            settings |= {"in_float": layer}
            file = self.task("file", name, settings, conversion=known(own.conversion), **views)
        evaluation = self.stage_name(own.teacher, f"{recipe}-evaluation", own.seed)
        return file, self.task("file-evaluation", evaluation, {"runs": RUNS["file"]}, file=file)

    def tuning(self, method: str, rule: Rule | None) -> Tuning:
        """Fine-tuning for a file, by the settings that its method obeys."""
        quantize = self.config.quantize
        own = {name: getattr(quantize, setting) for name, setting in TUNING_SETTINGS[method].items()}
        return Tuning(method, batch_size=self.config.student.batch_size, rule=rule, **own)

    # Reports

    def reported(self, group: Group, kind: str, others: list[Group]) -> Group:
        """A complete group with its report; `others` are the groups it is compared with."""
        evaluations = [own.students[0].evaluation for own in others if own.name in UNDISTILLED]
        inputs = {f"other{i}": task for i, task in enumerate(evaluations)}
        return replace(group, report=self.report(kind, f"{group.name}-report", [group], **inputs))

    def report(self, kind: str, name: str, groups: list[Group], **inputs: Task) -> Task:
        """What is written about some groups: from their evaluations, and by the rules of evidence."""
        settings = {
            "version": __version__,
            "min_sensitivity": self.config.evidence.min_sensitivity,
            "seed": self.first_seed,
            "data": self.facts.data_name,
            "synthetic": self.facts.synthetic,
            "classes": list(self.facts.classes),
            "timings": not self.config.run.deterministic,
        }
        for group in groups:
            for task in group.tasks():
                inputs[task.folder] = task
        return self.task(kind, name, settings, datasheet=self.datasheet, audit=self.audit, **inputs)


def _complete(students: tuple[StudentTasks, ...]) -> bool:
    return all(student.complete for student in students)
