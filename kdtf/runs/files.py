"""A student's files: one stage a recipe, measured through the real interpreter."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

from ..config import Config, DistilConfig
from ..data.views import Views
from ..models.students import without_softmax
from ..native_log import native_noise
from ..predictor import Predictor
from ..report import files as report
from ..store import versions
from ..tflite import qat
from ..tflite.quantize import RECIPES, calibration, card, float32_file, float32_of, quantize
from ..tflite.tensors import errors, worst
from .job import Job, Model, evaluated, stage_name
from .student import load_student

ERROR_IMAGES = 64  # of val, over which the tensors of two files are compared
MOST_LOST = 0.01  # val accuracy that int8 may lose before its worst layer is named


def wanted(config: Config) -> list[str]:
    """The recipes of a run: those picked, and an int8 one for each of --compress."""
    settings = config.quantize
    return list(dict.fromkeys([*settings.recipes, *(f"int8-{how}" for how in settings.compress)]))


def file_stages(
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
        shipped = load_student(student.folder)
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
                    **(teacher.cached_logits() if teacher else {}),
                )
            with native_noise(), job.progress.bar(f"{student.teacher}: {recipe}.tflite", 1) as advance:
                shape = job.data.train.pixels.shape[1:]
                source = float32_file(tuned, shape) if tuned else loaded()[1]
                keep_file(job, folder, student, recipe, quantize(source, recipe, images, in_float), source)
                (folder / "history.json").write_text(json.dumps(history))
                advance(1)

        name = stage_name(job, student.teacher, recipe, student.seed)
        stage = job.run.stage(name, keyed, *upstream, make=make)
        facts, history = (json.loads((stage.path / f"{f}.json").read_text()) for f in ("model", "history"))
        name = stage_name(job, student.teacher, f"{recipe}-evaluation", student.seed)
        scores = evaluated(job, name, stage.key, lambda: _interpreter(stage.path), runs=200)
        return student._replace(key=stage.key, folder=stage.path, facts=facts, history=history, scores=scores)

    made = {recipe: file(recipe) for recipe in wanted(config)}
    if "int8" in made:
        lost = report.val_accuracy(job, student) - report.val_accuracy(job, made["int8"])
        if lost > MOST_LOST:
            bad = worst(made["int8"].tensor_errors)
            if settings.mixed:
                made["int8-mixed"] = file("int8-mixed", in_float=bad.tensor)
            report.tell_loss(job, student, lost, bad, made.get("int8-mixed"))
    return made


def _interpreter(folder: Path) -> Predictor:
    with native_noise():
        return Predictor(folder / "model.tflite")


def keep_file(job: Job, folder: Path, student: Model, recipe: str, content: bytes, source: bytes) -> None:
    """A `.tflite` with its card and how far it is from its float `source`."""
    data = job.data
    config = job.config.to_dict()
    del config["run"]  # where and with how many threads is nobody's business
    config["data"]["data"] = Path(config["data"]["data"]).name
    made_by = {
        "teacher": student.teacher,
        "model": student.kind,
        "teacher_weights": student.facts["teacher_weights"],
        "data_digest": data.digest,
        "student_key": student.key,
        "seed": student.seed,
        "config": config,
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
    found = errors(source, content, data.val.pixels[:ERROR_IMAGES]) if content != source else []
    (folder / "errors.json").write_text(json.dumps([error._asdict() for error in found]))
