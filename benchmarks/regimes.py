"""Where distillation gains and where it harms: one run a regime, all at one budget of images seen.

    python benchmarks/regimes.py DATA SETTINGS.toml --results DIR [--name NAME] [--only REGIME ...] [-- MORE]
    python benchmarks/regimes.py --map DIR/regimes.csv [DIR/regimes.csv ...] --out map.png

SETTINGS.toml has `images_seen` (how many training images a student is shown in all), a table [base] of
settings by their names on the command line (with underscores), and a table for every regime: what it
changes of them. `labels = N` in a regime keeps the labels of N training images, drawn by class with seed 0,
and gives the others as unlabelled ones, with those that the data have already. Val is cut to half as many:
who has 50 labels does not have 500 to choose by.

Epochs follow from the budget, so that students of 50 labels take as many steps as those of 500. Every
regime is a run in DIR/LABELS, with MORE arguments, whose stages are kept: the same command goes on where it
was stopped. Its tables are copied to DIR/REGIME. Prints and writes `regimes.csv`: of every comparison the
accuracy of teacher, student alone and distilled student on test (and on its clean images) as means over
seeds, and the paired gain with its 95 % interval; the same of their int8 files, and of AUC with its
classes weighted by their images. NAME is what the data are called in it. The second command draws the
gains of such tables, of accuracy and of AUC, over the teacher's lead on the student alone, and counts how
many are shown, alone and with a correction for being many.
"""

import argparse
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

MAIN = Path(__file__).parents[1] / "main.py"
AGAINST_ALONE = {
    "distilled against alone": "training images",
    "with unlabelled images against alone": "with unlabelled images",
}
AUC = "auc_by_images"  # of 268 clean images of chest CT 7 are of one class, which would be a quarter of "auc"
MEASURES = {  # columns of the teacher, the student alone, the gain and the ends of its interval
    "accuracy": ("teacher_accuracy", "alone", "gain", "low", "high"),
    "AUC": ("auc_teacher", "auc_alone", "auc_gain", "auc_low", "auc_high"),
}


