"""The story of a run: views, teachers, students, files, scores, reports.

Reads top to bottom. Every step that costs time is a stage kept in the results folder; the same
command again goes on from those that stand.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..config import Config, DistilConfig, section_dict
from ..data.audit import Audit
from ..data.load import Dataset
from ..data.views import Views, make_views
from ..distill.losses import LOSSES
from ..distill.optim import OPTIMIZERS, SCHEDULES
from ..errors import require, require_known
from ..evidence.metrics import score
from ..evidence.tables import of_every_class, subsets
from ..models.gradcam import heat
from ..models.students import STUDENTS, without_softmax
from ..models.teachers import WeightSource, canonical
from ..progress import Progress
from ..report import files as report
from ..store import Run
from ..tflite import qat
from ..tflite.bundle import of_data
from ..tflite.quantize import RECIPES
from .files import file_stages, wanted
from .job import Job, Model
from .student import load_student, student_stage
from .teacher import TeacherStages

GRADCAM_IMAGES = 4


def check(config: Config) -> list[str]:
    """Every name and weights file a run will look up, before anything is done. Returns the teachers.

    Raises `UserError`.
    """
    student, teacher = config.student, config.teacher
    for name, value, known in (
        ("--student", student.student, STUDENTS),
        ("--baseline", student.baseline or student.student, STUDENTS),
        ("--loss", config.distil.loss, LOSSES),
        ("--optimizer", student.optimizer, OPTIMIZERS),
        ("--schedule", student.schedule, SCHEDULES),
        ("--teacher-optimizer", teacher.teacher_optimizer, OPTIMIZERS),
        ("--teacher-schedule", teacher.teacher_schedule, SCHEDULES),
    ):
        require_known(name, value, known)
    for recipe in config.quantize.recipes:
        require_known("--recipes", recipe, [name for name, row in RECIPES.items() if row.asked])
    if any(RECIPES[recipe].tuned for recipe in wanted(config)):
        qat.libraries()
        for name in filter(None, (student.student, student.baseline)):
            chains = [known for known, row in STUDENTS.items() if row.chain]
            require(name in chains, "--student", f"one of {', '.join(chains)} for fine-tuned files", name)
    teachers = list(dict.fromkeys(canonical(name) for name in config.teacher.teachers))
    source = WeightSource(config.teacher.weights)
    for name in teachers:
        source.path(name)
    return teachers


def run_pipeline(config: Config, data: Dataset, found: Audit, run: Run, progress: Progress) -> list[dict]:
    """The whole run on audited data; returns the rows of `summary.csv`.

    Raises `UserError` for what the user can mend.
    """
    teachers = check(config)
    source = WeightSource(config.teacher.weights, progress.warn)
    parts = subsets(data, ~found.twins["test"], config.run.seed)
    job = Job(config, data, run, progress, parts, of_data(data))
    seeds = [config.run.seed + i for i in range(config.evidence.seeds)]
    views_key, views = draw_views(job)
    done = []
    untaught = {"alone": config.student.student, "baseline": config.student.baseline}
    for kind, network in untaught.items():
        if network:
            models = [
                student_stage(job, views_key, views, seed, kind=kind, network=network) for seed in seeds
            ]
            done += (finished := [(student, file_stages(job, student, views)) for student in models])
            report.untaught_files(job, *finished[0])
    alone = [model for model, _ in done if model.kind == "alone"]
    baseline = [model for model, _ in done if model.kind == "baseline"]
    for name in teachers:
        stages = [
            TeacherStages(job, views_key, views, name, source, seed)
            for seed in (seeds if config.evidence.teacher_seeds else seeds[:1])
        ]
        taught = [stage.finished() for stage in stages]
        distil = choose(job, views_key, views, taught[0])
        teachers_of = taught * (len(seeds) // len(taught))  # of every seed
        students = [
            student_stage(job, views_key, views, seed, teacher=teacher, distil=distil)
            for seed, teacher in zip(seeds, teachers_of, strict=True)
        ]
        finished = [
            (student, file_stages(job, student, views, teacher, distil))
            for student, teacher in zip(students, teachers_of, strict=True)
        ]
        attention = explain(job, stages[0], taught[0], alone[0], students[0])
        report.taught_files(job, taught[0], [alone[0], students[0], *baseline[:1]], finished[0][1], attention)
        done += [(teacher, {}) for teacher in taught] + finished
    return report.closing_files(job, done)


def draw_views(job: Job) -> tuple[str, Views]:
    """The stored views of the training images and the key of their stage."""
    settings = {"views": section_dict(job.config.views), "seed": job.config.run.seed}
    if job.config.run.deterministic:  # everything that is trained builds on the views
        settings["deterministic"] = True

    def make(folder):
        with job.progress.bar("drawing views", 1) as advance:
            make_views(
                job.data.train,
                folder / "views.npy",
                seed=job.config.run.seed,
                policy=job.config.views,
                progress=lambda done, total: advance(done / total),
            )

    stage = job.run.stage("views", settings, job.data.digest, make=make)
    views = make_views(job.data.train, stage.path / "views.npy", seed=0, policy=job.config.views)
    return stage.key, views


def choose(job: Job, views_key: str, views: Views, teacher: Model) -> DistilConfig:
    """The alpha and temperature to distil with: the given ones, or the best on val of the candidates.

    Judged by val accuracy, the lower val cross entropy among equals, on the teacher's seed.
    """
    distil = job.config.distil
    candidates = [
        replace(distil, alpha=alpha, temperature=temperature)
        for alpha in distil.alphas or (distil.alpha,)
        for temperature in distil.temperatures or (distil.temperature,)
    ]
    if len(candidates) == 1:
        return candidates[0]
    rows = []
    for tried in candidates:
        student = student_stage(job, views_key, views, teacher.seed, teacher=teacher, distil=tried)
        got = score(student.measured["val_probs"], job.data.val.labels)
        rows.append(
            {
                "alpha": tried.alpha,
                "temperature": tried.temperature,
                "val_accuracy": got["accuracy"],
                "val_loss": got["loss"],
            }
        )
    best = max(range(len(rows)), key=lambda i: (rows[i]["val_accuracy"], -rows[i]["val_loss"]))
    rows = [{**row, "chosen": int(i == best)} for i, row in enumerate(rows)]
    job.run.write_csv(f"{teacher.teacher}_tuning.csv", rows)
    return candidates[best]


def explain(job: Job, stages: TeacherStages, teacher: Model, alone: Model, distilled: Model) -> Path:
    """Grad-CAM of teacher and students on test images without a copy elsewhere; the stage's folder."""
    models = {"teacher": teacher, "distilled": distilled, "alone": alone}
    data, seed = job.data, job.config.run.seed
    chosen = of_every_class(data.test.labels, job.parts[-1].rows, GRADCAM_IMAGES, seed)

    def make(folder):
        with job.progress.bar(f"{teacher.teacher}: Grad-CAM", len(models)) as advance:
            whole = stages.network(teacher.folder)[1]
            found = {"images": chosen, "teacher": heat(whole, data.test.teacher_pixels[chosen])}
            advance(1)
            for kind in ("distilled", "alone"):
                student = without_softmax(load_student(models[kind].folder))
                found[kind] = heat(student, data.test.pixels[chosen])
                advance(len(found) - 1)
            np.savez(folder / "heat.npz", **found)

    keys = [model.key for model in models.values()]
    settings = {"images": chosen.tolist()}
    name = f"{teacher.teacher}-gradcam"
    return job.run.stage(name, settings, job.data.digest, *keys, make=make).path
