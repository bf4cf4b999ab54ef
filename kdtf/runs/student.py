"""A student's stages: its training, alone or distilled, and what it says of val and test."""

import zipfile
from dataclasses import replace
from pathlib import Path

import keras

from ..config import DistilConfig, section_dict
from ..data.views import Views
from ..distill.train import batched, fit_student
from ..errors import UserError
from ..models.students import exported, save_undated
from ..report.figures import LABELS
from ..store import CHECKPOINT, make_room
from .job import Job, Model, evaluated, keep, read, room_for, stage_name


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
        cached = teacher.cached_logits() if teacher else {}
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
        make_room(folder, 2 * room_for(shipped))
        save_undated(shipped, folder / "student.keras")
        shipped.save(folder / "student.h5")
        facts = {
            "teacher_weights": teacher.facts["teacher_weights"] if teacher else None,
            "parameters": shipped.count_params(),
            "size_kib": (folder / "student.h5").stat().st_size / 1024,
            **rule,
        }
        keep(folder, facts, history)

    stage = job.run.stage(stage_name(job, name, "student", seed), settings, *upstream, make=make)
    facts, history = read(stage)
    own = stage_name(job, name, "student-evaluation", seed)
    scores = evaluated(job, own, stage.key, lambda: batched(load_student(stage.path)), runs=50)
    facts["train_seconds"] = stage.seconds
    return Model(name, kind, seed, stage.key, stage.path, facts, history, scores)


def load_student(folder: Path) -> keras.Model:
    """A finished student as it is shipped: pixels to probabilities.

    Raises `UserError` for any other file: in Keras' safe mode one that holds code is refused.
    """
    path = folder / "student.keras"
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError, LookupError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{path} must be a student as kdtf saves it. It is not: {reason}.") from None
