"""TensorFlow's converter against litert-quantizer, recipe by recipe, on the students of a finished run.

    python benchmarks/quantization.py RESULTS DATA [--teachers alone vgg16] [--tune qat prune cluster]

RESULTS is a finished results folder with its `work/`, DATA the arrays it was made from. Every student
of every seed is quantized by both engines; accuracy is against the same student's float32 file, in
points, mean and worst over the students; latency is the median ratio to float32 with one thread, the
files called in turn within one loop. "one by one" calibrates litert-quantizer as its documents do, an
image a call, which averages the extremes. `--tune` adds the fine-tuned files (minutes a student).
"""

import argparse
import re
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from kdtf.native_log import native_noise, set_environment

set_environment()
with native_noise():
    import keras
    import numpy as np
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter
    from litert_quantizer.quantizer import Quantizer

    tf.config.list_physical_devices()
    from kdtf.config import Config
    from kdtf.data.dataset import Dataset
    from kdtf.data.load import load
    from kdtf.distill.batches import Examples
    from kdtf.models.students import load_student
    from kdtf.predictor import quantized
    from kdtf.progress import Progress
    from kdtf.records import Rule, Tuning
    from kdtf.stage_folders import read_note
    from kdtf.tflite.quantize import (
        _plain_shapes,
        _rules,
        float32_of,
        quantize,
        representative_images,
    )
    from kdtf.tflite.recipes import RECIPES, TUNING_SETTINGS
    from kdtf.tflite.tensors import count_quantized, gzip_bytes, operators, ranges, sparsity
    from kdtf.tflite.tuning import tuned_file

INT16 = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
AVERAGED = 0.05  # the weight of one more image in litert-quantizer's moving average of extremes


def by_converter(student: keras.Model, recipe: str, images: np.ndarray) -> bytes:
    """The same recipe by TensorFlow's converter."""
    row, model = RECIPES[recipe], _plain_shapes(student)
    signature = [tf.TensorSpec((None, *student.input.shape[1:]), tf.float32, name="pixels")]
    graph = tf.function(lambda pixels: model(pixels, training=False), input_signature=signature)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph.get_concrete_function()])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if row.weights == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if row.static_range:
        converter.representative_dataset = lambda: ([image[None]] for image in images)
        ops = tf.lite.OpsSet.TFLITE_BUILTINS_INT8 if row.activations == "int8" else INT16
        converter.target_spec.supported_ops = [ops]
        converter.inference_input_type = converter.inference_output_type = tf.as_dtype(row.pixels)
    return converter.convert()


def one_by_one(model: bytes, images: np.ndarray) -> bytes:
    """int8 by litert-quantizer with ranges averaged over images, as its own calibration gives them."""
    averages: dict[str, dict] = {}
    for image in images:
        for tensor, own in ranges(model, image[None]).items():
            earlier = averages.setdefault(tensor, own)
            averages[tensor] = {end: (1 - AVERAGED) * earlier[end] + AVERAGED * own[end] for end in own}
    quantizer = Quantizer(bytearray(model), _rules(RECIPES["int8"], model, images))
    result = quantizer.quantize(averages, enable_progress_report=False, enable_progress_bar=False)
    return bytes(result.quantized_model)


class File:
    """A `.tflite` with one thread: `probs(pixels)`, and `run()` once more on the pixels of the last call."""

    def __init__(self, model: bytes):
        self.interpreter = Interpreter(model_content=model, num_threads=1)
        self.run = self.interpreter.invoke

    def probs(self, pixels: np.ndarray) -> np.ndarray:
        """Probabilities (N, K) of pixels (N, H, W, C)."""
        tensor = self.interpreter.get_input_details()[0]
        self.interpreter.resize_tensor_input(tensor["index"], pixels.shape)
        self.interpreter.allocate_tensors()
        self.interpreter.set_tensor(tensor["index"], quantized(pixels, tensor))
        self.run()
        out = self.interpreter.get_output_details()[0]
        raw, (scale, zero) = self.interpreter.get_tensor(out["index"]).astype(float), out["quantization"]
        return (raw - zero) * scale if scale else raw


def latencies(files: dict[str, File], image: np.ndarray, rounds: int = 40) -> dict[str, float]:
    """Median milliseconds for one image, the files called in turn."""
    times = defaultdict(list)
    for file in files.values():
        file.probs(image)
    for _ in range(rounds):
        for name, file in files.items():
            start = time.perf_counter()
            file.run()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: float(np.median(spent)) for name, spent in times.items()}


