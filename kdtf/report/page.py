"""A finished results folder to `report.html`: one file, pictures embedded, nothing fetched.

Reads only what people read too, the CSV files, the pictures and the manifest, so that it can be made
again without TensorFlow and without `work/`. Computes no score.
"""

import base64
import json
import shlex
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from .. import __version__
from ..config import Config, flag
from ..errors import UserError
from .figures import LABELS

TEMPLATES = Path(__file__).parent / "templates"


def render(results: Path) -> str:
    """The page of a results folder. Raises `UserError` where the folder holds no finished run."""
    from jinja2 import Environment, FileSystemLoader

    try:
        manifest = json.loads((results / "manifest.json").read_text(encoding="utf-8"))
        tables = {p.stem: pd.read_csv(p) for p in (results / n for n in CSV)}
    except (OSError, ValueError) as error:
        raise UserError(
            f"--results must be the folder of a finished run. Got {str(results)!r}: {error}."
        ) from None
    data = manifest["data"]
    images = data["images"]
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True)
    return environment.get_template("report.html.j2").render(
        version=__version__,
        data_name=data["name"],
        synthetic=data["synthetic"],
        answer=answer(tables),
        warnings=manifest["warnings"],
        sections=sections(tables, results, manifest),
        command=command(manifest["config"], data["synthetic"]),
        digest=data["digest"],
        images=", ".join(f"{name} {count} images" for name, count in images.items()),
        versions=", ".join(f"{name} {version}" for name, version in manifest["versions"].items()),
        config=json.dumps(manifest["config"], indent=1),
    )


CSV = (
    "summary.csv", "intervals.csv", "comparisons.csv", "seeds.csv", "per_class.csv", "calibration.csv",
    "audit.csv",
)  # fmt: skip


def answer(tables: dict) -> dict:
    """The student to ship: the `.tflite` with the best val accuracy, the smallest among equals."""
    files = tables["summary"].query("recipe != 'keras'")
    best = files.sort_values(["val_accuracy", "size_kib"], ascending=[False, True]).iloc[0]
    kind = _student(best.teacher)
    sure = _interval(tables["intervals"], best, "accuracy", "all")
    clean = _interval(tables["intervals"], best, "accuracy", "clean")
    text = f"{_points(sure)} of {best.test_images} test images right (95 % interval {_range(sure)})"
    if clean is not None:
        text += (
            f"; {_points(clean)} ({_range(clean)}) of the {best.clean_images} without a copy in train or val"
        )
    asked = tables["comparisons"].query("images == 'all' and teacher == @best.teacher and seed == @best.seed")
    gain = asked[asked.question == "distilled against alone"].verdict.tolist()
    facts = [
        ("accuracy on test", f"{best.accuracy:.3f}"),
        ("macro AUC", "" if pd.isna(best.auc) else f"{best.auc:.3f}"),
        ("size", f"{best.size_kib:,.0f} KiB"),
        ("for one image, one thread", "" if pd.isna(best.latency_ms) else f"{best.latency_ms:.2f} ms"),
    ]
    file = f"{best.teacher}_Student_{best.recipe}.tflite"
    return {
        "headline": f"Ship {file}: {kind[0].lower()}{kind[1:]}, recipe {best.recipe}.",
        "sure": " ".join([text + ".", *gain, *again(tables["seeds"])]),
        "facts": [{"name": n, "value": v} for n, v in facts if v],
    }


def again(seeds: pd.DataFrame) -> list[str]:
    """Over repeated seeds, in words: what distilling from each teacher gained on average."""
    if "gain" not in seeds:
        return []
    told = []
    for row in seeds[(seeds.images == "all") & seeds.gain.notna()].itertuples():
        sure = row.gain_low > 0 or row.gain_high < 0
        finding = ("a gain" if row.gain > 0 else "a loss") if sure else "no evidence of a difference"
        points, low, high = (100 * v for v in (row.gain, row.gain_low, row.gain_high))
        told.append(
            f"Over {row.seeds} seeds distilling from {row.teacher} against training alone: {finding} "
            f"({points:+.1f} points on average, {low:+.1f} to {high:+.1f})."
        )
    return told


def _interval(intervals, row, metric: str, images: str):
    found = intervals[
        (
            intervals[["teacher", "model", "recipe", "seed"]] == row[["teacher", "model", "recipe", "seed"]]
        ).all(axis=1)
        & (intervals.metric == metric)
        & (intervals.images == images)
    ]
    return found.iloc[0] if len(found) else None


def _points(interval) -> str:
    return f"{100 * interval.value:.1f} %"


