"""The CSV files of a results folder as people read them on the page. Computes no score."""

from collections.abc import Collection, Mapping
from pathlib import Path

import pandas as pd

from ..evidence.metrics import METRICS
from ..evidence.tables import TABLES as EVIDENCE
from ..records import KERAS
from .cells import CHOSEN, Cell, html_table, html_tables, interval_cell, interval_text, points_cell
from .csv_files import read_csv
from .figures import MODELS

CSV = {  # and those of evidence
    "summary": "summary.csv",
    "audit": "audit.csv",
    "agreement": "agreement.csv",
    "frontier": "frontier.csv",
    "verdict": "verdict.csv",
    "subgroups": "subgroups.csv",
    "subgroup_gaps": "subgroup_gaps.csv",
}
FRONTIER_SCORES = {
    "accuracy on val": ("val_accuracy", "val_low", "val_high"),
    "on test": ("accuracy", "low", "high"),
    "without copies": ("clean_accuracy", "clean_low", "clean_high"),
}
ERRORS = "_quantization_error.csv"  # ends the name of each student's
NAME = ["teacher", "model", "recipe", "seed"]
IMAGES = {"all": "on all test images", "clean": "on the test images without a copy in train or val"}
FILE = "The chosen file"
Tables = dict[str, pd.DataFrame]  # by the names of `CSV` and of `evidence.tables.TABLES`


def read_tables(results: Path, names: Collection[str]) -> Tables:
    """The tables that the page is made of, as far as they are among the files `names` of a run.

    An earlier kdtf may not have written all of them. Raises `OSError` and `ValueError`.
    """
    files = CSV | {name: table.file for name, table in EVIDENCE.items()}
    return {name: read_csv(results / file) for name, file in files.items() if file in names}


def marked(frame: pd.DataFrame, rows: pd.DataFrame, chosen: pd.Series) -> pd.DataFrame:
    """A frame made of `rows`, those of the chosen file marked by as many of the words as there are."""
    words = [name for name in NAME if name in rows and name in chosen]
    return frame.assign(**{CHOSEN: (rows[words] == chosen[words]).all(axis=1).to_numpy()})


def interval_of(tables: Tables, row: pd.Series, metric: str, images: str) -> pd.Series | None:
    """The row of `intervals.csv` of a model, which is a row of `summary.csv`."""
    intervals = tables["intervals"]
    same_model = (intervals[NAME] == row[NAME]).all(axis=1)
    rows = intervals[same_model & (intervals.metric == metric) & (intervals.images == images)]
    return rows.iloc[0] if len(rows) else None


def models(tables: Tables, chosen: pd.Series) -> pd.DataFrame:
    """The rows of `summary.csv`."""
    headlines = {name: metric for name, metric in METRICS.items() if metric.headline and name != "accuracy"}
    rows = []
    for _, row in tables["summary"].iterrows():
        cells = {
            "teacher": row.teacher,
            "model": MODELS[row.model].label,
            "recipe": row.recipe,
            METRICS["accuracy"].label: interval_cell(interval_of(tables, row, "accuracy", "all")),
            "without copies": interval_cell(interval_of(tables, row, "accuracy", "clean")),
            METRICS["loss"].label: row.loss,
            **{metric.label: row.get(name) for name, metric in headlines.items()},
            "KiB": row.size_kib,
            "ms/image": row.latency_ms,
            "training, s": row.train_seconds,
        }
        rows.append(cells)
    return marked(pd.DataFrame(rows).dropna(axis=1, how="all"), tables["summary"], chosen)


def weight_origins(tables: Tables) -> str:
    """A sentence on where the teachers' weights came from."""
    teachers = tables["summary"].query("model == 'teacher'")
    origins = [
        f"{', '.join(rows.teacher)}: {origin}"
        for origin, rows in teachers.groupby("teacher_weights", sort=False)
    ]
    return "Teachers: " + "; ".join(origins) + "."


