"""What it saves that a small student takes several steps at once: CPU seconds of an epoch, one by one and so.

    python benchmarks/grouped_steps.py [--rounds 5]

Students from random weights, trained alone on 640 random grey images in batches of 32 as in a run: two that
differ only in their steps at once (ten, as kdtf takes them of twenty) train an epoch each, round after round.
CPU seconds are those of all threads of the process. The first epoch of each, which traces, is not counted.
"""

import argparse
from contextlib import ExitStack

import numpy as np
from fused_norm import BATCH, CLASSES, cpu_seconds, row  # it comes first: sets up TensorFlow

from kdtf.distill.batches import Examples
from kdtf.distill.distiller import Distiller
from kdtf.distill.fused_adam import FusedAdamW
from kdtf.distill.train import MOST_OF_STUDENT, steps_at_once
from kdtf.models.fused_norm import fused_batch_normalization
from kdtf.models.students import new_student
from kdtf.models.weights import WeightSource
from kdtf.records import StudentNetwork, Training, WeightsChoice

IMAGES = 640
STUDENTS = (
    ("cut:mobilenetv2:6:0.5", 32),
    ("cut:mobilenetv2:9:0.75", 32),
    ("cut:mobilenetv2:9:0.75", 64),
    ("dscnn", 64),
)


def epoch_of(name, side, most, block):
    """A function that trains a new student for an epoch, at most so many steps at once."""
    network = StudentNetwork(name, 0.9, 0.3, 0, WeightsChoice("none"))
    student = new_student(network, (side, side, 1), CLASSES, WeightSource("none"), None)[0]
    rng = np.random.default_rng(0)
    pixels, labels = (
        rng.integers(0, 256, (IMAGES, side, side, 1)).astype("float32"),
        rng.integers(0, CLASSES, IMAGES),
    )
    at_once = steps_at_once(Examples(pixels[None], labels, pixels, labels), Training(1, BATCH, 1e-3), most)
    distiller = Distiller(student, alpha=1.0)
    distiller.compile(FusedAdamW(1e-3, weight_decay=1e-3), jit_compile=False, steps_per_execution=at_once)
    block.enter_context(fused_batch_normalization(distiller))
    return lambda: distiller.fit(pixels, labels, batch_size=BATCH, verbose=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(f"{'CPU seconds an epoch (medians)':40} {'single':>8} {'grouped':>8}   single / grouped")
    for name, side in STUDENTS:
        with ExitStack() as block:
            epochs = [epoch_of(name, side, most, block) for most in (1, MOST_OF_STUDENT)]
            for epoch in epochs:
                epoch()
            pairs = [tuple(map(cpu_seconds, epochs)) for _ in range(args.rounds)]
        print(row(f"{name}, {side} px", pairs), flush=True)


if __name__ == "__main__":
    main()
