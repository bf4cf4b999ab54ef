"""What the fused batch normalization saves: CPU seconds of an epoch with and without it, by turns.

    python benchmarks/fused_norm.py [--rounds 3] [--images 1]

Three networks from random weights on random images in batches of 32: cnn3 at 32 px, MobileNet 0.75 at 128 px
and DenseNet121 at 64 px. Of each there are two that differ only in `fused_batch_normalization`; round after
round each trains an epoch. CPU seconds are those of all threads of the process, so that other load counts
little. The first epoch of each, which traces, is not counted. `--images` multiplies the images of an epoch.
"""

import argparse
import contextlib
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from kdtf.native_log import native_noise, set_environment

set_environment()
with native_noise():
    import keras
    import tensorflow as tf

    tf.config.list_physical_devices()
    import numpy as np

    from kdtf.models.fused_norm import fused_batch_normalization
    from kdtf.models.students import build_student

CLASSES, BATCH = 4, 32


def cnn3():
    return build_student("cnn3", (32, 32, 1), CLASSES, momentum=0.9, dropout=0.3, seed=0)


def mobilenet():
    return headed(keras.applications.MobileNet((128, 128, 3), 0.75, include_top=False, weights=None))


def densenet():
    return headed(keras.applications.DenseNet121(include_top=False, weights=None, input_shape=(64, 64, 3)))


def headed(base):
    features = keras.layers.GlobalAveragePooling2D()(base.output)
    return keras.Model(base.input, keras.layers.Dense(CLASSES)(features))


NETWORKS = {  # a function that builds it, images an epoch
    "cnn3, 32 px": (cnn3, 768),
    "MobileNet 0.75, 128 px": (mobilenet, 128),
    "DenseNet121, 64 px": (densenet, 64),
}


def epochs_of(build, images, optimizer="adam"):
    """A function that trains a new network for an epoch."""
    model = build()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, *model.input.shape[1:])).astype("float32")
    labels = rng.integers(0, CLASSES, images)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    return model, lambda: model.fit(pixels, labels, batch_size=BATCH, verbose=0)


def cpu_seconds(function):
    start = time.process_time()
    function()
    return time.process_time() - start


def compare(build, images, rounds):
    """CPU seconds an epoch of Keras' layer and of the fused one, a pair a round."""
    (_, plain), (model, fused) = epochs_of(build, images), epochs_of(build, images)
    with contextlib.ExitStack() as block:
        plain()
        block.enter_context(fused_batch_normalization(model))
        fused()
        return [(cpu_seconds(plain), cpu_seconds(fused)) for _ in range(rounds)]


def row(name, pairs):
    """A line of the table: medians of both, and of what Keras takes for each second of ours."""
    plain, fused = (statistics.median(seconds) for seconds in zip(*pairs, strict=True))
    ratios = sorted(a / b for a, b in pairs)
    span = f"{statistics.median(ratios):.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    return f"{name:40} {plain:8.2f} {fused:8.2f}   {span}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=1, help="so many times the images")
    args = parser.parse_args()
    print(f"{'CPU seconds an epoch (medians)':40} {'Keras':>8} {'fused':>8}   Keras / fused")
    for name, (build, images) in NETWORKS.items():
        pairs = compare(build, images * args.images, args.rounds)
        print(row(name, pairs), flush=True)


if __name__ == "__main__":
    main()