def stages(work: Path, pattern: str) -> list[Path]:
    """Finished stages by their name without the key."""
    return sorted(p for p in work.iterdir() if re.fullmatch(pattern + "-[0-9a-f]{16}", p.name))


def tuned_files(folder: Path, data: Dataset, methods: list[str], images: np.ndarray) -> dict[str, bytes]:
    """{recipe: file} fine-tuned by the rule of the student and its teacher's cached logits."""
    note = read_note(folder)
    settings, inputs = note["settings"], {role: folder.parent / name for role, name in note["inputs"].items()}
    views = np.load(inputs["views"] / "views.npy", mmap_mode="r")
    examples = Examples(views, data.train.labels, data.val.pixels, data.val.labels)
    if "labels" in inputs:
        logits, val_logits = (np.load(inputs["labels"] / f"{name}.npy") for name in ("logits", "val_logits"))
        examples = examples._replace(logits=logits, val_logits=val_logits)
    rule = settings["rule"]
    if rule:
        rule = Rule(**{**rule, "options": tuple(map(tuple, rule["options"]))})
    files = {}
    for method in methods:
        own = {name: getattr(Config().quantize, field) for name, field in TUNING_SETTINGS[method].items()}
        tuning = Tuning(method, batch_size=settings["training"]["batch_size"], rule=rule, **own)
        source, _ = tuned_file(
            load_student(folder), examples, tuning, images=images,
            seed=settings["network"]["seed"], title="", progress=Progress(),
        )  # fmt: skip
        files[f"int8-{method}"] = quantize(source, f"int8-{method}", images)
    return files


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("data")
    parser.add_argument("--teachers", nargs="+", default=["alone"])
    parser.add_argument("--tune", nargs="+", default=[], choices=list(TUNING_SETTINGS))
    args = parser.parse_args()
    work = args.results / "work"
    views = np.load(stages(work, "views")[0] / "views.npy", mmap_mode="r")
    images = representative_images(views, 200, 0)
    rows = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        data = load(args.data, Path(scratch))
        for kind in args.teachers:
            for folder in stages(work, f"{re.escape(kind)}-student(-seed\\d+)?"):
                student = load_student(folder)
                with native_noise():
                    files = {"float32": (source := float32_of(student))}
                    for recipe in ("float16", "dynamic", "int8", "int16x8"):
                        files[f"{recipe}, converter"] = by_converter(student, recipe, images)
                        files[f"{recipe}, litert-quantizer"] = quantize(source, recipe, images)
                    files["int8, one by one"] = one_by_one(source, images)
                    files["int4, litert-quantizer"] = quantize(source, "int4", images)
                    files |= tuned_files(folder, data, args.tune, images)
                measure(files, data, rows)
                print(f"measured: {folder.name}", file=sys.stderr, flush=True)
    print_table(rows)


def measure(files: dict[str, bytes], data: Dataset, rows: dict[str, list[dict]]) -> None:
    """A row of figures per file of one student."""
    opened = {name: File(model) for name, model in files.items()}
    right = {}
    for name, file in opened.items():
        val, test = (file.probs(s.pixels).argmax(1) for s in (data.val, data.test))
        right[name] = 100 * np.array([np.mean(val == data.val.labels), np.mean(test == data.test.labels)])
    milliseconds = latencies(opened, data.test.pixels[:1])
    kernels = sum(op.weights is not None for op in next(operators(files["float32"], data.test.pixels[:1])))
    for name, model in files.items():
        rows[name].append(
            {
                "points": right[name] - right["float32"],
                "size": len(model) / len(files["float32"]),
                "gzip": gzip_bytes(model) / gzip_bytes(files["float32"]),
                "zeros": sparsity(model),
                "latency": milliseconds[name] / milliseconds["float32"],
                "tensors": "{} of {}".format(*count_quantized(model)) + f", {kernels} kernels",
            }
        )


def print_table(rows: dict[str, list[dict]]) -> None:
    """The table, in Markdown."""
    print(f"{len(rows['float32'])} students")
    print("| file | val, points (worst) | test, points (worst) | size | gzip | zeros | latency | tensors |")
    print("|---|---|---|---|---|---|---|---|")
    for name, students in rows.items():
        points = np.array([row["points"] for row in students])  # (students, 2)
        cells = [f"{m:+.2f} ({w:+.2f})" for m, w in zip(points.mean(0), points.min(0), strict=True)]
        cells += [f"{np.mean([row[k] for row in students]):.3f}" for k in ("size", "gzip", "zeros")]
        cells += [f"{np.median([row['latency'] for row in students]):.2f}", students[0]["tensors"]]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