def comparisons(tables: Tables, chosen: pd.Series) -> pd.DataFrame:
    """Differences between models on the same test images, in points."""
    rows = tables["comparisons"]
    frame = rows[["question", "teacher", "recipe", "seed", "images"]].copy()
    differences = zip(rows.difference, rows.low, rows.high, strict=True)
    frame["points, interval"] = [points_cell(*row) for row in differences]
    frame["only 1st right"], frame["only 2nd right"] = rows.only_first_right, rows.only_second_right
    frame["p (Holm)"] = rows.holm_p
    frame["finding"] = [v.split(": ", 1)[1].split(" (")[0] for v in rows.verdict]
    return marked(frame, rows, chosen)


def gains(tables: Tables) -> pd.DataFrame:
    """What distilling, unlabelled images and an ensemble added, in points and in words."""
    rows = tables["gains"]
    frame = rows[["question", "teacher", "images"]].copy()
    values = zip(rows.gain, rows.low, rows.high, strict=True)
    frame["points, interval"] = [points_cell(*row) for row in values]
    over = zip(rows.seeds, rows.interval_over, strict=True)
    frame["over"] = [f"{count} {name}" if name == "seeds" else name for count, name in over]
    frame["p"] = rows.p
    frame["finding"] = [verdict.split(" (")[0] + "." for verdict in rows.verdict]
    return frame


def agreement(tables: Tables) -> pd.DataFrame:
    """A row for each teacher's student: parts that the teacher gets right, and where both name one class."""
    rows = tables["agreement"]
    parts = {"teacher right": "teacher_right", "agree": "agreement"}
    frame = pd.DataFrame({"teacher": rows.teacher.unique()})
    for label, column in parts.items():
        for images in rows.images.unique():
            values = rows[rows.images == images].set_index("teacher")[column]
            frame[f"{label}, {images}"] = frame.teacher.map(values)
    return frame.dropna(axis=1, how="all")


def gain_tables(tables: Tables) -> list[dict]:
    """What is known of where a gain comes from, as the page's template wants it; earlier runs have none."""
    own = html_tables(gains(tables), images="all") if "gains" in tables else []
    return [*own, html_table(agreement(tables))] if "agreement" in tables else own


def frontier(tables: Tables) -> pd.DataFrame:
    """Every file that was compared, the smallest first, with what it costs; none of one network alone."""
    if "frontier" not in tables:
        return pd.DataFrame()
    rows = tables["frontier"]
    frame = rows[["network", "side", "teacher"]].copy()
    frame["model"] = _labels(rows.model)
    frame["KiB"] = [Cell(f"{value:.1f}", value) for value in rows.kib]
    frame["thousand MACs"] = rows.kmacs
    frame["arena, KiB"] = [Cell(f"{value:.0f}", value) for value in rows.arena_kib]
    frame["ms/image"] = rows.latency_ms
    for label, columns in FRONTIER_SCORES.items():
        values = zip(*(rows[column] for column in columns), strict=True)
        frame[label] = [interval_text(v, low, high, ".3f") for v, low, high in values]
    frame["val in the best's interval"] = rows.within.map({1: "yes", 0: "no"})
    frame["chosen"] = rows.chosen.map({1: "yes", 0: ""})
    return frame.dropna(axis=1, how="all")


def seeds(tables: Tables) -> pd.DataFrame:
    """Accuracies over repeated seeds; what distilling gained, where no table of its own says so."""
    rows = tables["seeds"]
    frame = rows[["teacher", "model", "recipe", "images", "seeds", "mean", "standard_deviation"]].copy()
    frame["model"] = _labels(rows.model)
    ends = zip(rows.lowest, rows.highest, strict=True)
    frame["lowest to highest"] = [f"{low:.3f} to {high:.3f}" for low, high in ends]
    if "gain" in rows and "gains" not in tables:
        values = zip(rows.gain, rows.gain_low, rows.gain_high, strict=True)
        frame["gain over alone, points"] = [points_cell(*row) for row in values]
        frame["p"] = rows.gain_p
    return frame.rename(columns={"standard_deviation": "standard deviation"})


def _named_so(rows: pd.DataFrame, metrics: tuple[str, ...]) -> dict[str, list[str | None]]:
    """Columns of metrics with their intervals."""
    columns = {}
    for metric in metrics:
        values = zip(rows[metric], rows[f"{metric}_low"], rows[f"{metric}_high"], strict=True)
        name = metric.upper() if len(metric) == 3 else metric
        columns[name] = [interval_text(v, low, high, ".2f") for v, low, high in values]
    return columns


