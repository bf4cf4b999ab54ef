"""A finished results folder to `report.html`: one file, pictures embedded, nothing fetched.

Reads only what people read too, the CSV files, the pictures and the manifest, so that it can be made
again without TensorFlow and without `work/`. Computes no score and decides nothing.
"""

import base64
import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from .. import __version__
from ..config import Config
from ..errors import UserError
from ..evidence.bootstrap import Interval, gain_in_words
from ..evidence.choose import file_to_ship
from ..evidence.gains import against_alone
from ..evidence.metrics import METRICS
from ..records import KERAS
from ..sections import flag
from . import frames
from .cells import html_table, html_tables, percent
from .frames import NAME, Tables, interval_of
from .frontier import frontier_in_words
from .gallery import PictureFile, picture_files, student_in_words

BEST_ON_VAL = "Chosen by accuracy on val, the smaller file among equals"
SMALLEST_GOOD = "The smallest of the files compared whose accuracy on val is within the interval of the best"
TEMPLATES = Path(__file__).parent / "templates"


def render(results: Path) -> str:
    """The page of a results folder. Raises `UserError` where the folder holds no finished run."""
    from jinja2 import Environment, FileSystemLoader

    try:
        manifest = json.loads((results / "manifest.json").read_text(encoding="utf-8"))
        names = file_names(results, manifest)
        tables = frames.read_tables(results, names)
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
        answer=answer(tables, shipped_file(tables, manifest)),
        warnings=manifest["warnings"],
        sections=sections(tables, results, names, manifest),
        command=command(manifest["config"]),
        digest=data["digest"],
        images=", ".join(f"{name} {count} images" for name, count in images.items()),
        versions=", ".join(f"{name} {version}" for name, version in manifest["versions"].items()),
        config=json.dumps(manifest["config"], indent=1),
    )


def file_names(results: Path, manifest: dict) -> list[str]:
    """The files that a run wrote, by its manifest: a results folder may hold those of earlier runs too.

    All files of the folder where the manifest does not list them.
    """
    names = manifest.get("outputs") or [path.name for path in results.iterdir()]
    return sorted(name for name in names if Path(name).name == name)


def shipped_file(tables: Tables, manifest: dict) -> pd.Series:
    """The row of `summary.csv` of the `.tflite` to ship, as the manifest names it; older ones do not."""
    summary = tables["summary"]
    ship = manifest.get("ship") or file_to_ship(summary.to_dict("records"))
    return summary[(summary[NAME] == [ship[name] for name in NAME]).all(axis=1)].iloc[0]


def answer(tables: Tables, file: pd.Series) -> dict:
    """The opening of the page: the file to ship, a row of `summary.csv`, and what speaks for it."""
    student = student_in_words(file.teacher)
    accuracy = interval_of(tables, file, "accuracy", "all")
    clean = interval_of(tables, file, "accuracy", "clean")
    text = f"{percent(file.accuracy)} % of {file.test_images} test images right "
    text += f"(95 % interval {_ends(accuracy)})"
    if clean is not None:
        text += f"; {percent(clean.value)} % ({_ends(clean)}) of the {file.clean_images} without a copy "
        text += "in train or val"
    rows = tables["comparisons"]
    rows = rows[(rows.images == "all") & (rows.teacher == file.teacher) & (rows.seed == file.seed)]
    gain = rows[rows.question == "distilled against alone"].verdict.tolist()
    facts = {
        f"{METRICS['accuracy'].label} on test": f"{file.accuracy:.3f}",
        f"macro {METRICS['auc'].label}": "" if pd.isna(file.auc) else f"{file.auc:.3f}",
        "size": f"{file.size_kib:,.0f} KiB",
        "for one image, one thread": "" if pd.isna(file.latency_ms) else f"{file.latency_ms:.2f} ms",
    }
    name = f"{file.teacher}_Student_{file.recipe}.tflite"
    return {
        "headline": f"Ship {name}: {student[0].lower()}{student[1:]}, recipe {file.recipe}.",
        "sure": " ".join([text + ".", *gain, *gains_over_seeds(tables, file.teacher)]),
        "facts": [{"name": name, "value": value} for name, value in facts.items() if value],
        "rule": SMALLEST_GOOD if "frontier" in tables else BEST_ON_VAL,
    }


def gains_over_seeds(tables: Tables, name: str) -> list[str]:
    """Over repeated seeds, in words: what the students that tables call `name` gained on average.

    Of a run without `gains.csv`: what those of every teacher gained.
    """
    if "gains" in tables:
        rows = tables["gains"]
        return rows[(rows.images == "all") & (rows.teacher == name) & (rows.seeds > 1)].verdict.tolist()
    seeds = tables["seeds"]
    if "gain" not in seeds:
        return []
    rows = seeds[(seeds.images == "all") & seeds.gain.notna()]
    if "verdict" in rows:
        return rows.verdict.tolist()
    return [  # of kdtf 0.1.0
        gain_in_words(against_alone(row.teacher), Interval(row.gain, row.gain_low, row.gain_high), row.seeds)
        for row in rows.itertuples()
    ]


