"""A loss on features, from the teacher's labels to the student and its fine-tuned file."""

import json

import numpy as np
import pytest
from keras import layers
from small_run import teachers_of_one_convolution

from kdtf.config import Config
from kdtf.data.load import load
from kdtf.distill.hints import with_features
from kdtf.distill.inference import inferences_of
from kdtf.models.students import load_student
from kdtf.models.teachers import build_base, build_head, with_head
from kdtf.models.weights import WeightSource
from kdtf.progress import Progress
from kdtf.runs import teacher
from kdtf.runs.fitted import read_fitted
from kdtf.runs.kinds import PACKAGES
from kdtf.runs.perform import perform
from kdtf.runs.plan import plan
from kdtf.runs.records import Facts, Origin
from kdtf.runs.stages import read_labeller
from kdtf.store import Store
from kdtf.versions import versions

SETTINGS = {
    "teachers": ("cnn5",),
    "weights": "none",
    "student": "baseline",
    "views": 2,
    "epochs": 2,
    "batch_size": 16,
    "scratch_epochs": 1,
    "loss": "fitnet",
    "recipes": ("int8-qat",),
    "qat_epochs": 1,
}


def normalized_convolution(pixels):
    """The feature maps of the teacher here: what they are in training they are not in inference."""
    return layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, strides=4)(pixels)))


class Run:
    """The finished stages of a plan, made when they are looked at."""

    def __init__(self, tiny, folder):
        images = np.load(tiny / "teacher" / "X_train.npy")[:12, :, ::-1].copy()
        (folder / "others").mkdir()
        np.save(folder / "others" / "X_unlabelled.npy", images[:, ::2, ::2].copy())
        (folder / "others" / "teacher").mkdir()
        np.save(folder / "others" / "teacher" / "X_unlabelled.npy", images)
        self.data = load(tiny, folder / "d", unlabelled=folder / "others")
        self.store = Store(folder / "r")

    def stage(self, name, **settings):
        """The folder of a stage of the plan with these settings."""
        config = Config().with_values({**SETTINGS, **settings})
        facts = Facts(
            self.data.digest,
            "tiny",
            tuple(self.data.classes),
            versions(PACKAGES),
            ("cnn5",),
            unlabelled=self.data.unlabelled_digest,
            origins={("cnn5", 0): Origin("random weights, by --weights none", False)},
        )
        (task,) = (task for task in plan(config, facts).tasks() if task.name == name)
        return perform(task, self.store, self.data, Progress()).path


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    with teachers_of_one_convolution(normalized_convolution):
        yield Run(tiny, tmp_path_factory.mktemp("hints"))


def arrays(folder, *names):
    return [np.load(folder / f"{name}.npy") for name in names]


@pytest.mark.parametrize("labeller, by", [("keras", "Keras"), ("litert", "LiteRT")])
def test_labels_hold_what_the_head_makes_logits_of(run, labeller, by):
    base = build_base("cnn5", run.data.train.teacher_pixels.shape[1:], WeightSource("none")).model
    whole = with_head(base, build_head("cnn5", base.output.shape[1:], len(run.data.classes)))
    whole.load_weights(run.stage("cnn5-whole") / "teacher.weights.h5")
    says = inferences_of(with_features(whole))
    labels = run.stage("cnn5-labels", labeller=labeller)
    unlabelled = run.stage("cnn5-unlabelled-labels", labeller=labeller)
    assert read_labeller(labels) == read_labeller(unlabelled) == by
    features, logits, val_features = arrays(labels, "features", "logits", "val_features")
    images = len(run.data.train.labels)
    assert features.shape == (2, images, 8) and features.dtype == np.float32
    for one, other in zip((features[0], logits[0]), says(run.data.train.teacher_pixels), strict=True):
        assert np.allclose(one, other, atol=1e-5)
    assert np.allclose(val_features, says(run.data.val.teacher_pixels)[0], atol=1e-5)
    own = arrays(unlabelled, "features", "logits")
    for one, other in zip(own, says(run.data.unlabelled.teacher_pixels), strict=True):
        assert np.allclose(one[0], other, atol=1e-5)
    plain = run.stage("cnn5-labels", loss="kd", labeller=labeller)
    assert sorted(path.name for path in plain.glob("*.npy")) == ["logits.npy", "val_logits.npy"]
    assert np.array_equal(np.load(plain / "logits.npy"), logits)


def test_labels_of_a_frozen_base_hold_its_features(run):
    frozen = {"freeze": True, "scratch_epochs": 0, "fine_tune_epochs": 0, "head_epochs": 1}
    labels, base = (run.stage(name, **frozen) for name in ("cnn5-labels", "cnn5-features"))
    for name in ("features", "val_features"):
        assert np.array_equal(*(np.load(folder / f"{name}.npy") for folder in (labels, base)))
    assert np.array_equal(
        *(np.load(f / "logits.npy") for f in (labels, run.stage("cnn5-labels", **frozen, loss="kd")))
    )


def test_features_that_take_too_much_room_are_made_anew_where_they_are_needed(tiny, tmp_path, monkeypatch):
    """The head and the labels are those of stored features, but for the noise of batches of other sizes."""
    frozen = {"freeze": True, "scratch_epochs": 0, "fine_tune_epochs": 0, "head_epochs": 2, "loss": "kd"}
    names, found = [f"cnn5-{kind}" for kind in ("features", "head", "labels")], []
    with teachers_of_one_convolution(normalized_convolution):
        for place in ("stored", "made anew"):
            (tmp_path / place).mkdir()
            own = Run(tiny, tmp_path / place)
            found.append([own.stage(name, **frozen) for name in names])
            size = np.load(found[0][0] / "features.npy", mmap_mode="r").nbytes
            monkeypatch.setattr(teacher, "MOST_FEATURES", size - 1)
    (stored, head, labels), (made_anew, other_head, other_labels) = found
    assert (stored / "features.npy").exists() and not (made_anew / "features.npy").exists()
    assert np.array_equal(*(np.load(folder / "val_features.npy") for folder in (stored, made_anew)))
    rows, others = (read_fitted(folder).history for folder in (head, other_head))
    assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in others], abs=1e-4)
    assert np.allclose(*(np.load(folder / "logits.npy") for folder in (labels, other_labels)), atol=1e-3)


@pytest.mark.parametrize("name", ["cnn5", "cnn5-unlabelled"])
def test_a_student_is_given_hints_and_exported_without_their_projector(run, name):
    folder, alone = run.stage(f"{name}-student"), run.stage("alone-student")
    history = read_fitted(folder).history
    assert all(0 < row["hint"] < 3 and 0 < row["val_hint"] < 3 for row in history)
    assert "hint" not in read_fitted(alone).history[0]
    assert load_student(folder).to_json() == load_student(alone).to_json()
    assert read_fitted(folder).parameters == read_fitted(alone).parameters


def test_a_file_is_fine_tuned_by_what_is_left_on_logits(run):
    folder = run.stage("cnn5-int8-qat")
    (row,) = json.loads((folder / "history.json").read_text())
    assert row["phase"] == "qat" and np.isfinite(row["loss"]) and "hint" not in row
