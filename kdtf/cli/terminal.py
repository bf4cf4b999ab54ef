"""What the terminal shows: notes, warnings, bars with the remaining time, and closing tables."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..progress import Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ..prepare import Outline
    from ..tflite.bench import Cost


class Terminal(Progress):
    """Notes and warnings on stderr; bars with the remaining time where stderr is a terminal."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console

        # a descriptor of its own: what is caught of TensorFlow's on descriptor 2 must not catch the bars
        self.console = Console(file=os.fdopen(os.dup(2), "w"), soft_wrap=True, highlight=False)

    def say(self, text: str) -> None:
        """One line about what is being done; what cannot be printed is escaped: names are anybody's."""
        self.console.print(one_line(text), markup=False)

    def warn(self, text: str) -> None:
        """One line that the reader of the results must see too; the same one is printed once."""
        if text not in self.warnings:
            self.console.print(f"Warning: {one_line(text)}", style="yellow", markup=False)
        super().warn(text)

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[float], None]]:
        """A bar over `total` steps, where stderr is a terminal."""
        if not self.console.is_terminal:
            yield lambda done: None
            return
        from rich import progress

        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
        )
        with progress.Progress(*columns, console=self.console) as bars:
            task = bars.add_task(f"{one_line(title):<28}", total=total)
            yield lambda done: bars.update(task, completed=done)


def print_summary(rows: list[dict], results: Path, *, synthetic: bool) -> None:
    """The closing table, on stdout: a line for each row of `summary.csv`."""
    from ..evidence.metrics import METRICS

    headline = {name: row for name, row in METRICS.items() if row.headline and row.in_summary}
    columns = {name: (metric.label, metric.format) for name, metric in headline.items()}
    columns |= {"size_kib": ("KiB", ",.0f"), "latency_ms": ("ms/image", ".2f")}
    title = "Test scores" + (" on a synthetic phantom: not patient data" if synthetic else "")
    names, numbers = ("teacher", "model", "recipe"), [label for label, _ in columns.values()]
    console, table = _console_and_table(title, names, numbers)
    for row, after in zip(rows, rows[1:] + rows[-1:], strict=True):
        cells = ["-" if row[k] is None else format(row[k], form) for k, (_, form) in columns.items()]
        last = row["teacher"] != after["teacher"]
        table.add_row(*(row[name] for name in names), *cells, end_section=last)
    console.print(table)
    console.print(f"Everything is in {one_line(str(results))}: start with report.html.", markup=False)


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
    with suppress(BrokenPipeError):
        print("\n".join(map(one_line, lines)), flush=True)


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
    console.print(f"Everything is in {one_line(str(results))}: reports_*.", markup=False)


def print_costs(costs: list["Cost"], path: Path) -> None:
    """The table of `bench`, on stdout; `path` is the file it was written to."""
    title = "Costs: milliseconds an image as median (95th percentile)"
    threads = f"{costs[0].threads} threads"
    numbers = ("KiB", "gzipped", "parameters", "MACs", "1 thread", threads, "arena KiB", "Micro arena KiB")
    console, table = _console_and_table(title, [], numbers, width=150, first="file")
    for row in costs:
        times = ((row.median_ms, row.p95_ms), (row.median_ms_threads, row.p95_ms_threads))
        table.add_row(
            one_line(row.file),
            *(f"{size / 1024:,.0f}" for size in (row.bytes, row.gzip_bytes)),
            *(f"{count:,}" for count in (row.parameters, row.macs)),
            *(f"{median:.3f} ({p95:.3f})" for median, p95 in times),
            f"{row.arena_bytes / 1024:,.0f}",
            f"{row.micro_arena_bytes / 1024:,.0f}" if row.micro_arena_bytes else "-",
        )
    console.print(table)
    for row in costs:
        if row.micro:
            console.print(f"{one_line(row.file)}: {row.micro}.", markup=False, soft_wrap=True)
    console.print(
        "arena: LiteRT's memory plan with its built-in kernels; XNNPACK, which was timed, keeps its own.\n"
        f"Micro arena: recorded by TensorFlow Lite Micro. Written: {path}",
        markup=False,
        soft_wrap=True,
    )


def _console_and_table(
    title: str, texts: Iterable[str], numbers: Iterable[str], *, width: int = 100, first: str = ""
) -> tuple["Console", "Table"]:
    """An empty table and where to print it: columns of `texts`, then of `numbers`; `first` may be folded."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.width = max(console.width, width)  # a file or a pipe has no width of its own
    table = Table(title=title)
    if first:
        table.add_column(first, overflow="fold")
    for name in texts:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return console, table


def one_line(text: str) -> str:
    """`text` with line breaks and what else cannot be printed as escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
