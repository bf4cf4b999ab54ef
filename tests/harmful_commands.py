"""Whole command lines that nobody would type, for test_hostile.py and benchmarks/hostile.py.

Drawn from the parsers of kdtf themselves: any command, any flag, any value, on top of a line that works or
of nothing. No value has a `/`, `..` or a leading `~`, so that a line stays in the folder it is given in, and
none asks for more threads or processes than a machine gives. A line must end with 0, 2, 3, or 130 and 143
where it was stopped: a run that goes on, and a server, is sent SIGTERM after so many CPU seconds.
"""

import argparse
import contextlib
import gc
import io
import json
import os
import re
import resource
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import harmful_files
import numpy as np
import pytest
from eager_steps import eagerly
from hypothesis import strategies as st
from small_run import pictures_without_drawings, teachers_of_one_convolution

CODES = (0, 2, 3, 130, 143)
IDLE, LATE = 5.0, 30.0  # seconds of nothing until SIGTERM, and from there until it is called a hang
MOST = 8  # threads and processes that a line may ask for: the machine is shared
RUN = shlex.split(
    "--teachers cnn5 --weights none --freeze --views 2 --epochs 1 --batch-size 8 --fine-tune-epochs 1 "
    "--scratch-epochs 1 --fine-tune-batch-size 8 --student baseline --recipes int8 --threads 1"
)
WORKING = {  # a line of each command that works, in the folder of `lay_out`
    "": f"--data d --results out {shlex.join(RUN)}",
    "audit": "--data d --results out",
    "report": "--results r",
    "status": "--results r",
    "prepare": "images --out F --size 16 --workers 1",
    "fetch": "list",
    "reports": "reports.csv --folds 2 --results out",
    "predict": "s_int8.tflite image.png image.dcm --csv p.csv",
    "bench": "s_int8.tflite --results out --threads 1",
    "c-array": "s_int8.tflite --out out",
    "page": "s_int8.tflite --out site",
    "npu": "s_int8.tflite --out out",
    "export": "s_float32.tflite --to onnx --out out",
    "serve": "s_int8.tflite --port 0 --workers 1",
    "drift": "log --bundle s_int8.tflite --out out",
}
NUMBERS = (
    *("0", "1", "2", "3", "-1", "0.5", "1.5", "1e-3", "1e-300", "1e30", "1e308", "1e999", "nan", "inf"),
    *("255", "256", "1024", "65536", "2147483648", "4294967296", "9223372036854775808", "9" * 40, "9" * 5000),
    *("1_000", " 3", "+4", "٣", "0x10", "1e", "-0.0", "-inf", "", "true", "None"),
)
WORDS = (
    *(
        "auto",
        "none",
        "imagenet",
        "own",
        "linear",
        "all",
        "list",
        "mean",
        "max",
        "mlflow",
        "onnx",
        "kd",
        "dkd",
    ),
    *("int8", "float32", "int8-qat", "int16x8", "prune", "cluster", "cnn3", "cnn5", "baseline", "vgg16"),
    *("Adam", "SGD", "Lion", "CosineDecay", "keras:MobileNet", "keras:", "cut:mobilenet", "cut:"),
    *("cut:cnn5:1:0.5", "a=1", "beta=nan", "=", "CLASS", "ethos-u55-128", "127.0.0.1", "::1", "chest-ct"),
    *("demo", "a b", "-", "--", "---", "-x", "--no", "=1+1", "%s", "{}", "\\", "'", "\n", "\x1b[31m"),
    *("a\nError: b", "x" * 300, "\udcff", "名", "👁", "\u202e", "CON", "*", "(", "(a+)+$", "[", r"\1"),
)
PLACES = (
    *("d", "d.npz", "r", "images", "image.png", "image.dcm", "image.npy", "reports.csv", "settings.toml"),
    *(
        "log",
        "s_int8.tflite",
        "s_int8.json",
        "s_float32.tflite",
        "broken.tflite",
        "groups.csv",
        "empty",
        "none",
    ),
    *(".", "out", "link", "loop", "pipe"),
)
RUNS = (pictures_without_drawings, teachers_of_one_convolution, eagerly)  # what makes runs short
CAPPED = ("--jobs", "--threads", "--workers")


