"""Distillation on several devices takes the steps of one: gradients of replicas are added up."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# two logical CPUs stand for two devices; they can only be made before TensorFlow runs
STEP = """
import json, keras, numpy as np, tensorflow as tf
from contextlib import nullcontext
from kdtf import Distiller

cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
rng = np.random.default_rng(0)
pixels, labels = rng.normal(size=(8, 3)).astype("float32"), np.arange(8) % 4
logits, weight = rng.normal(size=(8, 4)).astype("float32"), np.arange(1.0, 9.0)
kernel = rng.normal(size=(3, 4)).astype("float32")

def step(strategy):
    with strategy.scope() if strategy else nullcontext():
        layer = keras.layers.Dense(4, use_bias=False, kernel_regularizer=keras.regularizers.L2(0.1))
        model = Distiller(keras.Sequential([keras.Input((3,)), layer]), alpha=0.3)
        layer.set_weights([kernel])
        model.compile(keras.optimizers.SGD(1.0), jit_compile=False)
    x = {"pixels": pixels, "teacher_logits": logits}
    rows = model.fit(x, labels, sample_weight=weight, batch_size=8, verbose=0, shuffle=False).history
    return {"moved": (layer.get_weights()[0] - kernel).ravel().tolist(), "loss": rows["loss"][0]}

mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert mirrored.num_replicas_in_sync == 2
print(json.dumps([step(None), step(mirrored)]))
"""


def test_two_replicas_take_the_step_of_one():
    done = subprocess.run([sys.executable, "-c", STEP], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = json.loads(done.stdout.splitlines()[-1])
    assert max(map(abs, one["moved"])) > 0.1
    assert two["moved"] == pytest.approx(one["moved"], abs=1e-6)
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