def _ends(interval: pd.Series) -> str:
    return f"{percent(interval.low)} to {percent(interval.high)} %"


def sections(tables: Tables, results: Path, names: list[str], manifest: dict) -> list[dict]:
    """The page's sections, in the order a reader asks for them: tables, and the pictures of the gallery.

    `names` are the files of the run. Tables open with the rows of the first seed.
    """
    seed = manifest["config"]["run"]["seed"]
    again = html_tables(frames.seeds(tables), recipe=KERAS, images="all")
    expected = [text for text in manifest.get("expectations", ()) if text not in manifest["warnings"]]
    compared = frames.frontier(tables)
    outline: list[tuple] = [
        ("frontier", "What small networks reach", frontier_in_words(
            tables["frontier"].to_dict("records"), manifest["data"]["images"]["val"]
        ) if len(compared) else "", [html_table(compared)] if len(compared) else []),
        ("gains", "Where the gain comes from", "Students of one seed and network, paired on the same test "
         "images: what teachers, unlabelled images and an ensemble added, in points of accuracy. Then the "
         "part of images that each teacher gets right, and on which its student names the same class.",
         frames.gain_tables(tables), [manifest.get("budget"), *expected]),
        ("models", "Every model", "Accuracy on test with its 95 % interval, and on the images without a copy "
         f"in train or val; a click on a heading sorts. {frames.weight_origins(tables)}",
         [html_table(frames.models(tables))]),
        ("seeds", "Trained again", "Accuracy over repeated seeds.",
         again if tables["seeds"].seeds.max() > 1 else []),
        ("comparisons", "What differs from what", "Paired on the same test images: difference in accuracy "
         "with its bootstrap interval, McNemar's exact test, p corrected by Holm within each question.",
         html_tables(frames.comparisons(tables), seed=seed, images="all")),
        ("classes", "Each class against the rest", "At a threshold chosen on val; 95 % intervals in "
         "brackets.", html_tables(frames.classes(tables, seed), recipe=KERAS)),
        ("calibration", "Can its probabilities be believed", "Expected calibration error and Brier score, "
         "before and after the temperature fitted on val; agreement with the teacher.",
         html_tables(frames.calibration(tables), seed=seed, recipe=KERAS)),
        ("files", "What small files cost", "Every file of the first seed, and its worst layer: the output "
         "furthest from the float file's on val, errors of earlier layers included; 20 dB is an error of a "
         "tenth.", [html_table(frames.files(tables)), html_table(frames.worst_layers(results, names))]),
        ("confusion", "What is taken for what", "", []),
        ("examples", "Where they are wrong", "The surest mistakes on test first, then images the model got "
         "right. Framed blue where it is right, orange where it is wrong.", []),
        ("gradcam", "Where they look", "Grad-CAM: bright is what spoke for the class named below. A model "
         "that looks beside the lung is right for the wrong reason.", []),
        ("curves", "How the training went", "", []),
        ("audit", "The data", "What the audit looked for, and how often it found it.",
         [html_table(frames.audit(tables), folded="All findings")]),
    ]  # fmt: skip
    pictures = picture_files(results, names)
    filled = [_section(pictures, *heading) for heading in outline]
    return [section for section in filled if section["tables"] or section["pictures"] or section["folded"]]


def _section(
    pictures: list[PictureFile],
    name: str,
    title: str,
    text: str,
    tables: list[dict],
    notes: Sequence[str | None] = (),
) -> dict:
    own = [file for file in pictures if file.picture.section == name]
    return {
        "id": name,
        "title": title,
        "text": text,
        "notes": [note for note in notes if note],
        "tables": tables,
        "pictures": [_embedded(file) for file in own if not file.picture.folded],
        "folded": [_embedded(file) for file in own if file.picture.folded],
    }


def _embedded(file: PictureFile) -> dict:
    return {"data": base64.b64encode(file.path.read_bytes()).decode(), "alt": file.caption}


def command(config: dict) -> str:
    """The command line that gives these settings, of those that differ from the defaults or the demo's."""
    demo = config.get("data", {}).get("demo", False)
    words = ["python", "main.py", *(["--demo"] if demo else [])]
    defaults = Config.demo() if demo else Config()
    for section, values in defaults.to_dict().items():
        for name, default in values.items():
            value = config.get(section, {}).get(name, default)  # a setting that the run did not have
            if value == default or (name == "data" and not value):  # arrays that have no file
                continue
            if isinstance(value, bool):
                words.append(flag(name) if value else flag("no_" + name))
            else:
                words += [flag(name), *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)
