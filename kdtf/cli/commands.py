"""The commands beside a run of the pipeline: each reads its own arguments, calls one module and prints."""

import os
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

from ..errors import UserError, require
from .arguments import add_section, new_parser
from .terminal import Terminal, one_line, print_costs, print_texts


def run_prepare(argv: list[str]) -> None:
    """`main.py prepare SOURCE`: images, DICOM files or an .npz to the arrays a run reads."""
    from ..prepare import PrepareConfig, prepare

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
    from ..prepare.fetch import INSTRUCTIONS, SOURCES, fetch

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
    from ..store import Run
    from ..texts.classify import classify_reports
    from ..texts.corpus import TextConfig, read

    usage = "main.py reports FILE.csv [settings]"
    made = new_parser("reports", usage, "Classify radiology report texts: a bag of words and naive Bayes.")
    made.add_argument("csv", metavar="FILE.csv", help="a row per report")
    add_section(made, TextConfig())
    given = vars(made.parse_args(argv))
    file, settings = Path(given.pop("csv")), TextConfig(**given)
    read(file, settings)  # a bad file leaves no results folder behind
    out = Run(settings.results)
    print_texts(classify_reports(file, settings, out, Terminal()), out.root)


def run_page(argv: list[str]) -> None:
    """`main.py page BUNDLE...`: a static folder that runs students in the visitor's browser."""
    from ..native_log import native_noise
    from ..web.build import MODULES, build

    usage = "main.py page BUNDLE... --out DIR [--node-modules DIR]"
    made = new_parser("page", usage, "Make a web page that runs students on the visitor's own device.")
    made.add_argument("bundles", metavar="BUNDLE", nargs="+", help=".tflite file with its .json beside it")
    made.add_argument("--out", metavar="DIR", required=True, help="folder that becomes the page")
    modules = "folder made by `npm ci` in web/ [web/node_modules]"
    made.add_argument("--node-modules", metavar="DIR", default=str(MODULES), help=modules)
    given = made.parse_args(argv)
    with native_noise():
        out = build([Path(name) for name in given.bundles], Path(given.out), Path(given.node_modules))
    print(f"{out}: serve it with any web server, `python -m http.server` say. See README.txt there.")


@contextmanager
def bundle_errors():
    """A bundle or an image that cannot be used, as `UserError`: the predictor knows nothing of kdtf."""
    from ..predictor import BundleError

    try:
        yield
    except BundleError as error:
        raise UserError(str(error)) from None


def run_predict(argv: list[str]) -> None:
    """`main.py predict FILE.tflite IMAGE...`: what a student says of images.

    An image that cannot be read is told on stderr, and at the end the exit code is 2.
    """
    from ..native_log import native_noise
    from ..predictor import Predictor, saved
    from ..store import disk_errors

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
    from ..native_log import native_noise
    from ..store import Run
    from ..tflite.bench import LEAST_RUNS, cost

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
    from ..data.arrays import written_aside
    from ..native_log import native_noise
    from ..predictor import open_interpreter, read_bundle
    from ..store import disk_errors
    from ..tflite.bundle import c_source
    from ..tflite.tensors import count_outside

    usage = "main.py c-array FILE.tflite [--out DIR]"
    made = new_parser("c-array", usage, "Write a student and its labels as student.h and student.cc.")
    made.add_argument("bundle", metavar="FILE.tflite", help="the student; its .json is beside it")
    made.add_argument("--out", metavar="DIR", help="folder for the two files [.]", default=".")
    given = made.parse_args(argv)
    with bundle_errors(), disk_errors(given.out, "--out", ""):
        model, card = read_bundle(given.bundle)
        with native_noise():
            open_interpreter(model, given.bundle)  # refuses what `count_outside` could not read
        rule = "in one piece, as TensorFlow Lite Micro reads it"
        got = f"{count} constants behind its end" if (count := count_outside(model)) else None
        require(not got, given.bundle, rule, got, "An earlier kdtf wrote it: quantize the student again.")
        for name, text in c_source(model, card).items():
            with written_aside(Path(given.out, name)) as file:
                file.write(text.encode())
    print(f"Written: {Path(given.out, 'student.h')} and student.cc, {len(model):,} bytes of model.")


COMMANDS = {
    "prepare": run_prepare,
    "fetch": run_fetch,
    "reports": run_reports,
    "predict": run_predict,
    "bench": run_bench,
    "c-array": run_c_array,
    "page": run_page,
}
