"""A `.tflite` compiled for an Arm Ethos-U NPU by Vela, and what it costs there by Vela's estimate.

Vela runs in a process of its own, so that a fault in its compiler is an error here and no crash. Cycles and
times are estimates of its model of the chip, with memories as it assumes them; nothing is measured on a chip.
"""

import csv
import math
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from ..errors import UserError, require, require_known
from ..extras import require_extras
from ..predictor import open_interpreter

NPUS = (
    *("ethos-u55-32", "ethos-u55-64", "ethos-u55-128", "ethos-u55-256", "ethos-u65-256", "ethos-u65-512"),
    *("ethos-u85-128", "ethos-u85-256", "ethos-u85-512", "ethos-u85-1024", "ethos-u85-2048"),
)
NPU_OPERATOR = b"ethos-u"  # Vela's, in the file it writes: all that runs on the NPU
SECONDS = 600  # that Vela may take: the largest student of the registry needs 3


class NpuCost(NamedTuple):
    """What a file costs on an NPU; with these names in `bench.csv`. Zeros where the NPU runs nothing."""

    npu: str
    npu_percent: float  # of the file's operators, those that the NPU runs
    npu_left: str  # the operators left to the CPU, "SOFTMAX, 2 RELU" say, or ""
    npu_sram_bytes: int
    npu_flash_bytes: int  # on the chip or off it; DRAM where the memory mode keeps weights there
    npu_cycles: int  # of one image, memory accesses included
    npu_inferences_per_second: float
    npu_mhz: float
    npu_system: str  # Vela's names of the system and memory mode that the estimate is for

    @property
    def in_words(self) -> str:
        """All of it but the system, in a line."""
        if not self.npu_percent:
            return f"{self.npu} runs nothing of it"
        left = f", the CPU {self.npu_left}" if self.npu_left else ""
        return (
            f"{self.npu} runs {self.npu_percent:.0f} % of its operators{left}; SRAM "
            f"{self.npu_sram_bytes / 1024:.1f} KiB, flash or DRAM {self.npu_flash_bytes / 1024:.0f} KiB; by "
            f"Vela's estimate {self.npu_cycles:,} cycles an image, {self.npu_inferences_per_second:,.0f} "
            f"images a second at {self.npu_mhz:.0f} MHz"
        )


def check_npu(npu: str, flag: str) -> None:
    """Raise `UserError` for an NPU that Vela does not know, and where Vela is not installed."""
    require_known(flag, npu, NPUS)
    require_extras(flag, "ethosu")


def compiled(model: bytes, name: str | Path, npu: str) -> tuple[bytes, NpuCost]:
    """A model's bytes as Vela compiles them for an NPU, and what they cost there.

    `name` is what errors call it. Raises `BundleError` where the bytes are no model, and `UserError` where
    Vela cannot compile it.
    """
    open_interpreter(model, name)  # refuses what Vela's parser could not read
    with TemporaryDirectory() as folder:
        source = Path(folder, "student.tflite")
        source.write_bytes(model)
        _run_vela(source, name, npu)
        content = source.with_name("student_vela.tflite").read_bytes()
        (table,) = source.parent.glob("student_summary_*.csv")
        with open(table, encoding="utf-8", newline="") as file:
            row = next(csv.DictReader(file))
    return content, _cost(model, content, row, npu)


def _run_vela(source: Path, name: str | Path, npu: str) -> None:
    """Vela, on the file `source`; what it writes is beside it."""
    command = [sys.executable, "-m", "ethosu.vela", str(source), "--accelerator-config", npu]
    command += ["--output-dir", str(source.parent)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS)
    except subprocess.TimeoutExpired:
        rule = f"a model that Vela compiles for {npu} within {SECONDS} s"
        raise UserError(f"{name} must be {rule}. It was not done by then.") from None
    if done.returncode:
        reason = _why_it_failed(done)
        raise UserError(f"{name} must be a model that Vela compiles for {npu}. It does not: {reason}.")


def _why_it_failed(done: "subprocess.CompletedProcess[str]") -> str:
    """Vela's last words, or the signal that ended it: it has none of a file of 4 bits."""
    if done.returncode < 0:
        return f"Vela was ended by {signal.Signals(-done.returncode).name}"
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return " ".join(lines[-1].split())[:200] if lines else f"exit code {done.returncode}"


def _cost(model: bytes, content: bytes, row: dict[str, str], npu: str) -> NpuCost:
    """What a model costs once it is `content`; `row` is Vela's summary."""
    total = sum(1 for _ in operators_of(model))
    left = Counter(operator for operator in operators_of(content) if operator != NPU_OPERATOR.decode())
    on_npu = total - left.total()
    names = (f"{count} {operator}" if count > 1 else operator for operator, count in sorted(left.items()))

    def number(column: str) -> float:
        value = float(row[column])
        return value if on_npu and math.isfinite(value) else 0.0

    places = ("on_chip_flash", "off_chip_flash", "dram")
    flash = sum(number(f"{place}_memory_used") for place in places)
    return NpuCost(
        npu,
        100 * on_npu / total,
        ", ".join(names),
        round(1024 * number("sram_memory_used")),
        round(1024 * flash),
        round(number("cycles_total")),
        number("inferences_per_second"),
        float(row["core_clock"]) / 1e6,
        f"{row['system_config']}, {row['memory_mode']}",
    )


def operators_of(model: bytes) -> Iterator[str]:
    """The names of a `.tflite`'s operators, in order; those that are not TensorFlow Lite's by their own."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator, Model

    names = {number: name for name, number in vars(BuiltinOperator).items() if name.isupper()}
    root = Model.GetRootAs(model)
    for graph in (root.Subgraphs(i) for i in range(root.SubgraphsLength())):
        for i in range(graph.OperatorsLength()):
            code = root.OperatorCodes(graph.Operators(i).OpcodeIndex())
            # files of early versions have the number in a byte of its own
            number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            own = code.CustomCode() if number == BuiltinOperator.CUSTOM else None
            yield own.decode(errors="replace") if own else names[number]


def require_any_operator(cost: NpuCost, name: str | Path) -> None:
    """Raise `UserError` where the NPU would run nothing of a file: it takes whole numbers."""
    hint = "Quantize the student to int8: --recipes int8."
    rule = f"a file of which {cost.npu} runs an operator"
    require(cost.npu_percent > 0, str(name), rule, f"{cost.npu_left} for the CPU", hint)
