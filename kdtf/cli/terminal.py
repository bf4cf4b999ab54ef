"""What the terminal shows: notes, warnings, bars with the remaining time, and closing tables."""

import os
from contextlib import contextmanager
from pathlib import Path

from ..progress import Progress


class Terminal(Progress):
    """Notes and warnings on stderr; bars with the remaining time where stderr is a terminal."""

    def __init__(self):
        super().__init__()
        from rich.console import Console

        # a descriptor of its own: what is caught of TensorFlow's on descriptor 2 must not catch the bars
        self.console = Console(file=os.fdopen(os.dup(2), "w"), soft_wrap=True, highlight=False)

    def say(self, text):
        self.console.print(text, markup=False)

    def warn(self, text):
        if text not in self.warnings:
            self.console.print(f"Warning: {text}", style="yellow", markup=False)
        super().warn(text)

    @contextmanager
    def bar(self, title, total):
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
        with progress.Progress(*columns, console=self.console) as shown:
            task = shown.add_task(f"{title:<28}", total=total)
            yield lambda done: shown.update(task, completed=done)


def print_summary(rows: list[dict], results: Path, synthetic: bool) -> None:
    """The closing table, on stdout."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.width = max(console.width, 100)  # a file or a pipe has no width of its own
    table = Table(title="Test scores" + (" on a synthetic phantom: not patient data" if synthetic else ""))
    for name in ("teacher", "model", "recipe"):
        table.add_column(name, no_wrap=True)
    shown = {"accuracy": ".3f", "f1": ".3f", "auc": ".3f", "size_kib": ",.0f", "latency_ms": ".2f"}
    for name in ("accuracy", "macro F1", "AUC", "KiB", "ms/image"):
        table.add_column(name, justify="right", no_wrap=True)
    for row, after in zip(rows, rows[1:] + rows[-1:], strict=True):
        numbers = ["-" if row[k] is None else format(row[k], f) for k, f in shown.items()]
        table.add_row(
            row["teacher"],
            row["model"],
            row["recipe"],
            *numbers,
            end_section=row["teacher"] != after["teacher"],
        )
    console.print(table)
    console.print(f"Everything is in {results}: start with report.html.", markup=False)


def print_texts(rows: list[dict], results: Path) -> None:
    """The closing table of `reports`, on stdout."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.width = max(console.width, 100)
    table = Table(title=f"Scores on {rows[0]['test_texts']} test texts, 95 % interval")
    table.add_column("model", no_wrap=True)
    shown = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "f1": "macro F1", "auc": "AUC"}
    for name in shown.values():
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = [f"{row[k]:.3f}\n{row[f'{k}_low']:.3f} to {row[f'{k}_high']:.3f}" for k in shown]
        table.add_row(row["model"], *cells)
    console.print(table)
    console.print(f"Everything is in {results}: reports_*.", markup=False)


def print_costs(rows: list, written: Path) -> None:
    """The table of `bench`, on stdout: `rows` are `bench.Cost`."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.width = max(console.width, 150)
    table = Table(title="Costs: milliseconds an image as median (95th percentile)")
    table.add_column("file", overflow="fold")
    threads = f"{rows[0].threads} threads"
    numbers = ("KiB", "gzipped", "parameters", "MACs", "1 thread", threads, "arena KiB", "Micro arena KiB")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
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
    for row in rows:
        if row.micro:
            console.print(f"{one_line(row.file)}: {row.micro}.", markup=False, soft_wrap=True)
    console.print(
        "arena: LiteRT's memory plan with its built-in kernels; XNNPACK, which was timed, keeps its own.\n"
        f"Micro arena: recorded by TensorFlow Lite Micro. Written: {written}",
        markup=False,
        soft_wrap=True,
    )


def one_line(text: str) -> str:
    """`text` with line breaks and what else cannot be printed as escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
