"""Harmed files by the hundred, through the command line, held to the contract of `tests/harmful_files.py`.

    python benchmarks/hostile.py RESULTS [--tries 100] [--seed 0] [--only KIND...]

RESULTS is a finished results folder: its int8 student reads the harmed images, its tables are harmed
for `report`. Every try is a process of its own in a folder of its own. Prints the failures and a table:
kind, tries, how many ended with exit code 0 and 2, how many broke the contract, the most memory.
"""

import argparse
import random
import resource
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def preload() -> None:
    """Import once what every try needs: processes are forked from this one."""
    import ai_edge_litert.interpreter
    import pandas
    import pydicom
    import sklearn.feature_extraction

    import kdtf.cli.entry
    import kdtf.data.audit
    import kdtf.texts.classify

    assert all((ai_edge_litert.interpreter, pandas, pydicom, sklearn.feature_extraction, kdtf))


def teachers_weights(tries: int, seed: int) -> int:
    """Harmed weights of a teacher, read in this process: TensorFlow does not outlive a fork."""
    from harmful_files import harm

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


def main():
    import harmful_files

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results")
    parser.add_argument("--tries", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=[*harmful_files.KINDS], default=[*harmful_files.KINDS])
    args = parser.parse_args()
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
    if args.only == [*harmful_files.KINDS]:
        failures += teachers_weights(args.tries, args.seed)
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
