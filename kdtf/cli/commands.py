"""The commands beside a run of the pipeline: each reads its own arguments, calls one module and prints."""

import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError, require
from ..files import disk_errors, require_file
from ..words import plural
from .arguments import Parser, add_section, command_line, new_parser, print_list
from .bundles import bundle_errors, require_bundle, say_limits
from .deploy_commands import DEPLOY_COMMANDS
from .drift import recorder_of, require_logged
from .streams import new_terminal
from .studies import run_studies
from .terminal import Terminal, columns_of, one_line, print_costs, print_outline, print_texts, wrapped

if TYPE_CHECKING:
    from ..predictor import Row
    from ..prepare import Outline
    from ..tflite.card import Card


def run_prepare(argv: list[str]) -> None:
    """`prepare SOURCE`: images, DICOM files or an .npz to the arrays a run reads."""
    from ..prepare import PrepareConfig, prepare

    description = "Make arrays of a folder of images, of DICOM files, or of an .npz."
    parser = new_parser("prepare", "SOURCE [settings]", description)
    parser.add_argument("source", metavar="SOURCE", help="folder of images by class, or an .npz file")
    add_section(parser, PrepareConfig())
    values = vars(parser.parse_args(argv))
    source, settings = Path(values.pop("source")), PrepareConfig(**values)
    terminal = new_terminal()

    def show(outline: "Outline") -> None:
        with terminal.display.hidden():
            print_outline(outline)

    with terminal.working():
        summary = prepare(source, settings, terminal, show)
    if settings.dry_run:
        print("Nothing was written: --dry-run.")
        return
    counts = ", ".join(f"{count} {split}" for split, count in summary.counts.items())
    classes = f"{len(summary.classes)} {plural(len(summary.classes), 'class', 'classes')}"
    print(f"{summary.out}: {counts}; {classes}; {summary.skipped} skipped. See provenance.json.")


def run_fetch(argv: list[str]) -> None:
    """`fetch NAME`: an open data set, or the steps to one behind an account; `fetch list` names them all."""
    from ..prepare.fetch import INSTRUCTIONS, SOURCES, fetch

    description = f"Download {', '.join(SOURCES)}; or be told how to get {', '.join(INSTRUCTIONS)}."
    parser = new_parser("fetch", "NAME [--out DIR]", description)
    parser.add_argument("name", metavar="NAME", help="the data set; 'list' says what they are")
    parser.add_argument("--out", metavar="DIR", help="where to put it [downloads]", default="downloads")
    arguments = parser.parse_args(argv)
    if arguments.name == "list":
        lines = {name: f"{source.file}, licence: {source.licence}" for name, source in SOURCES.items()}
        way = "behind an account: `{}` says how to get it"
        print_list(lines | {name: way.format(command_line("fetch", name)) for name in INSTRUCTIONS})
    elif arguments.name in INSTRUCTIONS:
        behind = INSTRUCTIONS[arguments.name]
        print(f"Kaggle wants an account: sign in, open {behind.page}, download and unpack it. Or:")
        print(f"  {shlex.join(behind.download)}")
        print(f"Then, where the folder {behind.folder} is:\n  {command_line(*behind.use)}")
    else:
        path = fetch(arguments.name, Path(arguments.out), new_terminal())
        what = "made into arrays" if path.is_dir() else "looked over; without `audit` it is run"
        use = SOURCES[arguments.name].use_of(path)
        print(f"{path} is there. It is {what} by\n  {command_line(*use)}")


def run_reports(argv: list[str]) -> None:
    """`reports FILE.csv`: classify report texts."""
    from ..store import Store
    from ..texts.classify import classify_reports
    from ..texts.corpus import TextConfig, read_corpus

    description = "Classify radiology report texts: a bag of words and naive Bayes."
    parser = new_parser("reports", "FILE.csv [settings]", description)
    parser.add_argument("csv", metavar="FILE.csv", help="a row per report")
    add_section(parser, TextConfig())
    values = vars(parser.parse_args(argv))
    file, settings = Path(values.pop("csv")), TextConfig(**values)
    require_file(file, "FILE.csv")
    read_corpus(file, settings)  # a bad file leaves no results folder behind
    store = Store(settings.results)
    terminal = new_terminal()
    with terminal.working():
        rows = classify_reports(file, settings, store, terminal)
    print_texts(rows, store.root)


