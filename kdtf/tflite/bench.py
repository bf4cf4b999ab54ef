"""What a `.tflite` costs: bytes, parameters, multiplications, time on this CPU, working memory.

Everything is read from the file itself and measured through the interpreters that devices use; scores
are left to `evaluate`. The `.json` beside the file is not needed.
"""

import math
import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from ..errors import require
from ..files import file_digest
from ..native_log import native_lines
from ..predictor import open_interpreter
from .tensors import constants_of, gzip_bytes, is_learned, plain_interpreter

WARM_UP = 20
LEAST_RUNS = 200  # a 95th percentile of fewer is a guess
ARENA_BYTES = 64 << 20  # what TensorFlow Lite Micro may take while it is measured
# Noise of several brightnesses; in deep students its kernels' roundings add up.
MICRO_PEAKS, MICRO_TOLERANCE = (0, 8, 16, 32, 64, 96, 127), 0.25


class Cost(NamedTuple):
    """A row of `bench.csv`. Times are of one image, the interpreter's `invoke` alone."""

    file: str
    bytes: int
    gzip_bytes: int
    parameters: int  # numbers among the constants: batch normalization is folded into them
    macs: int  # multiply-accumulates of one image in convolutions and matrix products
    median_ms: float  # on one thread
    p95_ms: float
    threads: int
    median_ms_threads: float  # on so many
    p95_ms_threads: float
    runs: int
    arena_bytes: int  # LiteRT's memory planner, built-in kernels, without XNNPACK
    micro_arena_bytes: int | None  # TensorFlow Lite Micro's recorded arena, where it can run the file
    micro: str  # why it could not, or ""
    sha256: str  # of the file


def cost(path: Path, *, threads: int, runs: int) -> Cost:
    """Measure a file; nothing of it is kept. Raises `UserError`, and `BundleError` where it is no model."""
    require(runs >= LEAST_RUNS, "--runs", f"at least {LEAST_RUNS}", runs)
    require(path.is_file(), "FILE.tflite", "a file", str(path))
    model = path.read_bytes()
    one, many = (latency(open_interpreter(model, path, n), runs) for n in (1, threads))
    graph = Graph(model)
    arena, reason = micro_arena(model)
    return Cost(
        str(path),
        len(model),
        gzip_bytes(model),
        graph.parameters,
        graph.macs,
        *one,
        threads,
        *many,
        runs,
        graph.arena_bytes,
        arena,
        reason,
        file_digest(path),
    )


def latency(interpreter: Interpreter, runs: int) -> tuple[float, float]:
    """Median and 95th percentile of `invoke` in milliseconds, on seeded noise, after a warm-up."""
    put_noise(interpreter)
    for _ in range(WARM_UP):
        interpreter.invoke()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        interpreter.invoke()
        times.append(1000 * (time.perf_counter() - start))
    median, p95 = np.percentile(times, [50, 95]).tolist()
    return median, p95


def put_noise(interpreter: Interpreter, peak: int = 127) -> np.ndarray:
    """Feed a seeded random image (1, H, W, C), 0 to `peak` in the type of the input, and return it."""
    pixels = interpreter.get_input_details()[0]
    noise = np.random.default_rng(0).integers(0, peak, pixels["shape"], endpoint=True).astype(pixels["dtype"])
    interpreter.set_tensor(pixels["index"], noise)
    return noise


# The graph

Shape = tuple[int, ...]


def _convolution(inputs: Sequence[Shape], output: Shape) -> int:
    """Weights (C', h, w, C / groups)."""
    return math.prod(output) * math.prod(inputs[1][1:])


def _depthwise(inputs: Sequence[Shape], output: Shape) -> int:
    """Weights (1, h, w, C')."""
    return math.prod(output) * math.prod(inputs[1][1:3])


def _transposed(inputs: Sequence[Shape], output: Shape) -> int:
    """Inputs are the output's shape, weights (C', h, w, C) and the image: every pixel meets every weight."""
    weights, image = inputs[1:3]
    return math.prod(image) * math.prod(weights[:3])


