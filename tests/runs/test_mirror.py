"""A teacher trained on several devices at once is the one that a single device makes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kdtf.config import Config
from kdtf.errors import UserError
from kdtf.runs.check import check_names, check_networks

ROOT = Path(__file__).parents[2]
# two logical CPUs stand for two GPUs; they can only be made before TensorFlow runs
TRAINED = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np, tensorflow as tf
from keras import layers
from small_run import teachers_of_one_convolution
from kdtf.progress import Progress
from kdtf.records import TeacherHead, TeacherNetwork, Training, WeightsChoice
from kdtf.runs import teacher

cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
rng = np.random.default_rng(0)
pixels = rng.integers(0, 256, (2, 20, 16, 16, 3), dtype=np.uint8)  # two views of twenty images
train, val = (SimpleNamespace(teacher_pixels=pixels[0, :n], labels=np.arange(n) % 2) for n in (20, 6))
teacher.views_of = lambda space: SimpleNamespace(teacher_pixels=pixels)
network = TeacherNetwork("cnn5", WeightsChoice("none"), None, 0.9, 0, TeacherHead("linear", 0.0))

def maps(pixels):
    x = layers.Conv2D(4, 3, strides=2, use_bias=False)(pixels)
    return layers.ReLU()(layers.BatchNormalization()(x))

def trained(name, mirror):
    folder = Path(sys.argv[1], name)
    folder.mkdir(exist_ok=True)
    data = SimpleNamespace(train=train, val=val, classes=("a", "b"))
    space = SimpleNamespace(data=data, folder=folder, inputs={}, progress=Progress(), title="")
    with teachers_of_one_convolution(maps):
        training = Training(4, 10, 0.1, optimizer="SGD", schedule="constant", patience=4)
        teacher.train_whole(space, network, training, mirror)
        weights = teacher._network(space, network, folder)[1].get_weights()
    return {"weights": np.concatenate([w.ravel() for w in weights]).tolist(),
            "loss": [row["loss"] for row in teacher.read_fitted(folder).history]}

print(json.dumps([trained("one", False), trained("two", True), trained("two", True)]))
"""


def test_two_devices_train_the_teacher_of_one(tmp_path):
    command = [sys.executable, "-c", TRAINED, str(tmp_path)]
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two, again = json.loads(done.stdout.splitlines()[-1])
    assert one["loss"][0] > 1.02 * one["loss"][-1]  # it has learned something
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert two["weights"] == pytest.approx(one["weights"], abs=1e-5)
    assert again == two  # from its checkpoint


def test_one_device_mirrors_nothing():
    config = Config().with_values({"mirror": True, "weights": "none"})
    with pytest.raises(UserError, match="--mirror must be given where TensorFlow sees two GPUs or more"):
        check_networks(config)


@pytest.mark.parametrize("setting", [{"jobs": 2}, {"engine": "slurm"}])
def test_jobs_have_a_device_each(setting, monkeypatch):
    monkeypatch.setattr("kdtf.runs.check.check_engine", lambda settings: None)
    with pytest.raises(UserError, match="--mirror must be given without --jobs and --engine"):
        check_names(Config().with_values({"mirror": True, "weights": "none", **setting}))
