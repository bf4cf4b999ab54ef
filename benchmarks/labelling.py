"""How much faster LiteRT labels than Keras, teacher by teacher, and how far its logits are from Keras'.

    python benchmarks/labelling.py [--data DATA] [--weights FOLDER] [--teachers NAME ...] [--sides 64 128]
        [--rounds 3] [--openvino]

Every teacher of the registry with a head for four classes, from random weights or from those in FOLDER, its
BatchNormalization statistics those of the images; 64 images a round, random ones or the first of DATA. Each
side as kdtf does it: Keras 64 at once, LiteRT 16, one thread each. CPU seconds, so that other load counts
little: milliseconds of an image by either (the least of the rounds), the ratio of the two, the seconds that
converting costs, and above how many images that pays. "off" is the largest difference of a logit, in parts of
the largest one. `--openvino` adds, where that extra is installed, what it gives of the same file in float32
and in bfloat16: the ratio to Keras, and the largest difference of a logit of the first batch and of a
probability; "Keras" where the former is more than kdtf takes.
"""

import argparse
import logging
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from kdtf.native_log import native_noise, set_environment

set_environment()
with native_noise():
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for logger in (tf.get_logger(), logging.getLogger("absl")):
        logger.setLevel("ERROR")
    import numpy as np
    from PIL import Image
    from scipy.special import softmax

    from kdtf.distill.inference import inferences_of
    from kdtf.models.registry import TEACHERS
    from kdtf.models.teachers import WeightSource, build_base, build_head, with_head
    from kdtf.tflite.labelling import BATCH, labeller

IMAGES, CLASSES = 64, 4


def teacher(name, shape, source, pixels):
    """A whole teacher that has seen these pixels, so that its activations neither vanish nor blow up."""
    base = build_base(name, shape, source, momentum=0.0).model
    whole = with_head(base, build_head(name, base.output.shape[1:], CLASSES))
    whole(pixels.astype("float32"), training=True)
    return whole


def images(data, side):
    """(N, side, side, C): random ones, or the first of X_train.npy of a folder."""
    if data is None:
        return np.random.default_rng(0).integers(0, 256, (IMAGES, side, side, 3), np.uint8)
    pixels = np.load(Path(data) / "X_train.npy", mmap_mode="r")[:IMAGES]
    resized = [np.asarray(Image.fromarray(own.squeeze()).resize((side, side))) for own in pixels]
    return np.stack(resized).reshape(len(pixels), side, side, -1)


def cpu_seconds(function):
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def compare(name, pixels, source, rounds):
    """A line on one teacher."""
    whole = teacher(name, pixels.shape[1:], source, pixels)
    by_keras = inferences_of(whole)
    converting, own = cpu_seconds(lambda: labeller(whole, pixels[:BATCH], "litert"))
    if own.by == "Keras":
        return own.reason
    seconds = {}
    for _ in range(1 + rounds):  # the first one plans memory
        for label, inferences in (("keras", by_keras), ("litert", own.inferences)):
            seconds.setdefault(label, []).append(cpu_seconds(lambda run=inferences: run(pixels))[0])
    keras_s, litert_s = (min(seconds[label][1:]) / len(pixels) for label in ("keras", "litert"))
    (a,), (b,) = by_keras(pixels), own.inferences(pixels)
    pays = f"{converting / (keras_s - litert_s):6.0f}" if litert_s < keras_s else "     -"
    off = np.abs(a - b).max() / np.abs(a).max()
    times = f"{1e3 * keras_s:8.2f} {1e3 * litert_s:8.2f} {keras_s / litert_s:7.2f}"
    return f"{times} {converting:7.1f} {pays} {off:8.1e}"


def compare_openvino(network, pixels, source, rounds):
    """A line on one teacher: by how much OpenVINO is faster than Keras, and how far off."""
    whole, parts = teacher(network, pixels.shape[1:], source, pixels), []
    by_keras = inferences_of(whole)
    for name in ("openvino", "openvino-bf16"):
        own, seconds = labeller(whole, pixels[:BATCH], name), {}
        for _ in range(1 + rounds):
            for label, inferences in (("keras", by_keras), ("openvino", own.inferences)):
                seconds.setdefault(label, []).append(cpu_seconds(lambda run=inferences: run(pixels))[0])
        (a,), (b,) = by_keras(pixels), own.inferences(pixels)
        ratio = min(seconds["keras"][1:]) / min(seconds["openvino"][1:])
        moved = np.abs(softmax(a, axis=1) - softmax(b, axis=1)).max()
        parts.append(f"{own.by} {ratio:5.2f} {own.difference:8.1e} {moved:8.1e}")
    return "   ".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a folder with X_train.npy")
    parser.add_argument("--weights", default="none", help="as of the command line")
    parser.add_argument("--teachers", nargs="+", default=list(TEACHERS))
    parser.add_argument("--sides", nargs="+", type=int, default=[64, 128])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--openvino", action="store_true", help="compare that too")
    args = parser.parse_args()
    names = ("Keras", "LiteRT", "ratio", "convert", "pays", "off")
    print(f"{'teacher':18} {'px':>4} {'{:>8} {:>8} {:>7} {:>7} {:>6} {:>8}'.format(*names)}")
    for name in args.teachers:
        for side in args.sides:
            with native_noise():
                line = compare(name, images(args.data, side), WeightSource(args.weights), args.rounds)
            print(f"{name:18} {side:4} {line}", flush=True)
            if args.openvino:
                with native_noise():
                    line = compare_openvino(
                        name, images(args.data, side), WeightSource(args.weights), args.rounds
                    )
                print(f"{'OpenVINO':23} {line}", flush=True)
            keras.backend.clear_session()


if __name__ == "__main__":
    main()