def _product(inputs: Sequence[Shape], output: Shape) -> int:
    """Weights or a second operand whose rows are as long as those of the first."""
    return math.prod(output) * inputs[0][-1]


def _dense(inputs: Sequence[Shape], output: Shape) -> int:
    """Weights (C', C)."""
    return math.prod(output) * inputs[1][-1]


MACS: dict[str, Callable[[Sequence[Shape], Shape], int]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transposed,
    "FULLY_CONNECTED": _dense,
    "BATCH_MATMUL": _product,
}


class Graph:
    """What can be read from the graph of a model, one image at a time, with the built-in kernels."""

    def __init__(self, model: bytes):
        interpreter = plain_interpreter(model)
        interpreter.allocate_tensors()
        put_noise(interpreter)
        interpreter.invoke()  # some kernels ask for memory at their first call
        self.ops = interpreter._get_ops_details()
        self.tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
        self.constants = constants_of(interpreter)
        self.arena_bytes = _bytes_covered(interpreter, self.tensors.keys() - self.constants.keys())

    def _shape(self, index: int) -> Shape:
        return tuple(map(int, self.tensors[index]["shape"])) if index >= 0 else ()

    @property
    def parameters(self) -> int:
        """Numbers in the constants that were learned."""
        return sum(math.prod(map(int, d["shape"])) for d in self.constants.values() if is_learned(d))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image; sums, poolings and element-wise products do not count."""
        return sum(
            MACS[op["op_name"]]([self._shape(i) for i in op["inputs"]], self._shape(op["outputs"][0]))
            for op in self.ops
            if op["op_name"] in MACS
        )


def _bytes_covered(interpreter: Interpreter, indices: Iterable[int]) -> int:
    """Bytes of memory under any of these tensors, scratch space included: what the planner laid out.

    Tensors that are not needed at the same time share addresses, so that this is the peak.
    """
    spans = []
    for i in indices:
        try:
            array = interpreter.tensor(i)()
        except ValueError:  # planned away
            continue
        spans.append((array.__array_interface__["data"][0], array.nbytes))
    covered, end = 0, 0
    for start, size in sorted(spans):
        covered += max(0, start + size - max(start, end))
        end = max(end, start + size)
    return covered


# TensorFlow Lite Micro


def micro_arena(model: bytes) -> tuple[int | None, str]:
    """(bytes of the arena that TensorFlow Lite Micro records, "") or (None, why there is none).

    An arena counts only where Micro gives LiteRT's answers.
    """
    try:
        from tflite_micro import runtime
    except ImportError:
        return None, "tflite-micro is not installed"
    lines: list[str] = []
    difference = None  # where it cannot run the model; the reason is among what it writes
    with native_lines(lines.extend), suppress(RuntimeError):
        interpreter = runtime.Interpreter.from_bytes(model, arena_size=ARENA_BYTES)
        difference = _largest_difference(model, interpreter)
        interpreter.print_allocations()
    total = re.search(r"Arena allocation total (\d+) bytes", "\n".join(lines))
    if difference is None or not total:
        reasons = [line.strip(" .") for line in lines if line.strip(" .")] or ["no reason given"]
        return None, f"TensorFlow Lite Micro cannot run it: {reasons[0]}"
    if difference > MICRO_TOLERANCE:
        reason = "TensorFlow Lite Micro does not answer as LiteRT does: probabilities"
        return None, f"{reason} {difference:.2f} apart"
    return int(total[1]), ""


def _largest_difference(model: bytes, micro: Any) -> float:
    """Between the probabilities of LiteRT and of TensorFlow Lite Micro, on noise."""
    plain, largest = plain_interpreter(model), 0.0
    plain.allocate_tensors()
    output = plain.get_output_details()[0]
    for peak in MICRO_PEAKS:
        micro.set_input(put_noise(plain, peak), 0)
        plain.invoke()
        micro.invoke()
        steps = plain.get_tensor(output["index"]).astype(float) - micro.get_output(0)
        largest = max(largest, float(np.abs(steps).max(initial=0)) * (output["quantization"][0] or 1.0))
    return largest
