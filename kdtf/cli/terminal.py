"""What the terminal shows: notes, warnings, the stage that is made, closing tables."""

import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self, TextIO

from ..progress import Advance, Epoch, Place, Progress
from .display import Display, about

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ..prepare import Outline
    from ..tflite.bench import Cost
    from ..tflite.npu import NpuCost

WIDE = 400  # columns of a table that goes into a file
WORTH_A_LINE = 1.0  # seconds of a stage, on a terminal that has shown it while it was made


class Terminal(Progress):
    """Notes and warnings on stderr, and what is being done: live on a terminal, else a line a stage."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console

        # a descriptor of its own: what is caught of TensorFlow's on descriptor 2 must not catch the bars
        self.console = Console(file=os.fdopen(os.dup(2), "w"), highlight=False)
        self.display = Display(self.console)

    def beside(self) -> Self:
        """One whose stages are drawn below those of this one."""
        other = super().beside()
        other.display = self.display.beside()
        return other

    def _print(self, text: str, style: str | None = None) -> None:
        # a terminal breaks at words, a file is searched line by line
        self.console.print(one_line(text), style=style, markup=False, soft_wrap=not self.console.is_terminal)

    def say(self, text: str) -> None:
        """One line about what is being done; what cannot be printed is escaped: names are anybody's."""
        self._print(text)

    def warn(self, text: str) -> None:
        """One line that the reader of the results must see too; the same one is printed once."""
        if text not in self.warnings:
            self._print(f"Warning: {text}", "yellow")
        super().warn(text)

    @contextmanager
    def working(self) -> Iterator[None]:
        """A terminal shows something in this block, whatever is done, be it only the time that it takes."""
        if not self.console.is_terminal:
            yield
            return
        with self.display.shown():
            yield

    @contextmanager
    def stage(self, name: str, place: Place | None = None) -> Iterator[None]:
        """A stage is made in this block: its number, its name, and what the run may still take."""
        known = place is not None and place.own is not None and place.others is not None
        head = f"{place.number} of {place.total}: {one_line(name)}" if place else ""
        if not self.console.is_terminal:
            if place and known:
                head += f", {about((place.own or 0.0) + (place.others or 0.0))} left"
            if place:
                self._print(head)
            with super().stage(name, place):
                yield
            return
        started = time.monotonic()
        with self.display.stage(one_line(name), place), super().stage(name, place):
            yield
        seconds = time.monotonic() - started
        if place and seconds >= WORTH_A_LINE:
            self._print(f"{head}, {seconds:.0f} s")

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Advance]:
        """A bar over `total` steps, where stderr is a terminal."""
        with super().bar(title, total) as heard:
            if not self.console.is_terminal:
                yield heard
                return
            with self.display.bar(one_line(title), total) as bar:

                def advance(done: float, epoch: Epoch | None = None) -> None:
                    bar.advance(done, epoch)
                    heard(done, epoch)

                yield advance


def columns_of(stream: TextIO) -> int:
    """The columns of a terminal, 0 for a stream that is none: it has lines of any length."""
    return shutil.get_terminal_size().columns if stream.isatty() else 0


def wrapped(text: str, stream: TextIO, indent: str = "") -> str:
    """A line as a stream takes it: broken at words on a terminal, further lines behind `indent`."""
    columns = columns_of(stream)
    if not columns:
        return text
    words = textwrap.TextWrapper(columns, break_long_words=False, break_on_hyphens=False)
    words.subsequent_indent = indent
    return words.fill(text)


def print_summary(rows: list[dict], verdict: str, results: Path, *, synthetic: bool) -> None:
    """The closing table, on stdout: a line for each row of `summary.csv`; below it whether to ship a file.

    Where test images have copies in train or val, accuracy has a second column, on the others.
    """
    from ..evidence.metrics import METRICS

    columns: dict[str, tuple[str, str]] = {}
    for name, metric in METRICS.items():
        if metric.headline and metric.in_summary:
            columns[name] = (metric.label, metric.format)
        if name == "accuracy":
            columns["clean_accuracy"] = ("clean", metric.format)
    columns |= {"size_kib": ("KiB", ",.0f"), "latency_ms": ("ms/image", ".2f")}
    title = "Test scores" + (" on a synthetic phantom: not patient data" if synthetic else "")
    names, numbers = ("teacher", "model", "recipe"), [label for label, _ in columns.values()]
    console, table = _console_and_table(title, names, numbers)
    for row, after in zip(rows, rows[1:] + rows[-1:], strict=True):
        cells = ["-" if row.get(k) is None else format(row[k], form) for k, (_, form) in columns.items()]
        last = row["teacher"] != after["teacher"]
        table.add_row(*(row[name] for name in names), *cells, end_section=last)
    console.print(table)
    print(wrapped("clean: accuracy on the test images that have no copy in train or val.", sys.stdout))
    print(wrapped(one_line(verdict), sys.stdout))
    print(wrapped(one_line(f"Everything is in {results}: start with report.html."), sys.stdout))