def _range(interval) -> str:
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f} %"


def sections(tables: dict, results: Path, manifest: dict) -> list[dict]:
    """The page's sections: tables and pictures in the order a reader asks for them."""
    first = manifest["config"]["run"]["seed"]
    per_class = tables["per_class"]
    per_class = per_class[(per_class.seed == first) & per_class.recipe.isin(["keras", "int8"])]
    examples = {k: sorted(results.glob(f"*_{k}_examples.png")) for k in ("student", "teacher")}
    single = [p for kind in ("teacher", "student") for p in sorted(results.glob(f"*_{kind}_curves.png"))]
    overlaid = [p for p in sorted(results.glob("*_curves.png")) if p not in single]
    found = [
        _section("models", "Every model", "Accuracy on test with its 95 % interval, and on the images "
                 f"without a copy in train or val; a click on a heading sorts. {origins(tables)}",
                 [_table(models(tables))], [results / "comparison.png", results / "pareto.png"]),
        _section("seeds", "Trained again", "Accuracy over repeated seeds; the gain with Student's t interval "
                 "over seeds.", _folded(seeds(tables), recipe="keras", images="all"),
                 ) if tables["seeds"].seeds.max() > 1 else None,
        _section("comparisons", "What differs from what",
                 "Paired on the same test images: difference in accuracy with its bootstrap interval, "
                 "McNemar's exact test, p corrected by Holm within each question.",
                 _folded(comparisons(tables), seed=first, images="all")),
        _section("classes", "Each class against the rest",
                 "At a threshold chosen on val; 95 % intervals in brackets.",
                 _folded(classes(per_class), recipe="keras"),
                 sorted(results.glob("*_roc_pr.png"))),
        _section("calibration", "Can its probabilities be believed",
                 "Expected calibration error and Brier score, before and after the temperature fitted on "
                 "val; agreement with the teacher.", _folded(calibration(tables), seed=first, recipe="keras"),
                 sorted(results.glob("*_reliability.png"))),
        _section("files", "What small files cost",
                 "Every file of the first seed, and its worst layer: the output furthest from the float "
                 "file's on val, errors of earlier layers included; 20 dB is an error of a tenth.",
                 [_table(files(tables)), _table(worst_layers(results))],
                 sorted(results.glob("*_quantization_error.png"))),
        _section("confusion", "What is taken for what", "", [],
                 sorted(results.glob("*_confusion_matrix.png"))),
        _section("examples", "Where they are wrong", "The surest mistakes on test first, then images the "
                 "model got right. Framed blue where it is right, orange where it is wrong.", [],
                 examples["student"], examples["teacher"]),
        _section("gradcam", "Where they look", "Grad-CAM: bright is what spoke for the class named "
                 "below. A model that looks beside the lung is right for the wrong reason.", [],
                 sorted(results.glob("*_gradcam.png"))),
        _section("curves", "How the training went", "", [], overlaid, single),
        _section("audit", "The data", "What the audit looked for, and how often it found it.",
                 [_table(audit(tables), folded="All findings")], sorted(results.glob("audit_*.png"))),
    ]  # fmt: skip
    return [section for section in found if section]


def _section(name, title, text, tables, pictures=(), folded=()) -> dict:
    """A section; the `folded` pictures wait behind a line to click."""
    return {
        "id": name,
        "title": title,
        "text": text,
        "tables": tables,
        "pictures": _embedded(pictures),
        "folded": _embedded(folded),
    }


def _embedded(pictures) -> list[dict]:
    return [
        {"data": base64.b64encode(p.read_bytes()).decode(), "alt": caption(p.name)}
        for p in pictures
        if p.exists()
    ]


COURSES = "accuracy and cross entropy over the epochs"
CONFUSIONS = "confusion matrix on test, counts and parts of the true class, which is in rows."
MISTAKES = "test images, its surest mistakes first."
CAPTIONS = {  # by the end of a picture's name; the first that fits
    "comparison": "Accuracy on test, 95 % intervals: teachers, their students, the student alone as a line.",
    "pareto": "Accuracy on test against size and latency for one image; band: student alone, 95 % interval.",
    "_roc_pr": "{who}: ROC and precision-recall curves of every class against the rest, on test.",
    "_reliability": "{who}: how often the top class is right, by how sure the model is; diagonal: honest.",
    "_quantization_error": "{who}: every file's layers, how far from float; the worst of each is ringed.",
    "_gradcam": "{who}: Grad-CAM of the teacher and both students on the same test images.",
    "_student_curves": f"{{student}}: {COURSES}.",
    "_teacher_curves": f"The teacher {{who}}: {COURSES}.",
    "_curves": f"{{who}}: {COURSES}, train dashed, val solid.",
    "_student_examples": f"{{student}}: {MISTAKES}",
    "_teacher_examples": f"The teacher {{who}}: {MISTAKES}",
    "_student_confusion_matrix": f"{{student}}: {CONFUSIONS}",
    "_teacher_confusion_matrix": f"The teacher {{who}}: {CONFUSIONS}",
    "_exact_copies": "Pairs of images that are exact copies, the worst first.",
    "_near_copies": "Pairs of images that are near copies, the worst first.",
}
UNTAUGHT = {"alone": "The student trained alone", "baseline": "The baseline"}