class Flag(NamedTuple):
    """A flag of a command: its name, how many values it takes at least and at most, and what may fit it."""

    name: str
    least: int
    most: int
    fitting: tuple[str, ...] = ()


class Line(NamedTuple):
    """What became of a command line."""

    code: int  # negative: the signal
    error: str
    seconds: float  # of CPU
    memory: int  # most bytes
    was_stopped: bool  # SIGTERM was sent
    strays: list[str]  # what it left beside its folder

    def broken(self) -> str:
        """Which part of the contract does not hold, or ""."""
        said = [line for line in self.error.splitlines() if line.startswith(("Error:", "Stopped:"))]
        if "Traceback" in self.error or self.code not in CODES:
            return f"exit code {self.code}: {self.error[-1500:]}"
        if self.code in (2, 3) and len(said) != 1:
            return f"not one line: {self.error[-600:]}"
        if self.code in (130, 143) and not self.was_stopped:
            return f"exit code {self.code}, and nobody stopped it"
        return f"left {self.strays}" if self.strays else ""


# Drawing lines


def parsers() -> dict[str, argparse.ArgumentParser]:
    """{command: its parser}, "" the run's: every one that is registered, as the command itself makes it."""
    from kdtf.cli.arguments import Parser
    from kdtf.cli.commands import COMMANDS
    from kdtf.cli.run import RUN_COMMANDS, run_all

    made: list[argparse.ArgumentParser] = []

    class Made(Exception):
        pass

    def keep(parser: argparse.ArgumentParser, *unused: object) -> None:
        made.append(parser)
        raise Made

    own, Parser.parse_args = Parser.parse_args, keep
    try:
        for function in (run_all, *RUN_COMMANDS.values(), *COMMANDS.values()):
            with contextlib.suppress(Made):
                function([])
    finally:
        Parser.parse_args = own
    return dict(zip(("", *RUN_COMMANDS, *COMMANDS), made, strict=True))


def flags(parser: argparse.ArgumentParser) -> list[Flag]:
    """Every flag, `--no-` ones too, that a parser knows, but for those that only print."""
    known = []
    for action in parser._actions:
        if action.dest in ("help", "version"):
            continue
        least = 0 if action.nargs == 0 else 1
        if isinstance(action, argparse.BooleanOptionalAction):
            fitting: tuple[str, ...] = ()
        elif action.type is int:
            fitting = ("1", "2", "3", "5", "8", "16", "24", "32", "200")
        elif action.type is float:
            fitting = ("0", "0.01", "0.1", "0.3", "0.5", "0.9", "1", "2", "5", "100")
        elif re.search("DIR|FILE|OUT", str(action.metavar)):
            fitting = PLACES
        else:  # the help line often says which words there are
            fitting = (*WORDS, *re.findall(r"[\w:-]+", str(action.help)))
        most = 3 if action.nargs == "+" else least
        known += [Flag(name, least, most, fitting) for name in action.option_strings]
    return known


def is_kept_in(token: str) -> bool:
    """Can a token not lead out of the working folder, and can a shell give it?"""
    return not ("/" in token or ".." in token or token.startswith("~") or "\0" in token)


def as_given(text: str) -> str:
    """A token as Python gets it from the operating system: other bytes than UTF-8 are surrogates."""
    return os.fsdecode(os.fsencode(text))


TEXTS = st.text(
    st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("\udc80\udcc3\udcff")), max_size=8
)
TOKENS = (
    st.one_of(st.sampled_from(NUMBERS), st.sampled_from(WORDS), st.sampled_from(PLACES), TEXTS)
    .map(as_given)
    .filter(is_kept_in)
)


