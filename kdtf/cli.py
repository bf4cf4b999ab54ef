"""The command line: arguments to config, commands, exit codes. The only place that exits.

Exit codes: 0 done, 2 bad input (one line on stderr; with `predict` also where an image could not be
read, after all others), 3 leakage with --strict, 130 interrupted.
TensorFlow is imported only after the arguments and the data have been found good.
"""

import argparse
import os
import sys
import typing
from collections import Counter
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

from . import __version__
from .checks import UserError, require, require_known
from .config import Config, flag, read_toml
from .terminal import Terminal, one_line, print_costs, print_summary, print_texts

PRESETS = Path(__file__).parent / "presets"

NO_DATA = (
    "FData must hold X_train.npy, y_train.npy, X_test.npy and y_test.npy. Got none of them. Three ways on: "
    "put your arrays there; or give --data DIR or --data FILE.npz; or try --demo, which needs nothing."
)


class Parser(argparse.ArgumentParser):
    """Raises where argparse would print its usage and exit."""

    def error(self, message):
        raise UserError(f"{message}. See --help.")


def new_parser(command: str, usage: str, description: str) -> Parser:
    return Parser(
        prog=f"main.py {command}".strip(),
        usage=usage,
        description=description,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=34, width=110),
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )


def parser() -> Parser:
    """The arguments of a run, made from the fields of `Config`: grouped, one line of help each."""
    made = new_parser(
        "",
        "main.py [audit | report | prepare | fetch | reports | predict | bench | c-array] [settings]",
        "Fine-tune teachers on chest images, distil each into a small student, quantize it to "
        ".tflite, and report all of them. 'audit' looks the data over and stops there; "
        "'report' makes report.html again; 'prepare' makes arrays of images, 'fetch' downloads open data, "
        "'reports' classifies report texts; 'predict' runs a finished student on images, 'bench' measures "
        "what it costs, 'c-array' makes C source of it: each has a --help of its own.",
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
        add_section(made, defaults)
    return made


def add_section(made: Parser, defaults) -> None:
    """The flags of a section of settings."""
    group = made.add_argument_group(type(defaults).__doc__.splitlines()[0])
    for f in fields(defaults):
        _add(group, f, getattr(defaults, f.name))


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


def run_prepare(argv: list[str]) -> None:
    """`main.py prepare SOURCE`: images, DICOM files or an .npz to the arrays a run reads."""
    from .prepare import PrepareConfig, prepare

    usage = "main.py prepare SOURCE [settings]"
    made = new_parser("prepare", usage, "Make arrays of a folder of images, of DICOM files, or of an .npz.")
    made.add_argument("source", metavar="SOURCE", help="folder of images by class, or an .npz file")
    add_section(made, PrepareConfig())
    given = vars(made.parse_args(argv))
    done = prepare(Path(given.pop("source")), PrepareConfig(**given), Terminal())
    counts = ", ".join(f"{count} {split}" for split, count in done.counts.items())
    print(f"{done.out}: {counts}; {len(done.classes)} classes; {done.skipped} skipped. See provenance.json.")


def run_fetch(argv: list[str]) -> None:
    """`main.py fetch NAME`: an open data set, or the steps to one behind an account."""
    from .fetch import INSTRUCTIONS, SOURCES, fetch

    usage = "main.py fetch NAME [--out DIR]"
    told = f"Download {', '.join(SOURCES)}; or be told how to get {', '.join(INSTRUCTIONS)}."
    made = new_parser("fetch", usage, told)
    made.add_argument("name", metavar="NAME", help="the data set")
    made.add_argument("--out", metavar="DIR", help="where to put it [downloads]", default="downloads")
    given = made.parse_args(argv)
    if given.name in INSTRUCTIONS:
        print(INSTRUCTIONS[given.name])
        return
    got = fetch(given.name, Path(given.out), Terminal())
    print(f"{got}: hand it to {'--data' if got.suffix == '.npz' else 'prepare'}.")


def run_reports(argv: list[str]) -> None:
    """`main.py reports FILE.csv`: classify report texts."""
    from .run import Run
    from .textreport import classify_reports
    from .texts import TextConfig, read

    usage = "main.py reports FILE.csv [settings]"
    made = new_parser("reports", usage, "Classify radiology report texts: a bag of words and naive Bayes.")
    made.add_argument("csv", metavar="FILE.csv", help="a row per report")
    add_section(made, TextConfig())
    given = vars(made.parse_args(argv))
    file, settings = Path(given.pop("csv")), TextConfig(**given)
    read(file, settings)  # a bad file leaves no results folder behind
    out = Run(settings.results)
    print_texts(classify_reports(file, settings, out, Terminal()), out.root)


@contextmanager
def bundle_errors():
    """A bundle or an image that cannot be used, as `UserError`: the predictor knows nothing of kdtf."""
    from .predictor import BundleError

    try:
        yield
    except BundleError as error:
        raise UserError(str(error)) from None


def run_predict(argv: list[str]) -> None:
    """`main.py predict FILE.tflite IMAGE...`: what a student says of images.

    An image that cannot be read is told on stderr, and at the end the exit code is 2.
    """
    from .predictor import Predictor, saved
    from .quiet import native_noise
    from .run import disk_errors

    usage = "main.py predict FILE.tflite IMAGE... [--csv OUT]"
    made = new_parser("predict", usage, "Run a student on images: class, calibrated probability, warnings.")
    made.add_argument("bundle", metavar="FILE.tflite", help="the student; its .json is beside it")
    text = "PNG, JPEG, TIFF, BMP, DICOM or .npy files, or folders of them"
    made.add_argument("images", metavar="IMAGE", nargs="+", help=text)
    made.add_argument("--csv", metavar="OUT", help="write a row per image there instead of printing it")
    made.add_argument("--threads", metavar="N", type=int, help="CPU threads [1]", default=1)
    given = made.parse_args(argv)
    out = Path(given.csv) if "csv" in given else None
    fits = out is None or (out.absolute().parent.is_dir() and not out.is_dir())
    require(fits, "--csv", "a file in a folder that exists", str(out))
    require(given.threads > 0, "--threads", "positive", given.threads)
    shown, counts, doubts, failed = Terminal(), Counter(), Counter(), 0
    with bundle_errors(), disk_errors(out, "--csv", "Nothing was written."):
        with native_noise():
            predictor = Predictor(given.bundle, given.threads)
        if "training_images" not in predictor.card:
            shown.say("This .json knows nothing of the training images: unlike images are not noticed.")
        rows = predictor.rows(given.images)
        for row in saved(rows, predictor.classes, out) if out else rows:
            name = one_line(row.file) + (f"[{row.index}]" if row.index else "")
            if row.error:
                failed += 1
                shown.say(f"Not read: {name}: {row.error}.")
                continue
            counts[row.label] += 1
            doubts.update({"uncertain": row.uncertain, "with a warning": bool(row.warning)})
            if not out:
                said = ["uncertain"] * row.uncertain + [row.warning] * bool(row.warning)
                print(name, one_line(row.label), f"{row.probability:.3f}", *said, sep="\t")
    require(counts or failed, "IMAGE", "an image, or a folder that holds any", " ".join(given.images))
    if out:
        found = ", ".join(f"{n} {what}" for what, n in (counts.most_common() + list(doubts.items())))
        print(f"{out}: {counts.total()} images: {found}.")
    if failed:
        raise UserError(f"{failed} of the images could not be read: see above.")


def run_bench(argv: list[str]) -> None:
    """`main.py bench FILE.tflite...`: what students cost on this CPU."""
    from .bench import LEAST_RUNS, cost
    from .quiet import native_noise
    from .run import Run

    cpus = os.cpu_count() or 1
    usage = "main.py bench FILE.tflite... [settings]"
    told = "Measure .tflite files: bytes, parameters, multiply-accumulates, time on this CPU, working memory."
    made = new_parser("bench", usage, told)
    made.add_argument("files", metavar="FILE.tflite", nargs="+", help="the files; no .json is needed")
    text = f"runs that are timed, at least {LEAST_RUNS} [{LEAST_RUNS}]"
    made.add_argument("--runs", metavar="N", type=int, help=text, default=LEAST_RUNS)
    text = f"threads of the second measurement; the first has one [{cpus}]"
    made.add_argument("--threads", metavar="N", type=int, help=text, default=cpus)
    made.add_argument("--results", metavar="DIR", help="folder for bench.csv [Results]", default="Results")
    given = made.parse_args(argv)
    require(given.threads > 0, "--threads", "positive", given.threads)
    shown, rows = Terminal(), []
    with bundle_errors(), shown.bar("measuring", len(given.files)) as advance:
        for file in given.files:
            with native_noise():
                rows.append(cost(Path(file), threads=given.threads, runs=given.runs))
            advance(len(rows))
    written = Run(given.results).write_csv("bench.csv", [row._asdict() for row in rows])
    print_costs(rows, written)


def run_c_array(argv: list[str]) -> None:
    """`main.py c-array FILE.tflite`: a student as C source for microcontrollers."""
    from .bundle import c_source
    from .npz import written_aside
    from .predictor import read_bundle
    from .run import disk_errors

    usage = "main.py c-array FILE.tflite [--out DIR]"
    made = new_parser("c-array", usage, "Write a student and its labels as student.h and student.cc.")
    made.add_argument("bundle", metavar="FILE.tflite", help="the student; its .json is beside it")
    made.add_argument("--out", metavar="DIR", help="folder for the two files [.]", default=".")
    given = made.parse_args(argv)
    with bundle_errors(), disk_errors(given.out, "--out", ""):
        model, card = read_bundle(given.bundle)
        for name, text in c_source(model, card).items():
            with written_aside(Path(given.out, name)) as file:
                file.write(text.encode())
    print(f"Written: {Path(given.out, 'student.h')} and student.cc, {len(model):,} bytes of model.")


RUNS = {"audit": run_audit, "report": run_report}
COMMANDS = {
    "prepare": run_prepare,
    "fetch": run_fetch,
    "reports": run_reports,
    "predict": run_predict,
    "bench": run_bench,
    "c-array": run_c_array,
}


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
    name, rest = (argv[0], argv[1:]) if argv and argv[0] in {*RUNS, *COMMANDS} else ("", argv)
    try:
        if name in COMMANDS:
            COMMANDS[name](rest)
        else:
            RUNS.get(name, run_all)(*read_config(rest))
        return 0
    except Leakage as error:
        print(f"Stopped: {error}", file=sys.stderr)
        return 3
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of stdout, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("Interrupted. What is finished is kept; the same command goes on from it.", file=sys.stderr)
        return 130