def run_page(argv: list[str]) -> None:
    """`page BUNDLE...`: a static folder that runs students in the visitor's browser."""
    from ..native_log import native_noise
    from ..web.build import build

    description = "Make a web page that runs students on the visitor's own device."
    parser = new_parser("page", "BUNDLE... --out DIR [--node-modules DIR]", description)
    parser.add_argument("bundles", metavar="BUNDLE", nargs="+", help=".tflite file with its .json beside it")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder that becomes the page")
    text = "folder that npm put LiteRT.js in [web/node_modules, else node_modules]"
    parser.add_argument("--node-modules", metavar="DIR", type=Path, default=None, help=text)
    arguments = parser.parse_args(argv)
    for bundle in arguments.bundles:
        require_bundle(bundle, "BUNDLE")
    with new_terminal().working(), native_noise():
        page = build(list(map(Path, arguments.bundles)), Path(arguments.out), arguments.node_modules)
    print(f"{page}: serve it with any web server, `python -m http.server` say. See README.txt there.")


def run_predict(argv: list[str]) -> None:
    """`predict FILE.tflite IMAGE...`: what a student says of images.

    An image that cannot be read is told on stderr, and at the end the exit code is 2.
    """
    from ..native_log import native_noise
    from ..predictor import Predictor, saved

    arguments = _predict_parser().parse_args(argv)
    out = Path(arguments.csv) if "csv" in arguments else None
    # a device is not replaced by a table
    fits = out is None or (out.absolute().parent.is_dir() and (out.is_file() or not out.exists()))
    require(fits, "--csv", "a file in a folder that exists", str(out))
    require(arguments.threads > 0, "--threads", "positive", arguments.threads)
    require_bundle(arguments.bundle, "FILE.tflite")
    for image in arguments.images:
        require_file(image, "IMAGE")
    require(not arguments.log_paths or "log" in arguments, "--log-paths", "given with --log", "no --log")
    if {"dicom_sr", "by_study"} & vars(arguments).keys():
        return run_studies(arguments)
    terminal = new_terminal()
    with bundle_errors(), disk_errors(out, "--csv", "Nothing was written.") if out else nullcontext():
        with native_noise():
            predictor = Predictor(arguments.bundle, arguments.threads)
        if "training_images" not in predictor.card:
            terminal.say("This .json knows nothing of the training images: unlike images are not noticed.")
        recorder = recorder_of(arguments, predictor)
        rows = predictor.rows(arguments.images)
        rows = recorder(rows) if recorder else rows
        rows = saved(rows, predictor.classes, out) if out else rows
        with terminal.working() if out else nullcontext():
            counts, doubts, unread = _print_rows(rows, predictor.classes, terminal, print_lines=out is None)
    if counts:
        say_limits(predictor, terminal)
    some = counts or unread
    require(some, "IMAGE", "an image, or a folder that holds any", " ".join(arguments.images))
    if out:
        summary = ", ".join(f"{n} {what}" for what, n in (counts.most_common() + list(doubts.items())))
        line = f"{out}: {counts.total()} {plural(counts.total(), 'image')}: {summary}."
        print(wrapped(one_line(line), sys.stdout))
    require_logged(recorder)
    if unread:
        raise UserError(f"{unread} of the images could not be read: see above.")


def _predict_parser() -> Parser:
    description = "Run a student on images: class, calibrated probability, warnings."
    parser = new_parser("predict", "FILE.tflite IMAGE... [--csv OUT]", description)
    parser.add_argument("bundle", metavar="FILE.tflite", help="the student; its .json is beside it")
    text = "PNG, JPEG, TIFF, BMP, DICOM or .npy files, or folders of them"
    parser.add_argument("images", metavar="IMAGE", nargs="+", help=text)
    parser.add_argument("--csv", metavar="OUT", help="write a row per image there instead of printing it")
    text = "write a DICOM structured report per series there, or with --by-study per study"
    parser.add_argument("--dicom-sr", metavar="DIR", help=text)
    text = "say what the slices of a DICOM study say together: 'mean' of probabilities, or 'max' by class"
    parser.add_argument("--by-study", metavar="RULE", help=text)
    parser.add_argument("--threads", metavar="N", type=int, help="CPU threads [1]", default=1)
    text = "append a line an image to the log there, for `drift`: numbers and classes, no pixels, no names"
    parser.add_argument("--log", metavar="DIR", help=text)
    text = "name the files of the images in the log"
    parser.add_argument("--log-paths", action="store_true", help=text, default=False)
    return parser


def _print_rows(
    rows: Iterable["Row"], classes: tuple[str, ...], terminal: Terminal, *, print_lines: bool
) -> tuple[Counter[str], dict[str, int], int]:
    """Say which images cannot be read, and print the lines of each other one where asked to.

    Returns the images by class, those that are uncertain or have a warning, and how many cannot be read.
    """
    from ..predictor import printed

    counts: Counter[str] = Counter()
    doubts = {"uncertain": 0, "with a warning": 0}
    unread = 0
    for row, text in printed(rows, classes, columns_of(sys.stdout)):
        if row.error:
            unread += 1
            terminal.say(text)
            continue
        counts[row.label] += 1
        doubts["uncertain"] += row.uncertain
        doubts["with a warning"] += bool(row.warning)
        if print_lines:
            print(text)
    return counts, doubts, unread


