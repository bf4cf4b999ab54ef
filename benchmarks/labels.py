"""What to distil from where there are no unlabelled images: kinds of labels, compared at one budget.

    python benchmarks/labels.py DATA SETTINGS.toml --results DIR [--seeds 5] [--folds 4] [--arms NAME ...]

SETTINGS.toml holds settings of a run by their names on the command line (with underscores). A teacher has
fitted the images that it labels, and mostly repeats their labels. Each arm gives the student others:

    alone      the true labels
    fitted     a teacher's labels of the images that it was trained on: plain distillation
    softened   the same, divided by the temperature that fits the teacher's probabilities to val
               (Guo et al. 2017, arXiv 1706.04599)
    crossed    labels of teachers that have not seen the image: train is split into folds, copies of one
               image in one fold, and each fold labelled by the teacher of the others (Dao et al. 2021)
    averaged   the mean probabilities of `fitted` and `crossed`
    ensemble   the mean probabilities of all these teachers on every image
    stronger   the teacher's labels of views drawn twice as far as those it was trained on

Every student has the same views but in `stronger`, the same number of images and steps. Prints and writes
`labels.csv`: mean accuracy and AUC on test and on its clean images over seeds, and the paired gain over
`alone` with a 95 % interval (Student's t). Stages and answers are kept in DIR: the same command goes on.
"""

import argparse
import sys
import tomllib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from crossval import planned

sys.path.insert(0, str(Path(__file__).parents[1]))

from kdtf.cli.terminal import Terminal
from kdtf.config import Config
from kdtf.data.audit import audit
from kdtf.data.dataset import UNLABELLED, Dataset, Split
from kdtf.data.folds import clusters
from kdtf.data.load import load
from kdtf.data.pixels import pixels_at, student_shape
from kdtf.data.views import computed_views
from kdtf.evidence.calibration import temperature
from kdtf.evidence.gains import mean_gain
from kdtf.evidence.metrics import score
from kdtf.runs.check import check_names, check_networks
from kdtf.runs.ensemble import mean_logits
from kdtf.runs.perform import perform
from kdtf.runs.runtime import tensorflow_runtime
from kdtf.runs.stages import LOGITS, VAL_LOGITS
from kdtf.store import Store

STRONGER = {"shift": 0.2, "rotate": 20.0, "zoom": 0.2, "brightness": 0.2, "contrast": 0.2}
ARMS = ("alone", "fitted", "softened", "crossed", "averaged", "ensemble", "stronger")


def over_train(data: Dataset, rows: np.ndarray, name: str) -> Dataset:
    """Data whose teacher learns from some `rows` of train and labels all of it, as unlabelled images.

    The views of an image depend on its place among those it is drawn with: labelled so, they are the same.
    Test is put out of reach.
    """
    whole = data.train
    shown = Split(whole.pixels, np.full(len(whole.labels), UNLABELLED), None, whole.teacher_pixels)
    pixels, larger = whole.pixels[rows], whole.teacher_pixels is not whole.pixels
    taught = Split(pixels, whole.labels[rows], None, whole.teacher_pixels[rows] if larger else pixels)
    return replace(
        data,
        train=taught,
        test=data.val,
        digest=f"{data.digest}-{name}",
        origin=None,
        unlabelled=shown,
        unlabelled_digest=f"{data.digest}-train",
    )


class Lessons:
    """What teachers say of all views of train, made when it is asked for."""

    def __init__(self, config: Config, data: Dataset, store: Store, folds: int):
        self.config, self.data, self.store, self.progress = config, data, store, Terminal()
        self.folds = folds

    @cache  # noqa: B019  one object, as long as the command
    def fitted(self) -> tuple[np.ndarray, np.ndarray]:
        """Logits (V, N, K) of the teacher of all images, and its logits of val (n, K)."""
        teacher = self.teacher_of(self.data)
        folder = perform(teacher.labels, self.store, self.data, self.progress).path
        return np.load(folder / LOGITS), np.load(folder / VAL_LOGITS)

    def teacher_of(self, data: Dataset) -> Any:
        """The tasks of the first teacher of a run on these data."""
        current = planned(self.config, data, self.store, self.progress)
        return next(group.teachers[0] for group in current.groups if group.teachers)

    @cache  # noqa: B019
    def of_folds(self) -> tuple[list[np.ndarray], np.ndarray]:
        """([logits (V, N, K) of the teacher of each fold], the fold (N,) that an image was left out of).

        Images that val has too are labelled by no fold's teacher: the audit leaves them out. They keep the
        labels of the teacher of all.
        """
        from sklearn.model_selection import StratifiedGroupKFold

        labels = self.data.train.labels
        splitter = StratifiedGroupKFold(self.folds, shuffle=True, random_state=0)
        of_image = clusters(self.data)[: len(labels)]
        fold_of, logits = np.empty(len(labels), int), []
        everyones = self.fitted()[0]
        for k, (rows, held) in enumerate(splitter.split(labels, labels, of_image)):
            fold_of[held] = k
            own = over_train(self.data, rows, f"{k}-of-{self.folds}")
            task = self.teacher_of(own).unlabelled_labels
            folder = perform(task, self.store, own, self.progress).path
            said = everyones.copy()
            said[:, audit(own).unlabelled_rows] = np.load(folder / LOGITS)
            logits.append(said)
        return logits, fold_of

    @cache  # noqa: B019
    def stronger(self) -> tuple[Any, np.ndarray]:
        """(the policy of stronger views, logits (V, N, K) of the teacher of all images over them)."""
        own = over_train(self.data, np.arange(len(self.data.train.labels)), "all")
        task = self.teacher_of(own).unlabelled_labels
        drawn = task.inputs["views"]
        policy = replace(self.config.views, **STRONGER)
        drawn = replace(drawn, settings={**drawn.settings, "policy": policy})
        task = replace(task, inputs={**task.inputs, "views": drawn})
        folder = perform(task, self.store, own, self.progress).path
        rows = audit(own).unlabelled_rows
        logits = self.fitted()[0].copy()
        logits[:, rows] = np.load(folder / LOGITS)
        return policy, logits

    def of(self, arm: str) -> tuple[Any, np.ndarray | None]:
        """The policy of the views of an arm, and its logits (V, N, K); none where the student is alone."""
        policy, at = self.config.views, self.config.distil.temperature
        if arm == "alone":
            return policy, None
        if arm == "stronger":
            return self.stronger()
        fitted, of_val = self.fitted()
        if arm == "fitted":
            return policy, fitted
        if arm == "softened":
            probs = np.exp(of_val - of_val.max(1, keepdims=True))
            return policy, fitted / temperature(probs / probs.sum(1, keepdims=True), self.data.val.labels)
        folds, fold_of = self.of_folds()
        if arm == "ensemble":
            return policy, mean_of([fitted, *folds], at)
        crossed = np.stack(folds)[fold_of, :, np.arange(len(fold_of))].swapaxes(0, 1)  # (V, N, K)
        return policy, crossed if arm == "crossed" else mean_of([fitted, crossed], at)


