"""Which settings suit teacher or student, by cross-validation on train and val: test is never read.

    python benchmarks/crossval.py DATA SETTINGS.toml --results DIR [--folds 5] [--score distilled] [--apart]

SETTINGS.toml has a table [base] of settings by their names on the command line (with underscores), and one
table for every variant: what it changes of them. Train and val are put together and split into folds
by class, copies of one image (exact or near) in one fold. In fold k a network learns from the others with
seed k and is scored on fold k. Prints and writes `crossval.csv`: accuracy over all images, its standard
deviation over folds, and the difference to the first variant with a 95 % interval over folds (Student's t;
paired). A fold is also val of what learns from the others: a setting that chooses by val, such as --patience
above 0, looks better here than it is. With --apart the next fold is val, and is not learned from. Stages are
kept in DIR: the same command goes on where it was stopped.
"""

import argparse
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from kdtf.cli.terminal import Terminal
from kdtf.config import Config
from kdtf.data.dataset import Dataset
from kdtf.data.folds import clusters, folds_of, held_out
from kdtf.data.load import load
from kdtf.evidence.gains import mean_gain
from kdtf.progress import Progress
from kdtf.runs.check import check_names, check_networks, loss_options, teachers_of, weight_digests
from kdtf.runs.engine import data_facts
from kdtf.runs.fitted import read_predictions
from kdtf.runs.kinds import PACKAGES
from kdtf.runs.outcomes import learned
from kdtf.runs.perform import perform
from kdtf.runs.plan import plan
from kdtf.runs.records import Plan
from kdtf.runs.runtime import tensorflow_runtime
from kdtf.store import Store
from kdtf.versions import versions


def folds(data: Dataset, count: int, apart: bool) -> list[Dataset]:
    """The folds as data sets: what is learned from, what is held out as test, and val: that, or the next."""
    fold_of = folds_of(data, clusters(data), count)
    sets = []
    for k in range(count):
        own = held_out(data, fold_of, k, (k + 1) % count if apart else k)
        digest = f"{data.digest}-{k}-of-{count}{'-apart' if apart else ''}"
        sets.append(replace(own, digest=digest, origin=None))
    return sets


def planned(config: Config, data: Dataset, store: Store, progress: Progress) -> Plan:
    """The plan of a run on these data, once it is known where its teachers' weights come from."""
    facts = replace(
        data_facts(data, versions(PACKAGES)),
        loss_options=loss_options(config),
        teachers=teachers_of(config),
        weight_files=weight_digests(config),
    )
    finished: set[str] = set()
    while True:
        current = plan(config, facts)
        unknown = [t.origin for g in current.groups for t in g.teachers if not t.labels and t.origin]
        unknown += [task for candidate, task in current.cuts.items() if candidate not in facts.cuts]
        if current.groups and not unknown:
            return current
        for task in unknown:
            perform(task, store, data, progress)
            finished.add(task.folder)
        facts = learned(config, facts, current, finished, store, data)


def held_out_probs(config: Config, data: Dataset, store: Store, score: str, progress: Progress) -> np.ndarray:
    """Probabilities (n, K) of the held-out images by the first teacher, or the student of it or alone."""
    group = planned(config, data, store, progress).groups[0 if score == "alone" else -1]
    wanted = group.teachers[0].evaluation if score == "teacher" else group.students[0].evaluation
    return read_predictions(perform(wanted, store, data, progress).path, "", "", "", 0).test_probs


def main() -> None:
    """Parse, run every variant on every fold, print the table."""
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("settings")
    parser.add_argument("--results", required=True)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--score", choices=("teacher", "alone", "distilled"), default="teacher")
    parser.add_argument("--apart", action="store_true", help="another fold is val than the one scored")
    parser.add_argument("--image-size", type=int)
    arguments = parser.parse_args()
    tables = tomllib.loads(Path(arguments.settings).read_text())
    base = Config().with_values(tables.pop("base"))
    store, progress = Store(arguments.results), Terminal()
    data = load(arguments.data, store.work, image_size=arguments.image_size)
    sets = folds(data, arguments.folds, arguments.apart)
    right: dict[str, list[np.ndarray]] = {}
    with store.locked(), tensorflow_runtime(base.run):
        for k, fold in enumerate(sets):  # all variants on a fold: what is cut short is still paired
            for name, changes in tables.items():
                config = base.with_values({**changes, "seed": k})
                check_names(config)
                check_networks(config)
                probs = held_out_probs(config, fold, store, arguments.score, progress)
                right.setdefault(name, []).append(probs.argmax(1) == fold.test.labels)
                print(f"fold {k} {name}: {right[name][-1].mean():.3f}", flush=True)
    first = next(iter(right))
    rows = []
    for name, folds_right in right.items():
        by_fold = np.array([r.mean() for r in folds_right])
        gain = mean_gain(by_fold - np.array([r.mean() for r in right[first]]))[0]
        rows.append(
            {
                "variant": name,
                "accuracy": np.concatenate(folds_right).mean(),
                "sd": by_fold.std(ddof=1),
                "gain": gain.value,
                "gain_low": gain.low,
                "gain_high": gain.high,
            }
        )
    table = pd.DataFrame(rows)
    table.to_csv(Path(arguments.results) / "crossval.csv", index=False)
    print(table.round(4).to_string(index=False))


if __name__ == "__main__":
    main()
