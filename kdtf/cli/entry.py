"""The command line: arguments to config, commands, exit codes. The only place that exits.

Exit codes: 0 done, 2 bad input (one line on stderr; with `predict` also where an image could not be
read, after all others), 3 leakage with --strict, 130 and 143 interrupted.
TensorFlow is imported only after the arguments and the data have been found good.
"""

import logging
import os
import sys
from dataclasses import fields
from pathlib import Path

from .. import __version__
from ..config import Config, read_toml
from ..errors import UserError, require_known
from .arguments import Parser, add_section, new_parser
from .commands import COMMANDS
from .terminal import Terminal, one_line, print_summary

PRESETS = Path(__file__).parent / "presets"

INTERRUPTED = "Interrupted. What is finished is kept; the same command goes on from it."
MORE_MEMORY = "Free some, or try smaller images or batches; what is finished stays."
NO_DATA = (
    "FData must hold X_train.npy, y_train.npy, X_test.npy and y_test.npy. Got none of them. Three ways on: "
    "put your arrays there; or give --data DIR or --data FILE.npz; or try --demo, which needs nothing."
)


def parser() -> Parser:
    """The arguments of a run, made from the fields of `Config`: grouped, one line of help each."""
    made = new_parser(
        "",
        f"main.py [{' | '.join([*RUNS, *COMMANDS])}] [settings]",
        "Fine-tune teachers on chest images, distil each into a small student, quantize it to .tflite, and "
        "report all of them. 'audit' looks the data over and stops there, 'status' lists the finished "
        "stages, 'report' makes report.html again. These have a --help of their own: 'prepare' makes arrays "
        "of images, 'fetch' downloads open data, 'reports' classifies report texts; 'predict' runs a "
        "finished student on images, 'bench' measures what it costs, 'c-array' makes C source of it, 'page' "
        "a web page that runs it.",
    )
    made.add_argument("--version", action="version", version=f"kdtf {__version__}")
    made.add_argument("--status", action="store_true", help="the same as the command 'status'")
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
        add_section(made, defaults)
    return made


def read_config(argv: list[str]) -> tuple[Config, bool]:
    """The run's settings, and whether it is the demo. Raises `UserError`."""
    given = vars(parser().parse_args(argv))
    given.pop("status", None)
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


def start(config: Config, demo: bool):
    """The results folder and the terminal, once it is clear that there is something to work on."""
    from ..store import Run

    default = Config().data.data
    if not demo and config.data.data == default and not (Path(default) / "X_train.npy").exists():
        raise UserError(NO_DATA)
    shown = Terminal()
    # on the console alone: the report is the same whether or not a run was interrupted
    return Run(config.run.results, lambda text: shown.say(f"Warning: {text}")), shown


def open_data(config: Config, demo: bool, out, shown: Terminal):
    """The data the settings name, checked, or the demo's phantom; says what the door decided."""
    from ..data.load import load
    from ..store import disk_errors

    here = draw_phantom(out, shown, config.run.seed) if demo else Path(config.data.data)
    with disk_errors(out.root), shown.bar("checking images", 1) as advance:
        data = load(
            here,
            out.work,
            class_names=config.data.class_names,
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
    from ..data import phantom as sample

    def make(folder):
        with shown.bar("drawing the phantom", 1) as advance:
            sample.write(folder, seed=seed)
            advance(1)

    shown.say("Demo: every image is a synthetic phantom. Nothing here says anything about patients.")
    return out.stage("sample", {"seed": seed}, make=make).path


def look_over(config: Config, data, out, shown: Terminal):
    """Audit the data, say what was found and return it. Raises `Leakage` with --strict."""
    from ..data.audit import audited
    from ..report.files import audit_files

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
    with out.locked():
        if config.run.fresh:
            out.start_over()
        data = open_data(config, demo, out, shown)
        pipeline = import_pipeline(config.run)
        pipeline.check(config)  # before the audit writes its tables: bad settings leave nothing behind
        found = look_over(config, data, out, shown)
        rows = pipeline.run_pipeline(config, data, found, out, shown)
    print_summary(rows, out.root, data.synthetic)


def run_audit(config: Config, demo: bool) -> None:
    """`main.py audit`: the audit of the data alone."""
    out, shown = start(config, demo)
    with out.locked():
        look_over(config, open_data(config, demo, out, shown), out, shown)
    print(f"The audit is in {out.root}: audit.csv, audit_pairs.csv and pictures of the worst pairs.")


def run_status(config: Config, demo: bool) -> None:
    """`main.py status`: what is finished or begun in a results folder, and whether it still stands."""
    from ..store import list_stages

    root = Path(config.run.results)
    rows = list_stages(root)
    for row in rows:
        took = "" if row["seconds"] is None else f"{row['seconds']:9.1f} s"
        print(f"{row['name']:<48} {took:>11} {row['mebibytes']:9.1f} MiB  {row['state']}")
    finished = sum(row["state"] == "stands" for row in rows)
    print(f"{root}: {finished} finished stages, {len(rows) - finished} to be made.")


def run_report(config: Config, demo: bool) -> None:
    """`main.py report`: report.html again from a finished results folder, without TensorFlow."""
    from ..report.page import render
    from ..store import Run

    folder = Path(config.run.results)
    try:
        page = render(folder)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, OSError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"--results must hold the tables of a finished run as it wrote them. {str(folder)!r} does not: "
            f"{reason}. The run's own command makes them again."
        ) from None
    print(f"Written: {Run(folder).write('report.html', page)}")


RUNS = {"audit": run_audit, "report": run_report, "status": run_status}


def import_pipeline(settings):
    """The pipeline, and with it TensorFlow, without its start-up noise."""
    from ..native_log import native_noise, set_environment

    set_environment()
    with native_noise():
        import keras
        import tensorflow as tf

        keras.config.disable_interactive_logging()  # "Downloading data from ..." on stdout
        logging.getLogger("absl").setLevel("ERROR")  # Keras logs through it that .h5 is an old format
        tf.get_logger().setLevel("ERROR")  # short trainings one after another look like retracing to it
        if settings.threads:
            tf.config.threading.set_intra_op_parallelism_threads(settings.threads)
            tf.config.threading.set_inter_op_parallelism_threads(settings.threads)
        if settings.deterministic:
            tf.config.experimental.enable_op_determinism()
        tf.config.list_physical_devices()
        from ..runs import pipeline
    return pipeline


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if "--status" in argv:
        argv = ["status", *argv]
    name, rest = (argv[0], argv[1:]) if argv and argv[0] in {*RUNS, *COMMANDS} else ("", argv)
    try:
        if name in COMMANDS:
            COMMANDS[name](rest)
        else:
            RUNS.get(name, run_all)(*read_config(rest))
        return 0
    except Leakage as error:
        print(f"Stopped: {one_line(str(error))}", file=sys.stderr)
        return 3
    except UserError as error:
        print(f"Error: {one_line(str(error))}", file=sys.stderr)
        return 2
    except MemoryError:
        print("Error: Memory must hold the images of a step. It ran out. " + MORE_MEMORY, file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of stdout, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130
    except SystemExit as error:  # of --help, or SIGTERM's
        if error.code == 143:
            print(INTERRUPTED, file=sys.stderr)
        return error.code or 0
