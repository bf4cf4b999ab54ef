"""Harmed files and command lines by the thousand, held to the contracts of `tests/harmful_files.py` and
`tests/harmful_commands.py`.

    python benchmarks/hostile.py RESULTS [--tries 100] [--seed 0] [--only KIND...]
    python benchmarks/hostile.py RESULTS --command-lines 10000 [--seconds 3] [--commands NAME...]

RESULTS is a finished results folder with int8 and float32 files: its int8 student reads the harmed images,
its tables are harmed for `report`. Every try is a process of its own in a folder of its own. Prints the
failures and a table: kind, tries, how many ended with exit code 0 and 2, how many broke the contract, the
most memory.
Command lines are drawn by Hypothesis; a run is stopped after `--seconds` of CPU. The table has a row for each
command.
"""

import argparse
import random
import resource
import shlex
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def preload() -> None:
    """Import once what every try needs: processes are forked from this one."""
    import ai_edge_litert.interpreter
    import jinja2
    import pandas
    import pydicom
    import rich._emoji_codes
    import sklearn.feature_extraction
    from PIL import Image

    import kdtf.cli.entry
    import kdtf.data.audit
    import kdtf.prepare
    import kdtf.report.page
    import kdtf.runs.session
    import kdtf.texts.classify
    import kdtf.tflite.bench

    Image.init()
    assert all((ai_edge_litert.interpreter, jinja2, pandas, pydicom, rich._emoji_codes, sklearn, kdtf))


def teachers_weights(tries: int, seed: int) -> int:
    """Harmed weights of a teacher, read in this process: TensorFlow does not outlive a fork."""
    from harmful_bytes import harm

    from kdtf.errors import UserError
    from kdtf.models.registry import row_of
    from kdtf.models.teachers import build_base
    from kdtf.models.weights import WeightSource

    broken = 0
    with tempfile.TemporaryDirectory() as scratch:
        for suffix in (".weights.h5", ".h5", ".keras"):
            good, bad = Path(scratch, f"good{suffix}"), Path(scratch, f"bad{suffix}")
            network = row_of("cnn5").build(input_shape=(32, 32, 3), weights=None)
            (network.save_weights if suffix == ".weights.h5" else network.save)(good)
            refused = 0
            for i in range(tries):
                what, content = harm(good.read_bytes(), random.Random(f"{seed} {suffix} {i}"))
                bad.write_bytes(content)
                try:
                    build_base("cnn5", (32, 32, 1), WeightSource(str(bad)))
                except UserError as error:
                    refused += 1
                    wrong = "\n" in str(error)
                except Exception as error:
                    wrong = True
                    print(f"{suffix} {i}, {what}: {type(error).__name__}: {error}", flush=True)
                else:
                    wrong = False
                broken += wrong
            print(f"teacher's {suffix}: {tries} tries, taken: {tries - refused}, refused: {refused}")
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"teachers' weights: {3 * tries} tries, {broken} broke the contract; {memory:.0f} MiB")
    return broken


def command_lines(results: Path, count: int, seconds: float, seed: int, only: list[str]) -> int:
    """Give so many drawn command lines; prints those that broke the contract, and a table. How many did.

    Lines are of the commands in `only`, of all where it is empty; `run` is the run.
    """
    import forked_runs
    import harmful_commands
    import hypothesis

    forked_runs.import_all()
    known = {
        name: harmful_commands.flags(own)
        for name, own in harmful_commands.parsers().items()
        if not only or (name or "run") in only
    }
    codes: dict[str, Counter[int]] = defaultdict(Counter)
    broken: Counter[str] = Counter()
    used, memory = 0.0, 0
    with tempfile.TemporaryDirectory() as scratch:
        original = Path(scratch, "original")
        harmful_commands.lay_out(original, results)
        place = Path(scratch, "tries")
        place.mkdir()

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=[*hypothesis.HealthCheck],
        )
        @hypothesis.given(harmful_commands.lines(known))
        def give(argv: list[str]) -> None:
            nonlocal used, memory
            with harmful_commands.laid_out(original, place / "try") as folder:
                line = harmful_commands.give(argv, folder, seconds)
            name = argv[0] if argv and argv[0] in known else ""
            codes[name][line.code] += 1
            used, memory = used + line.seconds, max(memory, line.memory)
            if wrong := line.broken():
                broken[name] += 1
                print(f"{shlex.join(argv)!r}: {wrong}", flush=True)

        give()
    for name, own in codes.items():
        ends = ", ".join(f"{code}: {own[code]}" for code in sorted(own))
        print(f"{name or 'run':10}{own.total():6} lines, exit {ends}; broken: {broken[name]}")
    total = sum(codes.values(), Counter[int]())
    ends = ", ".join(f"{code}: {total[code]}" for code in sorted(total))
    print(f"{total.total()} lines, exit {ends}; {broken.total()} broke the contract; seed {seed}")
    print(f"{used:.0f} CPU seconds; most memory {memory / 2**20:.0f} MiB")
    return broken.total()


def main():
    import harmful_files

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results")
    parser.add_argument("--tries", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    there = [kind for kind in harmful_files.KINDS if find_spec(harmful_files.NEEDS.get(kind, "sys"))]
    parser.add_argument("--only", nargs="+", choices=there, default=there)
    parser.add_argument("--command-lines", type=int, default=0, help="so many of them, and no files")
    parser.add_argument("--commands", nargs="+", metavar="NAME", default=[], help="lines of these alone")
    parser.add_argument("--seconds", type=float, default=3.0, help="of CPU until a command line is stopped")
    args = parser.parse_args()
    if args.command_lines:
        results = Path(args.results).absolute()
        broken = command_lines(results, args.command_lines, args.seconds, args.seed, args.commands)
        sys.exit(broken > 0)
    preload()
    harmful_files.RESULTS["folder"] = Path(args.results).absolute()
    bundle = next(harmful_files.RESULTS["folder"].glob("*_Student_int8.tflite"))
    table, failures = [], 0
    with tempfile.TemporaryDirectory() as scratch:
        for kind in args.only:
            outcomes = []
            for i in range(args.tries):
                rng = random.Random(f"{args.seed} {kind} {i}")
                folder = Path(scratch, "try")
                what, outcome = harmful_files.attempt(kind, folder, bundle, rng)
                shutil.rmtree(folder)
                outcomes.append(outcome)
                if wrong := outcome.broken():
                    print(f"{kind} {i}, {what}: {wrong}", flush=True)
            broken = sum(bool(o.broken()) for o in outcomes)
            failures += broken
            codes = [sum(o.code == code for o in outcomes) for code in (0, 2, 3)]
            memory = max(o.memory for o in outcomes) / 2**20
            table.append((kind, len(outcomes), *codes, broken, f"{memory:.0f} MiB"))
            print("{:14}{:6} tries, exit 0: {}, 2: {}, 3: {}; broken: {}; {}".format(*table[-1]), flush=True)
    print(f"{sum(row[1] for row in table)} tries, {failures} broke the contract")
    if args.only == there:
        failures += teachers_weights(args.tries, args.seed)
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
