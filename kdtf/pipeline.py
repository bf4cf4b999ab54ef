"""The story of a run: views, teachers, students, files, scores, reports.

Reads top to bottom. Every step that costs time is a stage kept in the results folder; the same
command again goes on from those that stand. One teacher's job takes and gives plain values and
files, so that it can run elsewhere.
"""

import json
import time
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from . import evaluate, qat, report
from .audit import Audit
from .bundle import of_data
from .checks import require, require_known
from .config import Config, DistilConfig, section_dict
from .data import Dataset
from .findings import Subset, of_every_class, subsets
from .gradcam import heat
from .losses import LOSSES
from .metrics import score, softmax
from .optim import OPTIMIZERS, SCHEDULES
from .plots import LABELS
from .predictor import Predictor
from .progress import Progress
from .quantize import RECIPES, calibration, card, float32_file, float32_of, quantize
from .quiet import native_noise
from .run import CHECKPOINT, Run, file_digest, versions
from .students import STUDENTS, exported, without_softmax
from .teachers import NOT_DOWNLOADED, Base, WeightSource, build_base, build_head, canonical, with_head
from .tensors import TensorError, errors, worst
from .train import batched, fine_tune, fit_head, fit_student, over_views
from .views import Views, make_views

GRADCAM_IMAGES = 4
ERROR_IMAGES = 64  # of val, over which the tensors of two files are compared
MOST_LOST = 0.01  # val accuracy that int8 may lose before its worst layer is named


