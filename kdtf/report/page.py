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
from ..evidence.remarks import at_bound
from ..records import KERAS
from ..sections import flag
from ..words import plural
from . import frames
from .answer import answer, chosen_file
from .cells import CHOSEN, html_table, html_tables
from .frames import Tables
from .frontier import frontier_in_words
from .gallery import PictureFile, picture_files, tflite_name
from .glossary import UNITS, WORDS, explained
from .sets import set_section
from .subgroups import EXPLAINED, subgroup_findings, subgroup_tables

INTERVALS = "Brackets hold 95 % intervals."
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
        answer=answer(tables, chosen_file(tables, manifest), class_count(tables, manifest)),
        warnings=remarks(manifest)["first"],
        later=remarks(manifest)["later"],
        sections=sections(tables, results, names, manifest),
        command=command(manifest["config"]),
        digest=data["digest"],
        images=", ".join(f"{name} {count} {plural(count, 'image')}" for name, count in images.items()),
        intervals=UNITS[data.get("units", "")],
        words=WORDS,
        explained=explained,
        versions=", ".join(f"{name} {version}" for name, version in manifest["versions"].items()),
        config=json.dumps(manifest["config"], indent=1),
    )


def file_names(results: Path, manifest: dict) -> list[str]:
    """The files that a run wrote, by its manifest: a results folder may hold those of earlier runs too.

    All files of the folder where the manifest does not list them.
    """
    names = manifest.get("outputs") or [path.name for path in results.iterdir()]
    return sorted(name for name in names if Path(name).name == name)


def class_count(tables: Tables, manifest: dict) -> int:
    """How many classes the data has, those without a test image too; 0 where an old folder does not say."""
    return len(manifest["data"].get("classes", ())) or tables["classes"]["class"].nunique()


def sections(tables: Tables, results: Path, names: list[str], manifest: dict) -> list[dict]:
    """The page's sections, in the order a reader asks for them: tables, and the pictures of the gallery.

    `names` are the files of the run. Tables open with the rows of the first seed.
    """
    chosen = chosen_file(tables, manifest)
    pictures = picture_files(results, names)
    outline = [*_of_the_file(tables, chosen, manifest), *_of_all(tables, chosen, manifest, results, names)]
    filled = [_section(pictures, *heading) for heading in outline]
    return [section for section in filled if section["tables"] or section["pictures"] or section["folded"]]


def _of_the_file(tables: Tables, chosen: pd.Series, manifest: dict) -> list[tuple]:
    """What is to be known of the file that val chose."""
    val = manifest["data"]["images"]["val"]
    compared = frames.frontier(tables)
    return [
        ("frontier", "What small networks reach", frontier_in_words(
            tables["frontier"].to_dict("records"), val
        ) if len(compared) else "", [html_table(compared)] if len(compared) else []),
        ("classes", "What it says of each class", "By the class that it names, the most probable one: "
         "sensitivity is the part of a class that is called so, PPV the part of what is called so that is of "
         "it. Both predictive values hold for the mixture of classes in these images; beside it stand those "
         f"of train and val. {INTERVALS}", frames.chosen_classes(tables, chosen)),
        ("subgroups", "Does it do as well in every group", f"{EXPLAINED} {INTERVALS}",
         subgroup_tables(tables), subgroup_findings(tables)),
        ("thresholds", "One class or not: operating points", "Another question than above: is an image of "
         "this class, yes or no? Each class has a threshold of its own; an image may pass several or none. "
         "So these figures differ from those by the class named, and a threshold may be low where others "
         f"share most of the probability. Thresholds are chosen on {val} val {plural(val, 'image')}; "
         f"scores are on all of test. {INTERVALS}", frames.class_tables(tables, chosen)),
        ("sets", "Which classes it may be: prediction sets", *set_section(tables, chosen)),
        ("calibration", "Can its probabilities be believed", "Calibration error (ECE) and Brier score on all "
         "of test, before and after the temperature fitted on val; agreement with the teacher.",
         html_tables(frames.calibration(tables, chosen), seed=chosen.seed, recipe=KERAS),
         _temperatures_at_an_end(tables, chosen)),
        ("examples", "Where it is wrong", "The surest mistakes on test first, then images that it got right. "
         "Framed blue where it is right, orange where it is wrong.", []),
    ]  # fmt: skip