def caption(file: str) -> str:
    """What a picture of a run shows, for readers and for screen readers."""
    stem = file.removesuffix(".png")
    end = next((end for end in CAPTIONS if stem.endswith(end)), None)
    if end is None:  # a picture that is not of this run
        return stem
    who = stem.removesuffix(end)
    return CAPTIONS[end].format(who=who, student=_student(who))


def _student(teacher: str) -> str:
    return UNTAUGHT.get(teacher, f"The student distilled from {teacher}")


class Shown(NamedTuple):
    """A cell that reads as `text` and sorts by `value`."""

    text: str
    value: float


def _sure(found) -> Shown | None:
    """A metric's row of intervals.csv as a cell."""
    if found is None:
        return None
    return Shown(f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})", found.value)


def models(tables) -> pd.DataFrame:
    """The rows of summary.csv as people read them."""
    rows = []
    for _, row in tables["summary"].iterrows():
        shown = {
            "teacher": row.teacher,
            "model": LABELS[row.model],
            "recipe": row.recipe,
            "accuracy": _sure(_interval(tables["intervals"], row, "accuracy", "all")),
            "without copies": _sure(_interval(tables["intervals"], row, "accuracy", "clean")),
            "loss": row.loss,
            "macro F1": row.f1,
            "AUC": row.auc,
            "KiB": row.size_kib,
            "ms/image": row.latency_ms,
            "training, s": row.train_seconds,
        }
        rows.append(shown)
    return pd.DataFrame(rows).dropna(axis=1, how="all")


def origins(tables) -> str:
    """A sentence on where the teachers' weights came from."""
    found = tables["summary"].query("model == 'teacher'")
    told = [
        f"{', '.join(rows.teacher)}: {origin}"
        for origin, rows in found.groupby("teacher_weights", sort=False)
    ]
    return "Teachers: " + "; ".join(told) + "."


def comparisons(tables) -> pd.DataFrame:
    found = tables["comparisons"]
    shown = found[["question", "teacher", "recipe", "seed", "images"]].copy()
    shown["points, interval"] = [
        _points_of(*row) for row in zip(found.difference, found.low, found.high, strict=True)
    ]
    shown["only 1st right"], shown["only 2nd right"] = found.only_first_right, found.only_second_right
    shown["p (Holm)"] = found.holm_p
    shown["finding"] = [v.split(": ", 1)[1].split(" (")[0] for v in found.verdict]
    return shown


def _points_of(value, low, high) -> Shown | None:
    """A difference of two parts as a cell, in points."""
    if pd.isna(value):
        return None
    return Shown(f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})", 100 * value)


def seeds(tables) -> pd.DataFrame:
    found = tables["seeds"]
    shown = found[["teacher", "model", "recipe", "images", "seeds", "mean", "standard_deviation"]].copy()
    shown["model"] = found.model.map(LABELS)
    shown["lowest to highest"] = [
        f"{a:.3f} to {b:.3f}" for a, b in zip(found.lowest, found.highest, strict=True)
    ]
    if "gain" in found:
        gains = zip(found.gain, found.gain_low, found.gain_high, strict=True)
        shown["gain over alone, points"] = [_points_of(*row) for row in gains]
        shown["p"] = found.gain_p
    return shown.rename(columns={"standard_deviation": "standard deviation"})


def classes(found) -> pd.DataFrame:
    shown = found[["teacher", "model", "recipe", "class"]].copy()
    shown["model"] = shown.model.map(LABELS)
    for metric in ("sensitivity", "specificity", "ppv", "npv", "auc"):
        columns = (found[metric], found[f"{metric}_low"], found[f"{metric}_high"])
        name = metric.upper() if len(metric) == 3 else metric
        shown[name] = [f"{v:.2f} ({a:.2f} to {b:.2f})" for v, a, b in zip(*columns, strict=True)]
    shown["threshold"], shown["test images"] = found.threshold, found.test_images
    return shown


