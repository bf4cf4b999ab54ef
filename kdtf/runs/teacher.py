"""One teacher's stages: where its weights start, features, head, whole network, labels, scores.

Each reads what the one before wrote, so that a run that was interrupted does what one that was not
does. The network is built only where a stage has to be made.
"""

from functools import cache
from pathlib import Path

import keras
import numpy as np

from ..config import section_dict
from ..data.views import Views
from ..distill.train import batched, fine_tune, fit_head, over_views
from ..errors import require
from ..evidence.metrics import softmax
from ..models.teachers import NOT_DOWNLOADED, Base, WeightSource, build_base, build_head, with_head
from ..store import CHECKPOINT, Stage, file_digest, make_room
from .job import Job, Model, evaluated, keep, read, room_for, stage_name

WEIGHTS = "teacher.weights.h5"
# the settings a stage depends on; a change of any other leaves it standing
START = ("weights", "teacher_size", "teacher_momentum")
WHOLE = (
    "teacher_optimizer",
    "teacher_schedule",
    "teacher_weight_decay",
    "fine_tune_batch_size",
    "patience",
)
PRETRAINED, RANDOM = ("fine_tune_epochs", "fine_tune_rate"), ("scratch_epochs", "scratch_rate")


class TeacherStages:
    """The stages of the teacher `name` from `seed` over views (V, N, H, W, C)."""

    def __init__(self, job: Job, views_key: str, views: Views, name: str, source: WeightSource, seed: int):
        self.job, self.views_key, self.pixels = job, views_key, views.teacher_pixels
        self.name, self.source, self.seed = name, source, seed
        self.settings, self.classes = job.config.teacher, len(job.data.classes)
        self.origin: dict | None = None  # once it is known where the weights come from
        self.base = cache(self._base)

    def _stage(self, what: str, settings: dict, *upstream: str, make) -> Stage:
        return self.job.run.stage(
            stage_name(self.job, self.name, what, self.seed), settings, *upstream, make=make
        )

    def _section(self, *names: str) -> dict:
        section = section_dict(self.settings)
        return {name: section[name] for name in names}

    def finished(self) -> Model:
        """The fitted teacher: its labels over every view (V, N, K) and val (n, K), and its scores."""
        start, trained = self._start(), []
        self.origin = origin = read(start)[0]
        if origin["teacher_weights"] == NOT_DOWNLOADED:
            self.source.fell_back()
        features, epochs, upstream = None, self.settings.scratch_epochs, start
        if origin["pretrained"] or self.settings.freeze:
            features = self._features(start)
            upstream = self._head(features)
            trained += [features, upstream]
            epochs = self.settings.fine_tune_epochs
        if epochs:
            upstream = self._whole(upstream, origin["pretrained"], headed=features is not None)
            trained.append(upstream)
        labels = self._labels(upstream, None if epochs else features)
        facts, history = read(upstream)
        seconds = sum(stage.seconds for stage in trained)
        name = stage_name(self.job, self.name, "evaluation", self.seed)
        scores = evaluated(self.job, name, upstream.key, lambda: self._says(upstream), runs=20, high=True)
        return Model(
            teacher=self.name,
            kind="teacher",
            seed=self.seed,
            key=labels.key,
            folder=upstream.path,
            facts={**origin, **facts, "train_seconds": seconds},
            history=history,
            scores=scores,
            logits=labels.path,
        )

    def _base(self) -> Base:
        """The base as the run starts it, and as it started where the run goes on. Raises `UserError`."""
        shape, settings, origin = self.pixels.shape[2:], self.settings, self.origin
        more = {"size": settings.teacher_size, "momentum": settings.teacher_momentum, "seed": self.seed}
        random = origin and origin["teacher_weights"] == NOT_DOWNLOADED  # they might be had by now
        base = build_base(self.name, shape, WeightSource("none") if random else self.source, **more)
        same = origin is None or base.pretrained == origin["pretrained"]
        rule = f"able to give {self.name} the weights it began with"
        require(same, "--weights", rule, base.origin, "Try again when they can be had, or with --fresh.")
        return base

    def _start(self) -> Stage:
        """Where the weights come from: with `auto` that depends on the day."""
        file = self.source.path(self.name)
        settings = {
            **self._section(*START),
            "teacher": self.name,
            "seed": self.seed,
            "file": file and file_digest(file),
        }

        def make(folder):
            base = self.base()
            keep(folder, {"teacher_weights": base.origin, "pretrained": base.pretrained}, [])

        return self._stage("start", settings, self.views_key, make=make)

    def _features(self, start: Stage) -> Stage:
        """What the frozen base makes of every view (V, N, F) and of val (n, F)."""

        def make(folder):
            features_of = batched(self.base().model)
            title = f"{self.name}: features"
            over_views(features_of, self.pixels, folder / "features.npy", self.job.progress, title)
            np.save(folder / "val_features.npy", features_of(self.job.data.val.teacher_pixels))

        return self._stage("features", {}, start.key, make=make)

    def _head(self, features: Stage) -> Stage:
        """The head, trained on cached features."""
        student = self.job.config.student
        settings = {
            **self._section("head_rate"),
            "epochs": student.epochs,
            "batch_size": student.batch_size,
        }

        def make(folder):
            head, whole = self.network()
            history = fit_head(
                head,
                np.load(features.path / "features.npy", mmap_mode="r"),
                self.job.data,
                np.load(features.path / "val_features.npy"),
                self.job.config,
                seed=self.seed,
                title=f"{self.name}: head",
                progress=self.job.progress,
                checkpoint=folder / f"{CHECKPOINT}.npz",
            )
            self._keep(folder, whole, history)

        return self._stage("head", settings, features.key, make=make)

    def _whole(self, upstream: Stage, pretrained: bool, *, headed: bool) -> Stage:
        """The whole network, trained over the views from where `upstream` left it."""
        settings = self._section(*WHOLE, *(PRETRAINED if pretrained else RANDOM))

        def make(folder):
            _, whole = self.network(upstream.path if headed else None)
            earlier = read(upstream)[1]
            rows = fine_tune(
                whole,
                self.pixels,
                self.job.data,
                self.job.config,
                pretrained=pretrained,
                seed=self.seed,
                title=f"{self.name}: whole network",
                progress=self.job.progress,
                checkpoint=folder / f"{CHECKPOINT}.npz",
            )
            later = [{**row, "epoch": row["epoch"] + len(earlier)} for row in rows]
            self._keep(folder, whole, [*earlier, *later])

        return self._stage("whole", settings, upstream.key, make=make)

    def _labels(self, trained: Stage, features: Stage | None) -> Stage:
        """Logits over every view and of val; the frozen base's `features` spare another pass through it."""

        def make(folder):
            head, whole = self.network(trained.path)
            title = f"{self.name}: labelling views"
            if features:
                logits_of = batched(head)
                seen = np.load(features.path / "features.npy", mmap_mode="r")
                val = np.load(features.path / "val_features.npy")
            else:
                logits_of, seen, val = batched(whole), self.pixels, self.job.data.val.teacher_pixels
            over_views(logits_of, seen, folder / "logits.npy", self.job.progress, title)
            np.save(folder / "val_logits.npy", logits_of(val))

        return self._stage("logits", {}, trained.key, make=make)

    def network(self, trained: Path | None = None) -> tuple[keras.Model, keras.Model]:
        """(head, whole teacher): as they start, or with the weights in the folder of a finished stage."""
        base = self.base().model
        head = build_head(self.name, base.output.shape[1:], self.classes, self.seed)
        whole = with_head(base, head)
        if trained:
            whole.load_weights(trained / WEIGHTS)
        return head, whole

    def _keep(self, folder, whole, history: list[dict]) -> None:
        make_room(folder, room_for(whole))
        # saved through a copy that was never compiled: the optimizer's moments would treble the file
        keras.Model(whole.input, whole.output, name=whole.name).save_weights(folder / WEIGHTS)
        facts = {
            "parameters": whole.count_params(),
            "size_kib": (folder / WEIGHTS).stat().st_size / 1024,
        }
        keep(folder, facts, history)

    def _says(self, trained: Stage):
        """The predict function of the teacher with the weights of a finished stage."""
        logits_of = batched(self.network(trained.path)[1])
        return lambda pixels: softmax(logits_of(pixels))