def print_outline(outline: "Outline") -> None:
    """What `prepare` is going to write, on stdout: a line for each class and a column for each split.

    Plain text, so that it can be searched. A reader that has gone away does not stop the import.
    """
    from rich.cells import cell_len, set_cell_size

    splits = list(outline.counts)
    rows = [("class", splits)]
    for k, name in enumerate(outline.classes):
        rows.append((name, [f"{outline.counts[split][k]:,}" for split in splits]))
    rows.append((f"{len(outline.classes)} classes", [f"{sum(outline.counts[split]):,}" for split in splits]))
    if any(split in outline.groups for split in splits):
        rows.append(("groups", [f"{outline.groups.get(split, 0):,}" for split in splits]))
    width = max(cell_len(name) for name, _ in rows)
    sides = [max(5, *(len(cells[i]) for _, cells in rows)) for i in range(len(splits))]
    folders = ", ".join(f"{split} is {folder}/" for split, folder in outline.folders.items())
    lines = [f"{outline.source} is read as {outline.layout}{f': {folders}' if folders else ''}"]
    for name, cells in rows:
        numbers = "".join(f"  {cell:>{side}}" for cell, side in zip(cells, sides, strict=True))
        lines.append(set_cell_size(name, width) + numbers)
    lines += [f"unlabelled images: {outline.unlabelled:,}"] if outline.unlabelled else []
    lines[0] = wrapped(one_line(lines[0]), sys.stdout, "  ")
    with suppress(BrokenPipeError):
        print("\n".join((lines[0], *map(one_line, lines[1:]))), flush=True)


def print_texts(rows: list[dict], results: Path) -> None:
    """The closing table of `reports`, on stdout."""
    from ..evidence.metrics import METRICS

    scores = ("accuracy", "balanced_accuracy", "f1", "auc")
    title = f"Scores on {rows[0]['test_texts']} test texts, 95 % interval"
    console, table = _console_and_table(title, ["model"], [METRICS[name].label for name in scores])
    for row in rows:
        cells = [f"{row[k]:.3f}\n{row[f'{k}_low']:.3f} to {row[f'{k}_high']:.3f}" for k in scores]
        table.add_row(row["model"], *cells)
    console.print(table)
    print(wrapped(one_line(f"Everything is in {results}: reports_*."), sys.stdout))


COST_COLUMNS = (  # of the table of `bench`, and their widths
    ("KiB", 6),
    ("gzipped", 8),
    ("parameters", 10),
    ("MACs", 12),
    ("arena KiB", 9),
    ("Micro KiB", 9),
)


def print_costs(costs: list["Cost"], path: Path, npus: Sequence["NpuCost"] = ()) -> None:
    """What `bench` measured, on stdout, at most 80 columns but for names; `path` is the file it went to.

    `npus` are the costs of the same files on an NPU, where one was named.
    """
    threads = costs[0].threads
    print("  " + "".join(f"  {name:>{side}}" for name, side in COST_COLUMNS))
    for i, row in enumerate(costs):
        print(one_line(row.file))
        sizes = [f"{size / 1024:,.0f}" for size in (row.bytes, row.gzip_bytes)]
        counts = [f"{count:,}" for count in (row.parameters, row.macs)]
        arenas = [f"{size / 1024:,.0f}" if size else "-" for size in (row.arena_bytes, row.micro_arena_bytes)]
        cells = zip((*sizes, *counts, *arenas), COST_COLUMNS, strict=True)
        print("  " + "".join(f"  {cell:>{side}}" for cell, (_, side) in cells))
        one, many = f"{row.median_ms:.3f} ({row.p95_ms:.3f})", f"{row.median_ms_threads:.3f}"
        print(f"    ms an image: {one} on 1 thread, {many} ({row.p95_ms_threads:.3f}) on {threads} threads")
        if row.micro:
            print(wrapped(f"    {one_line(row.micro)}.", sys.stdout, "    "))
        if npus:
            print(wrapped(f"    {npus[i].in_words}.", sys.stdout, "    "))
        print()
    notes = (
        "Milliseconds are the median (and the 95th percentile). The arena is LiteRT's memory plan with its "
        "built-in kernels; XNNPACK, which was timed, keeps its own. Micro: recorded by TensorFlow Lite Micro."
    )
    print(wrapped(notes, sys.stdout))
    print(f"Written: {one_line(str(path))}")


def _console_and_table(title: str, texts: Iterable[str], numbers: Iterable[str]) -> tuple["Console", "Table"]:
    """An empty table and where to print it: columns of `texts`, then of `numbers`.

    A file or a pipe takes it as wide as it is; on a terminal the first column is folded until it fits.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for i, name in enumerate(texts):
        table.add_column(name, overflow="fold", no_wrap=i > 0)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return console, table


def one_line(text: str) -> str:
    """`text` with line breaks and what else cannot be printed as escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