def calibration(tables) -> pd.DataFrame:
    found = tables["calibration"].copy()
    found["model"] = found.model.map(LABELS)
    names = {"ece": "ECE", "scaled_ece": "ECE, scaled", "brier": "Brier", "scaled_brier": "Brier, scaled"}
    names |= {"top1_agreement": "agrees with teacher", "kl_from_teacher": "KL from teacher"}
    columns = ["teacher", "model", "recipe", "seed", "temperature", *names]
    return found[[c for c in columns if c in found]].rename(columns=names)


def files(tables) -> pd.DataFrame:
    """The `.tflite` files: size, size after gzip, accuracy on val and test against float, latency."""
    rows = tables["summary"]
    floats = rows[rows.recipe == "keras"].set_index(["teacher", "model"])
    found = rows[rows.recipe != "keras"]
    own = floats.loc[list(zip(found.teacher, found.model, strict=True))]
    shown = pd.DataFrame({"teacher": found.teacher, "model": found.model.map(LABELS), "recipe": found.recipe})
    shown["KiB"], shown["KiB, gzip"] = found.size_kib, found.gzip_kib
    shown["weights that are 0"] = found.sparsity
    shown["tensors below float32"] = [
        f"{a:.0f} of {b:.0f}" for a, b in zip(found.quantized_tensors, found.weight_tensors, strict=True)
    ]
    shown["points on val"] = 100 * (found.val_accuracy.to_numpy() - own.val_accuracy.to_numpy())
    shown["points on test"] = 100 * (found.accuracy.to_numpy() - own.accuracy.to_numpy())
    shown["ms/image"] = found.latency_ms
    return shown.dropna(axis=1, how="all")


def worst_layers(results: Path) -> pd.DataFrame:
    """The worst layer of every quantized file; the CSV has the whole name of its tensor."""
    found = []
    for path in sorted(results.glob("*_quantization_error.csv")):
        rows = pd.read_csv(path).query("worst == 1").drop_duplicates("recipe")
        found.append(rows.assign(teacher=path.name.removesuffix("_quantization_error.csv")))
    columns = {
        "teacher": "teacher",
        "recipe": "recipe",
        "layer": "worst layer",
        "snr_db": "signal to noise, dB",
        "cosine": "cosine",
        "max_abs": "largest error",
        "weights_snr_db": "its weights alone, dB",
    }
    table = pd.concat(found) if found else pd.DataFrame(columns=list(columns))
    return table[list(columns)].rename(columns=columns)


def audit(tables) -> pd.DataFrame:
    return tables["audit"].rename(columns={"of": "out of", "other": "compared with"})


def _folded(frame: pd.DataFrame, **first) -> list[dict]:
    """The rows with these values, whose columns need no showing, and all rows behind a line to click."""
    wanted = (frame[list(first)] == pd.Series(first)).all(axis=1)
    shown = frame[wanted].drop(columns=list(first)).dropna(axis=1, how="all")
    rest = [] if wanted.all() else [_table(frame, folded=f"All {len(frame)} rows")]
    return [_table(shown), *rest]


def _table(frame: pd.DataFrame, *, title: str = "", folded: str = "") -> dict:
    """A frame as the template wants it: cells with a text and the value they sort by."""
    kinds = {c: "number" if pd.api.types.is_numeric_dtype(frame[c]) else "text" for c in frame}
    kinds |= {c: "number" for c in frame if any(isinstance(v, Shown) for v in frame[c])}
    rows = [[_cell(v) for v in row] for row in frame.itertuples(index=False)]
    columns = [{"name": c, "kind": k} for c, k in kinds.items()]
    return {"title": title, "folded": folded, "columns": columns, "rows": rows}


def _cell(value) -> dict:
    if isinstance(value, Shown):
        return value._asdict()
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return {"text": "", "value": ""}
    if isinstance(value, float):
        text = (
            f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) < 0.001 else f"{value:.3f}"
        )
        return {"text": text, "value": value}
    return {"text": value, "value": value}


def command(config: dict, synthetic: bool) -> str:
    """The command line that gives these settings, of those that differ from the defaults."""
    told = ["python", "main.py"]
    for section, values in Config().to_dict().items():
        for name, default in values.items():
            value = config.get(section, {}).get(name, default)  # a setting that the run did not have
            if value == default or (synthetic and name == "data"):
                continue
            if isinstance(value, bool):
                told.append(flag(name) if value else flag("no_" + name))
            else:
                told += [flag(name), *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(told)
