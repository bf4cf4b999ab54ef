"""Labels of many views are made by several tasks, and are those that one task makes, byte for byte."""

from importlib.util import find_spec

import numpy as np
import pytest
from small_run import teachers_of_one_convolution

from kdtf.config import Config
from kdtf.data.load import load
from kdtf.progress import Progress
from kdtf.runs import plan_teachers, teacher
from kdtf.runs.kinds import PACKAGES
from kdtf.runs.perform import perform
from kdtf.runs.plan import plan
from kdtf.runs.plan_teachers import PART, UNDIVIDED, label_parts
from kdtf.runs.records import Facts, LabelPart, Origin
from kdtf.store import Store
from kdtf.versions import versions

SETTINGS = {
    "teachers": ("cnn5",),
    "weights": "none",
    "views": 2,
    "scratch_epochs": 0,
    "unlabelled_share": 0.5,
}
LABELS = ("cnn5-labels", "cnn5-unlabelled-labels")


def test_parts_are_all_images_of_all_views_in_their_order():
    assert label_parts(UNDIVIDED // 16, 16) == []
    assert label_parts(PART + 1, 5) == [
        part for v in range(5) for part in (LabelPart(v, 0, PART), LabelPart(v, PART, PART + 1))
    ]
    assert PART % 512 == 0  # else the last batch of a part were none of the undivided pass


@pytest.fixture(scope="module")
def data(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    images = np.load(tiny / "teacher" / "X_train.npy")[:20, :, ::-1].copy()
    (folder / "others" / "teacher").mkdir(parents=True)
    np.save(folder / "others" / "X_unlabelled.npy", images[:, ::2, ::2].copy())
    np.save(folder / "others" / "teacher" / "X_unlabelled.npy", images)
    return load(tiny, folder / "d", unlabelled=folder / "others")


def tasks(data, **settings):
    """{name: task} of a plan about these data."""
    facts = Facts(
        data.digest,
        "tiny",
        tuple(data.classes),
        versions(PACKAGES),
        ("cnn5",),
        unlabelled=data.unlabelled_digest,
        train_images=len(data.train.labels),
        unlabelled_images=20,
        origins={("cnn5", 0): Origin("random weights, by --weights none", False)},
    )
    return {task.name: task for task in plan(Config().with_values({**SETTINGS, **settings}), facts).tasks()}


# Keras' last digits depend on the batch that an image is in, so its parts are of whole batches
@pytest.mark.parametrize(
    "labeller, part, count",
    [
        ("keras", 64, 2),
        ("litert", 30, 4),
        pytest.param(
            *("openvino-bf16", 30, 4),
            marks=pytest.mark.skipif(not find_spec("openvino"), reason="OpenVINO is not installed"),
        ),
    ],
)
def test_divided_labels_are_the_undivided_ones(data, tmp_path, monkeypatch, labeller, part, count):
    whole = tasks(data, labeller=labeller)
    monkeypatch.setattr(plan_teachers, "UNDIVIDED", 39)
    monkeypatch.setattr(plan_teachers, "PART", part)
    divided = tasks(data, labeller=labeller)
    assert sorted(set(divided) - set(whole)) == sorted(
        [f"cnn5-labels-part{i}" for i in range(count)] + [f"cnn5-unlabelled-labels-part{i}" for i in range(2)]
    )
    order = list(divided)
    assert order.index("cnn5-labels-part1") < order.index("cnn5-labels") < order.index("cnn5-student")
    store, built = Store(tmp_path), []
    build = teacher._network
    monkeypatch.setattr(teacher, "_network", lambda *args: built.append(args) or build(*args))
    with teachers_of_one_convolution():
        for name in LABELS:
            one = perform(whole[name], store, data, Progress()).path
            built.clear()
            other = perform(divided[name], store, data, Progress()).path
            assert one != other and len(built) == 1  # once for all parts
            files = [sorted(path.name for path in folder.glob("*.npy")) for folder in (one, other)]
            assert files[0] == files[1] and ("val_logits.npy" in files[0]) == (name == LABELS[0])
            for file in files[0]:
                assert (one / file).read_bytes() == (other / file).read_bytes()


def test_features_are_not_stored_twice(data, monkeypatch):
    monkeypatch.setattr(plan_teachers, "UNDIVIDED", 0)
    assert not [name for name in tasks(data, loss="fitnet") if "part" in name]
    frozen = tasks(data, freeze=True, fine_tune_epochs=0)
    assert {name for name in frozen if "-part" in name} == {f"{LABELS[1]}-part{i}" for i in range(2)}