@st.composite
def flag_with_values(draw: Any, known: list[Flag]) -> list[str]:
    """One flag of a command; now and then with too few or too many values, or joined by `=`."""
    flag = draw(st.sampled_from(known))
    count = draw(st.integers(flag.least, flag.most)) if draw(st.integers(0, 9)) else draw(st.integers(0, 3))
    tokens = st.sampled_from(flag.fitting) if flag.fitting and draw(st.integers(0, 2)) else TOKENS
    values = [draw(tokens) for _ in range(count)]
    if flag.name in CAPPED:
        values = [str(draw(st.integers(-1, MOST))) for _ in values]
    if len(values) == 1 and draw(st.booleans()):
        return [f"{flag.name}={values[0]}"]
    return [flag.name, *values]


@st.composite
def lines(draw: Any, known: dict[str, list[Flag]]) -> list[str]:
    """A command line: one that works, or nothing, with flags and tokens added, taken away, replaced."""
    command = draw(st.sampled_from([*known, *[name for name in known if name == ""] * 4]))  # of most flags
    argv = shlex.split(WORKING.get(command, "")) if draw(st.integers(0, 9)) else []
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(argv)))
        match draw(st.sampled_from((*["flag"] * 8, "token", "replace", "delete", "double"))):
            case "flag":
                argv += draw(flag_with_values(known[command]))
            case "token":
                argv.insert(at, draw(TOKENS))
            case "replace" if at < len(argv):
                argv[at] = draw(TOKENS)
            case "delete" if at < len(argv):
                del argv[at]
            case "double" if at < len(argv):
                argv.insert(at, argv[at])
    return capped([*([command] if command else []), *argv])


def capped(argv: list[str]) -> list[str]:
    """Without demands for many threads or processes that came about by replacing a token."""
    joined = re.compile(f"({'|'.join(CAPPED)})=?(.*)", re.DOTALL)
    kept: list[str] = []
    for token in argv:
        match = joined.fullmatch(token)
        number = match[2] if match and "=" in token else token if kept and kept[-1] in CAPPED else ""
        with contextlib.suppress(ValueError):
            if int(number) > MOST:
                token = f"{match[1]}={MOST}" if match else str(MOST)
        kept.append(token)
    return kept


# Giving them


def lay_out(folder: Path, results: Path) -> None:
    """What lines can name: data, images, tables, settings, students, a finished run, odd places."""
    from kdtf.data import phantom

    folder.mkdir(parents=True)
    phantom.write(folder / "d", train=24, val=8, test=12, side=16, teacher_side=16, seed=1)
    parts = {}
    for split in ("train", "val", "test"):
        parts[f"{split}_images"] = np.load(folder / "d" / f"X_{split}.npy")
        parts[f"{split}_labels"] = np.load(folder / "d" / f"y_{split}.npy")[:, None]
    np.savez(folder / "d.npz", **parts)
    none = Path("none.tflite")
    for kind in ("png", "dicom", "image npy", "prepare", "csv"):
        harmful_files.KINDS[kind](folder, none)
    (folder / "settings.toml").write_text('[student]\nepochs = 1\n[teacher]\nteachers = ["cnn5"]\n')
    (folder / "groups.csv").write_text("file,group\ntrain/a/0.png,p1\n")
    for recipe in ("int8", "float32"):
        for own in sorted(results.glob(f"*_Student_{recipe}.*"))[:2]:
            shutil.copy(own, folder / f"s_{recipe}{own.suffix}")
    (folder / "broken.tflite").write_bytes((folder / "s_int8.tflite").read_bytes()[:999])
    _log_answers(folder / "log", folder / "s_int8.json")
    shutil.copytree(results, folder / "r", ignore=shutil.ignore_patterns("*.h5", "*.keras", "*.npy", "*.png"))
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("d")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")