def _of_all(
    tables: Tables, chosen: pd.Series, manifest: dict, results: Path, names: list[str]
) -> list[tuple]:
    """What is to be known of the other models and of the data."""
    seed = manifest["config"]["run"]["seed"]
    again = html_tables(frames.seeds(tables), recipe=KERAS, images="all")
    warnings = {*manifest["warnings"], *remarks(manifest)["later"]}
    expected = [text for text in manifest.get("expectations", ()) if text not in warnings]
    return [
        ("gains", "Where the gain comes from", "Students of one seed and network, paired on the same test "
         "images: what teachers, unlabelled images and an ensemble added, in points of accuracy. Then the "
         "part of images that each teacher gets right, and on which its student names the same class.",
         frames.gain_tables(tables), [manifest.get("budget"), *expected]),
        ("models", "Every model", "Accuracy on test with its 95 % interval, and on the images without a copy "
         f"in train or val; a click on a heading sorts. {frames.weight_origins(tables)}",
         [html_table(frames.models(tables, chosen))]),
        ("seeds", "Trained again", "Accuracy over repeated seeds.",
         again if tables["seeds"].seeds.max() > 1 else []),
        ("comparisons", "What differs from what", "Paired on the same test images: difference in accuracy "
         "with its bootstrap interval, McNemar's exact test, p corrected by Holm within each question.",
         html_tables(frames.comparisons(tables, chosen), seed=seed, images="all")),
        ("files", "What small files cost", "Every file of the first seed, and its worst layer: the output "
         "furthest from the float file's on val, errors of earlier layers included; 20 dB is an error of a "
         "tenth.", [html_table(frames.files(tables, chosen)), *_measured_costs(results, chosen, manifest),
                    html_table(frames.worst_layers(results, names, chosen), folded="The worst layers")]),
        ("gradcam", "Where they look", "Grad-CAM of the networks that files are made of: bright is what "
         "spoke for the class named below. A model that looks beside the lung is right for the wrong "
         "reason.", []),
        ("curves", "How the training went", "", []),
        ("audit", "The data", "What the audit looked for, and how often it found it.",
         [html_table(frames.audit(tables), folded="All findings")]),
    ]  # fmt: skip


def _measured_costs(results: Path, chosen: pd.Series, manifest: dict) -> list[dict]:
    """The table of what `bench` measured of this run's files, where it was asked; NPUs by Vela's estimate."""
    ship = tflite_name(chosen.teacher, chosen.recipe)
    costs = frames.costs(results, manifest.get("outputs", {}), ship)
    titles = ("What bench measured", "On an NPU, by Vela's estimate")
    return [html_table(frame, title=title) for frame, title in zip(costs, titles, strict=False)]


def _temperatures_at_an_end(tables: Tables, chosen: pd.Series) -> list[str]:
    """A sentence on each network, and on the chosen file, whose temperature is no measurement."""
    rows = frames.calibration(tables, chosen)
    rows = rows[(rows.seed == chosen.seed) & (rows.recipe.eq(KERAS) | rows[CHOSEN])]
    sentences = (
        at_bound("the chosen file" if row[CHOSEN] else f"{row.teacher}, {row.model}", row.temperature)
        for _, row in rows.iterrows()
    )
    return list(filter(None, sentences))


def remarks(manifest: dict) -> dict[str, list[str]]:
    """What is to be read first and what later; older manifests do not rank their warnings."""
    return manifest.get("remarks") or {"first": manifest["warnings"], "later": []}


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