def mean_of(logits: list[np.ndarray], at: float) -> np.ndarray:
    """Logits whose softmax at a temperature is the mean of the others', view by view."""
    return np.stack([mean_logits([own[v] for own in logits], at) for v in range(len(logits[0]))])


def test_probs(lessons: Lessons, arm: str, seed: int) -> np.ndarray:
    """Probabilities (N, K) of test by the student of an arm from a seed."""
    from kdtf.distill.batches import Examples
    from kdtf.distill.inference import inference_of
    from kdtf.distill.train import train_student
    from kdtf.models.students import exported, new_student
    from kdtf.models.weights import WeightSource
    from kdtf.runs.student import fitting_images

    config, data, progress = lessons.config, lessons.data, lessons.progress
    file = lessons.store.work / f"{arm}-{seed}.npy"
    if file.exists():
        return np.load(file)
    group = planned(config.with_values({"seed": seed}), data, lessons.store, progress).groups
    own = next(student for g in group for student in g.students if student.rule)
    network, training = (own.student.settings[name] for name in ("network", "training"))
    policy, logits = lessons.of(arm)
    views = computed_views(data.train, seed=config.run.seed, policy=policy).at_side(network.side)
    val = pixels_at(data.val, network.side)
    examples = Examples(views, data.train.labels, val, data.val.labels)
    if logits is not None:
        examples = examples._replace(logits=logits, val_logits=lessons.fitted()[1])
    source = WeightSource(network.weights.source)
    images = fitting_images(data.train, network)
    shape = student_shape(data.train, network.side)
    student, _, _ = new_student(network, shape, len(data.classes), source, images)
    rule = None if logits is None else own.rule
    settings = {"seed": network.seed, "title": f"{arm}, seed {seed}", "progress": progress}
    train_student(student, examples, training, rule, **settings)
    probs = inference_of(exported(student))(pixels_at(data.test, network.side))
    np.save(file, probs)
    return probs


def table(probs: dict[str, list[np.ndarray]], labels: np.ndarray, clean: np.ndarray) -> list[dict[str, Any]]:
    """A row an arm, set of images and metric: mean and gain over `alone`; `probs` are (N, K) a seed."""
    rows = []
    for images, chosen in (("all", np.ones(len(clean), bool)), ("clean", clean)):
        scores = {arm: [score(p[chosen], labels[chosen]) for p in own] for arm, own in probs.items()}
        for metric in ("accuracy", "auc"):
            by_seed = {arm: np.array([one[metric] for one in own]) for arm, own in scores.items()}
            for arm, values in by_seed.items():
                gains = values - by_seed["alone"][: len(values)]
                gain, low, high = mean_gain(gains)[0] if len(gains) > 1 else (gains.mean(), np.nan, np.nan)
                row = {"images": images, "metric": metric, "arm": arm, "seeds": len(values)}
                rows.append(row | {"mean": values.mean(), "gain": gain, "low": low, "high": high})
    return rows


def main() -> None:
    """Parse, train every arm from every seed, print the table after each seed."""
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("settings")
    parser.add_argument("--results", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    arguments = parser.parse_args()
    config = Config().with_values(tomllib.loads(Path(arguments.settings).read_text()))
    check_names(config)
    check_networks(config)
    store = Store(arguments.results)
    data = load(arguments.data, store.work, image_size=config.data.image_size)
    clean = ~audit(data).has_copy["test"]
    data = replace(data, unlabelled=None, unlabelled_digest="")
    probs: dict[str, list[np.ndarray]] = {}
    with store.locked(), tensorflow_runtime(config.run):
        lessons = Lessons(config, data, store, arguments.folds)
        for seed in range(arguments.seeds):
            for arm in dict.fromkeys(("alone", *arguments.arms)):
                probs.setdefault(arm, []).append(test_probs(lessons, arm, seed))
            rows = pd.DataFrame(table(probs, data.test.labels, clean))
            rows.to_csv(Path(arguments.results) / "labels.csv", index=False)
            print(rows.round(4).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