def _log_answers(log: Path, card: Path) -> None:
    """A log of 40 grey images that a student answered."""
    from kdtf.drift.log import PredictionLog
    from kdtf.predictor import STATISTICS, Row

    known = json.loads(card.read_text())
    classes = tuple(known["classes"])
    probs = np.full(len(classes), 1 / len(classes))
    numbers = dict.fromkeys(STATISTICS, 50.0)
    for i in range(40):
        row = Row("grey.png", i, classes[0], float(probs[0]), False, "", "", probs, numbers)
        PredictionLog(log, known["sha256"], classes)(row)


def give(
    argv: list[str], folder: Path, seconds: float, memory: int = 3 << 30, *, trains: bool = True
) -> Line:
    """A command line in a forked process in `folder`; SIGTERM after `seconds` of CPU, or where it only waits.

    The process is ended where it takes more than `memory` bytes: exit code -9, as by the kernel. Without
    `trains` a run ends, as if stopped, where TensorFlow would start, which does not outlive a fork.
    """
    log, before = folder.parent / "stderr", set(os.listdir(folder.parent))
    child = os.fork()
    if not child:
        _child(argv, folder, log, trains=trains)
    page, most, stopped, began = resource.getpagesize(), 0, 0.0, time.monotonic()
    while not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        used, now = _cpu_seconds(child), time.monotonic()
        with contextlib.suppress(OSError, IndexError):
            most = max(most, int(Path(f"/proc/{child}/statm").read_text().split()[1]) * page)
        if most > memory or (stopped and now - stopped > LATE):
            os.kill(child, signal.SIGKILL)
        elif not stopped and (used > seconds or (now - began > IDLE and used < (now - began) / 10)):
            os.kill(child, signal.SIGTERM)
            stopped = now
        time.sleep(0.03)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # its own session: what it started goes with it
    _, status, usage = os.wait4(child, 0)
    error = log.read_text(errors="replace")
    strays = sorted(set(os.listdir(folder.parent)) - before - {log.name})
    seconds = usage.ru_utime + usage.ru_stime
    was_stopped = bool(stopped) or not trains
    return Line(os.waitstatus_to_exitcode(status), error, seconds, most, was_stopped, strays)


def _cpu_seconds(pid: int) -> float:
    """What a process of ours has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def _without_tensorflow() -> Iterator[None]:
    """A run ends where TensorFlow would start, as SIGTERM ends it."""
    from kdtf.runs import session

    def stop(*unused: object) -> NoReturn:
        raise SystemExit(128 + signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "tensorflow_runtime", stop)
        yield


def _child(argv: list[str], folder: Path, log: Path, *, trains: bool) -> NoReturn:
    """`python main.py ARGV` in this process, which it ends; no download succeeds, no teacher is large."""
    from kdtf.__main__ import run

    code = 99
    try:
        os.setsid()
        gc.callbacks.clear()  # Hypothesis has one: a SIGTERM that comes while it runs would be lost
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for number, path in ((0, os.devnull), (1, os.devnull), (2, log)):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), number)
        sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(n, "w", closefd=False)) for n in (1, 2))
        for name in ("http_proxy", "https_proxy"):
            os.environ[name] = "http://127.0.0.1:9"  # where nothing answers
        os.environ["KERAS_HOME"] = str(folder / "keras")
        os.chdir(folder)
        sys.argv = ["main.py", *argv]
        with contextlib.ExitStack() as stack:
            for patch in RUNS if trains else (_without_tensorflow,):
                stack.enter_context(patch())
            code = run()
    except SystemExit as stop:
        code = int(stop.code or 0)  # of a signal just before the command heard of it, or after
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


@contextlib.contextmanager
def laid_out(original: Path, folder: Path) -> Iterator[Path]:
    """A copy of what `lay_out` made, for one line."""
    shutil.copytree(original, folder, symlinks=True, ignore=shutil.ignore_patterns("pipe"))
    os.mkfifo(folder / "pipe")
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