def top_classes(tables: Tables, chosen: pd.Series) -> pd.DataFrame:
    """Each class as it is named, of every model and file of the first seed, on all and on clean images."""
    rows = tables["top_classes"]
    rows = rows[rows.seed == chosen.seed]
    frame = rows[["teacher", "model", "recipe"]].copy()
    frame["model"] = _labels(rows.model)
    frame["images"] = rows.images.map(IMAGES)
    frame["class"] = rows["class"]
    frame["in test"] = [f"{n} ({n / of:.0%})" for n, of in zip(rows.class_images, rows.of, strict=True)]
    for name, column in _named_so(rows, ("sensitivity", "specificity", "ppv", "npv")).items():
        frame[name] = column
    return marked(frame, rows, chosen)


def chosen_classes(tables: Tables, chosen: pd.Series) -> list[dict]:
    """The same of the file that val chose, with the classes of train and val beside; then of all models."""
    if "top_classes" not in tables:
        return []
    frame = top_classes(tables, chosen)
    counts = tables["audit"].query("check == 'class count'").set_index(["split", "name"])
    texts = {place: f"{row['count']:.0f} ({row.value:.0%})" for place, row in counts.iterrows()}
    own = frame[frame[CHOSEN]].drop(columns=["teacher", "model", "recipe", CHOSEN])
    for split in ("val", "train"):
        own.insert(2, f"in {split}", [texts.get((split, name), "") for name in own["class"]])
    own = own.rename(columns={"in test": "in these"})
    own = own.sort_values("images", key=lambda images: images != IMAGES["clean"], kind="stable")
    parts = [
        html_table(rows.drop(columns="images"), title=f"{FILE} {images!s}")
        for images, rows in own.groupby("images", sort=False)
    ]
    return [*parts, html_table(frame, folded=f"Every model and file, {len(frame)} rows")]


def classes(tables: Tables, chosen: pd.Series) -> pd.DataFrame:
    """Each class against the rest at its threshold, of the first seed's models and files."""
    rows = tables["classes"]
    rows = rows[(rows.seed == chosen.seed) & (rows.recipe.isin([KERAS, "int8", chosen.recipe]))]
    frame = rows[["teacher", "model", "recipe", "class"]].copy()
    frame["model"] = _labels(rows.model)
    frame["threshold"] = rows.threshold
    for name, column in _named_so(rows, ("sensitivity", "specificity", "ppv", "npv", "auc")).items():
        frame[name] = column
    return marked(frame, rows, chosen)


def class_tables(tables: Tables, chosen: pd.Series) -> list[dict]:
    """The operating points of the chosen file, and those of all models behind a line."""
    frame = classes(tables, chosen)
    own = frame[frame[CHOSEN]].drop(columns=["teacher", "model", "recipe", CHOSEN])
    parts = [html_table(own, title=FILE)] if len(own) else []
    return [*parts, html_table(frame, folded=f"Every model, {len(frame)} rows")]


def calibration(tables: Tables, chosen: pd.Series) -> pd.DataFrame:
    """Calibration errors, and how students agree with their teachers."""
    rows = tables["calibration"].copy()
    rows["model"] = _labels(rows.model)
    labels = {name: METRICS[name].label for name in ("ece", "brier")}
    names = {s + n: v + t for n, v in labels.items() for s, t in (("", ""), ("scaled_", ", scaled"))}
    names |= {"top1_agreement": "agrees with teacher", "kl_from_teacher": "KL from teacher"}
    columns = [*NAME, "temperature", *names]
    frame = rows[[c for c in columns if c in rows]].rename(columns=names)
    return marked(frame, tables["calibration"], chosen)