def run_bench(argv: list[str]) -> None:
    """`bench FILE.tflite...`: what students cost on this CPU."""
    from ..native_log import native_noise
    from ..store import Store
    from ..tflite.bench import LEAST_RUNS, cost
    from ..tflite.npu import check_npu, compiled

    cpus = os.cpu_count() or 1
    description = (
        "Measure .tflite files: bytes, parameters, multiply-accumulates, time on this CPU, working memory."
    )
    parser = new_parser("bench", "FILE.tflite... [settings]", description)
    parser.add_argument("files", metavar="FILE.tflite", nargs="+", help="the files; no .json is needed")
    text = f"runs that are timed, at least {LEAST_RUNS} [{LEAST_RUNS}]"
    parser.add_argument("--runs", metavar="N", type=int, help=text, default=LEAST_RUNS)
    text = f"threads of the second measurement; the first has one [{cpus}]"
    parser.add_argument("--threads", metavar="N", type=int, help=text, default=cpus)
    text = "and what they cost on this Arm Ethos-U by Vela's estimate: ethos-u55-128, say"
    parser.add_argument("--ethos-u", metavar="NPU", help=text, default=None)
    parser.add_argument("--results", metavar="DIR", help="folder for bench.csv [Results]", default="Results")
    arguments = parser.parse_args(argv)
    require(arguments.threads > 0, "--threads", "positive", arguments.threads)
    if arguments.ethos_u is not None:
        check_npu(arguments.ethos_u, "--ethos-u")
    terminal, costs, npus = new_terminal(), [], []
    with bundle_errors(), terminal.bar("measuring", len(arguments.files)) as advance:
        for file in map(Path, arguments.files):
            with native_noise():
                costs.append(cost(file, threads=arguments.threads, runs=arguments.runs))
                if arguments.ethos_u:
                    npus.append(compiled(file.read_bytes(), file, arguments.ethos_u)[1])
            advance(len(costs))
    columns = [npu._asdict() for npu in npus] or [{}] * len(costs)
    rows = [row._asdict() | more for row, more in zip(costs, columns, strict=True)]
    print_costs(costs, Store(arguments.results).write_csv("bench.csv", rows), npus)


def run_c_array(argv: list[str]) -> None:
    """`c-array FILE.tflite`: a student as C source for microcontrollers."""
    from ..files import written_aside
    from ..tflite.c_source import c_source

    description = "Write a student and its labels as student.h and student.cc."
    parser = new_parser("c-array", "FILE.tflite [--out DIR]", description)
    parser.add_argument("bundle", metavar="FILE.tflite", help="the student; its .json is beside it")
    parser.add_argument("--out", metavar="DIR", help="folder for the two files [.]", default=".")
    arguments = parser.parse_args(argv)
    require_bundle(arguments.bundle, "FILE.tflite")
    with bundle_errors(), disk_errors(arguments.out, "--out", ""):
        model, card = _micro_bundle(Path(arguments.bundle))
        for name, text in c_source(model, card).items():
            with written_aside(Path(arguments.out, name)) as file:
                file.write(text.encode())
    print(f"Written: {Path(arguments.out, 'student.h')} and student.cc, {len(model):,} bytes of model.")


def _micro_bundle(path: Path) -> tuple[bytes, "Card"]:
    """A bundle that TensorFlow Lite Micro can read. Raises `UserError` and `BundleError` for any other."""
    from ..native_log import native_noise
    from ..predictor import open_interpreter, read_bundle
    from ..tflite.card import read_card
    from ..tflite.tensors import count_outside

    model, _ = read_bundle(path)
    card = read_card(path.with_suffix(".json"))
    with native_noise():
        open_interpreter(model, path)  # refuses what `count_outside` could not read
    outside = count_outside(model)
    excess = f"{outside} constants behind its end" if outside else None
    hint = "An earlier kdtf wrote it: quantize the student again."
    require(not outside, str(path), "in one piece, as TensorFlow Lite Micro reads it", excess, hint)
    return model, card


COMMANDS = {
    "prepare": run_prepare,
    "fetch": run_fetch,
    "reports": run_reports,
    "predict": run_predict,
    "bench": run_bench,
    "c-array": run_c_array,
    "page": run_page,
    **DEPLOY_COMMANDS,
}
