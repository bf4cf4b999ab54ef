"""The commands beside a run of the pipeline: each reads its own arguments, calls one module and prints."""

import os
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError, require
from ..files import disk_errors, require_file
from ..words import plural
from .arguments import Parser, add_section, command_line, new_parser
from .streams import new_terminal
from .terminal import Terminal, one_line, print_costs, print_outline, print_texts

if TYPE_CHECKING:
    from ..predictor import Row
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
    summary = prepare(source, settings, new_terminal(), print_outline)
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
        for name, source in SOURCES.items():
            print(f"{name:<22} {source.file}, licence: {source.licence}")
        for name in INSTRUCTIONS:
            print(f"{name:<22} behind an account: `{command_line('fetch', name)}` says how to get it")
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
    print_texts(classify_reports(file, settings, store, new_terminal()), store.root)


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
        _require_bundle(bundle, "BUNDLE")
    with native_noise():
        page = build(list(map(Path, arguments.bundles)), Path(arguments.out), arguments.node_modules)
    print(f"{page}: serve it with any web server, `python -m http.server` say. See README.txt there.")


def _require_bundle(path: str, name: str) -> None:
    """Raise `UserError` where a bundle cannot be two files: what is not there the predictor says."""
    file = Path(path)
    require(file.name, name, "a .tflite file with its .json beside it", path)
    for own in (file, file.with_suffix(".json")):
        require_file(own, name)


@contextmanager
def bundle_errors() -> Iterator[None]:
    """A bundle or an image that cannot be used, as `UserError`: the predictor knows nothing of kdtf."""
    from ..predictor import BundleError

    try:
        yield
    except BundleError as error:
        raise UserError(str(error)) from None


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
    _require_bundle(arguments.bundle, "FILE.tflite")
    for image in arguments.images:
        require_file(image, "IMAGE")
    terminal = new_terminal()
    with bundle_errors(), disk_errors(out, "--csv", "Nothing was written.") if out else nullcontext():
        with native_noise():
            predictor = Predictor(arguments.bundle, arguments.threads)
        if "training_images" not in predictor.card:
            terminal.say("This .json knows nothing of the training images: unlike images are not noticed.")
        rows = predictor.rows(arguments.images)
        rows = saved(rows, predictor.classes, out) if out else rows
        counts, doubts, unread = _print_rows(rows, terminal, print_lines=out is None)
    some = counts or unread
    require(some, "IMAGE", "an image, or a folder that holds any", " ".join(arguments.images))
    if out:
        summary = ", ".join(f"{n} {what}" for what, n in (counts.most_common() + list(doubts.items())))
        print(one_line(f"{out}: {counts.total()} {plural(counts.total(), 'image')}: {summary}."))
    if unread:
        raise UserError(f"{unread} of the images could not be read: see above.")


def _predict_parser() -> Parser:
    description = "Run a student on images: class, calibrated probability, warnings."
    parser = new_parser("predict", "FILE.tflite IMAGE... [--csv OUT]", description)
    parser.add_argument("bundle", metavar="FILE.tflite", help="the student; its .json is beside it")
    text = "PNG, JPEG, TIFF, BMP, DICOM or .npy files, or folders of them"
    parser.add_argument("images", metavar="IMAGE", nargs="+", help=text)
    parser.add_argument("--csv", metavar="OUT", help="write a row per image there instead of printing it")
    parser.add_argument("--threads", metavar="N", type=int, help="CPU threads [1]", default=1)
    return parser


def _print_rows(
    rows: Iterable["Row"], terminal: Terminal, *, print_lines: bool
) -> tuple[Counter[str], Counter[str], int]:
    """Say which images cannot be read, and print a line for each other one where asked to.

    Returns the images by class, those that are uncertain or have a warning, and how many cannot be read.
    """
    counts: Counter[str] = Counter()
    doubts: Counter[str] = Counter()
    unread = 0
    for row in rows:
        name = one_line(row.file) + (f"[{row.index}]" if row.index else "")
        if row.error:
            unread += 1
            terminal.say(f"Not read: {name}: {row.error}.")
            continue
        counts[row.label] += 1
        doubts.update({"uncertain": row.uncertain, "with a warning": bool(row.warning)})
        if print_lines:
            remarks = ["uncertain"] * row.uncertain + [row.warning] * bool(row.warning)
            print(name, one_line(row.label), f"{row.probability:.3f}", *remarks, sep="\t")
    return counts, doubts, unread


def run_bench(argv: list[str]) -> None:
    """`bench FILE.tflite...`: what students cost on this CPU."""
    from ..native_log import native_noise
    from ..store import Store
    from ..tflite.bench import LEAST_RUNS, cost

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
    parser.add_argument("--results", metavar="DIR", help="folder for bench.csv [Results]", default="Results")
    arguments = parser.parse_args(argv)
    require(arguments.threads > 0, "--threads", "positive", arguments.threads)
    terminal, costs = new_terminal(), []
    with bundle_errors(), terminal.bar("measuring", len(arguments.files)) as advance:
        for file in arguments.files:
            with native_noise():
                costs.append(cost(Path(file), threads=arguments.threads, runs=arguments.runs))
            advance(len(costs))
    table = Store(arguments.results).write_csv("bench.csv", [row._asdict() for row in costs])
    print_costs(costs, table)


def run_c_array(argv: list[str]) -> None:
    """`c-array FILE.tflite`: a student as C source for microcontrollers."""
    from ..files import written_aside
    from ..tflite.c_source import c_source

    description = "Write a student and its labels as student.h and student.cc."
    parser = new_parser("c-array", "FILE.tflite [--out DIR]", description)
    parser.add_argument("bundle", metavar="FILE.tflite", help="the student; its .json is beside it")
    parser.add_argument("--out", metavar="DIR", help="folder for the two files [.]", default=".")
    arguments = parser.parse_args(argv)
    _require_bundle(arguments.bundle, "FILE.tflite")
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
}