def files(tables: Tables, chosen: pd.Series) -> pd.DataFrame:
    """The `.tflite` files: size, size after gzip, accuracy on val and test against float, latency."""
    rows = tables["summary"]
    floats = rows[rows.recipe == KERAS].set_index(["teacher", "model"])
    rows = rows[rows.recipe != KERAS]
    own = floats.loc[list(zip(rows.teacher, rows.model, strict=True))]
    frame = pd.DataFrame({"teacher": rows.teacher, "model": _labels(rows.model), "recipe": rows.recipe})
    frame["KiB"], frame["KiB, gzip"] = rows.size_kib, rows.gzip_kib
    frame["weights that are 0"] = rows.sparsity
    counts = zip(rows.quantized_tensors, rows.weight_tensors, strict=True)
    frame["tensors below float32"] = [f"{below:.0f} of {total:.0f}" for below, total in counts]
    frame["points on val"] = 100 * (rows.val_accuracy.to_numpy() - own.val_accuracy.to_numpy())
    frame["points on test"] = 100 * (rows.accuracy.to_numpy() - own.accuracy.to_numpy())
    frame["ms/image"] = rows.latency_ms
    return marked(frame.dropna(axis=1, how="all"), rows, chosen)


def worst_layers(results: Path, names: Collection[str], chosen: pd.Series) -> pd.DataFrame:
    """The worst layer of every quantized file of a run with the files `names`.

    The CSV has the whole name of its tensor; those of kdtf 0.1.0 mark all layers that are equally bad.
    """
    frames = []
    for name in sorted(name for name in names if name.endswith(ERRORS)):
        rows = read_csv(results / name).query("worst == 1").drop_duplicates("recipe")
        frames.append(rows.assign(teacher=name.removesuffix(ERRORS)))
    columns = {
        "teacher": "teacher",
        "recipe": "recipe",
        "layer": "worst layer",
        "snr_db": "signal to noise, dB",
        "cosine": "cosine",
        "max_abs": "largest error",
        "weights_snr_db": "its weights alone, dB",
    }
    table = pd.concat(frames) if frames else pd.DataFrame(columns=list(columns))
    return marked(table[list(columns)].rename(columns=columns), table, chosen)


COSTS = {  # columns of `bench.csv`, as the page shows them
    "file": "file",
    "macs": "multiplications",
    "median_ms": "ms, one thread",
    "p95_ms": "ms, 95th percentile",
    "arena_kib": "LiteRT's memory, KiB",
    "micro_arena_kib": "TFLite Micro's, KiB",
}
NPU_COSTS = {
    "file": "file",
    "npu": "NPU",
    "npu_percent": "operators on it, %",
    "npu_left": "left to the CPU",
    "npu_sram_kib": "SRAM, KiB",
    "npu_cycles": "cycles",
    "npu_inferences_per_second": "images/s",
}


def costs(results: Path, digests: Mapping[str, str], ship: str) -> list[pd.DataFrame]:
    """What `bench` measured of a run's files, told by their `digests` {name: sha256}; then of an NPU, if any.

    `ship` is the name of the chosen file. None where the folder has no `bench.csv` with digests.
    """
    if not (results / "bench.csv").is_file():
        return []
    table = read_csv(results / "bench.csv")
    if "sha256" not in table:  # of kdtf 0.1.0
        return []
    table["file"] = [Path(file).name for file in table.file]
    table = table[[digests.get(file) == own for file, own in zip(table.file, table.sha256, strict=True)]]
    sizes = [name for name in ("arena", "micro_arena", "npu_sram") if f"{name}_bytes" in table]
    table = table.assign(**{f"{name}_kib": table[f"{name}_bytes"] / 1024 for name in sizes})
    if "npu" in table:
        table["npu_left"] = table.npu_left.where(table.npu_percent > 0, "all")
    frames = []
    for words in (COSTS, NPU_COSTS):
        named = table[[name for name in words if name in table]].dropna(axis=1, how="all")
        if len(named.columns) > 1:
            frames.append(named.rename(columns=words).assign(**{CHOSEN: (table.file == ship).to_numpy()}))
    return frames


def audit(tables: Tables) -> pd.DataFrame:
    """What the audit looked for and how often it found it."""
    found = tables["audit"]
    whole = found.check != "class count"  # those stand with the classes
    return found[whole].rename(columns={"of": "out of", "other": "compared with"}).dropna(axis=1, how="all")


def _labels(kinds: pd.Series) -> pd.Series:
    return kinds.map({kind: style.label for kind, style in MODELS.items()})
