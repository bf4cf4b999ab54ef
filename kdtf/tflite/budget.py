"""How much of a pretrained network fits a device: the longest cut whose int8 file keeps to a budget.

The file itself is made and weighed, with random weights: what it costs does not depend on their values.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ..errors import require
from ..models.cut_names import after_block
from ..models.cuts import CUTTABLE, build_cut, parse
from ..models.students import exported, load_student, save_undated
from ..models.weights import WeightSource
from ..records import Budget, CutCost
from ..sections import flag
from .bench import Graph
from .quantize import float32_of, quantize, representative_images

NOISE = 8  # images
UNITS = {"kib": "KiB", "kmacs": "thousand multiply-accumulates", "arena_kib": "KiB of working memory"}


def cost_of_cut(name: str, shape: tuple[int, int, int], classes: int, source: WeightSource) -> CutCost:
    """What the int8 file of a cut costs, for images of `shape` (H, W, C)."""
    student, _, _ = build_cut(
        name, shape, classes, momentum=0.9, dropout=0.0, seed=0, source=source, images=None
    )
    for layer in student.layers:  # the converter leaves biases of 0 out, which training does not leave at 0
        for weight in layer.weights:
            if weight.name in ("beta", "bias"):
                weight.assign(np.full(weight.shape, 0.1))
    noise = np.random.default_rng(0).integers(0, 256, (1, NOISE, *shape), dtype=np.uint8)
    images = representative_images(noise, NOISE, 0)  # black and white alone leave channels without a range
    with TemporaryDirectory() as folder:  # as a run does it: the names of tensors take room too
        save_undated(exported(student), Path(folder, "student.keras"))
        file = quantize(float32_of(load_student(Path(folder))), "int8", images)
    graph = Graph(file)
    return CutCost(name, len(file) / 1024, graph.macs / 1000, graph.arena_bytes / 1024)


def longest_cut(
    name: str, shape: tuple[int, int, int], classes: int, budget: Budget, source: WeightSource
) -> CutCost:
    """The longest cut of a network whose int8 file keeps to a budget; costs grow with the blocks.

    `name` is `cut:NETWORK` or `cut:NETWORK::PART`. Raises `UserError` where not even the first block does.
    """
    best = cost_of_cut(after_block(name, 1), shape, classes, source)
    low, high = 1, len(CUTTABLE[parse(name)[0]].blocks)
    over = best.over(budget)
    for respect, unit in UNITS.items():
        rule = f"enough for {best.name} ({getattr(best, respect):,.1f} {unit})"
        require(respect not in over, flag(f"budget_{respect}"), rule, getattr(budget, respect))
    while low < high:  # the longest that fits is in low..high
        middle = (low + high + 1) // 2
        cost = cost_of_cut(after_block(name, middle), shape, classes, source)
        if cost.over(budget):
            high = middle - 1
        else:
            best, low = cost, middle
    return best