def few_labels(source: Path, labels: int, out: Path) -> int:
    """The data with the labels of that many training images; returns how many there are. 0 keeps them all."""
    from kdtf.data.load import load

    data = load(source, out.parent / "opened")
    kept = drawn(data.train.labels, labels) if labels else np.arange(len(data.train.labels))
    rows_of = {"train": kept, **{s: np.arange(len(getattr(data, s).labels)) for s in ("val", "test")}}
    if labels:
        rows_of["val"] = drawn(data.val.labels, min(len(data.val.labels), max(20, labels // 2)))
    if out.exists():
        return len(kept)
    part = out.with_name(f".{out.name}")
    shutil.rmtree(part, ignore_errors=True)
    larger = data.train.teacher_pixels is not data.train.pixels
    for folder, name in ((part, "pixels"), *(((part / "teacher", "teacher_pixels"),) if larger else ())):
        folder.mkdir(parents=True)
        for split, rows in rows_of.items():
            np.save(folder / f"X_{split}.npy", getattr(getattr(data, split), name)[rows])
        others = np.setdiff1d(np.arange(len(data.train.labels)), kept)
        unlabelled = [getattr(data.train, name)[others]]
        if data.unlabelled:
            unlabelled.append(getattr(data.unlabelled, name))
        if sum(map(len, unlabelled)):
            np.save(folder / "X_unlabelled.npy", np.concatenate(unlabelled))
    for split, rows in rows_of.items():
        np.save(part / f"y_{split}.npy", getattr(data, split).labels[rows])
    (part / "classes.txt").write_text("\n".join(data.classes) + "\n")
    part.rename(out)
    return len(kept)


def drawn(labels: np.ndarray, count: int) -> np.ndarray:
    """Rows of `count` images, as many of every class as its share, and at least one."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(labels))
    rank = np.empty(len(labels), int)
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        rank[rows] = np.arange(len(rows))
    share = (rank + 0.5) / np.bincount(labels)[labels]  # the first of every class, then by share
    return np.sort(order[np.argsort(np.where(rank == 0, -1.0, share)[order], kind="stable")][:count])


def arguments_of(settings: dict[str, Any]) -> list[str]:
    """Settings as arguments of a run."""
    argv: list[str] = []
    for name, value in settings.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            argv.append(flag if value else f"--no-{flag[2:]}")
        else:
            argv += [flag, *(map(str, value) if isinstance(value, list) else (str(value),))]
    return argv


def compared(folder: Path, data: str, regime: str, labels: int) -> list[dict[str, Any]]:
    """What the tables of a run on `data` say of every comparison with the student alone."""
    import pandas as pd

    gains, seeds, files = (pd.read_csv(folder / f"{name}.csv") for name in ("gains", "seeds", "summary"))
    scores = pd.read_csv(folder / "intervals.csv")
    rows = []
    for gain in gains[gains.question.isin(list(AGAINST_ALONE))].itertuples():
        own = seeds[(seeds.images == gain.images) & (seeds.recipe == "keras")].set_index(["teacher", "model"])
        own_teacher = gain.teacher.removesuffix("-unlabelled")
        teacher = own.loc[(own_teacher, "teacher"), "mean"]
        alone = own.loc[("alone", "alone"), "mean"]
        own_scores = scores[scores.images == gain.images]
        size = files[(files.model == "alone") & (files.recipe == "int8")].size_kib
        rows.append(
            {
                "data": data,
                "regime": regime,
                "labels": labels,
                "learned_from": AGAINST_ALONE[gain.question],
                "teacher": own_teacher,
                "images": gain.images,
                "kib": size.iloc[0] if len(size) else None,
                "teacher_accuracy": teacher,
                "alone": alone,
                "distilled": alone + gain.gain,
                "lead": teacher - alone,
                "seeds": gain.seeds,
                "gain": gain.gain,
                "low": gain.low,
                "high": gain.high,
                **paired(own_scores, gain.teacher, "file", "accuracy", "int8"),
                "auc_teacher": of_seeds(own_scores, own_teacher, "teacher", AUC).mean(),
                **paired(own_scores, gain.teacher, "auc", AUC, "keras"),
                **paired(own_scores, gain.teacher, "auc_file", AUC, "int8"),
                "verdict": gain.verdict,
            }
        )
    return rows


def of_seeds(scores: Any, teacher: str, model: str, metric: str, recipe: str = "keras") -> Any:
    """A score by seed. `scores` are rows of intervals.csv; the student alone has the teacher "alone"."""
    own = scores[(scores.teacher == teacher) & (scores.model == model)]
    return own[(own.metric == metric) & (own.recipe == recipe)].set_index("seed").value


def paired(scores: Any, teacher: str, name: str, metric: str, recipe: str) -> dict[str, float]:
    """A score of a teacher's students, as networks or files, beside that of the students alone, seed by seed.

    The interval is Student's t over seeds. Keys begin with `name`. Empty where the run has no such files.
    """
    from kdtf.evidence.gains import mean_gain

    alone = of_seeds(scores, "alone", "alone", metric, recipe)
    distilled = of_seeds(scores, teacher, "distilled", metric, recipe)
    gains = (distilled - alone).dropna()
    if gains.empty:
        return {}
    gain = mean_gain(gains.to_numpy())[0]
    values = {"alone": alone.mean(), "distilled": distilled.mean(), "gain": gain.value}
    return {f"{name}_{key}": v for key, v in {**values, "low": gain.low, "high": gain.high}.items()}


def measure(arguments: argparse.Namespace) -> None:
    """Run every regime, gather what they say."""
    import pandas as pd

    tables = tomllib.loads(Path(arguments.settings).read_text())
    budget, base, results = tables.pop("images_seen"), tables.pop("base"), Path(arguments.results)
    rows = []
    for name, changes in tables.items():
        labels = changes.pop("labels", 0)
        own = results / (f"labels-{labels}" if labels else "labels-all")
        own.mkdir(parents=True, exist_ok=True)
        count = few_labels(Path(arguments.data), labels, own / "data")
        copies = results / name
        if not arguments.only or name in arguments.only:
            settings = {**base, **changes}
            settings.setdefault("epochs", max(1, round(budget / count)))
            argv = ["--data", str(own / "data"), "--results", str(own / "run"), *arguments_of(settings)]
            print(f"{name}: {count} labels, {settings['epochs']} epochs", flush=True)
            subprocess.run([sys.executable, str(MAIN), *argv, *arguments.more], check=True)
            copies.mkdir(exist_ok=True)
            for table in (own / "run").glob("*.csv"):
                shutil.copy(table, copies)
        if (copies / "gains.csv").exists():
            rows += compared(copies, arguments.name or Path(arguments.data).stem, name, count)
            table = pd.DataFrame(rows)
            table.to_csv(results / "regimes.csv", index=False)
    print(table.round(4).to_string(index=False))


def read_regimes(paths: list[str]) -> Any:
    """A row for every comparison, on the clean test images where test has copies of training images."""
    import pandas as pd

    table = pd.concat(map(pd.read_csv, paths))
    clean = table.data.isin(table.data[table.images == "clean"])
    return table[table.images == np.where(clean, "clean", "all")]


def draw_map(paths: list[str], out: str) -> None:
    """Gains in points over the teacher's lead in points, of accuracy and of AUC, on clean test images.

    A row a data set; those of one regime or two share one. A mark is full where the student learned from
    unlabelled images too.
    """
    import pandas as pd
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    palette = colormaps["tab20"].colors[::2] + colormaps["tab20"].colors[1::2]  # dark ones first
    table = read_regimes(paths)
    few = table.groupby("data").regime.transform("count") < 3
    table.loc[few, "regime"] = table.data + ", " + table.regime
    table.loc[few, "data"] = "other pictures"
    names = list(dict.fromkeys(table.data))
    figure = Figure(figsize=(15, 3.8 * len(names)), layout="constrained", dpi=90)
    grid = figure.subplots(len(names), len(MEASURES), squeeze=False)
    for name, axes in zip(names, grid, strict=True):
        own = table[table.data == name]
        colours = dict(zip(dict.fromkeys(own.regime), palette, strict=False))
        for (metric, columns), axis in zip(MEASURES.items(), axes, strict=True):
            draw_gains(axis, own.dropna(subset=list(columns)), colours, *columns)
            axis.set_title(f"{name}: {metric}", fontsize=10)
            axis.set_ylabel("gain of the student", fontsize=8)
            axis.set_xlabel("the teacher minus the student alone, points of test", fontsize=8)
    figure.suptitle(
        "What distilling gave, points with 95 % intervals over seeds; full: with unlabelled images"
    )
    figure.savefig(out)
    print(pd.DataFrame(counted(table)).to_string(index=False))


def counted(table: Any) -> list[dict[str, Any]]:
    """How many comparisons have an interval above and below 0, where the teacher is better, and where worse.

    Better or worse in accuracy on test, whichever measure the gain is of. Of many comparisons some have such
    an interval by chance: `gains_kept` and `harms_kept` are those that remain where a twentieth of all that
    are called a gain or a harm by their measure may be none (Benjamini and Hochberg 1995).
    """
    rows = []
    for measure, (*_, gain, low, high) in MEASURES.items():
        known = table.dropna(subset=[low])
        kept = false_discoveries(known[gain], known[low], known[high], known.seeds) < 0.05
        for teacher, own in (("better", known.lead > 0), ("worse", known.lead <= 0)):
            parts = {"n": own, "gains": own & (known[low] > 0), "harms": own & (known[high] < 0)}
            parts |= {f"{name}_kept": parts[name] & kept for name in ("gains", "harms")}
            rows.append({"teacher": teacher, "of": measure} | {k: part.sum() for k, part in parts.items()})
    return sorted(rows, key=lambda row: row["teacher"])


def false_discoveries(gains: Any, low: Any, high: Any, seeds: Any) -> Any:
    """Of every gain the part of false ones among those at least as sure, from 95 % intervals over seeds."""
    from scipy import stats

    errors = (high - low) / 2 / stats.t.ppf(0.975, seeds - 1)
    return stats.false_discovery_control(2 * stats.t.sf(np.abs(gains) / errors, seeds - 1))


def draw_gains(
    axis: Any, rows: Any, colours: dict[str, Any], teacher: str, alone: str, gain: str, low: str, high: str
) -> None:
    """Gains with their intervals over the lead, from left to right, with the names of their regimes."""
    if rows.empty:
        axis.axis("off")
        axis.text(0.5, 0.5, "the teacher's is not known", transform=axis.transAxes, ha="center", color="grey")
        return
    axis.axhline(0, color="black", linewidth=0.8)
    axis.axvline(0, color="black", linewidth=0.8)
    rows = rows.assign(lead=100 * (rows[teacher] - rows[alone])).sort_values("lead")
    for row in rows.to_dict("records"):
        full = row["learned_from"] == "with unlabelled images"
        colour, value = colours[row["regime"]], 100 * row[gain]
        margins = [[value - 100 * row[low]], [100 * row[high] - value]]
        style = {"fmt": "s" if full else "o", "color": colour, "mfc": colour if full else "white"}
        label = row["regime"] + (" + unlabelled" if full else "")
        axis.errorbar(row["lead"], value, margins, capsize=3, label=label, **style)
    axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))


def main() -> None:
    """Parse, then run or draw."""
    own, more = sys.argv[1:], []
    if "--" in own:
        own, more = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?")
    parser.add_argument("settings", nargs="?")
    parser.add_argument("--results")
    parser.add_argument("--name")
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--map", nargs="+")
    parser.add_argument("--out")
    arguments = parser.parse_args(own, argparse.Namespace(more=more))
    if arguments.map and arguments.out:
        draw_map(arguments.map, arguments.out)
    elif arguments.settings and arguments.results:
        measure(arguments)
    else:
        parser.error("give DATA, SETTINGS.toml and --results, or --map and --out")


if __name__ == "__main__":
    main()
