"""The command line: arguments to config, progress, exit codes. The only place that prints or exits.

Exit codes: 0 done, 2 bad input (one line on stderr), 3 leakage with --strict, 130 interrupted.
TensorFlow is imported only after the arguments and the data have been found good.
"""

import argparse
import os
import sys
import typing
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

from . import __version__
from .checks import UserError, require_known
from .config import Config, flag, read_toml
from .progress import Progress

PRESETS = Path(__file__).parent / "presets"

NO_DATA = (
    "FData must hold X_train.npy, y_train.npy, X_test.npy and y_test.npy. Got none of them. Three ways on: "
    "put your arrays there; or give --data DIR or --data FILE.npz; or try --demo, which needs nothing."
)


class Parser(argparse.ArgumentParser):
    """Raises where argparse would print its usage and exit."""

    def error(self, message):
        raise UserError(f"{message}. See --help.")


def parser() -> Parser:
    """The arguments, made from the fields of `Config`: grouped, one line of help each."""
    made = Parser(
        prog="main.py",
        usage="main.py [audit | report] [settings]",
        description="Fine-tune teachers on chest images, distil each into a small student, quantize it to "
        ".tflite, and report all of them. 'audit' looks the data over and stops there; "
        "'report' makes report.html again.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=34, width=110),
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    made.add_argument("--version", action="version", version=f"kdtf {__version__}")
    made.add_argument(
        "--demo",
        action="store_true",
        help="a synthetic chest phantom and a short recipe: nothing is downloaded",
    )
    made.add_argument(
        "--preset", metavar="NAME", help=f"settings of a known system: {', '.join(preset_names())}"
    )
    made.add_argument("--config", metavar="FILE", help="TOML file of settings; flags override it")
    for section in fields(Config):
        defaults = getattr(Config(), section.name)
        group = made.add_argument_group(type(defaults).__doc__)
        for f in fields(defaults):
            _add(group, f, getattr(defaults, f.name))
    return made


def _add(group, f, default) -> None:
    text = f.metadata["help"].replace("%", "%%")
    if isinstance(default, bool):
        group.add_argument(
            flag(f.name), action=argparse.BooleanOptionalAction, help=f"{text} [{_on(default)}]"
        )
        return
    if isinstance(default, tuple):
        kind, more, shown = typing.get_args(f.type)[0], {"nargs": "+"}, " ".join(map(str, default)) or None
    else:
        # the type of an optional setting is in its annotation, "int | None" say
        kind = next(k for k in (int, float, str) if k.__name__ in getattr(f.type, "__name__", str(f.type)))
        more, shown = {}, default
    shown = "" if shown is None else f" [{shown}]"
    group.add_argument(flag(f.name), type=kind, metavar=f.metadata["metavar"], help=text + shown, **more)


def _on(value: bool) -> str:
    return "on" if value else "off"


def read_config(argv: list[str]) -> tuple[Config, bool]:
    """The run's settings, and whether it is the demo. Raises `UserError`."""
    given = vars(parser().parse_args(argv))
    demo = given.pop("demo", False)
    preset = "demo" if demo else given.pop("preset", None)
    if preset:
        require_known("--preset", preset, [*preset_names(), "demo"])
    config = Config.from_dict(read_toml(PRESETS / f"{preset}.toml")) if preset else Config()
    if "config" in given:
        nested = read_toml(given.pop("config"))
        Config.from_dict(nested)  # names and values are checked section by section
        config = config.with_values({k: v for values in nested.values() for k, v in values.items()})
    return config.with_values(given), preset == "demo"


def preset_names() -> list[str]:
    """The presets of a known system; the demo has a flag of its own."""
    return sorted(path.stem for path in PRESETS.glob("*.toml") if path.stem != "demo")


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


def start(config: Config, demo: bool):
    """The results folder and the terminal, once it is clear that there is something to work on."""
    from .run import Run

    default = Config().data.data
    if not demo and config.data.data == default and not (Path(default) / "X_train.npy").exists():
        raise UserError(NO_DATA)
    return Run(config.run.results), Terminal()


def open_data(config: Config, demo: bool, out, shown: Terminal):
    """The data the settings name, checked, or the demo's phantom; says what the door decided."""
    from .data import load
    from .run import disk_errors

    here = draw_phantom(out, shown, config.run.seed) if demo else Path(config.data.data)
    with disk_errors(out.root), shown.bar("checking images", 1) as advance:
        data = load(
            here,
            out.work,
            image_size=config.data.image_size,
            val_fraction=config.data.val_fraction,
            seed=config.run.seed,
            progress=lambda done, total: advance(done / total),
        )
    for note in data.notes:
        shown.say(note)
    return data


def draw_phantom(out, shown: Terminal, seed: int) -> Path:
    """The folder of the demo's images."""
    from . import sample

    def make(folder):
        with shown.bar("drawing the phantom", 1) as advance:
            sample.write(folder, seed=seed)
            advance(1)

    shown.say("Demo: every image is a synthetic phantom. Nothing here says anything about patients.")
    return out.stage("sample", {"seed": seed}, make=make).path


def look_over(config: Config, data, out, shown: Terminal):
    """Audit the data, say what was found and return it. Raises `Leakage` with --strict."""
    from .audit import audited
    from .report import audit_files

    found = audited(out, data, shown)
    audit_files(out, data, found)
    for sentence in found.verdict:
        (shown.warn if found.findings else shown.say)(sentence)
    if config.data.strict and found.leaks:
        raise Leakage("--strict: splits share images or patients. See audit.csv and audit_pairs.csv.")
    return found


class Leakage(UserError):
    """Splits share images or patients, and the user asked to stop then."""


def run_all(config: Config, demo: bool) -> None:
    """`main.py`: the whole pipeline."""
    out, shown = start(config, demo)
    data = open_data(config, demo, out, shown)
    pipeline = import_pipeline(config.run.threads)
    pipeline.check(config)  # before the audit writes its tables: bad settings leave nothing behind
    found = look_over(config, data, out, shown)
    rows = pipeline.run_pipeline(config, data, found, out, shown)
    print_summary(rows, out.root, data.synthetic)


def run_audit(config: Config, demo: bool) -> None:
    """`main.py audit`: the audit of the data alone."""
    out, shown = start(config, demo)
    look_over(config, open_data(config, demo, out, shown), out, shown)
    print(f"The audit is in {out.root}: audit.csv, audit_pairs.csv and pictures of the worst pairs.")


def run_report(config: Config, demo: bool) -> None:
    """`main.py report`: report.html again from a finished results folder, without TensorFlow."""
    from .html import render
    from .run import Run

    folder = Path(config.run.results)
    page = render(folder)
    print(f"Written: {Run(folder).write('report.html', page)}")


COMMANDS = {"audit": run_audit, "report": run_report}


def import_pipeline(threads: int | None):
    """The pipeline, and with it TensorFlow, without its start-up noise."""
    from .quiet import native_noise, set_environment

    set_environment()
    with native_noise():
        import keras
        import tensorflow as tf
        from absl import logging

        keras.config.disable_interactive_logging()  # "Downloading data from ..." on stdout
        logging.set_verbosity(logging.ERROR)  # Keras logs through it that .h5 is an old format
        tf.get_logger().setLevel("ERROR")  # short trainings one after another look like retracing to it
        if threads:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        tf.config.list_physical_devices()
        from . import pipeline
    return pipeline


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    command = COMMANDS.get(argv[0]) if argv else None
    try:
        (command or run_all)(*read_config(argv[1:] if command else argv))
        return 0
    except Leakage as error:
        print(f"Stopped: {error}", file=sys.stderr)
        return 3
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted. What is finished is kept; the same command goes on from it.", file=sys.stderr)
        return 130
