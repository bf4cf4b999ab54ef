"""What the fused AdamW saves: CPU seconds of an epoch, and of the first, which traces, beside Keras' own.

    python benchmarks/fused_adam.py [--rounds 3]

From random weights on random images in batches of 32, batch normalization fused, with a cosine and weight
decay: a student cut from MobileNetV2 at 32 px, cnn3 at 32 px, DenseNet121 at 64 px, and a head on 2,048
features. Each round trains two that differ only in their optimizer. CPU seconds are those of all threads
of the process, so that other load counts little.
"""

import argparse
import statistics

from fused_norm import cnn3, cpu_seconds, densenet  # it sets up TensorFlow, and must come first

import keras  # isort: skip
import numpy as np  # isort: skip

from kdtf.distill.fused_adam import FusedAdamW  # isort: skip
from kdtf.distill.optim import cosine  # isort: skip
from kdtf.models.fused_norm import fused_batch_normalization  # isort: skip
from kdtf.models.registry import HEADS  # isort: skip
from kdtf.models.students import new_student  # isort: skip
from kdtf.models.weights import WeightSource  # isort: skip
from kdtf.records import StudentNetwork, WeightsChoice  # isort: skip

BATCH, CLASSES = 32, 4


def cut_student():
    network = StudentNetwork("cut:mobilenetv2:9:0.75", 0.9, 0.3, 0, WeightsChoice("none"))
    return new_student(network, (32, 32, 1), CLASSES, WeightSource("none"))[0]


def head():
    features = keras.Input((2048,))
    return keras.Model(features, HEADS["linear"](features, CLASSES, 0.3))


NETWORKS = {  # a function that builds it, images an epoch
    "cut:mobilenetv2:9:0.75, 32 px": (cut_student, 1280),
    "cnn3, 32 px": (cnn3, 1280),
    "DenseNet121, 64 px": (densenet, 128),
    "a head on 2,048 features": (head, 6400),
}


def seconds(build, images, optimizer):
    """CPU seconds of a new network's first epoch and of its second."""
    model = build()
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 256, (images, *model.input.shape[1:])).astype("float32")
    labels = rng.integers(0, CLASSES, images)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer(cosine(1e-3, 1000, 0.1), weight_decay=1e-3), loss, jit_compile=False)
    with fused_batch_normalization(model):
        fit = [cpu_seconds(lambda: model.fit(inputs, labels, batch_size=BATCH, verbose=0)) for _ in range(2)]
    return fit


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(f"{'CPU seconds (medians)':32} {'epoch':9} {'Keras':>8} {'fused':>8}   Keras / fused")
    for name, (build, images) in NETWORKS.items():
        rounds = [
            [seconds(build, images, kind) for kind in (keras.optimizers.AdamW, FusedAdamW)]
            for _ in range(args.rounds)
        ]
        for number, epoch in enumerate(("first", "another")):
            pairs = [(plain[number], fused[number]) for plain, fused in rounds]
            plain, fused = (statistics.median(own) for own in zip(*pairs, strict=True))
            ratios = sorted(a / b for a, b in pairs)
            span = f"{statistics.median(ratios):.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            print(f"{name:32} {epoch:9} {plain:8.2f} {fused:8.2f}   {span}", flush=True)


if __name__ == "__main__":
    main()