class Job(NamedTuple):
    """What every stage of a run needs."""

    config: Config
    data: Dataset
    run: Run
    progress: Progress
    parts: list[Subset]  # of test: all of it, and what has no copy in train or val
    told: dict  # what every bundle says of the data


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
            done += (finished := [(student, tflite_stages(job, student, views)) for student in models])
            report.student_files(job, *finished[0])
    alone = [model for model, _ in done if model.kind == "alone"]
    baseline = [model for model, _ in done if model.kind == "baseline"]
    for name in teachers:
        taught = [
            teacher_stage(job, views_key, views, name, source, seed)
            for seed in (seeds if config.evidence.teacher_seeds else seeds[:1])
        ]
        distil = choose(job, views_key, views, taught[0])
        teachers_of = taught * (len(seeds) // len(taught))  # of every seed
        students = [
            student_stage(job, views_key, views, seed, teacher=teacher, distil=distil)
            for seed, teacher in zip(seeds, teachers_of, strict=True)
        ]
        finished = [
            (student, tflite_stages(job, student, views, teacher, distil))
            for student, teacher in zip(students, teachers_of, strict=True)
        ]
        report.teacher_files(job, taught[0], [alone[0], students[0], *baseline[:1]])
        report.student_files(job, *finished[0])
        explain(job, source, taught[0], alone[0], students[0])
        done += [(teacher, {}) for teacher in taught] + finished
    return report.closing_files(job, done)


def draw_views(job: Job) -> tuple[str, Views]:
    """The stored views of the training images and the key of their stage."""
    settings = {"views": section_dict(job.config.views), "seed": job.config.run.seed}

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


class Model(NamedTuple):
    """A finished stage of a teacher or a student, read back from its folder."""

    teacher: str  # the teacher's name, or "alone" or "baseline"
    kind: str  # "teacher", "distilled", "alone" or "baseline"
    seed: int
    key: str
    folder: Path
    facts: dict  # what summary.csv says of it beside its scores
    history: list[dict]

    @property
    def measured(self):
        return np.load(self.folder / "measured.npz", allow_pickle=False)

    @property
    def tensor_errors(self) -> list[TensorError]:
        """Of a `.tflite`: how far its tensors are from the float file's."""
        return [TensorError(**row) for row in json.loads((self.folder / "errors.json").read_text())]


def _read(teacher, kind, seed, stage) -> Model:
    facts, history = json.loads((stage.path / "model.json").read_text())
    return Model(teacher, kind, seed, stage.key, stage.path, facts, history)


def _keep(folder: Path, facts: dict, history: list[dict], measured: dict) -> None:
    np.savez(folder / "measured.npz", **measured)
    (folder / "model.json").write_text(json.dumps([facts, history]))


def _stage_name(job: Job, teacher: str, what: str, seed: int) -> str:
    """`vgg16-student`, and `vgg16-student-seed3` for the repeats."""
    return f"{teacher}-{what}" + (f"-seed{seed}" if seed != job.config.run.seed else "")


def teacher_stage(
    job: Job, views_key: str, views: Views, name: str, source: WeightSource, seed: int
) -> Model:
    """A fitted teacher and its logits over every view (V, N, K) and val (n, K)."""
    config = job.config
    settings = {
        **section_dict(config.teacher),
        "teachers": name,
        "epochs": config.student.epochs,
        "batch_size": config.student.batch_size,
        "seed": seed,
        "file": (file := source.path(name)) and file_digest(file),
    }
    make = partial(train_teacher, name, job.data, views.teacher_pixels, config, source, job.progress, seed)
    stage = job.run.stage(_stage_name(job, name, "teacher", seed), settings, views_key, make=make)
    model = _read(name, "teacher", seed, stage)
    if stage.reused and model.facts["teacher_weights"] == NOT_DOWNLOADED:
        source.fell_back()
    return model


def untrained(name: str, shape, config: Config, source: WeightSource, seed: int) -> Base:
    """A teacher's base as a run starts it."""
    settings = config.teacher
    return build_base(
        name, shape, source, size=settings.teacher_size, momentum=settings.teacher_momentum, seed=seed
    )


def train_teacher(name, data, views, config, source, progress, seed, folder: Path) -> None:
    """One teacher's job: fit it over views (V, N, H, W, C), label them, measure it; all kept in `folder`."""
    started = time.perf_counter()
    settings = config.teacher
    base = untrained(name, views.shape[2:], config, source, seed)
    head = build_head(name, base.model.output.shape[1:], len(data.classes), seed)
    history, epochs = [], settings.scratch_epochs
    if base.pretrained or settings.freeze:
        features_of = batched(base.model)
        features = over_views(features_of, views, folder / "features.npy", progress, f"{name}: features")
        val_features = features_of(data.val.teacher_pixels)
        title = f"{name}: head"
        history = fit_head(
            head,
            features,
            data,
            val_features,
            config,
            seed=seed,
            title=title,
            progress=progress,
            checkpoint=folder / f"{CHECKPOINT}-head.npz",
        )
        epochs = settings.fine_tune_epochs
    model = with_head(base.model, head)
    if epochs:
        rows = fine_tune(
            model,
            views,
            data,
            config,
            pretrained=base.pretrained,
            seed=seed,
            title=f"{name}: whole network",
            progress=progress,
            checkpoint=folder / f"{CHECKPOINT}-whole.npz",
        )
        history = [*history, *({**row, "epoch": row["epoch"] + len(history)} for row in rows)]
        logits_of = batched(model)
        over_views(logits_of, views, folder / "logits.npy", progress, f"{name}: labelling views")
    else:
        head_of = batched(head)
        over_views(head_of, features, folder / "logits.npy", progress, f"{name}: labelling views")

        def logits_of(pixels):
            return head_of(features_of(pixels))

    (folder / "features.npy").unlink(missing_ok=True)
    np.save(folder / "val_logits.npy", logits_of(data.val.teacher_pixels))
    measured = evaluate.measure(
        lambda pixels: softmax(logits_of(pixels)), data.val.teacher_pixels, data.test.teacher_pixels, runs=20
    )
    # a copy that was never compiled: the optimizer's moments would treble the file
    with_head(base.model, head).save_weights(folder / "teacher.weights.h5")
    facts = {
        "teacher_weights": base.origin,
        "pretrained": base.pretrained,
        "parameters": model.count_params(),
        "size_kib": (folder / "teacher.weights.h5").stat().st_size / 1024,
        "train_seconds": time.perf_counter() - started,
    }
    _keep(folder, facts, history, measured)


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


def student_stage(
    job: Job,
    views_key: str,
    views: Views,
    seed: int,
    *,
    teacher: Model | None = None,
    distil: DistilConfig | None = None,
    kind: str = "distilled",
    network: str | None = None,
) -> Model:
    """A student distilled from `teacher`, or a `network` trained without one: same views, same schedule."""
    config = job.config
    name = teacher.teacher if teacher else kind
    config = replace(
        config,
        student=replace(config.student, student=network or config.student.student),
        distil=distil or config.distil,
    )
    own = section_dict(config.student)
    del own["baseline"]  # another network, which changes nothing here
    settings = {"student": own, "seed": seed}
    upstream = [views_key]
    rule = {k: getattr(config.distil, k) for k in ("alpha", "temperature", "loss")} if teacher else {}
    if teacher:
        settings["distil"] = rule
        upstream.append(teacher.key)

    def make(folder):
        started = time.perf_counter()
        cached = cached_logits(teacher) if teacher else {}
        title = f"{name}: student" if teacher else LABELS[kind]
        student, history = fit_student(
            views.pixels,
            job.data,
            config,
            seed=seed,
            title=title,
            progress=job.progress,
            checkpoint=folder / f"{CHECKPOINT}.npz",
            **cached,
        )
        shipped = exported(student)
        measured = evaluate.measure(batched(shipped), job.data.val.pixels, job.data.test.pixels, runs=50)
        shipped.save(folder / "student.keras")
        shipped.save(folder / "student.h5")
        facts = {
            "teacher_weights": teacher.facts["teacher_weights"] if teacher else None,
            "parameters": shipped.count_params(),
            "size_kib": (folder / "student.h5").stat().st_size / 1024,
            "train_seconds": time.perf_counter() - started,
            **rule,
        }
        _keep(folder, facts, history, measured)

    stage = job.run.stage(_stage_name(job, name, "student", seed), settings, *upstream, make=make)
    return _read(name, kind, seed, stage)


def explain(job: Job, source: WeightSource, teacher: Model, alone: Model, distilled: Model) -> None:
    """Grad-CAM of teacher and students, side by side on test images without a copy elsewhere."""
    models = {"teacher": teacher, "distilled": distilled, "alone": alone}
    data, seed = job.data, job.config.run.seed
    chosen = of_every_class(data.test.labels, job.parts[-1].rows, GRADCAM_IMAGES, seed)

    def make(folder):
        with job.progress.bar(f"{teacher.teacher}: Grad-CAM", len(models)) as advance:
            base = untrained(teacher.teacher, data.train.teacher_pixels.shape[1:], job.config, source, seed)
            head = build_head(teacher.teacher, base.model.output.shape[1:], len(data.classes), seed)
            whole = with_head(base.model, head)
            whole.load_weights(teacher.folder / "teacher.weights.h5")
            found = {"images": chosen, "teacher": heat(whole, data.test.teacher_pixels[chosen])}
            advance(1)
            for kind in ("distilled", "alone"):
                student = without_softmax(load_student(models[kind]))
                found[kind] = heat(student, data.test.pixels[chosen])
                advance(len(found) - 1)
            np.savez(folder / "heat.npz", **found)

    keys = [model.key for model in models.values()]
    stage = job.run.stage(
        f"{teacher.teacher}-gradcam", {"images": chosen.tolist()}, job.data.digest, *keys, make=make
    )
    report.attention_files(job, models, stage.path)


def load_student(student: Model) -> keras.Model:
    """A finished student as it is shipped: pixels to probabilities."""
    return keras.saving.load_model(student.folder / "student.keras", compile=False)


def wanted(config: Config) -> list[str]:
    """The recipes of a run: those picked, and an int8 one for each of --compress."""
    settings = config.quantize
    return list(dict.fromkeys([*settings.recipes, *(f"int8-{how}" for how in settings.compress)]))


def tflite_stages(
    job: Job,
    student: Model,
    views: Views,
    teacher: Model | None = None,
    distil: DistilConfig | None = None,
) -> dict[str, Model]:
    """The student as one `.tflite` per recipe, measured through the real interpreter.

    `teacher` and `distil` are those it was distilled with: fine-tuning for a file goes on from there.
    """
    config = replace(job.config, distil=distil or job.config.distil)
    settings, seed = config.quantize, config.run.seed
    drawn = seed if settings.calibration_seed is None else settings.calibration_seed
    images = calibration(views.pixels, settings.calibration_images, drawn)

    @cache  # the student is read and converted once, and only if a file is still to be made
    def loaded():
        shipped = load_student(student)
        with native_noise():
            return without_softmax(shipped), float32_of(shipped)

    def file(recipe, *, in_float=None) -> Model:
        row = RECIPES[recipe]
        keyed, upstream = {"recipe": recipe}, [student.key]
        if row.calibrated:
            keyed |= {"images": settings.calibration_images, "seed": drawn, "in_float": in_float}
        if row.tuned:
            keyed |= {"batch_size": config.student.batch_size}
            keyed |= {name: getattr(settings, name) for name in qat.TUNINGS[row.tuned].settings}
            if teacher:
                keyed |= {k: getattr(config.distil, k) for k in ("alpha", "temperature", "loss")}
                upstream.append(teacher.key)

        def make(folder):
            history, tuned = [], None
            if row.tuned:
                tuned, history = qat.fine_tune(
                    loaded()[0],
                    views.pixels,
                    job.data,
                    config,
                    row.tuned,
                    images=images,
                    seed=student.seed,
                    title=f"{student.teacher}: {recipe}",
                    progress=job.progress,
                    **(cached_logits(teacher) if teacher else {}),
                )
            with native_noise(), job.progress.bar(f"{student.teacher}: {recipe}.tflite", 1) as advance:
                shape = job.data.train.pixels.shape[1:]
                source = float32_file(tuned, shape) if tuned else loaded()[1]
                keep_file(job, folder, student, recipe, quantize(source, recipe, images, in_float), source)
                (folder / "history.json").write_text(json.dumps(history))
                advance(1)

        name = _stage_name(job, student.teacher, recipe, student.seed)
        stage = job.run.stage(name, keyed, *upstream, make=make)
        facts, history = (json.loads((stage.path / f"{f}.json").read_text()) for f in ("model", "history"))
        return Model(student.teacher, student.kind, student.seed, stage.key, stage.path, facts, history)

    made = {recipe: file(recipe) for recipe in wanted(config)}
    if "int8" in made:
        lost = report.val_accuracy(job, student) - report.val_accuracy(job, made["int8"])
        if lost > MOST_LOST:
            bad = worst(made["int8"].tensor_errors)
            if settings.mixed:
                made["int8-mixed"] = file("int8-mixed", in_float=bad.tensor)
            report.tell_loss(job, student, lost, bad, made.get("int8-mixed"))
    return made


def cached_logits(teacher: Model) -> dict:
    """A teacher's logits over views (V, N, K), mapped, and val (n, K), as training takes them."""
    return {
        "logits": np.load(teacher.folder / "logits.npy", mmap_mode="r"),
        "val_logits": np.load(teacher.folder / "val_logits.npy"),
    }


def keep_file(job: Job, folder: Path, student: Model, recipe: str, content: bytes, source: bytes) -> None:
    """A `.tflite` with its card, what it said of val and test, and how far it is from its float `source`."""
    data = job.data
    made_by = {
        "teacher": student.teacher,
        "model": student.kind,
        "teacher_weights": student.facts["teacher_weights"],
        "data_digest": data.digest,
        "student_key": student.key,
        "seed": student.seed,
        "config": job.config.to_dict(),
        "versions": versions(),
    }
    facts = card(
        content,
        recipe,
        classes=data.classes,
        shape=data.train.pixels.shape[1:],
        made_by=made_by,
        synthetic=data.synthetic,
    )
    (folder / "model.tflite").write_bytes(content)
    (folder / "model.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    predict = Predictor(folder / "model.tflite")
    measured = evaluate.measure(predict, data.val.pixels, data.test.pixels, runs=200)
    np.savez(folder / "measured.npz", **measured)
    found = errors(source, content, data.val.pixels[:ERROR_IMAGES]) if content != source else []
    (folder / "errors.json").write_text(json.dumps([error._asdict() for error in found]))
