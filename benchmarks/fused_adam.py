"""What the fused AdamW saves: CPU seconds of an epoch, and of the first, which traces, beside Keras' own.

    python benchmarks/fused_adam.py [--rounds 3]

From random weights on random images in batches of 32, batch normalization fused, with a cosine and weight
decay: a student cut from MobileNetV2 at 32 px, cnn3 at 32 px, DenseNet121 at 64 px, and a head on 2,048
features. Each round trains two that differ only in their optimizer. CPU seconds are those of all threads
of the process, so that other load counts little.
"""

import argparse

from fused_norm import (
    CLASSES,
    cnn3,
    cpu_seconds,
    densenet,
    epochs_of,
    row,
)  # it comes first: sets up TensorFlow
from keras import Input, Model, optimizers

from kdtf.distill.fused_adam import FusedAdamW
from kdtf.distill.optim import cosine
from kdtf.models.fused_norm import fused_batch_normalization
from kdtf.models.registry import HEADS
from kdtf.models.students import new_student
from kdtf.models.weights import WeightSource
from kdtf.records import StudentNetwork, WeightsChoice


def cut_student():
    network = StudentNetwork("cut:mobilenetv2:9:0.75", 0.9, 0.3, 0, WeightsChoice("none"))
    return new_student(network, (32, 32, 1), CLASSES, WeightSource("none"), None)[0]


def head():
    features = Input((2048,))
    return Model(features, HEADS["linear"](features, CLASSES, 0.3))


NETWORKS = {  # a function that builds it, images an epoch
    "MobileNetV2 cut, 32 px": (cut_student, 1280),
    "cnn3, 32 px": (cnn3, 1280),
    "DenseNet121, 64 px": (densenet, 128),
    "a head": (head, 6400),
}


def seconds(build, images, optimizer):
    """CPU seconds of a new network's first epoch and of its second."""
    model, epoch = epochs_of(build, images, optimizer(cosine(1e-3, 1000, 0.1), weight_decay=1e-3))
    with fused_batch_normalization(model):
        return [cpu_seconds(epoch) for _ in range(2)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(f"{'CPU seconds (medians)':40} {'Keras':>8} {'fused':>8}   Keras / fused")
    for name, (build, images) in NETWORKS.items():
        rounds = [
            [seconds(build, images, kind) for kind in (optimizers.AdamW, FusedAdamW)]
            for _ in range(args.rounds)
        ]
        for number, epoch in enumerate(("first epoch", "another")):
            pairs = [(plain[number], fused[number]) for plain, fused in rounds]
            print(row(f"{name}: {epoch}", pairs), flush=True)


if __name__ == "__main__":
    main()
